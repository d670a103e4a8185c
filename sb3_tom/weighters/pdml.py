r"""
PDML: rows of policies that are near the current one count more (Wang et al. 2023, "Live in the Moment", ICML 2023,
arXiv:2207.12141), by the rule of its authors' code. Rows that were collected between two model phases form a block. Its policy
is that of the phase which ended it, and its weight is one over the distance of that policy :math:`\pi_j` from the current one,

.. math::
    w_j = \frac 1 {\max(D_j, D_{\min})}, \qquad
    D_j = \frac 1 M \sum_{m=1}^M \sqrt{\tfrac 1 2 \operatorname{KL}(\pi(\cdot | s_m) \,\|\, \pi_j(\cdot | s_m))}.

By Pinsker's inequality :math:`D_j` is at least the mean total variation; the divergence is that of the Gaussians before tanh.
Two kinds of rows have no such policy:

- those of the newest block, whose policy is the current one: the greatest other weight, or
  :math:`\frac{\rho}{1 - \rho} \sum_j w_j` over the blocks, of which the warm-up is one, if that is more;
- those of the warm-up (block 0), which no policy has collected: a share of the oldest other weight.

=====================  =====================================================
symbol                 meaning
=====================  =====================================================
:math:`s_m`            states of M rows of the buffer, drawn in each phase
:math:`\rho`           ``newest_share``
:math:`D_{\min}`       ``min_distance``
=====================  =====================================================
"""

import torch as th

from sb3_tom.checks.validation import check_integer, check_number
from sb3_tom.contracts.context import Context
from sb3_tom.contracts.types import Transitions
from sb3_tom.contracts.weighter import Weighter

Gaussian = tuple[th.Tensor, th.Tensor]
"""Means and logarithms of standard deviations, ``[M, A]`` each."""


class PDMLWeighter(Weighter):
    """
    See this module. The policies are the weighter's state: saved and resumed. There are at most ``n_policies`` of them, and
    each phase asks them about ``n_states`` states, however long a run is: when there are more, neighbouring blocks are taken
    together, the older the more (:func:`superfluous`). Until a block beside the warm-up and the newest one is known, weights
    are 1.

    :param n_policies: policies that are kept, at least 3; each takes 4 bytes per number of the actor
    :param n_states: states M at which policies are compared
    :param newest_share: share in [0, 1) of the blocks' weight that the newest one has at least
    :param warmup_share: weight of the warm-up's rows as a share of those of the oldest other block, in [0, 1]
    :param min_distance: distances below count as this one, above 0
    :raises ValueError: naming the argument, what came and what is allowed
    """

    growing = ("policies", "blocks", "distances")
    policies: th.Tensor
    blocks: th.Tensor
    distances: th.Tensor

    def __init__(
        self,
        n_policies: int = 32,
        n_states: int = 1000,
        newest_share: float = 0.02,
        warmup_share: float = 0.05,
        min_distance: float = 1e-3,
    ) -> None:
        super().__init__()
        self.n_policies = check_integer("n_policies", n_policies, 3, 10_000)
        self.n_states = check_integer("n_states", n_states, 1, 10_000_000)
        self.newest_share = check_number("newest_share", newest_share, 0.0, 1.0, high_open=True)
        self.warmup_share = check_number("warmup_share", warmup_share, 0.0, 1.0)
        self.min_distance = check_number("min_distance", min_distance, 0.0, low_open=True)

    def build(self, observation_dim: int, action_dim: int) -> None:
        """No policy yet; see :meth:`Plug.build`."""
        self.register_buffer("policies", th.zeros(0, 0))
        self.register_buffer("blocks", th.zeros(0, dtype=th.int64))
        self.register_buffer("distances", th.zeros(0, dtype=th.float64))

    @th.no_grad()
    def fit(
        self, data: Transitions, recent: Transitions, start_observations: th.Tensor, context: Context
    ) -> dict[str, float] | None:
        """Ask how far the current policy is from those that were; see :meth:`Weighter.fit`."""
        drawn = th.randint(data.size, (self.n_states,), generator=context.generator, device=data.device)
        states, policy = data.observations[drawn], context.snapshot()
        now = policy.gaussian(states)
        found = [th.zeros(0, dtype=th.float64, device=data.device)]
        for state in self.policies:
            policy.restore(state)
            found.append(distance_bound(now, policy.gaussian(states)).reshape(1))
        self.distances = th.cat(found)
        known = self.distances.tolist()
        figures = {"policies": float(len(known))}
        return figures | {"distance_oldest": known[0], "distance_newest": known[-1]} if known else figures

    def end_phase(self, data: Transitions, context: Context) -> None:
        """Keep the policy, as that of the block which has ended; see :meth:`Weighter.end_phase`."""
        block = context.policy_version - 1
        if block < 1 or (len(self.blocks) and block <= int(self.blocks[-1])):
            return  # no policy has collected the warm-up; or nothing came since the last policy
        new = context.snapshot().state().reshape(1, -1)
        blocks = th.cat([self.blocks, th.tensor([block], device=data.device)])
        policies = th.cat([self.policies, new]) if len(self.policies) else new
        distances = th.cat([self.distances, th.zeros(1, dtype=th.float64, device=data.device)])
        kept = th.nonzero(blocks >= min(int(data.policy_version.min()), block)).flatten()  # the others have no rows any more
        while len(kept) > self.n_policies:
            extra = superfluous(blocks[kept])
            kept = th.cat([kept[:extra], kept[extra + 1 :]])
        self.policies, self.blocks, self.distances = policies[kept], blocks[kept], distances[kept]

    def weights(self, data: Transitions, context: Context) -> th.Tensor:
        """Weights ``[N]``, float64; see :meth:`Weighter.weights`."""
        versions = data.policy_version
        oldest = int(versions.min())
        present = th.nonzero(th.bincount(versions - oldest)).flatten() + oldest
        n_known = len(self.blocks)
        n_blocks = th.bincount(self._kinds(present), minlength=n_known + 2)
        if not bool(n_blocks[:n_known].any()):
            return th.ones(data.size, dtype=th.float64, device=data.device)
        log_weights = self._log_weights(n_blocks)
        return (log_weights - log_weights.max()).exp()[self._kinds(versions)]

    def _kinds(self, versions: th.Tensor) -> th.Tensor:
        """Number of the policy that stands for each block: the first one kept after it. Then the newest, and the warm-up."""
        return th.searchsorted(self.blocks, versions).masked_fill(versions <= 0, len(self.blocks) + 1)

    def _log_weights(self, n_blocks: th.Tensor) -> th.Tensor:
        """Logarithms of the weights of each kind; of which there are ``n_blocks``. One over a distance of 1e-300 has a sum."""
        n_known = len(self.blocks)
        known = -self.distances.clamp(min=self.min_distance).log()
        rho, share = known.new_tensor(self.newest_share), known.new_tensor(self.warmup_share)
        warmup = known[:1] + share.log()
        counts = th.cat([n_blocks[:n_known], n_blocks[n_known + 1 :].clamp(max=1)])
        total = (th.cat([known, warmup]) + counts.log()).logsumexp(0)
        greatest = known[n_blocks[:n_known] > 0].max()
        newest = th.maximum(greatest, total + rho.log() - (-rho).log1p())
        return th.cat([known, newest.reshape(1), warmup])


def distance_bound(now: Gaussian, past: Gaussian) -> th.Tensor:
    """
    Upper bound of the total variation between two policies, averaged over states: Pinsker's inequality state by state.

    :param now: means and log standard deviations ``[M, A]`` of the one
    :param past: of the other
    :return: a scalar, float64
    """
    (mean, log_std), (past_mean, past_log_std) = ([part.double() for part in gaussian] for gaussian in (now, past))
    log_ratio = log_std - past_log_std
    # expm1: where both are nearly the same, what is left of exp(2 r) - 1 - 2 r is the divergence
    spread = (2.0 * log_ratio).expm1() - 2.0 * log_ratio
    shift = (mean - past_mean) * (-past_log_std).exp()
    divergence = 0.5 * (spread + shift.square()).sum(-1)
    return (0.5 * divergence.clamp(min=0.0)).sqrt().mean()


def superfluous(blocks: th.Tensor) -> int:
    """
    Which of more policies than there is room for is given up: the one whose neighbours' ages differ least in proportion. So
    they come to stand at ages in geometric progression. The oldest and the newest stay.

    :param blocks: ``[S]`` int64, ascending, S at least 3
    :return: its number
    """
    ages = (blocks[-1] - blocks + 1).double()
    return 1 + int((ages[:-2] / ages[2:]).argmin())
