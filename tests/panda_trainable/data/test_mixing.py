"""Which task of a mixture comes when: in proportion, and evenly."""

import numpy as np
import pytest

from panda_trainable.config.task import MIXING_CAP
from panda_trainable.data.splits import mixture_schedule


def test_tasks_are_met_in_proportion_to_their_sizes_by_hand() -> None:
    assert mixture_schedule([3, 1], MIXING_CAP, 8).tolist() == [0, 0, 0, 1, 0, 0, 0, 1]
    assert mixture_schedule([5, 5], MIXING_CAP, 5).tolist() == [0, 1, 0, 1, 0]
    assert mixture_schedule([7], MIXING_CAP, 3).tolist() == [0, 0, 0]
    assert mixture_schedule([7, 2], MIXING_CAP, 0).tolist() == []
    assert np.bincount(mixture_schedule([60, 30, 10], MIXING_CAP, 1000)).tolist() == [600, 300, 100]


def test_a_task_counts_no_more_rows_than_the_cap() -> None:
    assert (
        mixture_schedule([10**6, 100, 50], 100, 500).tolist()
        == mixture_schedule([100, 100, 50], MIXING_CAP, 500).tolist()
    )
    assert np.bincount(mixture_schedule([10**6, 3, 2], 1, 300)).tolist() == [100, 100, 100]


@pytest.mark.parametrize(
    ("sizes", "cap"),
    [([60, 60], 99), ([90, *[1] * 10], 99), ([1, 1000, 7, 33], 500), ([10**6, 10**5, 10**4, 3], 2**19), ([5, 3], 4)],
    ids=str,
)
def test_after_any_number_of_examples_each_task_is_within_one_of_its_share(sizes: list[int], cap: int) -> None:
    owners, rates = mixture_schedule(sizes, cap, 3000), np.minimum(sizes, cap) / np.minimum(sizes, cap).sum()
    met = (owners[:, None] == np.arange(len(sizes))).cumsum(0)
    shares = np.arange(1, 3001)[:, None] * rates
    assert np.abs(met - shares).max() < 1
    assert mixture_schedule(sizes, cap, 1000).tolist() == owners[:1000].tolist()
