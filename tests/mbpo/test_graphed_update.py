"""The recorded update on any machine with a recorder that only remembers, and on CUDA with real graphs."""

import copy
import warnings

import pytest
import torch as th
from stable_baselines3 import SAC

from sb3_tom.mbpo.graphed_update import WARM_UP, GraphedUpdate, Step, graphed
from sb3_tom.mbpo.plain_update import PlainSACUpdate
from sb3_tom.mbpo.sac_update import Losses
from tests.mbpo.oracle import largest_relative_error, make_batches, make_sac, make_update, run_fast, state

SMALL = {"policy_kwargs": {"net_arch": [16, 16]}}


class Recorder:
    """Stands in for CUDA: a replay runs the step again on the tensors that it was recorded with."""

    def __init__(self) -> None:
        self.recordings = 0

    def __call__(self, step: Step) -> Step:
        self.recordings += 1
        return step


def started(**kwargs: object) -> SAC:
    """An agent whose optimisers have stepped once."""
    agent = make_sac(th.float64, **SMALL, **kwargs)
    batches, noise = make_batches(1, th.float64)
    run_fast(agent, batches, noise, PlainSACUpdate)
    return agent


def run_graphed(agent: SAC, n_steps: int, known: GraphedUpdate | None, recorder: Recorder) -> GraphedUpdate:
    batches, noise = make_batches(n_steps, th.float64)
    known = graphed(make_update(agent, PlainSACUpdate), known, recorder)
    for step, batch in enumerate(batches):
        known(batch, noise[step], step % agent.target_update_interval == 0)
    return known


@pytest.mark.parametrize("kwargs", [{}, {"ent_coef": 0.2, "target_update_interval": 3}], ids=["default", "fixed temperature"])
def test_equals_the_plain_step(kwargs: dict[str, object]) -> None:
    plain, recorded, recorder = started(**kwargs), started(**kwargs), Recorder()
    known = None
    for rate in (3e-4, 1e-3):  # a schedule of the learning rate needs no new recording
        for agent in (plain, recorded):
            for optimizer in (agent.actor.optimizer, agent.critic.optimizer):
                optimizer.param_groups[0]["lr"] = rate
        batches, noise = make_batches(9, th.float64)
        run_fast(plain, batches, noise, PlainSACUpdate)
        known = run_graphed(recorded, 9, known, recorder)
    assert recorder.recordings == (2 if kwargs else 1)
    assert largest_relative_error(state(recorded), state(plain)) <= 1e-12


def test_losses_are_not_overwritten() -> None:
    agent, held = started(), Losses(*(th.zeros(()) for _ in range(4)))
    update = GraphedUpdate(make_update(agent, PlainSACUpdate), lambda step: lambda: held)
    batches, noise = make_batches(WARM_UP + 1, th.float64)
    losses = [update(batch, noise[step], True) for step, batch in enumerate(batches)][-1]
    held.critic_loss.fill_(7.0)
    assert float(losses.critic_loss) == 0.0


def test_recorded_anew_when_something_moved() -> None:
    agent, recorder = started(), Recorder()
    known = run_graphed(agent, WARM_UP + 1, None, recorder)
    assert run_graphed(agent, 1, known, recorder) is known
    agent.critic.optimizer.load_state_dict(
        copy.deepcopy(agent.critic.optimizer.state_dict())
    )  # as `load` and `set_parameters` do
    loaded = run_graphed(agent, WARM_UP + 1, known, recorder)
    assert loaded is not known
    for parameter in agent.actor.parameters():
        parameter.data = parameter.data.clone()
    moved = run_graphed(agent, 1, loaded, recorder)
    assert moved is not loaded
    agent.gamma = 0.5
    assert run_graphed(agent, 1, moved, recorder) is not moved


def test_recorded_anew_for_another_batch_size() -> None:
    recorder = Recorder()
    known = run_graphed(started(), WARM_UP + 2, None, recorder)
    batches, noise = make_batches(WARM_UP + 1, th.float64)
    for step, batch in enumerate(batches):
        known(type(batch)(*(field[:8] for field in batch)), noise[step][:, :8], True)
    assert recorder.recordings == 2


def test_a_failure_warns_once_and_trains_on() -> None:
    def fail(step: Step) -> Step:
        raise RuntimeError("no graphs here")

    plain, failing = started(), started()
    batches, noise = make_batches(WARM_UP + 4, th.float64)
    run_fast(plain, batches, noise, PlainSACUpdate)
    update = GraphedUpdate(make_update(failing, PlainSACUpdate), fail)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for step, batch in enumerate(batches):
            update(batch, noise[step], True)
    assert len([warning for warning in caught if "no graphs here" in str(warning.message)]) == 1
    assert largest_relative_error(state(failing), state(plain)) <= 1e-12


def test_not_before_the_optimisers_have_stepped() -> None:
    update = make_update(make_sac(th.float64, **SMALL), PlainSACUpdate)
    assert graphed(update, None, Recorder()) is update


@pytest.mark.skipif(not th.cuda.is_available(), reason="needs a CUDA device: records a real graph")
def test_a_cuda_graph_equals_eager_steps() -> None:
    agents = [SAC("MlpPolicy", "Pendulum-v1", seed=1, buffer_size=10, device="cuda") for _ in range(2)]
    batches, noise = make_batches(50, th.float32)
    batches, noise = [type(batch)(*(field.cuda() for field in batch)) for batch in batches], noise.cuda()
    for agent in agents:
        run_fast(agent, batches[:1], noise[:1], PlainSACUpdate)
    run_fast(agents[0], batches[1:], noise[1:], PlainSACUpdate)
    update = graphed(make_update(agents[1], PlainSACUpdate), None)
    assert isinstance(update, GraphedUpdate)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for step, batch in enumerate(batches[1:], 1):
            update(batch, noise[step], True)
    assert largest_relative_error(state(agents[1]), state(agents[0])) <= 1e-5
