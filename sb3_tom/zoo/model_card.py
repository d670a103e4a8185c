"""The model card of a saved agent for the Hugging Face hub. Every figure comes from ``results.json``."""

from pprint import pformat
from typing import Any

from stable_baselines3.common.base_class import BaseAlgorithm

from sb3_tom.mbpo.mbpo import MBPO
from sb3_tom.zoo.experiments import BEST
from sb3_tom.zoo.saved_run import SavedRun
from sb3_tom.zoo.versions import version_of

TASK = "reinforcement-learning"

CARD = """\
---
{metadata}---

# **{name}** agent playing **{env}**

This is a trained model of a **{name}** agent playing **{env}**, made with the
[stable-baselines3 library](https://github.com/DLR-RM/stable-baselines3) and the
[RL Zoo](https://github.com/DLR-RM/rl-baselines3-zoo){ours}.

## Evaluation

| | |
|---|---|
| mean reward | {mean_reward:.2f} +/- {std_reward:.2f} (standard deviation over episodes) |
| episodes | {n_eval_episodes}, {actions} actions, seed {seed} |
| lowest, highest | {lowest:.2f}, {highest:.2f} |
| mean length | {length:.1f} |

Measured with the saved agent on a new environment, with {versions}. All episodes are in `results.json`.

## Usage

With {needed} installed. A zip holds pickles: `TRUST_REMOTE_CODE` says that you trust whoever uploaded it.

```bash
TRUST_REMOTE_CODE=True python -m rl_zoo3.load_from_hub --algo {algo} --env {env} -orga ORGANIZATION -f logs/
python -m rl_zoo3.enjoy --algo {algo} --env {env} -f logs/
```

In Python:

```python
from rl_zoo3 import ALGOS

agent = ALGOS["{algo}"].load("{algo}-{env_name}.zip")
```

{statistics}## Training

{env_steps} environment steps{of_best}, seed {agent_seed}, with the hyperparameters below; `-params` gives
those that differ from the RL Zoo's.

```bash
python -m rl_zoo3.train --algo {algo} --env {env} -n {n_timesteps}{seed_word} -f logs/
```

## Hyperparameters

```python
{hyperparams}
```
"""

ENV_KWARGS = """
## Environment arguments

```python
{}
```
"""

STATISTICS = "The agent sees observations in the units of `vec_normalize.pkl`: `VecNormalize.load` restores them.\n\n"


def metadata(run: SavedRun, agent: BaseAlgorithm, results: dict[str, Any]) -> dict[str, Any]:
    """
    Metadata for the hub's index, as in ``huggingface_sb3``.

    :param run: the run
    :param agent: its agent
    :param results: content of ``results.json``
    """
    from huggingface_hub import metadata_eval_result

    own = ["sb3_tom"] if isinstance(agent, MBPO) else []
    measured: dict[str, Any] = metadata_eval_result(
        model_pretty_name=_name(run, agent),
        task_pretty_name=TASK,
        task_id=TASK,
        metrics_pretty_name="mean_reward",
        metrics_id="mean_reward",
        metrics_value=f"{results['mean_reward']:.2f} +/- {results['std_reward']:.2f}",
        dataset_pretty_name=run.env,
        dataset_id=run.env,
    )
    tags = [run.env, "deep-reinforcement-learning", TASK, "stable-baselines3", *own]
    return {"library_name": "stable-baselines3", "tags": tags, **measured}


def _name(run: SavedRun, agent: BaseAlgorithm) -> str:
    """Name of the algorithm; the zoo uses its lower case."""
    return run.algo.upper() if isinstance(agent, MBPO) else type(agent).__name__


def model_card(run: SavedRun, agent: BaseAlgorithm, results: dict[str, Any]) -> str:
    """
    Content of ``README.md``.

    :param run: the run
    :param agent: its agent
    :param results: content of ``results.json``
    """
    import yaml

    normalizer = agent.get_vec_normalize_env()
    packages = ["stable_baselines3", *(["sb3_tom"] if isinstance(agent, MBPO) else []), "gymnasium", "torch"]
    head = yaml.safe_dump(metadata(run, agent, results), sort_keys=False)
    text = CARD.format(
        **results,
        metadata=head,
        name=_name(run, agent),
        algo=run.algo,
        env=run.env,
        env_name=run.env_name,
        needed="`rl_zoo3` and `sb3_tom`" if isinstance(agent, MBPO) else "`rl_zoo3`",
        ours=", by `sb3_tom`" if isinstance(agent, MBPO) else "",
        actions="deterministic" if results["is_deterministic"] else "stochastic",
        lowest=min(results["episode_rewards"]),
        highest=max(results["episode_rewards"]),
        length=sum(results["episode_lengths"]) / results["n_eval_episodes"],
        statistics=STATISTICS if normalizer is not None and normalizer.norm_obs else "",
        env_steps=f"{agent.num_timesteps:,}",
        n_timesteps=agent.num_timesteps,
        of_best=" (the best evaluation of its run)" if run.agent.name == BEST else "",
        agent_seed=agent.seed,
        seed_word="" if agent.seed is None else f" --seed {agent.seed}",
        versions=", ".join(f"{package} {version_of(package)}" for package in packages),
        hyperparams=pformat(run.hyperparams),
    )
    return text + (ENV_KWARGS.format(pformat(run.env_kwargs)) if run.env_kwargs else "")
