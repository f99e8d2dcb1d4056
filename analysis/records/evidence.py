"""All that MLflow knows of an experiment, read once: what every figure and table is a function of."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from analysis.records.measures import has_gain
from analysis.records.names import BASELINE, CONSTRUCTED, FIRST, GAIN, PROTOCOL, SEED, SIGNAL, SIMILARITY, STUDY
from analysis.records.reader import StudyRecord, TrialRecord, current_studies, trials

LOSSES_WITH_SIMILARITY = ("panda", "panda_distill")
"""Methods whose loss is weighed by the similarity of the pair, unless `weigh_by` is none."""


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
    def silent(self) -> list[str]:
        """Targets whose prompt tuning does not beat the majority class: they stay out of pooled figures."""
        return sorted({self.place(s.target, s.plm) for s in self.studies if s.tags.get(SIGNAL) == "false"})

    @property
    def pairs(self) -> list[StudyRecord]:
        """Studies that have a source and a gain."""
        return [study for study in self.studies if study.source is not None and has_gain(study)]

    @property
    def heard(self) -> list[StudyRecord]:
        """The pairs whose target carries a signal."""
        return [pair for pair in self.pairs if self.place(pair.target, pair.plm) not in set(self.silent)]

    @property
    def heard_others(self) -> list[StudyRecord]:
        """Those of them that are no pair of a task with itself, which needs no prediction."""
        return [pair for pair in self.heard if pair.source != pair.target]

    @property
    def heard_trials(self) -> list[TrialRecord]:
        """The trials on targets that carry a signal."""
        return [trial for trial in self.trials if self.place(trial.target, trial.plm) not in set(self.silent)]

    @property
    def methods(self) -> list[str]:
        """Methods that have pairs; spot first, then by name."""
        return sorted({pair.method for pair in self.pairs}, key=lambda name: (name != "spot", name))

    @property
    def similarities(self) -> list[str]:
        """Similarities that some pair has, by name."""
        prefix = f"{SIMILARITY}/"
        return sorted({m.removeprefix(prefix) for pair in self.pairs for m in pair.metrics if m.startswith(prefix)})

    @property
    def protocol(self) -> str:
        """How it was searched and scored, for captions."""
        kinds = {study.tags.get(PROTOCOL, "") for study in self.studies} - {""}
        made = any(study.tags.get(CONSTRUCTED) == "true" for study in self.studies)
        said = "; ".join(PROTOCOLS.get(kind, kind) for kind in sorted(kinds)) or "Protocol not recorded"
        return said + "; constructed demonstration tasks, which say nothing about real ones" * made


PROTOCOLS = {
    "held_out": "Held-out protocol: searched on rows of train, scored on report rows that nothing was chosen by",
    "paper": "The papers' protocol: searched on validation rows",
}


def gather(uri: str, experiment: str) -> Evidence:
    """Reads an experiment.

    Raises:
        NoRecords: if there is no such experiment.
    """
    found = sorted(current_studies(uri, experiment), key=lambda s: (s.target, s.plm, s.method, s.source or ""))
    keys = {study.tags[STUDY] for study in found if STUDY in study.tags}
    tried = trials(uri, experiment, keys)
    confirmed, unfinished = split(with_first_seeds(found, tried))
    return Evidence(experiment, tuple(confirmed), tuple(unfinished), tuple(tried))


def with_first_seeds(studies: Sequence[StudyRecord], tried: Iterable[TrialRecord]) -> list[StudyRecord]:
    """Studies with score and gain of their first trial by seed, where they were logged: gains over the baseline's first."""
    first = {trial.study: trial.by_seed for trial in tried if trial.number == 0 and trial.is_complete}
    own = {study.run_id: first.get(study.tags.get(STUDY, ""), {}) for study in studies}
    base = {(study.target, study.plm): own[study.run_id] for study in studies if study.method == BASELINE}
    return [_with_seeds(study, own[study.run_id], base.get((study.target, study.plm), {})) for study in studies]


def _with_seeds(study: StudyRecord, ours: Mapping[int, float], theirs: Mapping[int, float]) -> StudyRecord:
    scores = {f"{FIRST}/score/{SEED}/{seed}": score for seed, score in ours.items()}
    gains = {f"{FIRST}/{GAIN}/{SEED}/{seed}": score - theirs[seed] for seed, score in ours.items() if seed in theirs}
    return replace(study, metrics={**study.metrics, **scores, **gains})


def split(studies: Iterable[StudyRecord]) -> tuple[list[StudyRecord], list[StudyRecord]]:
    """Confirmed studies and the others."""
    every = list(studies)
    return [study for study in every if study.is_confirmed], [study for study in every if not study.is_confirmed]


def contains_similarity(study: StudyRecord) -> bool:
    """Whether a study's loss holds the similarity that is to predict its gain, or may hold it."""
    return study.method in LOSSES_WITH_SIMILARITY and study.params.get("weigh_by", "unknown") != "none"


def left_out(evidence: Evidence) -> str:
    """A sentence that names the targets without signal; empty where there is none."""
    return f"Left out, without signal: {', '.join(evidence.silent)}. " if evidence.silent else ""
