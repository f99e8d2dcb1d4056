"""What report rows add to scores, as a file that people can open: written and read."""

import numpy as np
import pytest

from analysis.records.contributions import Contributions, as_csv, from_csv, stacked


def test_a_table_is_read_back_to_six_digits_and_rounding_is_no_number() -> None:
    values = np.array([[1.0, 1.7e-14, 0.25], [-1e-13, 0.123456789, 1.0]])
    text = as_csv(values, (10, 7))
    assert text.splitlines() == ["seed 10,seed 7", "1,0", "0,0.123457", "0.25,1"]
    read = from_csv(text)
    assert read.seeds == (10, 7)
    assert read.values == pytest.approx(values, abs=1e-6)
    assert read.of((7,)) == pytest.approx(values[1:], abs=1e-6)


def test_one_row_or_one_seed_is_a_table_too() -> None:
    assert from_csv(as_csv(np.array([[0.5]]), (3,))).values.shape == (1, 1)
    assert from_csv(as_csv(np.ones((2, 1)), (3, 4))).values.shape == (2, 1)


@pytest.mark.parametrize("text", ["", "seed 1\n", "seed x\n1\n", "seed 1,seed 2\n1\n"])
def test_what_is_no_such_table_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        from_csv(text)


def test_studies_are_stacked_where_they_have_the_same_rows_and_seeds() -> None:
    one, other = Contributions((1, 2), np.ones((2, 3))), Contributions((2, 1), np.array([[2.0] * 3, [1.0] * 3]))
    assert stacked([one, other], (1, 2)).tolist() == [[[1.0] * 3, [1.0] * 3], [[1.0] * 3, [2.0] * 3]]
    assert stacked([one, None], (1, 2)) is None
    assert stacked([one, Contributions((1, 2), np.ones((2, 4)))], (1, 2)) is None
    assert stacked([one, other], (1, 9)) is None
