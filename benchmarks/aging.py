"""Whether the driver of a search slows down as trials pile up, on a machine that is not alone: searches side by side.

Each search begins when the one before comes to its end. While one is in its last quarter and the next in its first,
both have the same machine, whatever else goes on there; what a result costs the one and the other is compared.
"""

import argparse
import json
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from itertools import pairwise
from multiprocessing import Manager, get_context
from statistics import median
from threading import Event

from benchmarks.driver import COSTS, Mark, Marks, growth, measured

HANDED_ON = 0.62
"""Share of a search's trials after which the next search begins: its first trials end some seconds later."""


class Turn(Marks):
    """Waits for the search before, and lets the next one begin.

    Args:
        trials: of the search.
        mine: is set when it may begin.
        following: is set when the next may.
    """

    def __init__(self, trials: int, mine: Event, following: Event) -> None:
        super().__init__()
        self.last_alone, self.mine, self.following = int(HANDED_ON * trials), mine, following

    def begin(self) -> None:
        """Waits."""
        self.mine.wait()

    def advance(self, note: str = "", by: int = 1) -> None:
        """A trial ended."""
        super().advance(note, by)
        if len(self.marks) == self.last_alone:
            self.following.set()


def searched(trials: int, studies: int, mine: Event, following: Event) -> list[Mark]:
    """One search, in its turn."""
    marks = Turn(trials, mine, following)
    try:
        measured(trials, studies, marks, is_recorded=False)
    finally:
        following.set()  # also where it failed: nobody waits for ever
    return marks.marks


def compared(old: Sequence[Mark], young: Sequence[Mark]) -> dict[str, float]:
    """What a result costs the young search and the old one, while both are in the quarters that are compared.

    Raises:
        ValueError: if they never are.
    """
    quarter = len(old) // 4
    last, first = old[-quarter:], young[:quarter]
    begin, end = max(last[0].seconds, first[0].seconds), min(last[-1].seconds, first[-1].seconds)
    both = [[mark for mark in part if begin <= mark.seconds <= end] for part in (first, last)]
    if min(map(len, both)) < 2:
        raise ValueError("The young search began after the old one's end: use more trials.")
    return {"trials": min(map(len, both)), **growth(*both)}


def side_by_side(pairs: int, trials: int, studies: int) -> list[dict[str, float]]:
    """Pairs of searches, each search but the first and the last in two of them."""
    # one process per search, two at a time: the third gets ready when the first is over
    pool = ProcessPoolExecutor(2, get_context("spawn"), max_tasks_per_child=1)
    with Manager() as manager, pool:
        turns = [manager.Event() for _ in range(pairs + 2)]
        turns[0].set()
        searches = [
            pool.submit(searched, trials, studies, turns[number], turns[number + 1]) for number in range(pairs + 1)
        ]
        marks = [search.result() for search in searches]
    return [compared(old, young) for old, young in pairwise(marks)]


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--trials", type=int, default=5000, help="of all studies of a search together")
    parser.add_argument("--studies", type=int, default=200, help="of a search")
    parser.add_argument("--json", action="store_true", help="print JSON")
    asked = parser.parse_args()
    found = side_by_side(asked.pairs, asked.trials, asked.studies)
    if asked.json:
        print(json.dumps(found))
        return
    for what, (unit, scale) in COSTS.items():
        if ratios := [pair[f"ratio_{what}"] for pair in found if f"ratio_{what}" in pair]:
            costs = (
                f"{scale * pair[f'first_{what}_per_result']:.1f} and {scale * pair[f'last_{what}_per_result']:.1f}"
                for pair in found
            )
            print(f"{unit} per result, young and old: {', '.join(costs)}")
            print(f"  x{', x'.join(f'{ratio:.2f}' for ratio in ratios)}: median x{median(ratios):.2f}")


if __name__ == "__main__":
    main()
