"""All that MLflow knows of an experiment, read once: what every figure and table is a function of."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from analysis.records.names import BASELINE, SOURCE_ONLY, START
from analysis.records.reader import current_studies, trials
from analysis.records.studies import Estimate, StudyRecord, TrialRecord


@dataclass(frozen=True)
class Evidence:
    """What is known of an experiment.

    Attributes:
        experiment: its name.
        studies: those whose winners are confirmed, by target, PLM, method and source.
        unfinished: the others.
        trials: of both, by study and number.
    """

    experiment: str
    studies: tuple[StudyRecord, ...]
    unfinished: tuple[StudyRecord, ...] = ()
    trials: tuple[TrialRecord, ...] = ()

    @property
    def several_plms(self) -> bool:
        """Whether a target's name alone does not say which target is meant."""
        return len({study.plm for study in self.studies}) > 1

    def place(self, target: str, plm: str) -> str:
        """A target's name, with its PLM's where there are several."""
        return f"{target} · {plm}" if self.several_plms else target

    @property
    def places(self) -> list[str]:
        """All targets."""
        return sorted({self.place(study.target, study.plm) for study in self.studies})

    @property
    def targets_without_signal(self) -> list[str]:
        """Targets whose prompt tuning does not beat the best constant answer: they stay out of pooled figures."""
        return sorted({self.place(s.target, s.plm) for s in self.studies if s.signal is False})

    @property
    def pairs(self) -> list[StudyRecord]:
        """Studies that have a source and a gain."""
        return [study for study in self.studies if study.source is not None and study.gain]

    @property
    def pairs_with_signal(self) -> list[StudyRecord]:
        """The pairs whose target carries a signal."""
        without = set(self.targets_without_signal)
        return [pair for pair in self.pairs if self.place(pair.target, pair.plm) not in without]

    @property
    def transfer_pairs(self) -> list[StudyRecord]:
        """Those of them that are no pair of a task with itself, whose similarity needs no measurement."""
        return [pair for pair in self.pairs_with_signal if pair.source != pair.target]

    @property
    def trials_with_signal(self) -> list[TrialRecord]:
        """The trials on targets that carry a signal."""
        without = set(self.targets_without_signal)
        return [trial for trial in self.trials if self.place(trial.target, trial.plm) not in without]

    @property
    def methods(self) -> list[str]:
        """Methods that have pairs; those that others are compared with first, then by name."""
        known = {pair.method: pair.reference for pair in self.pairs}
        return sorted(known, key=lambda name: (known[name] != START, name))

    @property
    def baseline(self) -> str:
        """The method that gains are over; empty where none of its studies is confirmed."""
        return self.reference_method(BASELINE)

    def reference_method(self, reference: str) -> str:
        """The method of the studies that others are compared with as `baseline` or `start`; empty where there is none."""
        return next((study.method for study in self.studies if study.reference == reference), "")

    @property
    def similarities(self) -> list[str]:
        """Similarities of source and target that some pair has, by name; without those that know nothing of the target."""
        return sorted({name for pair in self.pairs for name in pair.similarities} - set(SOURCE_ONLY))

    @property
    def source_only(self) -> list[str]:
        """Trivial baselines that some pair has, in their order: they know nothing of the target."""
        return [name for name in SOURCE_ONLY if any(name in pair.similarities for pair in self.pairs)]

    @property
    def protocol(self) -> str:
        """How it was searched and scored, for captions."""
        kinds = {study.protocol for study in self.studies} - {""}
        made = any(study.constructed for study in self.studies)
        names = "; ".join(PROTOCOLS.get(kind, kind) for kind in sorted(kinds)) or "Protocol not recorded"
        return names + "; constructed demonstration tasks, which say nothing about real ones" * made


PROTOCOLS = {
    "held_out": "Held-out protocol: searched on rows of train, scored on report rows that no choice was based on",
    "paper": "The papers' protocol: searched on validation rows",
}


def gather(uri: str, experiment: str) -> Evidence:
    """Reads an experiment.

    Raises:
        NoRecords: if there is no such experiment.
    """
    found = sorted(current_studies(uri, experiment), key=lambda s: (s.target, s.plm, s.method, s.source or ""))
    recorded = trials(uri, experiment, {study.key for study in found if study.key})
    confirmed, unfinished = split(with_first_seeds(found, recorded))
    return Evidence(experiment, tuple(confirmed), tuple(unfinished), tuple(recorded))


def with_first_seeds(studies: Sequence[StudyRecord], recorded: Iterable[TrialRecord]) -> list[StudyRecord]:
    """Studies with score and gain of their first trial by seed, where they were logged: gains over the baseline's first."""
    first = {trial.study: trial.by_seed for trial in recorded if trial.number == 0 and trial.is_complete}
    base = {(s.target, s.plm): first.get(s.key, {}) for s in studies if s.reference == BASELINE}
    return [_with_seeds(s, first.get(s.key, {}), base.get((s.target, s.plm), {})) for s in studies]


def _with_seeds(study: StudyRecord, ours: Mapping[int, float], theirs: Mapping[int, float]) -> StudyRecord:
    if study.first is None:
        return study
    gains = {seed: score - theirs[seed] for seed, score in ours.items() if seed in theirs}
    gain: Estimate | None = study.first.gain and replace(study.first.gain, by_seed=gains)
    return replace(study, first=replace(study.first, score=replace(study.first.score, by_seed=ours), gain=gain))


def split(studies: Iterable[StudyRecord]) -> tuple[list[StudyRecord], list[StudyRecord]]:
    """Confirmed studies and the others."""
    every = list(studies)
    return [study for study in every if study.is_confirmed], [study for study in every if not study.is_confirmed]


def left_out(evidence: Evidence) -> str:
    """A sentence that names the targets without signal; empty where there is none."""
    names = ", ".join(evidence.targets_without_signal)
    return f"Left out, since prompt tuning does not beat the best constant answer there: {names}. " if names else ""
