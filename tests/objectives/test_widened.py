"""What an objective decides beside its loss: when a fit stops, what is kept, and rows when they are drawn."""

from typing import Any

import pytest
import torch as th

from sb3_tom import Context, DynamicsModel, Transitions
from sb3_tom.contracts.types import Batch
from sb3_tom.dynamics.holdout import split_rows
from sb3_tom.objectives.likelihood import LikelihoodObjective
from sb3_tom.objectives.survive import SurviveBonusObjective
from tests.dynamics.cases import built, make_context, make_data
from tests.mbpo.small import small_agent

N_ROWS = 300
LONG: dict[str, Any] = {"max_epochs": 8, "first_max_epochs": 8, "patience": 2, "improvement": 0.0}


class OwnError(LikelihoodObjective):
    """Counts its looks; the error of member e is what the script says, whatever the model does."""

    def __init__(self, script: list[list[float]] | None) -> None:
        super().__init__()
        self.script, self.looks = script, 0
        self.numbers: list[float] = []

    def prepare(self, model: DynamicsModel, data: Transitions, context: Context) -> dict[str, th.Tensor]:
        self.rewards = data.rewards
        return {"number": data.rewards * 2.0}

    def validation_error(self, model: DynamicsModel, batch: Transitions, extras: dict[str, th.Tensor]) -> th.Tensor | None:
        assert th.equal(extras["number"], batch.rewards * 2.0), "extras of other rows"
        self.numbers = batch.rewards.flatten().tolist()
        if self.script is None:
            return None
        errors = th.tensor(self.script[min(self.looks, len(self.script) - 1)])
        self.looks += 1
        return errors.unsqueeze(1).expand(-1, batch.size)


def fitted(objective: LikelihoodObjective, kind: str = "ensemble", **kwargs: Any) -> tuple[DynamicsModel, dict[str, float]]:
    data, model = make_data(N_ROWS), built(kind, **{**LONG, **kwargs})
    return model, model.fit(data, th.ones(N_ROWS), objective, make_context())


def test_its_own_error_stops_the_fit_and_chooses_the_elites() -> None:
    """Best at the second look, then worse twice: three looks more than the first are too many."""
    objective = OwnError([[3.0, 2.0, 1.0], [2.5, 0.2, 0.9], [9.0, 9.0, 9.0], [9.0, 9.0, 9.0]])
    model, figures = fitted(objective)
    assert figures["epochs"] == 4.0 and objective.looks == 4
    assert sorted(model.elites.tolist()) == [1.0, 2.0]
    assert figures["validation_error"] == pytest.approx((0.2 + 0.9) / 2)
    data, held = make_data(N_ROWS), split_rows(th.arange(N_ROWS), 0.2, 5000)[1]
    assert objective.numbers == data.rewards[held].flatten().tolist(), "the rows that are held out"


def test_the_best_state_is_the_one_of_its_best_error() -> None:
    """Never better than at the first look: the model of one epoch comes back, to the last bit."""
    best_first, _ = fitted(OwnError([[1.0, 1.0, 1.0], [2.0, 2.0, 2.0]]))
    one_epoch, _ = fitted(OwnError([[1.0, 1.0, 1.0]]), max_epochs=1, first_max_epochs=1)
    for one, other in zip(best_first.parameters(), one_epoch.parameters(), strict=True):
        assert th.equal(one, other)


@pytest.mark.parametrize("kind", ["ensemble", "mdn"])
def test_without_an_error_the_budget_is_spent_and_the_last_state_stays(kind: str) -> None:
    script_that_always_improves = [[float(100 - look)] * (3 if kind == "ensemble" else 1) for look in range(20)]
    unknown, figures = fitted(OwnError(None), kind)
    improving, _ = fitted(OwnError(script_that_always_improves), kind)
    assert figures["epochs"] == 8.0
    for one, other in zip(unknown.parameters(), improving.parameters(), strict=True):
        assert th.equal(one, other)
    assert figures["validation_error"] == figures["validation_error"] < 10.0  # the model's own


def test_who_is_the_likelihood() -> None:
    class Same(LikelihoodObjective):
        def relabel(self, batch: Transitions, context: Context) -> Transitions:
            return batch

    class Other(LikelihoodObjective):
        def loss(self, *arguments: Any) -> th.Tensor:
            return 2.0 * super().loss(*arguments)

    class Stated(Other):
        is_likelihood = True

    kinds = (LikelihoodObjective, Same, Other, Stated, SurviveBonusObjective, OwnError)
    assert [kind.is_likelihood for kind in kinds] == [True, True, False, True, False, False]


class AtDrawTime(LikelihoodObjective):
    """Pays imagined rows 100 more when they are drawn, and remembers what it saw."""

    seen: list[tuple[tuple[int, ...], int, float]]

    def relabel_batch(self, batch: Batch, is_real: th.Tensor, context: Context) -> Batch:
        self.seen.append((tuple(batch.rewards.shape), int(is_real.sum()), context.gamma))
        assert not batch.rewards.requires_grad
        return batch._replace(rewards=batch.rewards + 100.0 * ~is_real)


def test_rows_can_be_relabelled_when_they_are_drawn() -> None:
    objective = AtDrawTime()
    objective.seen = []
    agent = small_agent(objective=objective, dynamics="linear", real_ratio=0.25, weighter_kwargs=None).learn(120)
    assert {seen[1:] for seen in objective.seen} == {(8, 0.99)} and {seen[0][1:] for seen in objective.seen} == {(32, 1)}
    batch = next(agent._batches(agent._context())(1, 32))
    assert bool((batch.rewards[:8] < 0.0).all()) and bool((batch.rewards[8:] > 50.0).all())  # Pendulum pays at most 0
    stored = agent.imagined.gather(th.arange(agent.imagined.size))[3]
    assert bool((stored < 50.0).all()), "what is stored stays"


def test_an_objective_that_does_not_override_it_is_never_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sb3_tom.contracts.objective.ModelObjective.relabel_batch", lambda *_: pytest.fail("asked"))
    small_agent(dynamics="linear").learn(80)


class Telling(OwnError):
    """Has something to say of a fit, and looks at the model before there is one."""

    order: list[str]

    def check_model(self, model: DynamicsModel) -> None:
        self.order = ["checked"]
        if model.n_members < 2:
            raise ValueError(f"{type(model).__name__} has one member")

    def build(self, observation_dim: int, action_dim: int) -> None:
        self.order.append("built")

    def figures(self, model: DynamicsModel, batch: Transitions, extras: Any, context: Context) -> dict[str, float]:
        assert th.equal(extras["number"], batch.rewards * 2.0), "extras of other rows"
        assert not th.is_grad_enabled()
        return {"told": float(batch.rewards.sum()), "rows": float(batch.size)}


def test_an_objective_tells_of_held_out_rows_when_a_fit_ends() -> None:
    _, figures = fitted(Telling(None))
    data, held = make_data(N_ROWS), split_rows(th.arange(N_ROWS), 0.2, 5000)[1]
    assert figures["rows"] == len(held) and figures["told"] == pytest.approx(float(data.rewards[held].sum()), rel=1e-5)
    assert {"epochs", "validation_error"} <= figures.keys()


def test_of_many_held_out_rows_it_sees_some_of_all_ages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sb3_tom.dynamics.fitting.rows_at_once", lambda *_: 10)
    _, figures = fitted(Telling(None))
    data, held = make_data(N_ROWS), split_rows(th.arange(N_ROWS), 0.2, 5000)[1]
    chosen = held[[number * len(held) // 10 for number in range(10)]]
    assert figures["rows"] == 10.0 and figures["told"] == pytest.approx(float(data.rewards[chosen].sum()), rel=1e-5)


def test_what_an_objective_tells_is_in_the_log_and_numbers_by_name() -> None:
    objective = Telling(None)
    agent = small_agent(objective=objective)
    assert objective.order == ["checked", "built"]
    agent.learn(60)
    assert "model/told" in agent.logger.name_to_value
    objective.figures = lambda *_: 3.0  # type: ignore[assignment, method-assign, return-value]
    with pytest.raises(ValueError, match=r"Telling\.figures returned 3\.0; allowed: a dict of numbers by name"):
        agent.fit_model()


def test_an_objective_refuses_a_model_when_the_agent_is_made() -> None:
    with pytest.raises(ValueError, match="MixtureDensityNetwork has one member"):
        small_agent(objective=Telling(None), dynamics="mdn")
