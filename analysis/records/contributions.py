"""What each report row adds to a winner's scores, as an artifact of its study's run: written and read."""

import io
from dataclasses import dataclass
from typing import Any

import numpy as np

from analysis.statistics.gains import Floats

DIGITS = "%.6g"


@dataclass(frozen=True)
class Contributions:
    """What each report row adds to the score of each seed; a seed's score is their mean.

    Attributes:
        seeds: [K] in the order of the rows of `values`.
        values: [K, N] in score units.

    Raises:
        ValueError: if there is not one row of values per seed.
    """

    seeds: tuple[int, ...]
    values: Floats

    def __post_init__(self) -> None:
        """Checks the shape."""
        if self.values.ndim != 2 or len(self.values) != len(self.seeds) or not self.values.size:
            raise ValueError(
                f"contributions need report rows of each of {len(self.seeds)} seeds, got {list(self.values.shape)}"
            )

    def of(self, seeds: tuple[int, ...]) -> Floats:
        """[k, N] the values of some seeds."""
        return self.values[[self.seeds.index(seed) for seed in seeds]]


def as_csv(values: Floats, seeds: tuple[int, ...]) -> str:
    """Contributions as a table: a line per report row, a column per seed, six digits."""
    text = io.StringIO()
    np.savetxt(
        text, values.T.round(9) + 0.0, DIGITS, ",", header=",".join(f"seed {seed}" for seed in seeds), comments=""
    )
    return text.getvalue()


def from_csv(text: str) -> Contributions:
    """Contributions from such a table.

    Raises:
        ValueError: if it is none.
    """
    head, _, rest = text.partition("\n")
    seeds = tuple(int(name.removeprefix("seed ")) for name in head.split(","))
    return Contributions(seeds, np.loadtxt(io.StringIO(rest), delimiter=",", ndmin=2).T)


def stacked(found: list[Contributions | None], seeds: tuple[int, ...]) -> Floats | None:
    """[S, K, N] of several studies on the same rows; None where one is not known, or has other rows or seeds."""
    known: list[Any] = [one.of(seeds) for one in found if one is not None and set(seeds) <= set(one.seeds)]
    same = len(known) == len(found) and len({one.shape for one in known}) == 1
    return np.stack(known) if same else None
