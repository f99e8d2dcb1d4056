"""Made-up experiments: records as MLflow would give them, and stores that hold them. Neither torch nor Ray."""

import atexit
import json
import math
import shutil
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from analysis.records import reader as records
from analysis.records.conversion import study_run, trial_run
from analysis.records.evidence import Evidence, split
from analysis.records.names import CONFIG_FILE, CURRENT
from analysis.records.studies import Estimate, Outcome, StudyRecord, TrialRecord, Winner
from analysis.statistics.speedups import Speedups

SOURCES = ("mnli", "qnli", "sst2", "trec", "qqp", "squad")
TARGETS = ("cb", "copa", "cr", "rte")


@dataclass(frozen=True)
class World:
    """How a made-up experiment is.

    Attributes:
        sources: their names.
        targets: their names.
        methods: beside the baseline.
        similarities: measured; the first is true, each next one noisier.
        seeds: of confirm.
        trials: of a study.
        effect: points of gain per unit of relatedness.
        noise: deviation of a gain over seeds.
        seed: of everything random.
    """

    sources: Sequence[str] = SOURCES
    targets: Sequence[str] = TARGETS
    methods: Sequence[str] = ("spot", "panda")
    similarities: Sequence[str] = ("c_mean", "e_avg", "task_embedding")
    seeds: Sequence[int] = (10, 11, 12)
    trials: int = 4
    effect: float = 0.08
    noise: float = 0.015
    plms: Sequence[str] = ("bert",)
    silent: Sequence[str] = ()
    weigh_by: str = "task_embedding"
    seed: int = 0


def evidence(world: World = World(), name: str = "made-up") -> Evidence:
    """The experiment as analysis reads it."""
    studies, trials = made(world)
    confirmed, unfinished = split(studies)
    return Evidence(name, tuple(confirmed), tuple(unfinished), tuple(trials))


def made(world: World) -> tuple[list[StudyRecord], list[TrialRecord]]:
    """The records of a world."""
    studies: list[StudyRecord] = []
    trials: list[TrialRecord] = []
    for plm in world.plms:
        for place, target in enumerate(world.targets):
            generator = np.random.default_rng([world.seed, place, len(plm)])
            base = 0.55 + 0.25 * generator.random()
            alone = base + generator.normal(0, world.noise, len(world.seeds))
            for method, source in pairs_of(world, target):
                study, own = _study(world, plm, target, method, source, alone, generator)
                studies.append(study)
                trials += own
    return studies, trials


def pairs_of(world: World, target: str) -> Iterable[tuple[str, str | None]]:
    yield "prompt_tuning", None
    for method in world.methods:
        yield from ((method, source) for source in world.sources if source != target)


def _relatedness(world: World, source: str, target: str) -> float:
    return float(np.random.default_rng([world.seed, *map(ord, source + "→" + target)]).normal())


def _study(
    world: World, plm: str, target: str, method: str, source: str | None, alone: np.ndarray, generator: np.random.Generator
) -> tuple[StudyRecord, list[TrialRecord]]:  # fmt: skip
    related = _relatedness(world, source, target) if source else 0.0
    is_baseline = method == "prompt_tuning"
    gains = np.zeros(len(world.seeds)) if is_baseline else (
        world.effect * (0.4 * related + 0.15) + generator.normal(0, world.noise, len(world.seeds))
    )  # fmt: skip
    scores = np.clip(alone + gains, 0, 1)
    gains = scores - alone
    half = 1.96 * math.hypot(world.noise, 0.008) / math.sqrt(len(world.seeds)) * (not is_baseline)
    gain, score, base = float(gains.mean()), float(scores.mean()), float(alone.mean())
    spread = float(scores.std(ddof=1)) if len(world.seeds) > 1 else 0.0
    knobs = _knobs(method, generator, world.trials)
    first = score - 0.01 + float(generator.normal(0, 0.01)) - 0.3 * max(0.0, -gain)
    similar = {
        name: float(1 / (1 + math.exp(-related - generator.normal(0, 0.3 + noisier))))
        for noisier, name in enumerate(world.similarities)
    }
    selection = score + float(generator.normal(0, 0.01))
    seconds = 50 + 30 * float(generator.random())
    speeds = [float(generator.choice([0.5, 1, 1.5, 3])) for _ in range(2)]
    winner = Winner(
        score=Estimate(score, spread, len(scores), by_seed=dict(zip(world.seeds, scores.tolist(), strict=True))),
        selection=Estimate(selection, spread, len(scores)), chosen_by=dict.fromkeys(world.seeds, selection),
        gain=Estimate(
            gain, float(gains.std(ddof=1)) if len(scores) > 1 else 0.0, 0 if is_baseline else len(scores), gain - half, gain + half,
            1.0 if is_baseline else 0.04, dict(zip(world.seeds, gains.tolist(), strict=True)),
        ),
        majority=0.5, steps=60, teacher_steps=15 if method == "panda" else 0, seconds=seconds, truncated={"train": 0.0, "report": 0.0},
        relative_performance=score / base, error_reduction=gain / (1 - base), early=score - 0.05, speedups=Speedups(*speeds),
        twin=Estimate(score - 0.004 * (1 + related) + float(generator.normal(0, 0.004))) if method == "panda" else None,
    )  # fmt: skip
    published = Outcome(
        score=Estimate(first), gain=Estimate(first - base + 0.01), early=first - 0.06, relative_performance=first / base,
        error_reduction=(first - base) / (1 - base),
    )  # fmt: skip
    key = f"{target}/{plm}/{method}/{source or ''}"
    study = StudyRecord(
        target=target, source=source, method=method, plm=plm, key=key, run_id=f"run {key}", state="confirmed",
        reference=REFERENCES.get(method, ""), similarity_in_loss=_in_loss(world, method), similarities=similar if source else {},
        signal=target not in world.silent, protocol="held_out", source_at_majority=False,
        settings={"steps": "60", "seeds": "[0, 1]", "weigh_by": world.weigh_by}, winner=winner, first=published,
        runs={f"embedding {target}": 40} if source else {},
    )  # fmt: skip
    return study, [_trial(study, number, knobs[number], generator) for number in range(world.trials)]


REFERENCES = {"prompt_tuning": "baseline", "spot": "start"}


def _in_loss(world: World, method: str) -> str:
    return "no" if method != "panda" else "off" if world.weigh_by == "none" else "yes"


def changed(
    study: StudyRecord, *, gain: float | None = None, selection: float | None = None, similarities: Mapping[str, float] | None = None,
    **winner: Any,
) -> StudyRecord:  # fmt: skip
    """The same study with other numbers: means of gain and of selection score, similarities beside those there are."""
    won = study.confirmed
    if gain is not None:
        by_seed = dict.fromkeys(won.gain.by_seed, gain) if won.gain else {}
        winner["gain"] = Estimate(gain, n=2) if won.gain is None else replace(won.gain, mean=gain, by_seed=by_seed)
    if selection is not None:
        winner["selection"] = replace(won.selection, mean=selection)
        winner["chosen_by"] = dict.fromkeys(won.chosen_by, selection)
    return replace(study, winner=replace(won, **winner), similarities={**study.similarities, **(similarities or {})})


def with_studies(known: Evidence, change: Callable[[StudyRecord], StudyRecord]) -> Evidence:
    """The same evidence, each pair of it changed."""
    return replace(known, studies=tuple(change(study) if study.source else study for study in known.studies))


def _knobs(method: str, generator: np.random.Generator, count: int) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for number in range(count):
        rate = 0.01 if number == 0 else float(np.exp(generator.uniform(np.log(1e-3), np.log(6e-2))))
        knobs: dict[str, Any] = {"learning_rate": rate}
        partners = 0 if number == 0 else int(generator.integers(0, 3))
        if method in ("spot", "panda"):
            knobs["partners"] = float(partners)
        if method == "panda":
            knobs["lambda"] = 0.1 if number == 0 else float(np.exp(generator.uniform(np.log(0.01), np.log(10))))
            knobs["teacher_steps"] = 6.0 if number == 0 else float(generator.choice([6, 15, 30]))
            if partners:
                knobs["fusion"] = str(generator.choice(["early", "late"]))
        found.append(knobs)
    return found


def _trial(study: StudyRecord, number: int, knobs: dict[str, Any], generator: np.random.Generator) -> TrialRecord:
    rate = math.log10(knobs["learning_rate"] / 0.015)
    score = study.confirmed.selection.mean - 0.06 * rate**2 - 0.01 * math.log10(knobs.get("lambda", 0.3) / 0.3) ** 2
    score += (
        0.004 * knobs.get("partners", 0) - 0.006 * (knobs.get("fusion") == "late") + float(generator.normal(0, 0.005))
    )
    fate = "complete" if number == 0 else str(generator.choice(["complete"] * 6 + ["stopped early"] * 3 + ["failed"]))
    step = {"complete": 60, "stopped early": 20, "failed": 0}[fate]
    runs = {f"source {study.source}": 200} if study.source else {}
    return TrialRecord(
        study.target, study.source, study.method, study.plm, study.key, number, knobs,
        None if fate == "failed" else score - 0.05 * (step == 20), step, None if fate == "failed" else step * (0.9 + 0.2 * float(generator.random())),
        fate, "the loss is not finite at step 7 (seed 0)" if fate == "failed" else "",
        spent=2.0 * step, runs=runs | ({f"teacher {study.target} {study.source}": 60} if study.method == "panda" else {}),
    )  # fmt: skip


def unconfirmed(study: StudyRecord) -> StudyRecord:
    """The same study before it was confirmed."""
    return replace(study, winner=None, first=None, state="unconfirmed")


@cache
def _empty_store() -> Path:
    """An initialised store, made once: that takes seconds."""
    folder = Path(tempfile.mkdtemp(prefix="mlflow-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    records.client(f"sqlite:///{folder}/mlflow.db").search_experiments()
    return folder / "mlflow.db"


def stored(
    folder: Path, studies: Sequence[StudyRecord], trials: Iterable[TrialRecord] = (), name: str = "made-up",
    stale: Sequence[StudyRecord] = (),
) -> str:  # fmt: skip
    """Writes records into a fresh store, as the search would; the store's address."""
    from mlflow.entities import Metric, Param, RunTag

    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(_empty_store(), folder / "mlflow.db")
    uri = f"sqlite:///{folder}/mlflow.db"
    store = records.client(uri)
    experiment = store.create_experiment(name, artifact_location=(folder / "artifacts").as_uri())

    def write(
        title: str, tags: dict[str, str], params: dict[str, Any], metrics: dict[str, float], step: int, status: str
    ) -> str:
        run: str = store.create_run(experiment, run_name=title).info.run_id
        store.log_batch(
            run, [Metric(key, value, 0, step) for key, value in metrics.items()],
            [Param(key, str(value)) for key, value in params.items()], [RunTag(key, value) for key, value in tags.items()],
        )  # fmt: skip
        store.set_terminated(run, status)
        return run

    for study in (*studies, *stale):
        run = study_run(study)
        status = "FINISHED" if study.is_confirmed else "FAILED"
        current = {CURRENT: str(study not in stale).lower()}
        written = write(study.name, {**current, **run.tags}, run.params, run.metrics, 0, status)
        if study.is_confirmed:
            config = {"name": f"{study.target}-best", "targets": [study.target], "train": {"steps": 60}}
            store.log_text(written, json.dumps(config), CONFIG_FILE)
    for trial in trials:
        run = trial_run(trial)
        status = "FAILED" if trial.failure else "FINISHED"
        write(f"trial {trial.number}", {CURRENT: "true", **run.tags}, run.params, run.metrics, trial.step, status)
    return uri


def record(
    method: str = "spot", source: str | None = "a", target: str = "t", plm: str = "bert", *, score: float | Estimate = 0.5,
    selection: float = 0.5, gain: float | Estimate | None = None, signal: bool | None = True,
    similarities: Mapping[str, float] | None = None, first: Outcome | None = None, **winner: Any,
) -> StudyRecord:  # fmt: skip
    """A confirmed study with these numbers alone; others of its winner by name."""
    won = Winner(
        score=score if isinstance(score, Estimate) else Estimate(score), selection=Estimate(selection),
        gain=Estimate(gain, n=2) if isinstance(gain, float) else gain, **winner,
    )  # fmt: skip
    return StudyRecord(
        target=target, source=source, method=method, plm=plm, key=f"{method} {source} {target} {plm}",
        run_id=f"{method} {source} {target} {plm}", state="confirmed", reference=REFERENCES.get(method, ""), signal=signal,
        similarities=similarities or {}, winner=won, first=first,
    )  # fmt: skip
