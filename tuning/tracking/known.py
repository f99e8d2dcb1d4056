"""What runs of MLflow hold, as far as a driver knows: what is there is not sent again."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from tuning.tracking.updates import RUNNING, RunUpdate


@dataclass
class KnownRun:
    """What a run in MLflow holds.

    Attributes:
        id: MLflow's.
        status: RUNNING, FINISHED, FAILED or KILLED.
        tags: all of them.
        params: the names of those it has.
        metrics: name -> latest value.
        last_step: of all metrics.
        last_time: of all metrics, in milliseconds, by whichever clock.
    """

    id: str
    status: str = RUNNING
    tags: dict[str, str] = field(default_factory=dict)
    params: set[str] = field(default_factory=set)
    metrics: dict[str, float] = field(default_factory=dict)
    last_step: int = -1
    last_time: int = 0

    @classmethod
    def of(cls, run: Any) -> "KnownRun":
        """As MLflow's search gives it; only its protocol buffer has the steps and times of metrics."""
        data, logged = run.data, run.data.to_proto().metrics
        last_step = max((metric.step for metric in logged), default=-1)
        last_time = max((metric.timestamp for metric in logged), default=0)
        return cls(
            run.info.run_id, run.info.status, dict(data.tags), set(data.params), dict(data.metrics), last_step, last_time
        )  # fmt: skip

    def next_time(self) -> int:
        """The time of what is written now: later than all before it.

        MLflow takes the latest value of a step by its time: a clock behind that of an earlier driver would keep what
        that one wrote.
        """
        self.last_time = max(int(time.time() * 1000), self.last_time + 1)
        return self.last_time

    def lacks(self, update: RunUpdate, links: dict[str, str]) -> "Lacking":
        """What of an update is not there yet.

        Args:
            update: of this run.
            links: tag -> MLflow's id of another run.
        """
        tags = {name: str(value) for name, value in {**update.tags, **links}.items()}
        return Lacking(
            self.unseen_metrics(update),
            {name: str(value) for name, value in update.params.items() if name not in self.params},
            {name: value for name, value in tags.items() if self.tags.get(name) != value},
        )

    def add(
        self, metrics: Sequence[tuple[int, str, float]], params: dict[str, str] | None = None, tags: dict[str, str] | None = None
    ) -> None:  # fmt: skip
        """Notes what was written: step, name and value of metrics, params and tags."""
        self.metrics |= {name: value for _, name, value in metrics}
        self.last_step = max(self.last_step, *(step for step, *_ in metrics), -1)
        self.params |= set(params or {})
        self.tags |= tags or {}

    def unseen_metrics(self, update: RunUpdate) -> list[tuple[int, str, float]]:
        """Step, name and value of the metrics that the run lacks: of later steps, or without steps and of another value."""
        changed = [(0, name, float(v)) for name, v in update.metrics.items() if self.metrics.get(name) != v]
        later = [
            (step, name, float(value))
            for step, values in sorted(update.history.items())
            if step > self.last_step
            for name, value in values.items()
        ]
        return changed + later


@dataclass(frozen=True)
class Lacking:
    """What a run lacks.

    Attributes:
        metrics: step, name and value.
        params: name -> text.
        tags: name -> text.
    """

    metrics: Sequence[tuple[int, str, float]]
    params: dict[str, str]
    tags: dict[str, str]

    def __bool__(self) -> bool:
        """Whether there is anything to write."""
        return bool(self.metrics or self.params or self.tags)
