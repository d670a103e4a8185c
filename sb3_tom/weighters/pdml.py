r"""
PDML: rows of policies near the current one count more (Wang et al. 2023, "Live in the Moment", ICML 2023, arXiv:2207.12141),
by the rule of the authors' code. Rows that were collected between two model phases form a block. Its policy is that of the
phase which ended it, and its weight is one over the distance of that policy :math:`\pi_j` from the current one,

.. math::
    w_j = \frac 1 {\max(D_j, D_{\min})}, \qquad
    D_j = \frac 1 M \sum_{m=1}^M \sqrt{\tfrac 1 2 \operatorname{KL}(\pi(\cdot | s_m) \,\|\, \pi_j(\cdot | s_m))}.

By Pinsker's inequality :math:`D_j` is at least the mean total variation; the divergence is that of the Gaussians before tanh.
Two kinds of blocks have no such policy:

- the newest block, whose policy is the current one: its weight is the largest of the others, or
  :math:`\frac{\rho}{1 - \rho} \sum_j w_j` over the other blocks, the warm-up included, if that is more;
- the warm-up (block 0, before the first phase), and rows of another run that were loaded before the first policy was kept
  (later ones are taken for own ones): their weight is a share of the oldest other block's.

=====================  =====================================================
symbol                 meaning
=====================  =====================================================
:math:`s_m`            states of M buffer rows, drawn anew in each phase
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
    Weighs rows by one over the distance of their policy from the current one (PDML). The policies are saved and resumed with
    the weighter. At most ``n_policies`` are kept and compared at ``n_states`` states per phase, however long a run is: beyond
    that neighbouring blocks are merged, older ones more (:func:`superfluous`). Weights are 1 until there is a block besides
    the warm-up and the newest.

    :param n_policies: maximum number of kept policies, at least 3; each takes 4 bytes per parameter of the actor
    :param n_states: number M of states at which policies are compared
    :param newest_share: lower bound in [0, 1) of the newest block's share of the blocks' weights
    :param warmup_share: weight of the warm-up's rows as a share of that of the oldest other block, in [0, 1]
    :param min_distance: lower bound of the distances, above 0
    :raises ValueError: naming the argument, what came and what is allowed
    """

    growing = ("policies", "blocks", "distances")
    first: th.Tensor
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
        self._version = -1  # policy version of the last fit

    def build(self, observation_dim: int, action_dim: int) -> None:
        """Create empty buffers; see :meth:`Plug.build`."""
        self.register_buffer("first", th.zeros(1, dtype=th.int64))  # block whose policy was kept first; 0: none yet
        self.register_buffer("policies", th.zeros(0, 0))
        self.register_buffer("blocks", th.zeros(0, dtype=th.int64))
        self.register_buffer("distances", th.zeros(0, dtype=th.float64))

    @th.no_grad()
    def fit(
        self, data: Transitions, recent: Transitions, start_observations: th.Tensor, context: Context
    ) -> dict[str, float] | None:
        """Compute the distances of the kept policies from the current one; see :meth:`Weighter.fit`."""
        self._version = context.policy_version
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
        """Keep the policy of the block that has ended; see :meth:`Weighter.end_phase`."""
        block = context.policy_version - 1
        if block < self._version or block < 1 or (len(self.blocks) and block <= int(self.blocks[-1])):
            return  # no block has ended since the fit, the newest one may be another run's; or it is the warm-up
        if not bool(self.first):
            self.first.fill_(block)
        new = context.snapshot().state().reshape(1, -1)
        blocks = th.cat([self.blocks, th.tensor([block], device=data.device)])
        policies = th.cat([self.policies, new]) if len(self.policies) else new
        distances = th.cat([self.distances, th.zeros(1, dtype=th.float64, device=data.device)])
        kept = th.nonzero(blocks >= min(int(data.policy_version.min()), block)).flatten()  # the others have no rows left
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
        """
        Index of each block's policy, the first one kept from it on; then that of the newest block, then that of the blocks
        before the first.
        """
        return th.searchsorted(self.blocks, versions).masked_fill(versions < self.first.clamp(min=1), len(self.blocks) + 1)

    def _log_weights(self, n_blocks: th.Tensor) -> th.Tensor:
        """Log-weights of each kind, of which there are ``n_blocks``; in logarithms, since sums of 1 / D could overflow."""
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

    :param now: means and log standard deviations ``[M, A]`` of the first policy
    :param past: the same of the second
    :return: a scalar, float64
    """
    (mean, log_std), (past_mean, past_log_std) = ([part.double() for part in gaussian] for gaussian in (now, past))
    log_ratio = log_std - past_log_std
    # expm1: exp(2 r) - 1 - 2 r would cancel where both are nearly the same
    spread = (2.0 * log_ratio).expm1() - 2.0 * log_ratio
    shift = (mean - past_mean) * (-past_log_std).exp()
    divergence = 0.5 * (spread + shift.square()).sum(-1)
    return (0.5 * divergence.clamp(min=0.0)).sqrt().mean()


def superfluous(blocks: th.Tensor) -> int:
    """
    Index of the policy to drop: the one whose neighbours have the smallest ratio of ages, so that the kept ages are about
    geometric. The oldest and the newest are kept.

    :param blocks: ``[S]`` int64, ascending, S at least 3
    :return: index in [1, S - 2]
    """
    ages = (blocks[-1] - blocks + 1).double()
    return 1 + int((ages[:-2] / ages[2:]).argmin())
