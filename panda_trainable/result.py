"""TrialResult: what one evaluation of a trial found, as a frozen value. Imports neither torch nor Ray."""

import errno
import json
import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

METRIC = "score"
"""The key under which Tune finds the score to maximise."""

LOST = "its process was lost"
"""Why a trial failed that could not report so itself."""

STORAGE_FAILS = (
    errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO, errno.ESTALE
)  # fmt: skip
"""Numbers of errors of the storage, no fault of who meets them: whoever reads or writes there next does so, too."""

_ERROR = re.compile(r"\[Errno (\d+)\] *(.*?)(?:: (['\"])(.*?)\3.*)?$", re.MULTILINE)
_RESULT = "result"
_REASON_LENGTH = 500


@dataclass(frozen=True)
class TrialResult:
    """One evaluation of a trial on its selection rows; or, with a `failure`, that it ended without one.

    Attributes:
        step: steps trained so far, >= 0.
        seconds: since the trial began, >= 0.
        node: host and node of the cluster.
        scores: metric -> seed -> score; the first metric is the one that is searched for. Empty where it failed.
        losses: seed -> mean training loss since the evaluation before.
        evaluation_share: seconds of evaluation over those of evaluation and training, in [0, 1].
        lambda_effective: weight that distillation really has.
        is_last: whether all steps are trained.
        failure: why the trial failed; empty where it did not.

    Raises:
        ValueError: if a value is impossible; the message lists all of them.
    """

    step: int = 0
    seconds: float = 0.0
    node: str = ""
    scores: Mapping[str, Mapping[int, float]] = field(default_factory=dict)
    losses: Mapping[int, float] = field(default_factory=dict)
    evaluation_share: float = 0.0
    lambda_effective: float = 0.0
    is_last: bool = False
    failure: str = ""

    def __post_init__(self) -> None:
        values = [*self.losses.values(), *(score for seeds in self.scores.values() for score in seeds.values())]
        rules = {
            f"step must not be negative, got {self.step}": self.step >= 0,
            f"seconds must be finite and not negative, got {self.seconds}": 0 <= self.seconds < math.inf,
            f"evaluation_share must be in [0, 1], got {self.evaluation_share}": 0 <= self.evaluation_share <= 1,
            f"scores and losses must be finite, got {values}": all(map(math.isfinite, values)),
            f"every metric must have the seeds of the losses, {sorted(self.losses)}": all(
                seeds.keys() == self.losses.keys() for seeds in self.scores.values()
            ),
            "a result has scores, or a failure and none": bool(self.scores and self.losses) != bool(self.failure),
        }
        broken = [rule for rule, holds in rules.items() if not holds]
        if broken:
            raise ValueError("; ".join(broken))

    @classmethod
    def failed(cls, reason: str, step: int = 0, seconds: float = 0.0, node: str = "") -> "TrialResult":
        """The result of a trial that failed; a long reason is cut."""
        return cls(step, seconds, node, failure=reason[:_REASON_LENGTH])

    @property
    def by_seed(self) -> Mapping[int, float]:
        """Seed -> score of the metric that is searched for; empty where the trial failed."""
        return next(iter(self.scores.values()), {})

    @property
    def score(self) -> float:
        """Mean over seeds of the metric that is searched for; NaN where the trial failed."""
        return float(np.mean(list(self.by_seed.values()))) if self.by_seed else math.nan

    @property
    def score_std(self) -> float:
        """Standard deviation of that score over seeds; 0 for a single seed."""
        return float(np.std(list(self.by_seed.values()), ddof=1)) if len(self.by_seed) > 1 else 0.0

    @property
    def loss(self) -> float:
        """Mean training loss over seeds; NaN where the trial failed."""
        return float(np.mean(list(self.losses.values()))) if self.losses else math.nan

    def as_ray(self) -> dict[str, Any]:
        """What a Tune trainable returns: the score, whether the trial is over, and the whole result as text."""
        return {METRIC: self.score, "done": self.is_last or bool(self.failure), _RESULT: self.as_json()}

    @classmethod
    def from_ray(cls, reported: Mapping[str, Any] | None) -> "TrialResult":
        """The result in what Tune passes on; a lost process where it has none."""
        return cls.from_json(reported[_RESULT]) if reported and _RESULT in reported else cls.failed(LOST)

    def as_json(self) -> str:
        """The complete result as JSON text, as stored in journals."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "TrialResult":
        """The result from its JSON text."""
        kept = json.loads(text)
        kept["scores"] = {metric: _seeds(seeds) for metric, seeds in kept["scores"].items()}
        kept["losses"] = _seeds(kept["losses"])
        return cls(**kept)


def storage_failure(reason: str) -> OSError | None:
    """The error of the storage that another process met; None where something else went wrong there.

    Args:
        reason: as it told it.
    """
    found = _ERROR.search(reason)
    if found is None or int(found[1]) not in STORAGE_FAILS:
        return None
    return OSError(int(found[1]), found[2], found[4])


def _seeds(kept: Mapping[str, float]) -> dict[int, float]:
    return {int(seed): value for seed, value in kept.items()}
