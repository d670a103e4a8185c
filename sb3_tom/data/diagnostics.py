"""Summary statistics of weights for the log."""

from itertools import pairwise

import torch as th

from sb3_tom.data.weights import effective_sample_size


def weight_figures(weights: th.Tensor, newest: th.Tensor) -> dict[str, float]:
    """
    Statistics of a weight vector.

    :param weights: ``[N]`` with mean 1
    :param newest: row numbers of the newest transitions
    :return: effective sample size as a share, largest weight, share of zero weights, mean weight of the newest rows
    """
    return {
        "effective_sample_size": float(effective_sample_size(weights)),
        "max": float(weights.max()),
        "zero_share": float((weights <= 0).float().mean()),
        "newest_mean": float(weights[newest].mean()),
    }


def equal_bins(n_rows: int, n_bins: int) -> list[tuple[int, int]]:
    """
    Cut rows into bins of nearly equal size.

    :param n_rows: number N of rows
    :param n_bins: number of bins; if there are fewer rows, a bin for each
    :return: first row of each bin, and the row after its last
    """
    n_bins = min(n_bins, n_rows)
    return list(pairwise(index * n_rows // n_bins for index in range(n_bins + 1)))


def weight_by_age(weights: th.Tensor, n_bins: int = 10) -> dict[str, float]:
    """
    Mean weight in bins of equally many rows, by age.

    :param weights: ``[N]`` with mean 1, oldest row first
    :param n_bins: number of bins; if there are fewer rows, a bin for each
    :return: "00" (the newest rows) to "09", and the number of "rows"
    """
    n_rows, newest_first = weights.numel(), weights.flip(0)
    means = th.stack([newest_first[low:high].mean() for low, high in equal_bins(n_rows, n_bins)])
    return {**{f"{index:02}": mean for index, mean in enumerate(means.tolist())}, "rows": float(n_rows)}
