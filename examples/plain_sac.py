"""A plain SAC agent with the policy, critics and temperature of a trained MBPO: to share, to deploy, or to train on."""

import argparse

import torch as th
from stable_baselines3 import SAC

from sb3_tom import MBPO
from sb3_tom.mbpo.warm_start import KEPT


def plain_sac(agent: MBPO) -> SAC:
    """
    Copy SAC's part of the agent, optimisers included; its zip is SB3's own and loads where sb3_tom is not installed.

    :param agent: with an env; a policy class of sb3_tom, such as DHMBPO's, still needs the package
    """
    arguments = {name: getattr(agent, name) for name in KEPT}
    arguments["policy_kwargs"] = dict(agent.policy_kwargs)  # SB3 writes into it
    sac = SAC(agent.policy_class, agent.get_env(), ent_coef=agent.ent_coef, device=agent.device, **arguments)
    parameters = agent.get_parameters()
    sac.set_parameters({name: parameters[name] for name in sac.get_parameters()}, device=agent.device)
    if agent.log_ent_coef is not None:
        with th.no_grad():
            sac.log_ent_coef.copy_(agent.log_ent_coef)
    sac.num_timesteps, sac._n_updates = agent.num_timesteps, agent._n_updates
    return sac


def main() -> None:
    """Convert an MBPO file to a SAC file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("mbpo", help="zip of an MBPO agent")
    parser.add_argument("sac", help="zip to write")
    parser.add_argument("--env", default="Pendulum-v1")
    arguments = parser.parse_args()
    plain_sac(MBPO.load(arguments.mbpo, arguments.env)).save(arguments.sac)


if __name__ == "__main__":
    main()
