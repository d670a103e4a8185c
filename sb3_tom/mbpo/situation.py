"""What the checks of health see of the agent."""

from typing import Any, NamedTuple

from sb3_tom.contracts.termination import Termination
from sb3_tom.contracts.types import RewardFunction
from sb3_tom.data.replay_buffer import WeightedReplayBuffer
from sb3_tom.data.units import PolicyUnits, policy_units


class Situation(NamedTuple):
    """
    State of the agent that figures are evaluated with.

    :param buffer: real transitions
    :param termination: of the imagined env
    :param termination_fn: the user's argument for it
    :param reward_fn: known reward, or None
    :param own_rewards: whether the policy learns from the env's own rewards
    :param gamma: discount factor
    :param n_actions: size of an action
    :param units: convert the env's units to the policy's
    :param env_step: env steps so far
    :param advice: of the policy update, see :attr:`PolicyUpdate.advice`
    """

    buffer: WeightedReplayBuffer
    termination: Termination
    termination_fn: Any
    reward_fn: RewardFunction | None
    own_rewards: bool
    gamma: float
    n_actions: int
    units: PolicyUnits
    env_step: int
    advice: str

    @classmethod
    def of(cls, agent: Any) -> "Situation":
        """
        The situation of an agent.

        :param agent: an MBPO; read only
        """
        return cls(
            buffer=agent.replay_buffer,
            termination=agent.termination,
            termination_fn=agent._plug_specs["termination_fn"][0],
            reward_fn=agent.reward_fn,
            own_rewards=agent.objective.keeps_rewards,
            gamma=agent.gamma,
            n_actions=agent._sizes[1],
            units=policy_units(agent._vec_normalize_env, agent.device),
            env_step=agent.num_timesteps,
            advice=agent.policy_update.advice,
        )
