"""
The settings of TOM, and two presets: "official" has the choices of the released code, as read there; "default" follows the
paper, and where the paper leaves a choice, takes what did best in earlier experiments (``docs/results``). Each difference is
one argument of :class:`~sb3_tom.weighters.tom.weighter.TOMWeighter`.

============================  ==========  ==========  ==================================================================
argument                      default     official    meaning
============================  ==========  ==========  ==================================================================
divergence                    "kl"        "chi2"      f-divergence of the dual; "chi2" in the paper's experiments
discriminator                 True        True        learn the log-ratio R; False: R is 1 on recent rows, 0 elsewhere
discriminator_arch            (128, 128)  (128, 256)  units of the hidden tanh layers
separate_encoders             False       True        the first layer treats s, a and s' apart
train_encoders                True        False       learn the first layer too (the released optimiser omits it)
delta_input                   True        False       feed s' - s instead of s'
policy_input                  False       False       feed how likely the policy finds a, against the buffer's actions too
standardize                   True        False       standardise the inputs of both networks on the buffer
folds                         5           1           networks, cross-fitted; 1: one, evaluated on the rows it was fitted to
block_steps                   None        None        steps in a row kept in one fold, as one observation; None: 200, as four
buffer_label                  0.0         0.1         target of the buffer's rows; 0.1 bounds R from below by -2.2
gradient_penalty              0.0         10.0        coefficient of (norm of R's input gradient - 1)^2
discriminator_weight_decay    0.01        0.0         L2 coefficient
ratio_bound                   5.0         None        R is clamped to [-bound, bound]; None: it is not
discriminator_steps           400         400         gradient steps per model phase; with folds at most (early stopping)
discriminator_batch_size      256         256         rows of each class per step
discriminator_learning_rate   0.001       0.0003      Adam's
q_arch                        (128, 128)  (256, 256)  units of the hidden ReLU layers
q_persistent                  False       True        Q and its optimiser go on from the previous phase
q_steps                       400         1000        gradient steps per model phase
q_batch_size                  128         256         rows per step
start_batch_size              64          256         pairs of start state and action per step
q_learning_rate               0.001       0.0003      Adam's
q_holdout_ratio               0.2         0.0         share of held-out rows, which decide at which step Q is kept
q_weight_decay                0.0         0.0001      L2 coefficient
anneal                        True        False       both learning rates fall linearly to 0 within a phase
n_actions                     16          1           actions of the policy averaged at a next state
pool_size                     20000       None        rows whose actions are drawn once per phase; None: fresh draws
terminal                      "restart"   "mask"      what follows a termination: the next start, or nothing
restart_truncated             True        False       with "restart": the next start follows a time-out too
corrected_conjugate           True        False       loss and weights use the same conjugate (chi2: clamped; KL: exp)
mass_shift                    True        False       Q has a free constant, solved for: the mass identity holds
nonnegative                   False       False       Q >= 0 as in Prop. 1; voids the mass identity
occupancy_gamma               None        0.99        discount of the flow; None: 1 with "restart", else the agent's
average_next                  True        False       weights are averaged over s', so that they do not tilt the law of s'
average_steps                 400         400         gradient steps of that average per model phase at most
recent_size                   1000        1000        newest rows used as ``recent``; until then weights are 1
max_weight                    10.0        10.0        cut of weights, in units of their mean before it; None: no cut
uniform_mix                   0.0         0.0         share of uniform weights mixed in
ess_floor                     0.0         0.0         least effective sample size as a share of the rows
============================  ==========  ==========  ==================================================================
"""

from dataclasses import dataclass, fields, replace
from typing import Any

from sb3_tom.checks.validation import check_bool, check_choice, check_integer, check_integers, check_number
from sb3_tom.weighters.tom.functional import DIVERGENCES, TERMINAL


@dataclass(frozen=True)
class TOMSettings:
    """The default preset; the fields are described in the table of this module. Bad values raise one ValueError."""

    divergence: str = "kl"
    discriminator: bool = True
    discriminator_arch: tuple[int, ...] = (128, 128)
    separate_encoders: bool = False
    train_encoders: bool = True
    delta_input: bool = True
    policy_input: bool = False
    standardize: bool = True
    folds: int = 5
    block_steps: int | None = None
    buffer_label: float = 0.0
    gradient_penalty: float = 0.0
    discriminator_weight_decay: float = 1e-2
    ratio_bound: float | None = 5.0
    discriminator_steps: int = 400
    discriminator_batch_size: int = 256
    discriminator_learning_rate: float = 1e-3
    q_arch: tuple[int, ...] = (128, 128)
    q_persistent: bool = False
    q_steps: int = 400
    q_batch_size: int = 128
    start_batch_size: int = 64
    q_learning_rate: float = 1e-3
    q_holdout_ratio: float = 0.2
    q_weight_decay: float = 0.0
    anneal: bool = True
    n_actions: int = 16
    pool_size: int | None = 20_000
    terminal: str = "restart"
    restart_truncated: bool = True
    corrected_conjugate: bool = True
    mass_shift: bool = True
    nonnegative: bool = False
    occupancy_gamma: float | None = None
    average_next: bool = True
    average_steps: int = 400
    recent_size: int = 1000
    max_weight: float | None = 10.0
    uniform_mix: float = 0.0
    ess_floor: float = 0.0

    def __post_init__(self) -> None:
        for field in fields(self):  # whose types are classes, as long as annotations are not postponed
            name, value = field.name, getattr(self, field.name)
            if field.type is bool:
                self._replace(name, check_bool(name, value))
            elif field.type is int or (field.type == int | None and value is not None):
                self._replace(name, check_integer(name, value, 1))
            elif field.type is float or (field.type == float | None and value is not None):
                self._replace(name, check_number(name, value, **_LIMITS[name]))
        self._replace("discriminator_arch", check_integers("discriminator_arch", self.discriminator_arch, 1, 1))
        self._replace("q_arch", check_integers("q_arch", self.q_arch, 1))
        check_choice("divergence", self.divergence, DIVERGENCES)
        check_choice("terminal", self.terminal, TERMINAL)
        self._check_combinations()

    def discount(self, gamma: float) -> float:
        """
        Discount of the flow. The recent rows are visits without discount, so the flow is undiscounted too: otherwise the
        weights of a stationary policy would depend on the time in an episode.

        :param gamma: the agent's
        :raises ValueError: if it is 1 with ``terminal="mask"``, where the mass that leaks at terminations would leave none
        """
        own_clock = 1.0 if self.terminal == "restart" else gamma
        chosen = own_clock if self.occupancy_gamma is None else self.occupancy_gamma
        if self.terminal == "mask" and chosen >= 1.0:
            raise ValueError(f"gamma={chosen!r} is not allowed with terminal='mask'; give an occupancy_gamma in [0, 1)")
        return chosen

    def _replace(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, value)

    def _check_combinations(self) -> None:
        if self.policy_input and not self.discriminator:
            raise ValueError("policy_input=True is not allowed with discriminator=False; allowed: discriminator=True")
        if self.block_steps is not None:
            self._check_block(self.block_steps, self.recent_size // self.folds)
        if self.terminal == "mask" and self.occupancy_gamma == 1.0:
            raise ValueError("occupancy_gamma=1.0 is not allowed with terminal='mask'; allowed: a number in [0, 1)")
        if self.nonnegative and self.mass_shift:
            raise ValueError("nonnegative=True is not allowed with mass_shift=True; allowed: mass_shift=False")

    def _check_block(self, block: int, longest: int) -> None:
        if self.folds == 1 or not self.discriminator:
            unfit = "folds=1" if self.discriminator else "discriminator=False"
            raise ValueError(f"block_steps={block} is not allowed with {unfit}, where no rows are kept apart; allowed: None")
        if block > longest:
            raise ValueError(
                f"block_steps={block} is not allowed with recent_size={self.recent_size} and folds={self.folds}; "
                f"allowed: at most {longest}, so that the newest rows are in all folds, or a larger recent_size"
            )


_LIMITS: dict[str, dict[str, Any]] = {
    "buffer_label": {"low": 0.0, "high": 0.5, "high_open": True},
    "gradient_penalty": {"low": 0.0},
    "discriminator_weight_decay": {"low": 0.0},
    "discriminator_learning_rate": {"low": 0.0, "high": 1.0, "low_open": True},
    "q_learning_rate": {"low": 0.0, "high": 1.0, "low_open": True},
    "q_holdout_ratio": {"low": 0.0, "high": 1.0, "high_open": True},
    "q_weight_decay": {"low": 0.0},
    "uniform_mix": {"low": 0.0, "high": 1.0},
    "ess_floor": {"low": 0.0, "high": 1.0},
    "ratio_bound": {"low": 0.0, "low_open": True},
    "occupancy_gamma": {"low": 0.0, "high": 1.0},
    "max_weight": {"low": 1.0},
}
"""Arguments of :func:`check_number` for each float."""

PRESETS = {
    "default": TOMSettings(),
    "official": TOMSettings(
        divergence="chi2",
        discriminator_arch=(128, 256),
        separate_encoders=True,
        train_encoders=False,
        delta_input=False,
        standardize=False,
        folds=1,
        buffer_label=0.1,
        gradient_penalty=10.0,
        discriminator_weight_decay=0.0,
        discriminator_learning_rate=3e-4,
        ratio_bound=None,
        q_arch=(256, 256),
        q_persistent=True,
        q_steps=1000,
        q_batch_size=256,
        start_batch_size=256,
        q_learning_rate=3e-4,
        q_holdout_ratio=0.0,
        q_weight_decay=1e-4,
        anneal=False,
        n_actions=1,
        pool_size=None,
        terminal="mask",
        restart_truncated=False,
        average_next=False,
        corrected_conjugate=False,
        mass_shift=False,
        occupancy_gamma=0.99,
    ),
}
"""The presets by name."""


def tom_settings(preset: str, overrides: dict[str, Any]) -> TOMSettings:
    """
    A preset with some arguments replaced.

    :param preset: "default" or "official"
    :param overrides: arguments by name
    :return: the checked settings
    :raises ValueError: naming the argument, what came and what is allowed
    """
    settings = PRESETS[check_choice("preset", preset, PRESETS)]
    names = {field.name for field in fields(TOMSettings)}
    unknown = sorted(set(overrides) - names)
    if unknown:
        raise ValueError(f"{unknown[0]}={overrides[unknown[0]]!r} is not an argument of TOMWeighter; allowed: {sorted(names)}")
    return replace(settings, **overrides)
