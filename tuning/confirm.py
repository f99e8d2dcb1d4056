"""The best configurations again, with fresh seeds, scored once on the report split."""

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from optuna.trial import FixedTrial

from analysis.gains import Gain, paired_gain, spread
from panda_trainable.config import KNOBS, TrialConfig, content_key
from panda_trainable.library import PromptLibrary
from panda_trainable.metrics import METRICS, constant_logits
from panda_trainable.trainable import single_threaded
from tuning.experiment import BASELINE, Experiment
from tuning.plan import Plan, Study, study_path
from tuning.stages import Job
from tuning.studies import best_trials

LOGITS, SCORES = "logits.parquet", "scores.json"


@dataclass(frozen=True)
class Confirmed:
    """A configuration that was trained with the confirm seeds.

    Attributes:
        config: what was trained.
        folder: where its logits and scores lie.
        selection: [K] score on selection rows.
        report: [K] score on report rows.
        report_metrics: metric -> [K] on report rows.
        majority: report score of the reference that ignores the text.
        seconds: of training and scoring all K.
    """

    config: TrialConfig
    folder: Path
    selection: list[float]
    report: list[float]
    report_metrics: dict[str, list[float]]
    majority: float
    seconds: float

    def logits(self) -> tuple[NDArray[np.floating], NDArray[np.generic]]:
        """[K, N, C] logits of the report rows, and their labels [N]."""
        frame = pd.read_parquet(self.folder / LOGITS)
        said = [rows.filter(regex=r"^logit_\d+$").to_numpy() for _, rows in frame.groupby("seed", sort=False)]
        labels = frame[frame["seed"] == self.config.seeds[0]]["label"].to_numpy()
        return np.stack(said), labels


@dataclass(frozen=True)
class Winner:
    """A study's winner: chosen by selection score with the confirm seeds."""

    study: Study
    confirmed: Confirmed
    others: tuple[Confirmed, ...]
    gain: Gain
    twin: Confirmed | None
    baseline: Confirmed


def confirm_key(config: TrialConfig) -> str:
    """The key of a confirmed configuration; its report rows count too."""
    return content_key("confirmed", config, config.setting.limit_report)


def confirm_trial(root: str, config: TrialConfig) -> None:
    """Trains a configuration with its seeds and keeps scores and report logits. Runs on a worker."""
    single_threaded()
    library = PromptLibrary(Path(root))
    card = {
        "method": config.method,
        "target": config.target.name,
        "plm": config.setting.plm.label,
        "seeds": config.seeds,
    }
    library.get_or_make("confirmed", confirm_key(config), lambda draft: _confirm(draft, library, config), card)


def _confirm(draft: Path, library: PromptLibrary, config: TrialConfig) -> None:
    from panda_trainable.methods import open_session

    began = time.perf_counter()
    session = open_session(library, config)
    session.advance(config.steps)
    losses = session.losses()
    selection = session.select()
    if not np.isfinite([*losses, *selection[config.target.metrics[0]]]).all():
        raise ValueError(f"loss or score of a seed of {list(config.seeds)} is not finite: the run diverged")
    report, logits, labels = session.report()
    train_labels = session.table.labels.numpy()
    reference = constant_logits(train_labels, config.target.outputs, len(labels))
    scores = {
        "selection": selection,
        "report": report,
        "majority": METRICS[config.target.metrics[0]](reference, labels),
        "seconds": time.perf_counter() - began,
    }
    (draft / SCORES).write_text(json.dumps(scores), encoding="utf-8")
    _logits_frame(config.seeds, logits, labels).to_parquet(draft / LOGITS, index=False)


def _logits_frame(seeds: Sequence[int], logits: NDArray[Any], labels: NDArray[Any]) -> pd.DataFrame:
    """A row per seed and report row, with columns seed, row, label, logit_0 and so on."""
    frames = []
    for seed, said in zip(seeds, logits, strict=True):
        columns = {f"logit_{c}": said[:, c] for c in range(said.shape[1])}
        frames.append(pd.DataFrame({"seed": seed, "row": np.arange(len(labels)), "label": labels, **columns}))
    return pd.concat(frames, ignore_index=True)


def read_confirmed(library: PromptLibrary, config: TrialConfig) -> Confirmed:
    """A confirmed configuration, from the library."""
    folder = library.get("confirmed", confirm_key(config))
    scores = json.loads((folder / SCORES).read_text(encoding="utf-8"))
    name = config.target.metrics[0]
    return Confirmed(
        config, folder, scores["selection"][name], scores["report"][name], scores["report"],
        scores["majority"], scores["seconds"],
    )  # fmt: skip


def candidates(plan: Plan, studies: Sequence[Study]) -> dict[str, list[TrialConfig]]:
    """Study key -> its best `confirm.top` configurations of the search, with the confirm seeds."""
    experiment = plan.experiment
    chosen = {}
    for study in studies:
        trials = best_trials(study.key, study_path(experiment, study, "journal"), study.base.steps)
        chosen[study.key] = [
            replace(study.base.with_knobs(study.space(FixedTrial(t.params))), seeds=tuple(experiment.confirm.seeds))
            for t in trials[: experiment.confirm.top]
        ]
    return chosen


def source_jobs_of(configs: Sequence[TrialConfig]) -> list[Job]:
    """The source prompts that configurations transfer, for their own seeds."""
    from panda_trainable.teachers import source_lineage

    lineages = {source_lineage(config, i): config.seeds for config in configs for i in range(len(config.sources))}
    return [Job(lineage, seeds, (), embeds=False) for lineage, seeds in lineages.items()]


def twin(config: TrialConfig) -> TrialConfig | None:
    """A distilled configuration's twin with λ = 0: plain prompt tuning of the same rate, steps and seeds."""
    if "lambda" not in KNOBS[config.method]:
        return None
    return replace(
        config, method=BASELINE, sources=(), source_steps=0, source_learning_rate=0.0, lambda_=0.0,
        teacher_steps=0, fusion="early", kd="mse", candidates=(),
    )  # fmt: skip


def best_of(library: PromptLibrary, configs: Sequence[TrialConfig]) -> list[Confirmed]:
    """What was confirmed, the best by selection score first."""
    found = [read_confirmed(library, config) for config in configs if library.has("confirmed", confirm_key(config))]
    return sorted(found, key=lambda confirmed: -float(np.mean(confirmed.selection)))


def winning(library: PromptLibrary, chosen: Mapping[str, list[TrialConfig]]) -> list[TrialConfig]:
    """The winner's configuration of every study that has one."""
    ranked = [best_of(library, configs) for configs in chosen.values()]
    return [found[0].config for found in ranked if found]


def winners(
    library: PromptLibrary, studies: Sequence[Study], chosen: Mapping[str, list[TrialConfig]]
) -> Iterator[Winner]:
    """The winners of studies with their gains over the target's baseline, where both are confirmed."""
    ranked = {study.key: best_of(library, chosen[study.key]) for study in studies}
    baselines = {s.pair.target: ranked[s.key][0] for s in studies if s.pair.method == BASELINE and ranked[s.key]}
    for study in studies:
        if not ranked[study.key] or study.pair.target not in baselines:
            continue
        first, *others = ranked[study.key]
        baseline = baselines[study.pair.target]
        without = twin(first.config)
        there = without is not None and library.has("confirmed", confirm_key(without))
        yield Winner(
            study, first, tuple(others), _gain(first, baseline),
            read_confirmed(library, without) if without is not None and there else None, baseline,
        )  # fmt: skip


def _gain(confirmed: Confirmed, baseline: Confirmed) -> Gain:
    if confirmed.config == baseline.config:
        return Gain(0.0, 0.0, 0.0, 0.0, len(confirmed.report))
    logits, labels = confirmed.logits()
    metric = METRICS[confirmed.config.target.metrics[0]]
    return paired_gain(confirmed.report, baseline.report, logits, baseline.logits()[0], labels, metric)


def pinned(experiment: Experiment, config: TrialConfig, pair_source: str | None) -> dict[str, Any]:
    """A configuration as a complete experiment file: every searched value fixed, its seeds the confirm seeds."""
    target, plm = config.target.name, config.setting.plm
    names = [source.task.name for source in config.sources]
    own = {name: experiment.tasks[name].model_dump() for name in (target, *names) if name in experiment.tasks}
    filed: dict[str, Any] = experiment.model_dump(mode="json", by_alias=True)
    values = {
        "learning_rate": config.learning_rate, "lambda": config.lambda_, "teacher_steps": config.teacher_steps,
        "partners": len(names) - 1, "fusion": config.fusion,
    }  # fmt: skip
    kept = ("prompt", "train", "source_train", "limit", "selection", "kd", "protocol", "self_pairs")
    file = {
        "name": f"{experiment.name}-{target}-{config.method}",
        "plm": {**filed["plm"], "from": plm.source},
        "data": str(experiment.data_path),
        "targets": [target],
        **{key: filed[key] for key in kept},
        "space": {config.method: {knob: values[knob] for knob in KNOBS[config.method]}},
        "confirm": {"seeds": list(experiment.train.seeds)},
    }
    file["train"] = {**filed["train"], "seeds": list(config.seeds)}
    if own:
        file["tasks"] = own
    if names:
        weights = {source.task.name: source.similarity for source in config.sources}
        file |= {
            "sources": names,
            "methods": [config.method],
            "pairs": {target: [pair_source]},
            "weigh_by": {target: weights},
        }
    return file


def score_metrics(scores: Sequence[float], name: str) -> dict[str, float]:
    """Mean, spread and number of scores, named for MLflow."""
    return {name: float(np.mean(scores)), f"{name}/std": spread(list(scores)), f"{name}/n": float(len(scores))}
