"""An ensemble for policy gradients through the model: smooth, and not clamped."""

from collections.abc import Sequence

from sb3_tom.dynamics.ensemble import ProbabilisticEnsemble


class SmoothEnsemble(ProbabilisticEnsemble):
    """
    :class:`~sb3_tom.dynamics.ensemble.ProbabilisticEnsemble` with the choices of Double Horizon MBPO (Kubo et al. 2025, TMLR),
    smaller: four members of three layers, all of which predict, soft layer normalisation, noise on the state only, no clamp.
    Its noise depends on the input and is learned with ``beta_nll``: DHMBPO's constant noise is as large where a system is calm
    as where it falls.

    :param n_members: E
    :param n_elites: members that predict; None: all
    :param net_arch: widths of the hidden layers
    :param weight_decay: L2 coefficient of every layer
    :param fit_kwargs: as for the ensemble; so are the parameters that are not listed
    :raises ValueError: naming the argument, what came and what is allowed
    """

    def __init__(
        self,
        n_members: int = 4,
        n_elites: int | None = None,
        net_arch: Sequence[int] = (200, 200, 200),
        learning_rate: float = 1e-3,
        weight_decay: float = 1e-5,
        predict: str = "delta",
        clamp: str | None = None,
        soft_norm: bool = True,
        homoscedastic: bool = False,
        beta_nll: float = 0.5,
        reward_noise: bool = False,
        max_epochs: int = 5,
        first_max_epochs: int = 20,
        **fit_kwargs: float,
    ) -> None:
        super().__init__(
            n_members=n_members,
            n_elites=n_members if n_elites is None else n_elites,
            net_arch=net_arch,
            learning_rate=learning_rate,
            weight_decay=weight_decay,
            predict=predict,
            clamp=clamp,
            soft_norm=soft_norm,
            homoscedastic=homoscedastic,
            beta_nll=beta_nll,
            reward_noise=reward_noise,
            max_epochs=max_epochs,
            first_max_epochs=first_max_epochs,
            **fit_kwargs,
        )
