"""How long nothing was heard of running trials: told after a while, ended where the experiment says when."""

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

TOLD_AFTER_S = 600.0
"""Seconds without a result after which it is told; then again after twice as many."""

UNWATCHED_S = 5.0
"""Seconds between two looks after which the watcher itself was held up."""


@dataclass
class Silence:
    """What was last heard of trials, by Tune's id.

    Attributes:
        timeout: seconds without a result after which a trial hangs; None: never.
        clock: seconds that never run backwards.
    """

    timeout: float | None = None
    clock: Callable[[], float] = time.monotonic
    _since: dict[str, float] = field(default_factory=dict)
    _told_after: dict[str, float] = field(default_factory=dict)
    _watched: float | None = None

    def hear(self, trial_id: str) -> None:
        """A trial began, or told a result."""
        self._since[trial_id] = self.clock()
        self._told_after.pop(trial_id, None)

    def watch(self, trial_ids: Iterable[str]) -> None:
        """These trials are at work, and no others: one that is not known begins now.

        While nobody watched, results may have come of which nobody knows yet: that time does not count.
        """
        now, at_work = self.clock(), set(trial_ids)
        if self._watched is not None and now - self._watched > UNWATCHED_S:
            self._since = {trial_id: since + now - self._watched for trial_id, since in self._since.items()}
        self._watched = now
        for gone in self._since.keys() - at_work:
            del self._since[gone]
            self._told_after.pop(gone, None)
        for new in at_work - self._since.keys():
            self.hear(new)

    def to_tell(self) -> Iterator[tuple[str, float]]:
        """Trials of which nothing was heard for long, with the seconds; each again after twice as many."""
        for trial_id, since in self._since.items():
            silent, after = self.clock() - since, self._told_after.get(trial_id, TOLD_AFTER_S)
            if silent >= after:
                self._told_after[trial_id] = 2 * silent
                yield trial_id, silent

    def hanging(self) -> list[tuple[str, float]]:
        """Trials that take longer than the timeout, with the seconds."""
        silent = ((trial_id, self.clock() - since) for trial_id, since in self._since.items())
        return [] if self.timeout is None else [each for each in silent if each[1] > self.timeout]
