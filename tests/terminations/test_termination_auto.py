"""The switch from the rule to the learned head."""

import io
import warnings
from collections.abc import Callable
from copy import deepcopy
from typing import Any

import numpy as np
import pytest
import torch as th
from stable_baselines3.common.env_util import make_vec_env

from sb3_tom.checks.guards import Backup
from sb3_tom.contracts.context import Context
from sb3_tom.contracts.types import Transitions
from sb3_tom.terminations import AutoTermination, LearnedTermination, read_rule

RULE = {
    "env": "tests:Line",
    "observation_dim": 2,
    "kind": "inside",
    "intervals": [{"start": 0, "stop": 1, "low": -1.0, "high": 1.0, "closed": True}],
}
Maker = Callable[..., Transitions]


def built(rule: dict[str, Any] | None) -> AutoTermination:
    termination = AutoTermination(rule, LearnedTermination(first_gradient_steps=300))
    termination.build(2, 1)
    return termination


def predictions(termination: AutoTermination, rows: Transitions) -> list[bool]:
    result = termination(rows.observations, rows.actions, rows.next_observations)
    return result.squeeze(1).tolist()  # type: ignore[no-any-return]


def line(make_transitions: Maker, limit: float, rows: int = 2000) -> Transitions:
    """States on [-2, 2]; the truth is that those beyond ``limit`` are terminal."""
    generator = th.Generator().manual_seed(3)
    states = 4.0 * th.rand(rows, 2, generator=generator) - 2.0
    return make_transitions(states, states[:, 0].abs() > limit)


def test_true_rule_is_kept_and_nothing_is_trained(make_transitions: Maker, context: Context) -> None:
    termination, rows = built(RULE), line(make_transitions, 1.0)
    before = deepcopy(termination.state_dict())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figures = termination.fit(rows, context)
    assert figures == {"rule_in_use": 1.0}
    assert predictions(termination, rows) == (rows.terminated > 0.5).squeeze(1).tolist()
    assert all(th.equal(before[name], value) for name, value in termination.state_dict().items())


@pytest.mark.parametrize("limit", [0.5, 1.5], ids=["ends earlier", "ends later"])
def test_lying_rule_is_given_up_with_exactly_one_warning(limit: float, make_transitions: Maker, context: Context) -> None:
    termination, rows = built(RULE), line(make_transitions, limit)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        figures = termination.fit(rows, context)
        termination.fit(rows, context)
    assert len(caught) == 1
    message = str(caught[0].message)
    first = int((rows.terminated.squeeze(1) != (rows.next_observations[:, 0].abs() > 1.0).float()).float().argmax())
    assert "tests:Line" in message
    assert f"row {first} of 2000" in message
    assert str(rows.next_observations[first].tolist()) in message
    assert ("says that a real transition goes on" in message) == (limit < 1.0)
    assert figures["rule_in_use"] == 0.0
    said = th.tensor(predictions(termination, rows))
    truth = rows.terminated.squeeze(1) > 0.5
    assert (said == truth).float().mean() > 0.97, "the head has learned what the rule did not know"


def test_a_time_limit_is_no_contradiction_and_not_learned(make_transitions: Maker, context: Context) -> None:
    """Rows of truncated episodes carry terminated = 0, and the rule says that they go on."""
    rows = make_transitions(th.zeros(50, 2), th.zeros(50))
    ruled, learned = built(RULE), built(None)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ruled.fit(rows, context)
        figures = learned.fit(rows, context)
    assert figures == {"rule_in_use": 0.0, "terminal_share": 0.0}
    assert not any(predictions(learned, rows))


def test_a_rule_that_was_given_up_in_what_is_undone_holds_again(make_transitions: Maker, context: Context) -> None:
    termination, lying, true = built(RULE), line(make_transitions, 0.5), line(make_transitions, 1.0)
    backup = Backup([termination])
    with pytest.warns(UserWarning, match="learned termination"):
        termination.fit(lying, context)
    backup.restore()
    assert predictions(termination, true) == (true.terminated > 0.5).squeeze(1).tolist()
    with pytest.warns(UserWarning, match="learned termination"):  # and is compared with real transitions again
        termination.fit(lying, context)


def test_without_a_rule_the_head_is_used_silently(make_transitions: Maker, context: Context) -> None:
    termination, rows = built(None), line(make_transitions, 0.5)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figures = termination.fit(rows, context)
    assert figures["rule_in_use"] == 0.0
    assert (th.tensor(predictions(termination, rows)) == (rows.terminated > 0.5).squeeze(1)).float().mean() > 0.97


def test_saved_state_is_complete_and_does_not_depend_on_progress(make_transitions: Maker, context: Context) -> None:
    termination, rows = built(RULE), line(make_transitions, 0.5)
    names = list(termination.state_dict())
    with pytest.warns(UserWarning, match="learned termination"):
        termination.fit(rows, context)
    state = termination.state_dict()
    assert list(state) == names
    assert all(value.dtype == th.float32 for value in state.values())
    file = io.BytesIO()
    th.save(state, file)
    file.seek(0)
    loaded = built(RULE)
    assert predictions(loaded, rows) != predictions(termination, rows)
    loaded.load_state_dict(th.load(file, weights_only=True))
    assert predictions(loaded, rows) == predictions(termination, rows)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert loaded.fit(rows, context)["rule_in_use"] == 0.0
    fresh = built(RULE)
    loaded.load_state_dict(fresh.state_dict())
    assert predictions(loaded, rows) == predictions(fresh, rows) != predictions(termination, rows)


def test_optimizers_are_found_by_attribute_path() -> None:
    termination = built(RULE)
    (name, optimizer), *others = termination.optimizers().items()
    assert not others and "optim" in name
    value: Any = termination
    for attribute in name.split("."):
        value = getattr(value, attribute)
    assert value is optimizer


def test_rule_of_other_observations_is_refused() -> None:
    with pytest.raises(ValueError, match="size 2, not 3"):
        AutoTermination(RULE).build(3, 1)


@pytest.mark.parametrize("env_id", ["Hopper-v5", "InvertedDoublePendulum-v5"])
def test_real_episodes_never_contradict_the_rule(env_id: str, context: Context) -> None:
    """What the agent does: rows of real episodes, terminal observations included, time-outs marked as not terminated."""
    env = make_vec_env(env_id, n_envs=2, seed=1)
    rule = read_rule(env)
    assert rule is not None
    termination = AutoTermination(read_rule(env))
    size, action_dim = rule["observation_dim"], 3 if "Hopper" in env_id else 1
    termination.build(size, action_dim)
    env.action_space.seed(0)
    observations, ended = env.reset(), 0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(200):
            actions = th.as_tensor(np.stack([env.action_space.sample() for _ in range(2)]))
            next_observations, _, dones, infos = env.step(actions.numpy())
            for index, info in enumerate(infos):
                next_observations[index] = info.get("terminal_observation", next_observations[index])
            terminated = [float(done and not info["TimeLimit.truncated"]) for done, info in zip(dones, infos, strict=True)]
            ended += int(sum(terminated))
            rows = Transitions(
                th.as_tensor(observations, dtype=th.float32),
                actions,
                th.as_tensor(next_observations, dtype=th.float32),
                th.zeros(2, 1),
                th.tensor(terminated).reshape(2, 1),
                th.zeros(2, dtype=th.long),
            )
            assert termination.fit(rows, context) == {"rule_in_use": 1.0}
            observations = env.reset() if any(dones) else next_observations
    assert ended > 5
