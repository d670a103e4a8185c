"""Recorded steps do what eager ones do: with a tape on any machine, with CUDA graphs where there are any."""

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch as th

from sb3_tom.compute import cuda_graphs
from sb3_tom.compute.cuda_graphs import WARM_UP, RecordedStep, descent
from sb3_tom.compute.optimizers import set_learning_rate
from sb3_tom.contracts.dynamics import DynamicsModel
from sb3_tom.contracts.types import Transitions
from sb3_tom.dynamics.ensemble import ProbabilisticEnsemble
from sb3_tom.dynamics.mdn import MixtureDensityNetwork
from sb3_tom.objectives.likelihood import LikelihoodObjective
from sb3_tom.objectives.survive import SurviveBonusObjective
from sb3_tom.terminations.learned import LearnedTermination
from tests.compute.tape import Tape, taped
from tests.weighters.small import VARIANTS, built, context, newest, transitions


class Extra(LikelihoodObjective):
    """Weighs each row by what it prepared."""

    def prepare(self, model: DynamicsModel, data: Transitions, context: Any) -> dict[str, th.Tensor]:
        return {"first": data.observations[:, 0].square(), "second": th.ones(data.size, 2)}

    def loss(self, model: DynamicsModel, batch: Transitions, weights: th.Tensor, extras: dict[str, th.Tensor]) -> th.Tensor:
        return super().loss(model, batch, weights * extras["first"] * extras["second"].sum(-1), extras)


def fitted_model(model: DynamicsModel, objective: LikelihoodObjective, weighting: str) -> dict[str, th.Tensor]:
    """State after two fits, the second from where the first ended."""
    th.manual_seed(0)
    model.build(3, 2)
    view, weights = context(), th.rand(200)
    for _ in range(2):
        model.fit(transitions(200), weights, objective, view, weighting)
    return model.state_dict()


CLOSE = {"rtol": 1e-4, "atol": 1e-5}
"""A recorded step reads its learning rate in float32."""
QUICK = {
    "learning_rate": 2.0**-10,
    "net_arch": (16, 16),
    "steps_per_epoch": 7,
    "max_epochs": 3,
    "first_max_epochs": 3,
    "batch_size": 16,
}


@pytest.mark.parametrize("weighting", ["sample", "loss"])
@pytest.mark.parametrize("objective", [LikelihoodObjective, SurviveBonusObjective, Extra])
@pytest.mark.parametrize("kind", [ProbabilisticEnsemble, MixtureDensityNetwork])
def test_fit_of_a_model(kind: Any, objective: Any, weighting: str, monkeypatch: pytest.MonkeyPatch) -> None:
    eager = fitted_model(kind(**QUICK), objective(), weighting)
    with taped(monkeypatch) as tape:
        recorded = fitted_model(kind(**QUICK), objective(), weighting)
    assert tape.recordings == 2
    th.testing.assert_close(recorded, eager, rtol=0.0, atol=0.0)  # float32 holds the learning rate


def fitted_tom(arguments: dict[str, Any]) -> list[th.Tensor]:
    """
    State and weights after two fits. Nothing but rounding decides the constant of an undiscounted Q, and what it does to the
    last layers' biases: of the dual the weights are compared.
    """
    th.manual_seed(0)
    data, tom, view = transitions(500), built(**arguments), context()
    for _ in range(2):
        tom.fit(data, newest(data), data.observations[:5], view)
    state = tom.state_dict()
    if tom.settings.discount(view.gamma) == 1.0:
        state = {name: value for name, value in state.items() if not name.startswith("dual.")}
    return [*state.values(), tom.weights(data, view)]


@pytest.mark.parametrize("arguments", VARIANTS, ids=str)
def test_fit_of_tom(arguments: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    eager = fitted_tom(arguments)
    with taped(monkeypatch) as tape:
        recorded = fitted_tom(arguments)
    is_averaged = arguments.get("preset") != "official"  # the weights' mean over s' is fitted for the weights
    assert tape.recordings == (4 if arguments.get("discriminator", True) else 2) + is_averaged
    th.testing.assert_close(recorded, eager, **CLOSE)


def fitted_termination() -> dict[str, th.Tensor]:
    th.manual_seed(0)
    learned = LearnedTermination(gradient_steps=20, first_gradient_steps=40)
    learned.build(3, 2)
    view = context()
    for _ in range(2):
        learned.fit(transitions(500), view)
    return learned.state_dict()


def test_fit_of_the_learned_termination(monkeypatch: pytest.MonkeyPatch) -> None:
    eager = fitted_termination()
    with taped(monkeypatch) as tape:
        recorded = fitted_termination()
    assert tape.recordings == 2
    th.testing.assert_close(recorded, eager, **CLOSE)


def descend(rates: list[float]) -> th.Tensor:
    """A small regression, with the learning rates of its steps."""
    th.manual_seed(0)
    layer, generator = th.nn.Linear(3, 1), th.Generator().manual_seed(0)
    optimizer = th.optim.Adam(layer.parameters(), fused=True)
    with descent(optimizer, lambda inputs: (layer(inputs) - inputs.sum()).square().mean(), "test", th.device("cpu")) as step:
        for rate in rates:
            set_learning_rate(optimizer, rate)
            step(th.randn(8, 3, generator=generator))
    assert isinstance(optimizer.param_groups[0]["lr"], float)
    return layer.weight.detach()


def test_a_learning_rate_that_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    rates = [0.1 / (1 + step) for step in range(10)]
    eager = descend(rates)
    with taped(monkeypatch):
        th.testing.assert_close(descend(rates), eager, **CLOSE)


@pytest.mark.parametrize(
    "step",
    [
        lambda rows: [rows * float(rows.sum())],
        lambda rows: [rows[rows > 0].sum()],
        lambda rows: [rows + th.tensor(1.0)],
        lambda rows: [rows + th.rand(4, generator=th.Generator())],
    ],
    ids=["host read", "mask", "host number", "generator"],
)
def test_what_cannot_be_recorded_warns_once_and_stays_right(step: Callable[[th.Tensor], list[th.Tensor]]) -> None:
    recorded, rows = RecordedStep(step, "test", Tape()), th.ones(4)
    with pytest.warns(UserWarning, match="no CUDA graph of the test, which stays slower") as caught:
        results = [recorded(rows * count) for count in range(1, WARM_UP + 4)]
    assert len(caught) == 1
    if th.equal(step(rows)[0], step(rows)[0]):
        assert all(th.equal(result[0], step(rows * count)[0]) for count, result in enumerate(results, 1))


def test_results_are_not_overwritten() -> None:
    recorded = RecordedStep(lambda rows: [rows * 2], "test", Tape())
    results = [recorded(th.full((2,), float(count)))[0] for count in range(WARM_UP + 3)]
    assert [float(result[0]) for result in results] == [2.0 * count for count in range(WARM_UP + 3)]


def test_other_shapes_are_recorded_anew() -> None:
    tape = Tape()
    recorded = RecordedStep(lambda rows: [rows.sum()], "test", tape)
    for n_rows in (3, 5, 3):
        sums = [float(recorded(th.ones(n_rows))[0]) for _ in range(WARM_UP + 2)]
        assert sums == [n_rows] * (WARM_UP + 2)
    assert tape.recordings == 3


def test_models_and_objectives_have_to_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    class HostLoss(LikelihoodObjective):
        recordable = False

        def loss(self, *args: Any) -> th.Tensor:
            value = super().loss(*args)
            assert float(value.detach()) < 1e9
            return value

    with taped(monkeypatch) as tape:
        fitted_model(ProbabilisticEnsemble(**QUICK), HostLoss(), "sample")
    assert tape.recordings == 0


@pytest.mark.parametrize("number", [0, 1])
@pytest.mark.parametrize("arguments", [{}, {"preset": "official"}], ids=str)
def test_cuda_graphs_of_tom_and_the_ensemble_equal_eager_steps(
    arguments: dict[str, Any], number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    if th.cuda.device_count() <= number:
        pytest.skip(f"needs CUDA device {number}: records real graphs")

    def run() -> list[th.Tensor]:
        th.manual_seed(0)
        device = f"cuda:{number}"
        data = Transitions(*(field.to(device) for field in transitions(500)))
        view = context(device=device)
        tom, model = built(**arguments).to(device), ProbabilisticEnsemble(**QUICK)
        model.build(3, 2)
        model.to(device)
        tom.fit(data, newest(data), data.observations[:5], view)
        model.fit(data, tom.weights(data, view).float(), LikelihoodObjective(), view)
        return [*tom.state_dict().values(), *model.state_dict().values()]

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        recorded = run()
    monkeypatch.setattr(cuda_graphs, "uses_cuda_graphs", lambda device: False)
    for one, other in zip(recorded, run(), strict=True):
        th.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)
