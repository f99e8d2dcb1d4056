"""The best configurations again, with fresh seeds, scored once on the report split."""

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from optuna.trial import FixedTrial

from analysis.statistics.contributions import contributions
from analysis.statistics.crossed import gains
from analysis.statistics.gains import Gain, excess
from panda_trainable.config.methods import BASELINE, TRAITS
from panda_trainable.config.trial import TrialConfig
from panda_trainable.data.splits import replica_rows, selection_split
from panda_trainable.data.tokens import gold_of, token_table
from panda_trainable.library import PromptLibrary
from panda_trainable.prediction.folder import write_files
from panda_trainable.training.evaluation import best_constant, constant_logits, constant_scores, scores_on
from panda_trainable.training.metrics import METRICS
from panda_trainable.training.trainer import Trainer
from panda_trainable.worker import single_threaded
from tuning.engine.journal import Journal
from tuning.experiment.experiment import Experiment
from tuning.planning.jobs import Job
from tuning.planning.partners import study_path
from tuning.planning.plan import Study
from tuning.planning.results import (
    CONTRIBUTIONS,
    LOGITS,
    ROWS,
    SCORES,
    Candidate,
    Chosen,
    Confirmed,
    Winner,
    chosen_of,
    confirm_key,
    read_confirmed,
    twin,
    winner_key,
)


def confirm_trial(library: PromptLibrary, config: TrialConfig) -> None:
    """Trains a configuration with its seeds and keeps scores, report logits, and what a winner's folder holds. Runs on a worker."""
    single_threaded()
    library.get_or_make("confirmed", confirm_key(config), lambda draft: _confirm(draft, library, config), _card(config))


def _card(config: TrialConfig) -> dict[str, Any]:
    """What a configuration is, for people."""
    of = config.setting.plm.label
    return {"method": config.method, "target": config.target.name, "plm": of, "seeds": config.seeds}


def _confirm(draft: Path, library: PromptLibrary, config: TrialConfig) -> None:
    from panda_trainable.transfer.methods import open_trainer
    from panda_trainable.transfer.teachers import teacher_plm_scores

    began = time.perf_counter()
    trainer = open_trainer(library, config)
    trainer.advance(config.steps)
    losses = trainer.losses()
    selected = _select(trainer, library, config)
    if not np.isfinite([*losses, *selected["selection"][config.target.metrics[0]]]).all():
        raise ValueError(f"loss or score of a seed of {list(config.seeds)} is not finite: the run diverged")
    report, logits, gold = trainer.report()
    train, table = (
        token_table(library, config.setting, config.target, s) for s in ("train", config.target.report_split)
    )
    answer = best_constant(config.target, train, np.arange(len(train)))
    metric = METRICS[config.target.metrics[0]]
    scores = {
        **selected,
        "report": report,
        "majority": metric(constant_logits(config.target, answer, table, np.arange(len(table))), gold),
        "truncated": {"train": train.truncated, "report": table.truncated},
        "seconds": time.perf_counter() - began,
        "teacher": teacher_plm_scores(library, config) if config.teacher_plm else [],
    }
    (draft / SCORES).write_text(json.dumps(scores), encoding="utf-8")
    rows = np.stack([metric.rows(said, gold) for said in logits])
    np.save(draft / ROWS, rows, allow_pickle=False)
    np.save(draft / CONTRIBUTIONS, np.stack([contributions(own, metric.score) for own in rows]), allow_pickle=False)
    _logits_frame(config.seeds, logits).to_parquet(draft / LOGITS, index=False)
    if TRAITS[config.method].trains != "model":  # all weights of all candidates would fill the storage
        write_files(draft, config, trainer, {"selection": selected["selection"], "report": report})


def make_winner(library: PromptLibrary, config: TrialConfig) -> None:
    """Trains a configuration again whose confirmed run kept no winner's folder, and keeps one. Runs on a worker."""
    single_threaded()
    library.get_or_make(
        "winners", winner_key(config), lambda draft: _keep_winner(draft, library, config), _card(config)
    )


def _keep_winner(draft: Path, library: PromptLibrary, config: TrialConfig) -> None:
    from panda_trainable.transfer.methods import open_trainer

    trainer = open_trainer(library, config)
    trainer.advance(config.steps)
    scores = json.loads((library.get("confirmed", confirm_key(config)) / SCORES).read_text(encoding="utf-8"))
    write_files(draft, config, trainer, {split: scores[split] for split in ("selection", "report")})


def _select(trainer: Trainer, library: PromptLibrary, config: TrialConfig) -> dict[str, Any]:
    """Scores on selection rows, those of the best constant answer, and the error of their difference over rows."""
    task, setting, metric = config.target, config.setting, METRICS[config.target.metrics[0]]
    split, replicas = selection_split(setting, task), trainer.data.parts[0].rows
    scores, logits = scores_on(trainer.student, library, setting, split, [rows.selection for rows in replicas])
    train, table = token_table(library, setting, task, "train"), token_table(library, setting, task, split)
    constants, errors = [], []
    for said, rows in zip(logits, replicas, strict=True):
        gold = gold_of(table, task, rows.selection)
        constant = constant_logits(task, best_constant(task, train, rows.train), table, rows.selection)
        ours, theirs = (contributions(metric.rows(each, gold), metric.score) for each in (said, constant))
        constants.append(metric(constant, gold))
        errors.append(float((ours - theirs).std(ddof=1) / len(ours) ** 0.5) if len(ours) > 1 else 0.0)
    return {"selection": scores, "constant_selection": constants, "excess_error": errors}


def _logits_frame(seeds: Sequence[int], logits: NDArray[Any]) -> pd.DataFrame:
    """A row per seed and report row, with columns seed, row, logit_0 and so on (flattened where there are many); or answer."""
    flat = logits.reshape(*logits.shape[:2], -1)
    names = ["answer"] if logits.dtype.kind == "U" else [f"logit_{c}" for c in range(flat.shape[2])]
    frames = []
    for seed, said in zip(seeds, flat, strict=True):
        frame = pd.DataFrame(said, columns=names)
        frame.insert(0, "row", np.arange(len(said)))
        frame.insert(0, "seed", seed)
        frames.append(frame)
    return pd.concat(frames, ignore_index=True)


def candidates(experiment: Experiment, studies: Sequence[Study]) -> dict[str, list[Candidate]]:
    """Study key -> its best `confirm.top` configurations of the search, with the confirm seeds."""
    chosen = {}
    for study in studies:
        trials = Journal(study.key, study_path(experiment, study, "journal")).best_trials(study.base.steps)
        configs = [study.base.with_knobs(study.space(FixedTrial(t.params))) for t in trials[: experiment.confirm.top]]
        chosen[study.key] = [
            Candidate(replace(config, seeds=tuple(experiment.confirm.seeds)), trial.value or 0.0, len(trials))
            for config, trial in zip(configs, trials, strict=False)
        ]
    return chosen


def jobs_of(configs: Sequence[TrialConfig]) -> list[Job]:
    """What configurations start from or learn from, for their own seeds: source prompts, other PLMs' prompts, models."""
    from panda_trainable.transfer.methods import needed

    jobs = [Job(lineage, config.seeds, ()) for config in configs for lineage in needed(config)]
    return list(dict.fromkeys(jobs))


def choice_of(library: PromptLibrary, found: Sequence[Candidate]) -> Chosen | None:
    """The choice among those of a study's candidates that are confirmed; None where none is."""
    there = [one for one in found if library.has("confirmed", confirm_key(one.config))]
    return chosen_of(there, [read_confirmed(library, one.config) for one in there]) if there else None


def twins_needed(library: PromptLibrary, chosen: Mapping[str, list[Candidate]]) -> list[TrialConfig]:
    """The twins of all configurations that are a winner, or chosen for a seed."""
    choices = [choice for found in chosen.values() if (choice := choice_of(library, found))]
    picked = [one.config for choice in choices for one in (choice.winner, *choice.picks)]
    return list(dict.fromkeys(t for config in picked if (t := twin(config))))


def winners(
    library: PromptLibrary, studies: Sequence[Study], chosen: Mapping[str, list[Candidate]]
) -> Iterator[Winner]:
    """What studies came to, with their gains over the target's baseline, where both are confirmed."""
    choices = {study.key: choice for study in studies if (choice := choice_of(library, chosen[study.key]))}
    targets: dict[tuple[str, str, int], list[Study]] = {}
    for study in studies:
        if study.key in choices:
            targets.setdefault(study.compared, []).append(study)
    for own in targets.values():
        baseline = next((study for study in own if study.pair.method == BASELINE), None)
        if baseline is not None:
            yield from _of_target(library, own, baseline, choices, chosen[baseline.key])


def _of_target(
    library: PromptLibrary, studies: Sequence[Study], baseline: Study, choices: Mapping[str, Chosen],
    candidates: Sequence[Candidate],
) -> Iterator[Winner]:  # fmt: skip
    signal = signal_of(library, baseline, choices[baseline.key].winner, candidates)
    theirs = choices[baseline.key].contributions()
    rows = [theirs if study is baseline else choices[study.key].contributions() for study in studies]
    for study, gain in zip(studies, gains(rows, theirs), strict=True):
        choice = choices[study.key]
        twins = [t for pick in choice.picks if (t := twin(pick.config)) and library.has("confirmed", confirm_key(t))]
        complete = tuple(read_confirmed(library, t) for t in twins) if len(twins) == len(choice.picks) else ()
        yield Winner(study, choice, gain, complete, choices[baseline.key], signal, baseline.key)


def signal_of(library: PromptLibrary, baseline: Study, winner: Confirmed, candidates: Sequence[Candidate]) -> Gain:
    """How far prompt tuning is above the best constant answer, in the search.

    The search's seeds and selection rows decide, which report nothing: were it the report rows, targets would
    be kept where prompt tuning had luck there, and gains over it would come out too low.

    Args:
        library: where token tables come from.
        baseline: the target's prompt tuning.
        winner: its confirmed winner, whose replicas say how sure a selection score is.
        candidates: what the search found of it.
    """
    base, task = baseline.base, baseline.base.target
    replicas = [replica_rows(library, base.setting, task, seed) for seed in base.seeds]
    constants = constant_scores(library, base.setting, task, replicas)
    searched = next(one for one in candidates if one.config == winner.config)
    differences = np.subtract(winner.selection, winner.constant_selection)
    return excess(
        searched.searched - float(np.mean(constants)), winner.excess_error, differences, len(base.seeds), searched.tried
    )
