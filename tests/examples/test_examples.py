"""Every example runs from its command line, with an agent small enough for a test, and does what it says."""

import inspect
import re
import runpy
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch as th

import sb3_tom
from sb3_tom.checks.guards import DivergenceError
from sb3_tom.contracts.policy_update import PolicyParts
from sb3_tom.objectives.likelihood import LikelihoodObjective
from tests.dynamics.cases import built, fit, make_context, make_data
from tests.dynamics.test_renormalization import elsewhere, in_raw_units
from tests.mbpo.small import SMALL_MODELS, SMALL_WEIGHTERS, small_agent

FOLDER = Path(__file__).parents[2] / "examples"
SMALL: dict[str, Any] = {
    "learning_starts": 60,
    "batch_size": 16,
    "buffer_size": 1000,
    "policy_kwargs": {"net_arch": [16]},
    "rollout_batch_size": 50,
    "model_train_freq": 50,
    "update_to_data_ratio": 1.0,
    "device": "cpu",
}
TESTED_ELSEWHERE = {"resume", "plain_sac", "first_env", "mnm_gridworld", "mnm_tables"}
"""By tests/checkpoint/test_guide.py and files of their own beside this one."""


class SmallMBPO(sb3_tom.MBPO):
    """MBPO with the sizes of a test, whatever the example asks for; it remembers the agents that were made."""

    made: list["SmallMBPO"]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        small = dict(SMALL)
        if kwargs.get("weighter") == "tom":
            small["weighter_kwargs"] = SMALL_WEIGHTERS["tom"]
        if "dynamics" not in kwargs:
            small["dynamics_kwargs"] = SMALL_MODELS["ensemble"]
        super().__init__(*args, **{**kwargs, **small})
        type(self).made.append(self)

    __init__.__signature__ = inspect.signature(sb3_tom.MBPO.__init__)  # type: ignore[attr-defined]  # for checkpoints


Run = Callable[..., dict[str, Any]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    """Runs an example as a script in an empty folder; returns its names."""
    SmallMBPO.made = []
    monkeypatch.setattr(sb3_tom, "MBPO", SmallMBPO)
    monkeypatch.chdir(tmp_path)
    threads = th.get_num_threads()

    def run_example(name: str, *arguments: str) -> dict[str, Any]:
        monkeypatch.setattr(sys, "argv", [name, *arguments])
        try:
            return runpy.run_path(str(FOLDER / f"{name}.py"), run_name="__main__")
        finally:
            th.set_num_threads(threads)

    return run_example


def only_agent() -> sb3_tom.MBPO:
    (agent,) = SmallMBPO.made
    return agent


def test_train(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = "--env InvertedPendulum-v5 --weighter pmac --steps 130 --eval-freq 60 --out here"
    run("train", *arguments.split())
    out = Path("here/InvertedPendulum-v5/pmac_0")
    names = {path.name for path in out.iterdir()}
    assert {"agent.zip", "learning_curve.csv", "weight_by_age.csv"} <= names
    assert list(out.glob(f"{type(only_agent()).__name__}_1/events.out.tfevents.*"))
    assert len((out / "learning_curve.csv").read_text().splitlines()) == 1 + 2
    assert isinstance(only_agent().weighter, sb3_tom.PMACWeighter) and only_agent().policy_version > 0
    assert str(out) in capsys.readouterr().out
    assert sorted(path.name for path in (out / "checkpoints").glob("*.zip")) == [
        "checkpoint_0_steps.zip",
        "checkpoint_130_steps.zip",
    ]


def test_custom_weighter(run: Run) -> None:
    names = run("custom_weighter", "--steps", "100")
    agent = only_agent()
    assert isinstance(agent.weighter, names["RewardWeighter"]) and agent.policy_version > 0
    rows = agent.replay_buffer.transitions().rows(th.arange(50))  # those of the first phase, weighed in the last one too
    weights = agent.replay_buffer.row_weights()[:50]
    assert th.equal(weights.argsort(), rows.rewards.squeeze(-1).argsort())


def test_custom_dynamics(run: Run, tmp_path: Path) -> None:
    names = run("custom_dynamics", "--steps", "100")
    agent = only_agent()
    assert isinstance(agent.dynamics, names["MeanNetwork"]) and agent.policy_version > 0
    data = agent.replay_buffer.transitions()
    before = agent.dynamics.validation_error(data).mean()
    for _ in range(5):
        agent.fit_model()
    assert agent.dynamics.validation_error(data).mean() < 0.7 * before < 0.7
    agent.save(tmp_path / "agent")
    loaded = SmallMBPO.load(tmp_path / "agent", dynamics=names["MeanNetwork"], dynamics_kwargs={"width": 200})
    assert th.equal(
        loaded.dynamics(data.observations, data.actions).mean, agent.dynamics(data.observations, data.actions).mean
    )


def mean_network() -> Any:
    """The example's class; nothing is trained."""
    return runpy.run_path(str(FOLDER / "custom_dynamics.py"), run_name="example")["MeanNetwork"]


def test_custom_dynamics_stay_the_same_function_when_their_units_move() -> None:
    model = mean_network()(width=16, max_epochs=10)
    data = make_data(400)
    model.build(3, 2)
    fit(model, data)
    other = elsewhere(make_data(300, seed=5))
    means, deviations = in_raw_units(model, other)
    before = model(other.observations, other.actions).mean.detach()
    model.fit_normalizer(other)
    moved = model(other.observations, other.actions).mean.detach() - before
    assert float(moved.abs().max()) > 0.1, "in the new units that is another number"
    again, deviations_again = in_raw_units(model, other)
    assert float(((again - means).abs() / model.target_scales()).max()) < 1e-4
    th.testing.assert_close(deviations_again, deviations, rtol=1e-3, atol=0.0)


@pytest.mark.parametrize(
    "asks",
    [
        {"weighter": "error", "objective": "vagram", "confidence": "inverse_std"},
        {"weighter": "maper", "objective": "mnm", "objective_kwargs": {"likelihood_fits": 1, "net_arch": (16,)}},
    ],
)
@pytest.mark.filterwarnings("ignore:health/")
def test_custom_dynamics_answer_whoever_asks(asks: dict[str, Any]) -> None:
    quick = {"width": 16, "max_epochs": 2, "first_max_epochs": 2, "steps_per_epoch": 5}
    agent = small_agent(dynamics=mean_network(), dynamics_kwargs=quick, **asks)
    agent.learn(130)
    weights = agent.replay_buffer.row_weights()
    assert agent.policy_version > 2 and float(weights.std()) > 0.0


def test_custom_objective(run: Run) -> None:
    """One reward of twenty is of another kind: its mean error elsewhere is a fraction of the Gaussian's."""
    names = run("custom_objective", "--steps", "100")
    agent = only_agent()
    assert isinstance(agent.objective, names["StudentObjective"]) and agent.objective.nu == 3.0 and agent.policy_version > 0
    clean = make_data(600)
    strange = th.rand(600, 1, generator=th.Generator().manual_seed(0)) < 0.05
    spoiled = clean._replace(rewards=clean.rewards + 30.0 * strange)
    errors = []
    for objective in (LikelihoodObjective(), names["StudentObjective"]()):
        model = built("ensemble", max_epochs=10)
        model.fit(spoiled, th.ones(600), objective, make_context())
        with th.no_grad():
            mean, _ = model(clean.observations, clean.actions)
        differences = (mean - model.targets(clean))[..., 0]  # of the rewards, in the unit of the fit
        errors.append(float(differences.abs().mean() * model.target_scales()[0]))
    assert errors[1] < 0.3 and errors[0] > 3.0 * errors[1]  # rewards are of size 1
    with pytest.raises(ValueError, match=r"nu=0.0 is not allowed"):
        names["StudentObjective"](nu=0.0)


@pytest.mark.filterwarnings("ignore:health/")  # of a reward that is not the env's
def test_custom_policy_update(run: Run) -> None:
    """Steps along paths alone find the torque that makes the pendulum turn as fast as it can."""
    names = run("custom_policy_update", "--steps", "100")
    trained = only_agent()
    assert isinstance(trained.policy_update, names["PathwiseSAC"]) and trained._n_updates == 40  # of 100 steps 60 are random
    settings: dict[str, Any] = {"dynamics": "linear", "dynamics_kwargs": {"clamp": None}, "gamma": 0.5}
    spinning = {"reward_fn": lambda _observations, _actions, after: after[:, 2:]}
    agent = small_agent(policy_update=names["PathwiseSAC"], policy_update_kwargs={"horizon": 2}, **settings, **spinning)
    agent.learn(60)
    critics = [parameter.clone() for parameter in agent.critic.parameters()]
    parts, context, starts = PolicyParts.of(agent), agent._context(), agent.replay_buffer.transitions().observations
    parts.policy.actor.optimizer.param_groups[0]["lr"] = 1e-2
    for _ in range(150):
        agent.policy_update.climb(parts, starts, agent._world, context)
    with th.no_grad():
        assert float(context.mean_action(starts).min()) > 0.9
    assert all(th.equal(one, other) for one, other in zip(critics, agent.critic.parameters(), strict=True))


def test_custom_termination(run: Run) -> None:
    function = run("custom_termination", "--steps", "120")["pole_has_fallen"]
    data = only_agent().replay_buffer.transitions()
    assert data.terminated.sum() > 3
    assert th.equal(function(*data[:3]), data.terminated.bool())


def test_custom_env(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    names = run("custom_env", "--steps", "500")
    agent = only_agent()
    assert agent.termination.rule is None and agent.replay_buffer.transitions().terminated.sum() > 3
    everywhere, away = names["agreement"](agent)
    assert f"{everywhere:.1%} of a grid, {away:.1%} away" in capsys.readouterr().out
    always_on = 1 - (241 - 41) / 241  # share of the grid that is outside: what "always" or "never" would score
    assert everywhere > 1 - always_on + 0.05 and away >= everywhere


def test_offline(run: Run, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SMALL_WEIGHTERS, "tom", {"recent_size": 40})  # ten steps of its networks would say nothing
    run("offline", *"--steps 300 --rounds 2 --updates 5 --out here".split())
    output = capsys.readouterr().out
    agent = only_agent()
    assert agent.num_timesteps == 0 and agent._n_updates == 10 and agent.policy_version == 1
    (correlation,) = re.findall(r"Correlation of weight and reward over 300 transitions: (-?\d\.\d\d)", output)
    assert float(correlation) > 0.0
    assert Path("here/agent.zip").is_file()


def test_demo(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        run("demo", *"--steps 260 --out here".split())
    output = capsys.readouterr().out
    assert caught.value.code == (0 if "SOLVED after" in output else 1)
    expected = {"agent.zip", "learning_curve.csv", "learning_curve.png", "weight_by_age.csv"}
    assert "InvertedPendulum-v5 NOT solved in 260 env steps" in output
    assert expected <= {path.name for path in Path("here").iterdir()}


@pytest.mark.skipif(find_spec("rl_zoo3") is None, reason="rl_zoo3 is not installed: pip install 'sb3_tom[zoo]'")
def test_tune(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    for trials, total in (1, 1), (1, 2):  # the second call goes on with the first one's study
        run("tune", *f"--steps 120 --evaluations 1 --trials {trials} --storage search.log".split())
        assert f"\n{total} trials; best mean return -" in "\n" + capsys.readouterr().out


@pytest.mark.skipif(find_spec("rl_zoo3") is None, reason="rl_zoo3 is not installed: pip install 'sb3_tom[zoo]'")
def test_tune_evaluates_fewer_steps_than_evaluations_too(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    run("tune", *"--steps 2 --evaluations 3 --trials 1 --storage search.log".split())
    assert "1 trials; best mean return -" in capsys.readouterr().out.replace("-inf", "none")


@pytest.mark.skipif(find_spec("rl_zoo3") is None, reason="rl_zoo3 is not installed: pip install 'sb3_tom[zoo]'")
def test_tune_prunes_what_diverges_and_nothing_else(
    run: Run, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(agent: sb3_tom.MBPO, steps: int, callback: Any) -> None:
        raise error("the critic is not finite")

    monkeypatch.setattr(sb3_tom.MBPO, "learn", fail)
    words = "--steps 120 --evaluations 1 --trials 2 --storage search.log".split()
    error: type[ValueError] = DivergenceError
    run("tune", *words)
    assert capsys.readouterr().out == "2 trials; none is complete\n"
    error = ValueError
    with pytest.raises(ValueError, match="the critic"):
        run("tune", *words)


def test_every_example_is_tested() -> None:
    tested = {name.removeprefix("test_") for name in globals() if name.startswith("test_")}
    assert {path.stem for path in FOLDER.glob("*.py")} <= tested | TESTED_ELSEWHERE
