"""The recorded update, on any machine with a tape and on CUDA with real graphs."""

import copy
import warnings
from collections.abc import Callable

import pytest
import torch as th
from stable_baselines3 import SAC
from stable_baselines3.sac import policies
from torch import nn

from sb3_tom.compute.cuda_graphs import WARM_UP, Results
from sb3_tom.policy_updates.sac.graphed_update import GraphedUpdate, recorded_update
from sb3_tom.policy_updates.sac.handwritten_update import HandwrittenSACUpdate
from sb3_tom.policy_updates.sac.sac_update import Losses, SACUpdate
from tests.compute.tape import Tape, taped
from tests.mbpo.small import small_agent
from tests.policy_updates.sac.oracle import largest_relative_error, make_batches, make_sac, make_update, run_fast, state

SMALL = {"policy_kwargs": {"net_arch": [16, 16]}}


def started(**kwargs: object) -> SAC:
    """An agent whose optimisers have stepped once."""
    agent = make_sac(th.float64, **{**copy.deepcopy(SMALL), **copy.deepcopy(kwargs)})
    batches, noise = make_batches(1, th.float64)
    run_fast(agent, batches, noise, HandwrittenSACUpdate)
    return agent


def run_graphed(agent: SAC, n_steps: int, known: GraphedUpdate | None, recorder: Tape) -> GraphedUpdate:
    batches, noise = make_batches(n_steps, th.float64)
    known = recorded_update(make_update(agent, HandwrittenSACUpdate), known, recorder)
    for step, batch in enumerate(batches):
        known(batch, noise[step], step % agent.target_update_interval == 0)
    return known


SILU = {"policy_kwargs": {"net_arch": [16, 16], "n_critics": 5, "activation_fn": nn.SiLU}}


@pytest.mark.parametrize(
    "kwargs",
    [{}, {"ent_coef": 0.2, "target_update_interval": 3}, SILU],
    ids=["default", "fixed temperature", "SiLU, five critics"],
)
def test_equals_the_plain_step(kwargs: dict[str, object], monkeypatch: pytest.MonkeyPatch) -> None:
    plain, recorded = started(**kwargs), started(**kwargs)
    batches, noise = make_batches(9, th.float64)
    # a schedule of the learning rate needs no new recording; a graph reads rates in float32, which holds these
    rates = (2.0**-12, 2.0**-10)
    for rate in rates:
        set_rate(plain, rate)
        run_fast(plain, batches, noise, HandwrittenSACUpdate)
    known = None
    with taped(monkeypatch) as tape:
        for rate in rates:
            set_rate(recorded, rate)
            known = run_graphed(recorded, 9, known, tape)
    assert tape.recordings == (2 if "target_update_interval" in kwargs else 1)
    assert largest_relative_error(state(recorded), state(plain)) <= 1e-12


@pytest.mark.parametrize("n_steps", [1, 2, 5])
def test_gradients_are_clipped_in_every_call(n_steps: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each call makes an update anew, and the recorded one goes on: what is clipped has to be its own gradients."""
    plain, recorded = started(), started()
    for agent in (plain, recorded):
        agent.max_grad_norm = 0.05
        set_rate(agent, 2.0**-10)
    batches, noise = make_batches(n_steps, th.float64)
    n_calls = 2 * WARM_UP + 2
    for _ in range(n_calls):
        run_fast(plain, batches, noise, HandwrittenSACUpdate)
    known = None
    with taped(monkeypatch) as tape:
        for _ in range(n_calls):
            known = run_graphed(recorded, n_steps, known, tape)
    assert tape.recordings > 0
    assert largest_relative_error(state(recorded), state(plain)) <= 1e-12


def set_rate(agent: SAC, rate: float) -> None:
    for optimizer in (agent.actor.optimizer, agent.critic.optimizer, agent.ent_coef_optimizer):
        if optimizer is not None:
            optimizer.param_groups[0]["lr"] = rate


@pytest.mark.parametrize("weighter", ["uniform", "tom"])
def test_a_run_whose_every_step_is_recorded(weighter: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Policy, model and weighter together; numbers drift apart by rounding only."""
    kwargs = {
        "weighter": weighter,
        "model_train_freq": 20,
        "dynamics_kwargs": {"net_arch": (16,), "max_epochs": 2, "first_max_epochs": 2},
    }
    plain = small_agent(**kwargs).learn(110)
    with taped(monkeypatch) as tape:
        recorded = small_agent(**kwargs).learn(110)
    assert tape.recordings >= 4
    assert recorded._n_updates == plain._n_updates > 0
    assert largest_relative_error(state(recorded), state(plain)) <= 1e-5


def test_losses_are_not_overwritten() -> None:
    agent, held = started(), Losses(*(th.zeros(()) for _ in range(4)))
    update = GraphedUpdate(make_update(agent, HandwrittenSACUpdate), lambda step, device, generator: lambda: held)
    batches, noise = make_batches(WARM_UP + 1, th.float64)
    losses = [update(batch, noise[step], True) for step, batch in enumerate(batches)][-1]
    held.critic_loss.fill_(7.0)
    assert float(losses.critic_loss) == 0.0


def test_recorded_anew_when_something_moved() -> None:
    agent, recorder = started(), Tape()
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
    changed = run_graphed(agent, 1, moved, recorder)
    assert changed is not moved
    for number in (1, 3):
        agent.actor.latent_pi[number] = nn.SiLU()
    assert run_graphed(agent, 1, changed, recorder) is not changed


def test_recorded_anew_for_other_bounds_of_the_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    """SB3's, which a user changes in its module; and both ways of the step use them."""
    agent, recorder = started(), Tape()
    known = run_graphed(agent, WARM_UP + 1, None, recorder)
    monkeypatch.setattr(policies, "LOG_STD_MAX", -3.0)
    assert run_graphed(agent, 1, known, recorder) is not known
    batches, noise = make_batches(20, th.float64)
    by_hand, by_autograd = started(), started()
    run_fast(by_hand, batches, noise, HandwrittenSACUpdate)
    run_fast(by_autograd, batches, noise, SACUpdate)
    assert largest_relative_error(state(by_hand), state(by_autograd)) <= 1e-12


def test_the_rate_of_a_schedule_holds_after_an_optimisers_own_state_was_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    with taped(monkeypatch) as tape:
        agent = small_agent(dynamics="linear").learn(60)
        agent.train_policy(WARM_UP + 1)
        agent.actor.optimizer.load_state_dict(agent.actor.optimizer.state_dict())
        agent.lr_schedule = lambda _: 0.0
        before, recordings = [parameter.detach().clone() for parameter in agent.actor.parameters()], tape.recordings
        agent.train_policy(4)
    assert tape.recordings == recordings > 0, "the same recording goes on"
    assert all(map(th.equal, agent.actor.parameters(), before))


def test_recorded_anew_for_another_batch_size() -> None:
    recorder = Tape()
    known = run_graphed(started(), WARM_UP + 2, None, recorder)
    batches, noise = make_batches(WARM_UP + 1, th.float64)
    for step, batch in enumerate(batches):
        known(type(batch)(*(field[:8] for field in batch[:5])), noise[step][:, :8], True)
    assert recorder.recordings == 2


def test_a_failure_warns_once_and_trains_on() -> None:
    def fail(step: Callable[[], Results], device: th.device, generator: th.Generator | None) -> Callable[[], Results]:
        raise RuntimeError("no graphs here")

    plain, failing = started(), started()
    batches, noise = make_batches(WARM_UP + 4, th.float64)
    run_fast(plain, batches, noise, HandwrittenSACUpdate)
    update = GraphedUpdate(make_update(failing, HandwrittenSACUpdate), fail)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for step, batch in enumerate(batches):
            update(batch, noise[step], True)
    assert len([warning for warning in caught if "no graphs here" in str(warning.message)]) == 1
    assert largest_relative_error(state(failing), state(plain)) <= 1e-12


def test_not_before_the_optimisers_have_stepped() -> None:
    update = make_update(make_sac(th.float64, **SMALL), HandwrittenSACUpdate)
    assert recorded_update(update, None, Tape()) is None


@pytest.mark.skipif(not th.cuda.is_available(), reason="needs a CUDA device: records a real graph")
@pytest.mark.parametrize("activation", [nn.ReLU, nn.SiLU])
def test_a_cuda_graph_equals_eager_steps(activation: type[nn.Module]) -> None:
    kwargs = {"policy_kwargs": {"activation_fn": activation}, "buffer_size": 10, "device": "cuda"}
    agents = [SAC("MlpPolicy", "Pendulum-v1", seed=1, **copy.deepcopy(kwargs)) for _ in range(2)]
    batches, noise = make_batches(50, th.float32)
    batches, noise = [type(batch)(*(field.cuda() for field in batch)) for batch in batches], noise.cuda()
    for agent in agents:
        run_fast(agent, batches[:1], noise[:1], HandwrittenSACUpdate)
    run_fast(agents[0], batches[1:], noise[1:], HandwrittenSACUpdate)
    update = recorded_update(make_update(agents[1], HandwrittenSACUpdate), None)
    assert isinstance(update, GraphedUpdate)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for step, batch in enumerate(batches[1:], 1):
            update(batch, noise[step], True)
    assert largest_relative_error(state(agents[1]), state(agents[0])) <= 1e-5
