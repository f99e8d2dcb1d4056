"""MLflow's work beside the search: one thread, which alone speaks to it, and a bound on what waits for it."""

import time
from collections.abc import Callable
from concurrent.futures import Future, wait
from dataclasses import dataclass
from math import inf
from threading import Condition, Thread
from typing import Any, TypeVar

from analysis.records.address import cleaned
from tuning.tracking.tracker import GOES_ON, Tracker
from tuning.tracking.updates import RunUpdate

MOST_WAITING = 1000
"""Runs that wait at most. What comes later is left out, and written from the journals at the end."""
SLOW_S = 20.0
"""Seconds that an update waits before it is told that MLflow is slow."""
STALLED_S = 30.0
"""Seconds without an answer after which nobody waits for MLflow any longer."""
CLOSING_S = 10.0
"""Seconds after which a search that ends leaves its runs as they are."""
PAUSE_S = 0.25
"""Seconds between two looks at what waits: what a trial reports meanwhile is written together."""
SHARE = 0.15
"""Of a processor's time that updates may take while the search goes on: Tune's loop shares the interpreter with them."""

T = TypeVar("T")
Make = Callable[[], RunUpdate]


@dataclass(frozen=True)
class _Waiting:
    """An update that waits.

    Attributes:
        since: time.monotonic() when the first of its run did.
        make: gives it.
    """

    since: float
    make: Make


class Writer:
    """Writes to MLflow beside the search; nothing that the search calls waits for a server.

    Of each run only the latest update waits, and it is made when its turn comes, from the journals, which hold
    everything: so what waits is small, and whatever is left out is written later.

    Args:
        tracker: what is done in the thread, and nowhere else once it has begun.
        notify: told once that MLflow is slow, and once that it has caught up.
    """

    def __init__(self, tracker: Tracker, notify: Callable[[str], None]):
        self.tracker, self.notify = tracker, notify
        tracker.waiting = self.waiting
        self._updates: dict[str, _Waiting] = {}
        self._calls: list[tuple[Callable[[], Any], Future[Any]]] = []
        self._left_out: set[str] = set()
        self._changed = Condition()
        self._rests_until = 0.0
        self._is_over = self._is_slow = False
        self._thread = Thread(target=self._run, name="mlflow", daemon=True)

    def waiting(self) -> int:
        """How many runs have something to be written."""
        return len(self._updates) + len(self._left_out)

    def put(self, name: str, make: Make) -> None:
        """Leaves an update to be written; never waits.

        Args:
            name: its id: a later update of it takes the place of one that waits.
            make: gives it, in the writer's thread.
        """
        with self._changed:
            since = self._updates[name].since if name in self._updates else time.monotonic()
            if name in self._updates or len(self._updates) < MOST_WAITING:
                self._updates[name] = _Waiting(since, make)
            else:
                self._left_out.add(name)
            self._begin()
        self._tell_slowness()

    def call(self, action: Callable[[], T]) -> Future[T]:
        """Leaves something to be done in the writer's thread, before the updates that wait; never waits.

        Returns:
            What it gives, once it is done.
        """
        future: Future[T] = Future()
        with self._changed:
            self._calls.append((action, future))
            self._begin()
        return future

    def wait_for(self, future: Future[T], at_most_s: float = inf) -> T | None:
        """What a call gives; None where MLflow gives no answer for long, or all of it takes longer."""
        began = time.monotonic()
        while not future.done():
            now = time.monotonic()
            if now - max(began, self.tracker.answered_at) > STALLED_S or now - began > at_most_s:
                return None
            with self._changed:
                self._changed.wait(0.1)
        return future.result()

    def done(self, action: Callable[[], T]) -> T:
        """What a call gives, however long that takes: a model's files, say, are sent in one request."""
        return wait([self.call(action)]).done.pop().result()

    def show(self, current: set[str]) -> None:
        """Leaves all that can be made so far to be written.

        Args:
            current: keys of the present plan's studies.
        """
        self.call(self.tracker.write_everything)
        self.call(lambda: self.tracker.mark_current(current))

    def show_all(self, current: set[str]) -> bool:
        """Writes all that can be made, and waits for it as long as MLflow answers; whether that has all of it."""
        with self._changed:
            self._updates.clear()
            self._left_out.clear()  # all of them are among it
        is_whole = bool(self.wait_for(self.call(self.tracker.write_everything)))
        if is_whole:
            self.wait_for(self.call(lambda: self.tracker.mark_current(current)))
        return is_whole and not self.tracker.is_behind

    def close(self) -> None:
        """Ends the thread, and the runs that are left running; what still waits is left to the next start."""
        self.tracker.is_stopped = True
        with self._changed:
            self._updates.clear()
        if self._thread.is_alive() and not self.tracker.is_away:
            self.wait_for(self.call(self.tracker.close_left_running), CLOSING_S)
        with self._changed:
            self._is_over = True
            self._changed.notify_all()
        if self._thread.is_alive():
            self._thread.join(PAUSE_S * 4)

    def _begin(self) -> None:
        if self._thread.ident is None:
            self._thread.start()
        self._changed.notify_all()

    def _run(self) -> None:
        while job := self._next():
            job()
            with self._changed:
                self._changed.notify_all()

    def _next(self) -> Callable[[], None] | None:
        """What is to be done now, calls first; None once it is over."""
        with self._changed:
            while not (self._calls or self._is_over or self._is_due()):
                self._changed.wait(PAUSE_S)
            if self._calls:
                action, future = self._calls.pop(0)
                return lambda: _settle(action, future)
            if self._is_over:
                return None
            name, waiting = next(iter(self._updates.items()))
        return lambda: self._write(name, waiting)

    def _is_due(self) -> bool:
        """Whether an update waits, and neither MLflow is left alone nor Tune's loop has its turn."""
        return bool(self._updates) and time.monotonic() >= max(self.tracker.retry_at, self._rests_until)

    def _write(self, name: str, waiting: "_Waiting") -> None:
        spent = time.thread_time()  # waiting for a server's answer takes nothing from the search
        try:
            is_done = self.tracker.write(waiting.make())
        except Exception as error:  # noqa: BLE001  # of one update, by a journal perhaps: all others are still to be written
            self.notify(f"MLflow is not told of {name} ({cleaned(str(error))}); {GOES_ON}")
            is_done = True
        self._rests_until = time.monotonic() + (time.thread_time() - spent) * (1 / SHARE - 1)
        if not is_done:
            return
        with self._changed:
            later = self._updates.pop(name, waiting)
            if later is not waiting:
                self._updates[name] = _Waiting(time.monotonic(), later.make)
            has_caught_up = self._is_slow and not self._updates
            self._is_slow &= not has_caught_up
        if has_caught_up:
            self.notify(f"MLflow at {self.tracker.place} has caught up")

    def _tell_slowness(self) -> None:
        """Tells that an update waits for long, whether the answer is slow or does not come at all."""
        with self._changed:
            since = next((waiting.since for waiting in self._updates.values()), time.monotonic())
            is_new = not (self._is_slow or self.tracker.is_told) and time.monotonic() - since > SLOW_S
            self._is_slow |= is_new
        if is_new:
            self.notify(f"MLflow at {self.tracker.place} is slow to answer: {self.waiting()} runs wait; {GOES_ON}")


def _settle(action: Callable[[], T], future: "Future[T]") -> None:
    try:
        future.set_result(action())
    except Exception as error:  # noqa: BLE001  # whoever waits for it gets it
        future.set_exception(error)
