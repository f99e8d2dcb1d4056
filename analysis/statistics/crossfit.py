"""Choosing without what is scored: for every seed, the choice that the other seeds make."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from analysis.statistics.gains import ROUNDING, Floats


def grounds_of(selection: Floats, searched: Sequence[float]) -> Floats:
    """By what candidates are chosen for each seed: the mean of the other seeds.

    A candidate whose seeds were lucky on the selection rows was often lucky on the report rows too, since both
    score the same trained prompts. So the seed that is scored has no say in what it is scored for: every seed is
    scored once, and their mean is the score of choosing by K − 1 seeds, without a bias upwards.

    Args:
        selection: [C, K] selection scores of candidates by seed.
        searched: [C] scores in the search, with other seeds: where there is one seed alone, they choose.

    Returns:
        [C, K] of which `first_best` gives the choice for each seed.

    Raises:
        ValueError: if there is no candidate or no seed, or the two do not have the same candidates.

    Source: cross-fitting as in Chernozhukov et al. (2018), section 1; here over training seeds.
    """
    if selection.ndim != 2 or not selection.size or len(searched) != len(selection):
        raise ValueError(
            "a choice needs candidates with seeds, and a score of the search each, got selection scores "
            f"{list(selection.shape)} and {len(searched)} of the search"
        )
    if selection.shape[1] == 1:
        return np.asarray(searched, float)[:, None]
    return (selection.sum(axis=1, keepdims=True) - selection) / (selection.shape[1] - 1)


def first_best(grounds: Floats) -> NDArray[np.intp]:
    """[K] the first row of each column that is at its maximum, but for rounding."""
    return (grounds >= grounds.max(axis=0) - ROUNDING).argmax(axis=0)
