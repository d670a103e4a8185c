"""
A checkpoint that somebody has made by hand, with a right checksum: whatever is in it, nothing is imported, called, opened or
replaced. It is refused by one ValueError, or goes on as a run of the caller's agent and env.
"""

import re
import sys
import types
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sb3_tom import MBPO
from tests.checkpoint.crafted import (
    REMOVED,
    Good,
    Place,
    Raw,
    edited,
    made_good,
    methods_and_kinds,
    nameless,
    resume_and_learn,
    watched,
)

PENDULUM = "Pendulum-v1"
TRAP = "sb3_tom_trap"

DEEP: Any = []
for _ in range(150):
    DEEP = [DEEP]

HOSTILE: tuple[Any, ...] = (
    f"{TRAP}:boom",
    *(None, True, -1, 10**30, 1.5, float("nan"), f"{TRAP}.boom", f"__import__('{TRAP}')", "/tmp/../etc/passwd", "", [], {}),
    *([1, "two", None], {"train": f"{TRAP}:boom"}, DEEP),
    {"!": "scalar", "dtype": "V1000000000000", "value": 1},
    {"!": "array", "name": "env/layers/0/state/returns"},
    {"!": "tuple", "items": [1, 2]},
    {"!": "pickle", "items": []},
    REMOVED,
)
NAMES = (
    *("train", "learn", "step", "reset", "step_wait", "close", "predict", "__class__", "__dict__", "__init__", "_on_step"),
    *("env", "envs", "venv", "policy", "actor", "replay_buffer", "_logger", "plugs", "checkpointer", "callback", "model"),
    *("_init_setup_model", "device", "self", "tensorboard_log", "load_state_dict", "params", "np_random", "obs_rms"),
)
"""Of attributes, methods and arguments that no file may set."""


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Good:
    return made_good(tmp_path_factory.mktemp("good"), PENDULUM)


@pytest.fixture(autouse=True)
def _trap(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A module that can be imported, and everything that Python lets a name do is there to be found."""
    (tmp_path / f"{TRAP}.py").write_text("raise SystemError('imported')\n")
    monkeypatch.syspath_prepend(str(tmp_path))


def outcome(
    good: Good, crafted: Raw, name: str = PENDULUM, tree: str | None = None, argument: str | None = None
) -> str | None:
    """
    Resume and go on; fail if anything is imported, opened or replaced that a good checkpoint does not. Errors are ValueErrors,
    but for those that the env, the user's own, raises of numbers in its own attributes. An ``argument`` of the constructor may
    have become another value that is allowed, of another type.
    """
    path, modules = good.folder / "crafted.zip", set(sys.modules)
    crafted.tidy().write(path, tree)
    message = result = None
    with watched() as events:
        try:
            result = resume_and_learn(path, name, good.folder)
        except ValueError as error:
            message = str(error)
    assert set(sys.modules) == modules
    assert nameless(events) <= good.events
    if result is not None:
        hidden, kinds = methods_and_kinds(*result)
        assert hidden <= good.hidden
        assert set(kinds) == set(good.kinds)
        pairs = {name: (kind, good.kinds[name]) for name, kind in kinds.items() if name != argument}
        assert {name: pair for name, pair in pairs.items() if pair[0] is not pair[1] and type(None) not in pair} == {}
        assert isinstance(result[0].train, types.MethodType) and result[0].train.__func__ is MBPO.train
    return message


def nodes(tree: Any, place: Place = ()) -> Iterator[Place]:
    """Places of all values of the tree; of long lists the first two."""
    children = tree.items() if isinstance(tree, dict) else enumerate(tree[:2]) if isinstance(tree, list) else ()
    for key, value in children:
        yield (*place, key)
        yield from nodes(value, (*place, key))


def test_a_good_one_goes_on(good: Good) -> None:
    assert outcome(good, good.raw) is None


AGENT = ("agent", "attributes")
BUFFER = ("agent", "replay_buffer")
ADAM = ("agent", "parameters", "critic.optimizer")
BITS = {"bit_generator": "Generator"}
MOMENTS = "agent/parameters/critic.optimizer/state/1/step"
CALLS = ("callbacks", "Remembering 1", "own", "attributes")
PENDULUM_ENV = ("env", "envs", 0, "layers", 4, "state")
LAYER = ("env", "envs", 0, "layers", 0)
ATTACKS: list[tuple[Place, Any, str]] = [
    (
        ("arguments", "weighter"),
        f"{TRAP}:boom",
        r"weighter='sb3_tom_trap:boom' is not allowed.*resume\(\.\.\., weighter=",
    ),
    (("arguments", "dynamics"), f"{TRAP}.boom", r"dynamics='sb3_tom_trap\.boom' is not allowed in a checkpoint"),
    (("arguments", "objective"), f"{TRAP}:boom", "objective="),
    (("arguments", "termination_fn"), f"{TRAP}:boom", "termination_fn="),
    (("arguments", "policy_update"), f"{TRAP}:boom", "policy_update="),
    (("arguments", "confidence"), f"{TRAP}:boom", "confidence="),
    (("arguments", "rollout_stop"), f"{TRAP}:boom", "rollout_stop="),
    (("arguments", "replay_buffer_class"), f"{TRAP}:boom", "replay_buffer_class="),
    (("arguments", "reward_fn"), f"{TRAP}:boom", "reward_fn="),
    (("arguments", "action_noise"), "NormalActionNoise", "action_noise="),
    (("arguments", "policy"), f"{TRAP}.boom", "policy="),
    (("arguments", "policy_kwargs"), {"optimizer_class": "torch.optim.SGD"}, "policy_kwargs="),
    (
        ("arguments", "policy_kwargs"),
        {"net_arch": [10**5, 10**5]},
        r"policy_kwargs\['net_arch'\]=\[100000, .* is more",
    ),
    (("arguments", "dynamics"), "ensemble", "networks are not those of the run"),
    (("arguments", "buffer_size"), 10**15, "cannot be gone on with"),
    (("arguments", "replay_buffer_kwargs"), {"n_start_observations": 10**12}, "n_start_observations.*more than"),
    (("arguments", "env"), "Hopper-v5", "the argument 'env'='Hopper-v5' is none that a checkpoint of MBPO holds"),
    (("arguments", "_init_setup_model"), False, "the argument '_init_setup_model'=False is none"),
    (("arguments", "device"), "cuda", "the argument 'device'='cuda' is none"),
    (("arguments", "no_such"), 1, "the argument 'no_such'=1 is none"),
    (("arguments", "seed"), f"{TRAP}:boom", "seed="),
    (("other_arguments",), [f"{TRAP}:boom"], "resume needs sb3_tom_trap:boom"),
    ((*AGENT, "train"), 1, "the attribute 'train' of MBPO is a function, which no checkpoint holds"),
    ((*AGENT, "__class__"), 1, "the attribute '__class__' of MBPO has a name that no checkpoint holds"),
    ((*AGENT, "gamma"), 0.5, "the attribute 'gamma' is none"),
    ((*AGENT, "num_timesteps"), -1, "num_timesteps=-1 is not allowed"),
    ((*AGENT, "_last_obs"), None, "holds no last observation"),
    ((*AGENT, "ep_success_buffer"), None, "is None"),
    ((*AGENT, "_last_obs", "name"), "env/layers/0/state/returns", r"_last_obs is float64 of shape \(1,\)"),
    (("agent", "parameters", "policy.forward"), {}, r"the part 'policy\.forward' is none"),
    (("agent", "variables", "actor"), {}, "the variable 'actor' is none"),
    (("agent", "objects", "policy"), {}, "the object 'policy' is none"),
    (("agent", "objects", "update_counter", "take_due"), 1, "the update counter has no 'take_due'"),
    (("agent", "objects", "imagined", "capacity"), 10**18, "cannot be gone on with"),
    (("agent", "objects", "imagined", "position"), 10**6, "position=1000000 is not allowed"),
    (("agent", "alignments", 0), 10**9, "the place of a parameter=1000000000 is not allowed"),
    ((*BUFFER, "rows", "observation_space"), [], "the replay buffer's array 'observation_space' is none"),
    ((*BUFFER, "others", "add"), 1, "the replay buffer's attribute 'add' is none"),
    ((*BUFFER, "others", "n_envs"), True, "n_envs=1; allowed: the run's True"),
    ((*BUFFER, "others", "action_dim"), True, "action_dim=1; allowed: the run's True"),
    ((*AGENT, "n_envs"), True, "n_envs=1; allowed: the run's True"),
    ((*BUFFER, "others", "pos"), -1, "pos=-1 is not allowed"),
    ((*BUFFER, "others", "pos"), 7, "are float32 of shape"),
    ((*BUFFER, "others", "buffer_size"), 10**12, "buffer_size=1000; allowed: the run's 1000000000000"),
    ((*ADAM, "param_groups", 0, "amsgrad"), True, "the option 'amsgrad'=True"),
    ((*ADAM, "param_groups", 0, "betas", "items"), [0.9], "the option 'betas'"),
    ((*ADAM, "param_groups", 0, "params", 0), 3, "the option 'params'"),
    (
        (*ADAM, "state", "items", 0, 1, "exp_avg", "name"),
        "agent/parameters/critic.optimizer/state/1/step",
        r"exp_avg is torch\.float32 of shape \(\)",
    ),
    ((*ADAM, "state", "items", 0, 0), 10**6, "a state of parameter 1000000"),
    (("env", "layers", 0, "state", "step_wait"), 1, "ignored"),
    (("env", "layers", 1, "state", "close"), 1, "the attribute 'close' of DummyVecEnv is a function"),
    (("env", "layers", 0, "state", "obs_rms"), 5, "the attribute obs_rms of VecNormalize is 5, which does not fit"),
    (("env", "layers", 0, "state", "obs_rms", "update"), 5, "the attribute 'update' of RunningMeanStd is a function"),
    (("env", "envs"), [], "with 0 envs"),
    ((*LAYER, "state", "step"), 1, "the attribute 'step' of Monitor is a function"),
    ((*LAYER, "state", "__class__"), 1, "has a name that no checkpoint holds"),
    ((*PENDULUM_ENV, "_np_random"), {"random generator": BITS}, "'Generator' is not a bit generator"),
    (("random", "numpy", "items", 2), 10**6, "the position of numpy's stream=1000000 is not allowed"),
    (("random", "python"), None, "cannot be gone on with"),
    (("log", "output_formats"), {}, "the log's 'output_formats' is none"),
    (("log", "folder"), "../MBPO_1", "ignored"),
    (("run",), "../name", "ignored"),
    (("other_arguments",), [[1]], "resume needs"),
    (
        ("callbacks", "Remembering 1", "own", "attributes", "_on_step"),
        1,
        "the attribute '_on_step' of Remembering is a function",
    ),
    ((*CALLS, "logger"), 1, "the attribute 'logger' of Remembering is a property"),
    ((*CALLS, "word"), 7, "the attribute word of Remembering is 7"),
    (("callbacks", "LearningCurveCallback 1", "own", "state_dict", "rows"), -1, "rows=-1 is not allowed"),
    (("seconds",), float("nan"), "seconds=nan is not allowed"),
    (("in_learn",), 1, "in_learn=1"),
    (("agent",), [], "the run has agent="),
]


@pytest.mark.parametrize(("place", "value", "message"), ATTACKS, ids=lambda value: str(value)[:40])
def test_attacks_are_named(good: Good, place: Place, value: Any, message: str) -> None:
    said = outcome(good, edited(good.raw, place, value))
    assert said is None if message == "ignored" else re.search(message, said or ""), said


@pytest.fixture(scope="module")
def every(good: Good) -> list[tuple[Place, Any]]:
    return edits(good.raw)


def edits(raw: Raw) -> list[tuple[Place, Any]]:
    """Each value of the tree as a third of the hostile ones in turn, and in each dictionary each hostile name."""
    places = list(nodes(raw.tree))
    found = [(place, value) for number, place in enumerate(places) for value in HOSTILE[number % 3 :: 3]]
    for place in [(), *places]:
        node = raw.tree
        for key in place:
            node = node[key]
        if isinstance(node, dict) and "!" not in node:
            value = f"{TRAP}:boom" if len(found) % 2 else 1
            found += [((*place, name), value) for name in NAMES if name not in node]
    return found


def survives(good: Good, place: Place, value: Any, name: str = PENDULUM) -> None:
    """Envs and callbacks are the user's: what they make of numbers in their own attributes is theirs."""
    try:
        outcome(
            good,
            edited(good.raw, place, value),
            name,
            argument=place[1] if place[:1] == ("arguments",) and place[1:] else None,
        )
    except (ArithmeticError, AttributeError, IndexError, RuntimeError, TypeError) as error:
        inner = error.__traceback__
        files = []
        while inner is not None:
            files.append(inner.tb_frame.f_code.co_filename)
            inner = inner.tb_next
        own = place[0] in ("env", "callbacks") and "site-packages" in files[-1]
        assert own, (place, value)


@pytest.mark.parametrize("part", range(12))
def test_edits_of_any_field(good: Good, every: list[tuple[Place, Any]], part: int) -> None:
    """A sample of all, the same each time; the sweep below takes them all."""
    for place, value in every[part::12][part % 97 :: 97]:
        survives(good, place, value)


@pytest.mark.expensive
@pytest.mark.parametrize("part", range(16))
def test_every_field(good: Good, every: list[tuple[Place, Any]], part: int) -> None:
    for place, value in every[part::16]:
        survives(good, place, value)


@pytest.mark.expensive
def test_fields_of_an_env_of_mujoco(tmp_path: Path) -> None:
    name = "InvertedPendulum-v5"
    mujoco = made_good(tmp_path, name)
    for place, value in [edit for edit in edits(mujoco.raw) if edit[0][:2] == ("env", "envs")][::5]:
        survives(mujoco, place, value, name)


def test_tensorboard_stays_the_callers(good: Good, tmp_path: Path) -> None:
    crafted = edited(good.raw, ("arguments", "tensorboard_log"), str(tmp_path / "elsewhere"))
    crafted.write(good.folder / "crafted.zip")
    with pytest.warns(UserWarning, match=r"The run logged to TensorBoard, to '.*elsewhere'.*tensorboard_log=\.\.\.\) goes on"):
        agent = MBPO.resume(good.folder / "crafted.zip", PENDULUM)
    assert agent.tensorboard_log is None
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        agent = MBPO.resume(good.folder / "crafted.zip", PENDULUM, tensorboard_log=str(tmp_path))
    assert agent.tensorboard_log == str(tmp_path)


def test_the_trap_works(good: Good, tmp_path: Path) -> None:
    """The same argument from the caller is imported, and seen: so it would be if it came from the file."""
    crafted = edited(good.raw, ("arguments", "weighter"), f"{TRAP}:boom")
    crafted.write(good.folder / "crafted.zip")
    with watched() as events, pytest.raises(SystemError, match="imported"):
        MBPO.resume(good.folder / "crafted.zip", PENDULUM, weighter=f"{TRAP}:boom")
    assert any(event == "exec" and TRAP in name for event, name in events)
