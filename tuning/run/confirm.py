"""The best configurations again, with fresh seeds, scored once on the report split."""

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from optuna.trial import FixedTrial

from analysis.statistics.gains import NONE, RESAMPLES, Gain, paired_gain
from panda_trainable.config.keys import content_key
from panda_trainable.config.methods import BASELINE
from panda_trainable.config.trial import TrialConfig
from panda_trainable.data.tokens import token_table
from panda_trainable.library import PromptLibrary
from panda_trainable.training.heads import reference_logits
from panda_trainable.training.metrics import METRICS
from panda_trainable.worker import single_threaded
from tuning.engine.journal import Journal
from tuning.experiment.experiment import Experiment
from tuning.planning.jobs import Job
from tuning.planning.partners import study_path
from tuning.planning.plan import Study
from tuning.planning.results import (
    GAIN_FILE,
    LOGITS,
    REFERENCE,
    ROWS,
    SCORES,
    Confirmed,
    Winner,
    confirm_key,
    read_confirmed,
    twin,
)


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
    from panda_trainable.transfer.methods import open_trainer
    from panda_trainable.transfer.teachers import teacher_plm_scores

    began = time.perf_counter()
    trainer = open_trainer(library, config)
    trainer.advance(config.steps)
    losses = trainer.losses()
    selection = trainer.select()
    if not np.isfinite([*losses, *selection[config.target.metrics[0]]]).all():
        raise ValueError(f"loss or score of a seed of {list(config.seeds)} is not finite: the run diverged")
    report, logits, gold = trainer.report()
    table = token_table(library, config.setting, config.target, config.target.report_split)
    numbers = np.arange(len(table))
    reference = reference_logits(config.target, trainer.data.parts[0].table.labels.numpy(), table, numbers)
    metric = METRICS[config.target.metrics[0]]
    scores = {
        "selection": selection,
        "report": report,
        "majority": metric(reference, gold),
        "truncated": {"train": trainer.data.parts[0].table.truncated, "report": table.truncated},
        "seconds": time.perf_counter() - began,
        "teacher": teacher_plm_scores(library, config) if config.teacher_plm else [],
    }
    (draft / SCORES).write_text(json.dumps(scores), encoding="utf-8")
    np.save(draft / ROWS, np.stack([metric.rows(said, gold) for said in logits]), allow_pickle=False)
    np.save(draft / REFERENCE, metric.rows(reference, gold), allow_pickle=False)
    _logits_frame(config.seeds, logits).to_parquet(draft / LOGITS, index=False)


def _logits_frame(seeds: Sequence[int], logits: NDArray[Any]) -> pd.DataFrame:
    """A row per seed and report row, with columns seed, row, logit_0 and so on (flattened where there are many)."""
    flat = logits.reshape(*logits.shape[:2], -1)
    names = [f"logit_{c}" for c in range(flat.shape[2])]
    frames = []
    for seed, said in zip(seeds, flat, strict=True):
        frame = pd.DataFrame(said, columns=names)
        frame.insert(0, "row", np.arange(len(said)))
        frame.insert(0, "seed", seed)
        frames.append(frame)
    return pd.concat(frames, ignore_index=True)


def candidates(experiment: Experiment, studies: Sequence[Study]) -> dict[str, list[TrialConfig]]:
    """Study key -> its best `confirm.top` configurations of the search, with the confirm seeds."""
    chosen = {}
    for study in studies:
        trials = Journal(study.key, study_path(experiment, study, "journal")).best_trials(study.base.steps)
        chosen[study.key] = [
            replace(study.base.with_knobs(study.space(FixedTrial(t.params))), seeds=tuple(experiment.confirm.seeds))
            for t in trials[: experiment.confirm.top]
        ]
    return chosen


def jobs_of(configs: Sequence[TrialConfig]) -> list[Job]:
    """What configurations start from or learn from, for their own seeds: source prompts, other PLMs' prompts, models."""
    from panda_trainable.transfer.methods import needed

    jobs = [Job(lineage, config.seeds, ()) for config in configs for lineage in needed(config)]
    return list(dict.fromkeys(jobs))


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
    baselines = {s.compared: (s.key, ranked[s.key][0]) for s in studies if s.pair.method == BASELINE and ranked[s.key]}
    for study in studies:
        if not ranked[study.key] or study.compared not in baselines:
            continue
        first, *others = ranked[study.key]
        key, baseline = baselines[study.compared]
        without = twin(first.config)
        there = without is not None and library.has("confirmed", confirm_key(without))
        yield Winner(
            study, first, tuple(others), gain_over(library, first, baseline),
            read_confirmed(library, without) if without is not None and there else None, baseline,
            gain_over(library, baseline, None), key,
        )  # fmt: skip


def gain_over(library: PromptLibrary, confirmed: Confirmed, other: Confirmed | None) -> Gain:
    """The gain over another configuration, or over the reference that ignores the text; bootstrapped once."""
    if other and confirmed.config == other.config:
        return NONE

    def make(draft: Path) -> None:
        theirs = other.rows() if other else confirmed.reference()
        gain = paired_gain(confirmed.rows(), theirs, METRICS[confirmed.config.target.metrics[0]].score)
        (draft / GAIN_FILE).write_text(json.dumps(asdict(gain)), encoding="utf-8")

    keys = [confirm_key(each.config) if each else "reference" for each in (confirmed, other)]
    key = content_key("gains", keys, RESAMPLES)
    card = {"target": confirmed.config.target.name, "method": confirmed.config.method, "holds": "gain over " + keys[1]}
    folder = library.get_or_make("gains", key, make, card)
    return Gain(**json.loads((folder / GAIN_FILE).read_text(encoding="utf-8")))
