"""Studies and trials as values: what they scored, gained and cost, whichever store they came from."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from math import isfinite, isnan

from analysis.records.contributions import Contributions
from analysis.records.names import BASELINE, COMPLETE, NO, OFF, START, TRIAL_STATES, YES
from analysis.statistics.speedups import Speedups


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds, and how certain it is; what is not known is None.

    Attributes:
        mean: in score units; finite.
        std: deviation over seeds, 0 or more.
        n: seeds; 0 where there is nothing to measure, as of the baseline's gain over itself.
        low: lower end of the 95 % interval.
        high: upper end.
        p: two-sided p-value of no difference, in [0, 1]; not corrected.
        by_seed: seed -> its value.

    Raises:
        ValueError: if a number is out of its range.
    """

    mean: float
    std: float | None = None
    n: int | None = None
    low: float | None = None
    high: float | None = None
    p: float | None = None
    by_seed: Mapping[int, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Checks every range."""
        wrong = {
            "mean is finite": not isfinite(self.mean),
            "std >= 0": self.std is not None and not self.std >= 0,
            "n >= 0": self.n is not None and not self.n >= 0,
            "low <= high, both or neither": not _is_interval(self.low, self.high),
            "0 <= p <= 1": self.p is not None and not 0 <= self.p <= 1,
        }
        if broken := [rule for rule, is_broken in wrong.items() if is_broken]:
            raise ValueError(f"an estimate must satisfy {', '.join(broken)}, got {self}")

    @property
    def interval(self) -> tuple[float, float] | None:
        """The 95 % interval; None where it is not known."""
        return None if self.low is None or self.high is None else (self.low, self.high)

    @property
    def spread(self) -> float | None:
        """The deviation over seeds; None where there is one seed only."""
        return None if self.n == 1 else self.std


def _is_interval(low: float | None, high: float | None) -> bool:
    return low is high is None or (low is not None and high is not None and low <= high)


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How good a prompt is; measures that are not known are None.

    Attributes:
        score: of a winner on report rows, of a first trial on selection rows.
        gain: over the baseline's prompt of the same kind, paired by seed.
        relative_performance: score as a multiple of the baseline's.
        error_reduction: share of the baseline's error that is gone.
        early: score at the first evaluation.
        speedups: over the baseline, in the search.
    """

    score: Estimate
    gain: Estimate | None = None
    relative_performance: float | None = None
    error_reduction: float | None = None
    early: float | None = None
    speedups: Speedups | None = None


@dataclass(frozen=True, kw_only=True)
class Winner(Outcome):
    """A study's confirmed winner.

    Attributes:
        selection: score on selection rows: what it was chosen by.
        chosen_by: seed -> the selection score, of the other seeds, that chose what is scored with it; empty where it
            was not recorded, and score and gain then are those of what the same seeds chose.
        contributions: what each report row adds to the score of each seed; None where it was not recorded.
        twin: report score of the same choice without what is transferred; None where there is none.
        majority: report score of the reference that ignores the text.
        partners: the sources that joined its own.
        teacher: report score of the larger PLM that taught it; None where none did.
        gap_closed: share of that PLM's lead over the baseline that it made good; None where there is no lead.
        steps: of training.
        teacher_steps: of warming up teachers, 0 without.
        seconds: of training and scoring with all confirm seeds.
        truncated: split -> share of its rows that were cut at the maximum length, in [0, 1].
        run: MLflow's id of its run; empty where it is not known.
    """

    selection: Estimate
    chosen_by: Mapping[int, float] = field(default_factory=dict)
    contributions: Contributions | None = field(default=None, compare=False)
    twin: Estimate | None = None
    majority: float | None = None
    partners: tuple[str, ...] = ()
    teacher: float | None = None
    gap_closed: float | None = None
    steps: int | None = None
    teacher_steps: int | None = None
    seconds: float | None = None
    truncated: Mapping[str, float] = field(default_factory=dict)
    run: str = ""


@dataclass(frozen=True, kw_only=True)
class StudyRecord:
    """What is known of a study.

    Attributes:
        target: the target task.
        source: the source task; None for methods without one.
        method: the method.
        plm: the PLM's name.
        key: of the study; empty where it is not known.
        run_id: MLflow's id of its run.
        state: `confirmed`, `unconfirmed`, or empty while it runs.
        reference: `baseline` or `start` of studies that others are compared with; else empty.
        similarity_in_loss: `yes`, `no` or `off`; None: not recorded.
        similarities: name -> similarity of source and target.
        signal: whether the baseline beats the best constant answer on the target; None: not known yet.
        protocol: `held_out` or `paper`; empty: not recorded.
        constructed: whether the target is a constructed demonstration task.
        overlap: texts of the source, and rows of the target's own train split, that stand in its report rows.
        source_at_majority: whether the source's own prompt does not beat its best constant answer; None: not known.
        settings: of the study, as texts.
        winner: confirmed; None where there is none yet.
        first: the first trial, the published setting that every pair ran; None where it is not known.
        runs: behind the similarities that it uses -> their steps of all seeds; None: not recorded.
        repeat: which search of its pair it is; 0 is the one that is reported.
        repeats: the others, which were searched with other seeds.

    Raises:
        ValueError: if a word is none of those above.
    """

    target: str
    source: str | None
    method: str
    plm: str
    key: str = ""
    run_id: str = ""
    state: str = ""
    reference: str = ""
    similarity_in_loss: str | None = None
    similarities: Mapping[str, float] = field(default_factory=dict)
    signal: bool | None = None
    protocol: str = ""
    constructed: bool = False
    overlap: int = 0
    source_at_majority: bool | None = None
    settings: Mapping[str, str] = field(default_factory=dict)
    winner: Winner | None = None
    first: Outcome | None = None
    runs: Mapping[str, int] | None = None
    repeat: int = 0
    repeats: tuple["StudyRecord", ...] = ()

    def __post_init__(self) -> None:
        """Checks the words."""
        if self.reference not in ("", BASELINE, START) or self.similarity_in_loss not in (None, YES, NO, OFF):
            raise ValueError(
                f"reference must be {BASELINE}, {START} or empty, and similarity_in_loss {YES}, {NO}, {OFF} or None, "
                f"got {self.reference!r} and {self.similarity_in_loss!r}"
            )

    @property
    def pair(self) -> tuple[str, str, str, str]:
        """What its repeats have in common: target, PLM, method and source, which is empty where there is none."""
        return self.target, self.plm, self.method, self.source or ""

    @property
    def searches(self) -> tuple["StudyRecord", ...]:
        """Itself, then its repeats."""
        return (self, *self.repeats)

    @property
    def is_confirmed(self) -> bool:
        """Whether it has a winner."""
        return self.winner is not None

    @property
    def confirmed(self) -> Winner:
        """Its winner.

        Raises:
            ValueError: if it has none.
        """
        if self.winner is None:
            raise ValueError(f"{self.name} on {self.target} has no confirmed winner")
        return self.winner

    @property
    def gain(self) -> Estimate | None:
        """The winner's gain; None without a winner, and of the baseline, which has none over itself."""
        gain = self.winner.gain if self.winner else None
        return None if gain is None or gain.n == 0 else gain

    @property
    def gained(self) -> float:
        """The mean gain of a winner that has one.

        Raises:
            ValueError: if it has none.
        """
        if self.gain is None:
            raise ValueError(f"{self.name} on {self.target} has no gain over the baseline")
        return self.gain.mean

    @property
    def contains_similarity(self) -> bool:
        """Whether its loss holds the similarity that is to predict its gain, or may hold it."""
        return self.similarity_in_loss not in (NO, OFF)

    @property
    def sources(self) -> tuple[str, ...]:
        """All sources that its winner used: its own and the partners; none of methods without one."""
        partners = self.winner.partners if self.winner else ()
        return (self.source, *partners) if self.source else ()

    @property
    def name(self) -> str:
        """For people: `panda ← mnli`."""
        return f"{self.method} ← {self.source}" if self.source else self.method


@dataclass(frozen=True)
class TrialRecord:
    """What is known of a trial.

    Attributes:
        target: the target task.
        source: the source task; None for methods without one.
        method: the method.
        plm: the PLM's name.
        study: the key of its study.
        number: in the study; 0 is the published setting.
        knobs: hyperparameter -> value, a number where it is one.
        score: of its last evaluation, mean over seeds; None where it has none.
        step: of that evaluation.
        seconds: from its start to that evaluation; None where it has none.
        state: `complete`, `stopped early`, `failed` or `running`.
        failure: why it failed; empty otherwise.
        by_seed: seed -> score of its last evaluation; empty where it was not logged.
        spent: steps of training of all its seeds, also of a trial that failed; None: not recorded.
        runs: that it starts from or learns from -> their steps of all seeds; None: not recorded.

    Raises:
        ValueError: if the state is none of these.
    """

    target: str
    source: str | None
    method: str
    plm: str
    study: str
    number: int
    knobs: Mapping[str, float | str]
    score: float | None
    step: int
    seconds: float | None
    state: str
    failure: str = ""
    by_seed: Mapping[int, float] = field(default_factory=dict)
    spent: float | None = None
    runs: Mapping[str, int] | None = None

    def __post_init__(self) -> None:
        """Checks the state."""
        if self.state not in TRIAL_STATES:
            raise ValueError(f"a trial's state must be one of {', '.join(TRIAL_STATES)}, got {self.state!r}")

    @property
    def is_complete(self) -> bool:
        """Whether it ran all its steps, so that its score may be compared with others'."""
        return self.state == COMPLETE and self.score is not None


def with_repeats(studies: Iterable[StudyRecord]) -> list[StudyRecord]:
    """The first search of every pair, which holds the others of the pair by their repeats, in the given order.

    What is not told apart by its repeat, as two plans of one pair, stays apart.
    """
    given = list(studies)
    others: dict[tuple[str, str, str, str], list[StudyRecord]] = {}
    for study in sorted(given, key=lambda s: s.repeat):
        if study.repeat:
            others.setdefault(study.pair, []).append(study)
    return [replace(study, repeats=tuple(others.get(study.pair, ()))) for study in given if not study.repeat]


def known(value: float | None) -> float | None:
    """A number; None for NaN."""
    return None if value is None or isnan(value) else value
