"""What the stages tell MLflow: entries of sources, studies, trials and winners."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from optuna.trial import FixedTrial, FrozenTrial

from analysis.records import names as records
from analysis.statistics.gains import gap_closed, relative_error_reduction, relative_performance, spread
from analysis.statistics.speedups import Curve, Speedups, speedups
from panda_trainable.config.keys import content
from panda_trainable.config.methods import KNOBS, TRAITS
from panda_trainable.config.task import Mixture
from panda_trainable.config.trial import TrialConfig
from panda_trainable.data.demo import DEMO
from tuning.experiment.experiment import Experiment
from tuning.experiment.pinned import pinned
from tuning.planning.jobs import Job
from tuning.planning.plan import Plan, Study
from tuning.planning.results import LOGITS, Confirmed, Winner, confirm_key
from tuning.tracking.tracker import FAILED, FINISHED, RUNNING, Entry


def of_plan(
    plan: Plan, sources: Sequence[Job], studies: Sequence[Study], cards: Callable[[Job], list[dict[str, Any]]]
) -> Iterator[Entry]:
    """Runs of the source prompts, and of the studies as they begin."""
    for job in sources:
        yield from (_of_source(card) for card in cards(job))
    poor = {job.lineage.task.name for job in sources if any(_at_majority(card) for card in cards(job))}
    for study in studies:
        yield _of_study(plan, study, study.pair.source in poor)


def _at_majority(card: Mapping[str, Any]) -> bool:
    """Whether a source prompt is no better than its majority class."""
    return bool(card["score"] <= card["majority"])


def _of_source(card: Mapping[str, Any]) -> Entry:
    return Entry(
        f"source:{card['key']}", f"{card['task']} · seed {card['seed']}",
        tags={records.STAGE: "source", records.SOURCE: card["task"], records.PLM: card["plm"], "at_majority": str(_at_majority(card)).lower()},
        params={name: card[name] for name in ("seed", "steps", "learning_rate")},
        metrics={records.SELECTION: card["score"], records.MAJORITY: card["majority"]},
    )  # fmt: skip


def study_tags(study: Study) -> dict[str, str]:
    """What a study's own run, its trials' and its winner's are found by."""
    pair, base = study.pair, study.base
    return {
        records.TARGET: pair.target, records.SOURCE: pair.source or "", records.METHOD: pair.method,
        records.PLM: base.setting.plm.label, records.STUDY: study.key, records.CURRENT: "true",
        records.PROTOCOL: base.setting.protocol, records.CONSTRUCTED: str(pair.target in DEMO).lower(),
        records.OVERLAP: str(study.overlap),
    }  # fmt: skip


def _of_study(plan: Plan, study: Study, poor: bool) -> Entry:
    base, setting = study.base, study.base.setting
    partners = [source.task.name for source in base.sources[1:]]
    params = {
        "steps": base.steps, "seeds": list(base.seeds), "prompt_length": setting.prompt_length,
        "batch_size": setting.batch_size, "max_length": setting.max_length, "kd": base.kd,
        "lambda_schedule": base.lambda_schedule, "partner_weights": base.partner_weights,
        "precision": setting.precision, "prompt_form": setting.prompt_form, "prompt_init": setting.init.kind,
        "prompt_mlp": setting.mlp, "shots": setting.shots, "source_shots": setting.source_shots, "metric": base.target.metrics[0],
        "eval_every": setting.eval_every, "limit_train": setting.limit_train, "selection_fraction": setting.selection_fraction,
        **{f"prompt_init.{name}": value for name, value in content(setting.init).items() if name != "kind"},
        **_other_plms(base), **_mixed(base), "partners_available": partners, "weigh_by": _weigh_by(plan),
        "source_steps": base.source_steps, "source_learning_rate": base.source_learning_rate,
        **_measured(plan, study), **_searched(plan, study),
    }  # fmt: skip
    similarities = {f"{records.SIMILARITY}/{name}": value for name, value in study.similarities.items()}
    return Entry(
        f"study:{study.key}", study.pair.name, tags={records.STAGE: "study", **study_tags(study), records.POOR_SOURCE: str(poor).lower()},
        params=params, metrics=similarities, status=RUNNING,
    )  # fmt: skip


def _other_plms(base: TrialConfig) -> dict[str, Any]:
    """Which other PLMs a study uses, and how."""
    said: dict[str, Any] = {}
    if base.tutor:
        said |= {
            "teacher_plm": base.tutor.plm.label, "teacher_trains": base.tutor.trains, "teacher_tuning_steps": base.tutor.steps,
            "teacher_learning_rate": base.tutor.learning_rate, "relation": base.relation,
        }  # fmt: skip
    if base.projection:
        how = base.projection
        said |= {
            "source_plm": how.plm.label, "projector": how.form, "objective": how.objective,
            "projector_tasks": [task.name for task in how.tasks], "projector_hidden": how.hidden, "projector_steps": how.steps,
            "projector_learning_rate": how.learning_rate,
        }  # fmt: skip
    return said


def _mixed(base: TrialConfig) -> dict[str, Any]:
    """What its mixtures hold, and how many rows of a task count there."""
    mixtures = [source.task for source in base.sources if isinstance(source.task, Mixture)]
    caps = {mixture.cap for mixture in mixtures} | ({base.mixing_cap} if TRAITS[base.method].mixes else set())
    held = {f"mixture.{mixture.name}": [task.name for task in mixture.tasks] for mixture in mixtures}
    return {**held, **({"mixing_cap": max(caps)} if caps else {})}


def _measured(plan: Plan, study: Study) -> dict[str, Any]:
    """Of what its similarities were measured; nothing where there are none."""
    if not study.similarities:
        return {}
    how = {f"measured.{name}": value for name, value in asdict(plan.experiment.measuring).items()}
    return {"early_step": plan.experiment.source_train.early_step, **how}


def _searched(plan: Plan, study: Study) -> dict[str, Any]:
    """How it is searched, and among which values."""
    search = plan.experiment.search
    domains = {f"space.{knob.name}": str(knob.domain) for knob in study.space.knobs}
    return {"sampler": search.sampler, "scheduler": search.scheduler, "search_seed": search.seed, **domains}


def _weigh_by(plan: Plan) -> str:
    weigh_by = plan.experiment.weigh_by
    return weigh_by if isinstance(weigh_by, str) else json.dumps(weigh_by)


def trial_id(study: Study, number: int) -> str:
    """The id of a trial's run."""
    return f"trial:{study.key}/{number}"


def of_trial(
    study: Study, number: int, knobs: Mapping[str, Any], result: Mapping[str, Any] | None, status: str
) -> Entry:
    """A trial's run: knobs as params, scores by step, how it ended.

    Args:
        study: its study.
        number: in the study.
        knobs: what was suggested.
        result: as the trainable reported it; None when its process was lost.
        status: RUNNING, FINISHED or FAILED.
    """
    said = result or {}
    failure = said.get("failure") or ("" if result else "its process was lost")
    ended = "failed" if failure else "complete" if said.get("step", 0) >= study.base.steps else "stopped early"
    state = "running" if status == RUNNING else ended
    by_seed = [name for name in said if name.startswith(f"score/{records.SEED}/")]
    names = ["score", "score_std", "loss", "seconds", "evaluation_share", "lambda_effective", *by_seed]
    metrics = {name: said[name] for name in names if name in said and np.isfinite(said[name])}
    tags = {records.STAGE: "trial", **study_tags(study), records.TRIAL: f"{study.key}/{number}", records.STATE: state}
    if "node" in said:
        tags[records.NODE] = said["node"]
    if failure:
        tags[records.FAILURE] = failure
    return Entry(
        trial_id(study, number), f"trial {number}", parent=f"study:{study.key}", tags=tags,
        params=knobs, metrics=metrics if not failure else {}, step=int(said.get("step", 0)),
        status=FAILED if failure else status,
    )  # fmt: skip


def of_journal(study: Study, trial: FrozenTrial) -> Iterator[Entry]:
    """A trial's run as its journal tells it: for one whose driver died before it could tell MLflow."""
    knobs = study.space(FixedTrial(trial.params, trial.number))
    last = max(trial.intermediate_values, default=0)
    for step, score in sorted(trial.intermediate_values.items()):
        yield of_trial(study, trial.number, knobs, {"score": score, "step": step}, RUNNING)
    failure = trial.user_attrs.get("failure", "")
    yield of_trial(study, trial.number, knobs, {"step": last, "failure": failure}, FINISHED)


def of_winner(winner: Winner) -> Iterator[Entry]:
    """Runs of a study's confirmed configurations and of the winner's twin."""
    for rank, confirmed in enumerate((winner.confirmed, *winner.others), 1):
        yield _of_confirmed(winner.study, confirmed, f"confirm {rank}")
    if winner.twin:
        yield _of_confirmed(winner.study, winner.twin, "twin")


def _of_confirmed(study: Study, confirmed: Confirmed, name: str) -> Entry:
    values = [*confirmed.report_metrics.items()]
    others = {f"report/{metric}": float(np.mean(scores)) for metric, scores in values}
    return Entry(
        confirmed_id(study, confirmed.config), name, parent=f"study:{study.key}",
        tags={records.STAGE: "confirm", **study_tags(study)}, params=_knobs(confirmed.config),
        metrics={
            **score_metrics(confirmed.selection, records.SELECTION), **score_metrics(confirmed.report, records.REPORT),
            **others, records.STEPS: confirmed.config.steps, records.SECONDS: confirmed.seconds,
        },
        files=(str(confirmed.folder / LOGITS),),
    )  # fmt: skip


def confirmed_id(study: Study, config: TrialConfig) -> str:
    """The id of a confirmed configuration's run: a twin may serve several studies, with a run in each."""
    return f"confirm:{study.key}/{confirm_key(config)}"


def _knobs(config: TrialConfig) -> dict[str, Any]:
    known = {"lambda": config.lambda_, "partners": len(config.sources) - 1}
    said = {name: known.get(name, getattr(config, name, None)) for name in KNOBS[config.method] if name != "partners"}
    said |= {"seeds": list(config.seeds)}
    if config.sources:
        said |= {"sources": [source.task.name for source in config.sources]}
    return said


@dataclass(frozen=True)
class Learnt:
    """Selection scores by step, of two trials of a study; empty where they are not known.

    Attributes:
        first: of its first trial, the published setting.
        won: of the trial that won.
    """

    first: Curve
    won: Curve


UNKNOWN = Learnt({}, {})


def of_study_end(experiment: Experiment, winner: Winner, ours: Learnt = UNKNOWN, theirs: Learnt = UNKNOWN) -> Entry:
    """A study's run as it ends: the winner's scores, gain and configuration.

    Args:
        experiment: its file.
        winner: the study's.
        ours: how its trials learnt.
        theirs: how those of the target's baseline did.
    """
    gain, confirmed, study = asdict(winner.gain), winner.confirmed, winner.study
    gains = {records.GAIN: gain.pop("mean"), **{f"{records.GAIN}/{name}": value for name, value in gain.items()}}
    twins = {records.TWIN: float(np.mean(winner.twin.report))} if winner.twin else {}
    cut = {f"{records.TRUNCATED}/{split}": share for split, share in confirmed.truncated.items()}
    config = pinned(experiment, confirmed.config, study.pair.source)
    speeds = {"": speedups(theirs.won, ours.won), f"{records.FIRST}/": speedups(theirs.first, ours.first)}
    never = {
        prefix.replace("/", "_") + records.NEVER: str(speed.comparable is None).lower()
        for prefix, speed in speeds.items()
        if speed
    }
    seeds = confirmed.config.seeds
    return Entry(
        f"study:{study.key}", study.pair.name,
        tags={
            records.SIGNAL: str(winner.signal.low > 0).lower(), records.CURRENT: "true", records.STATE: "confirmed",
            records.PARTNERS: ",".join(source.task.name for source in confirmed.config.sources[1:]),
            **never,
        },
        metrics={
            **score_metrics(confirmed.selection, records.SELECTION), **score_metrics(confirmed.report, records.REPORT),
            **gains, **twins, records.MAJORITY: confirmed.majority,
            records.STEPS: confirmed.config.steps, records.TEACHER_STEPS: confirmed.config.teacher_steps,
            records.SECONDS: confirmed.seconds, **cut, **_beside(winner), **_first(ours.first, theirs.first),
            **_early("", ours.won), **{k: v for prefix, speed in speeds.items() for k, v in _faster(prefix, speed).items()},
            **_by_seed(records.REPORT, seeds, confirmed.report),
            **_by_seed(records.GAIN, seeds, np.subtract(confirmed.report, winner.baseline.report).tolist()),
        },
        links={records.WINNER_RUN: confirmed_id(study, confirmed.config)},
        artifacts={records.CONFIG_FILE: json.dumps(config, indent=1)},
    )  # fmt: skip


def _beside(winner: Winner) -> dict[str, float]:
    """How the winner stands to its baseline, and to the larger PLM that taught it, where that is defined."""
    ours, base = float(np.mean(winner.confirmed.report)), float(np.mean(winner.baseline.report))
    found = {
        records.RELATIVE: relative_performance(ours, base),
        records.ERROR_REDUCTION: relative_error_reduction(ours, base),
    }
    if winner.confirmed.teacher:
        teacher = float(np.mean(winner.confirmed.teacher))
        found |= {records.TEACHER: teacher, records.GAP_CLOSED: gap_closed(base, ours, teacher)}
    return {name: value for name, value in found.items() if value is not None}


def _by_seed(name: str, seeds: Sequence[int], values: Sequence[float]) -> dict[str, float]:
    return {f"{name}/{records.SEED}/{seed}": value for seed, value in zip(seeds, values, strict=True)}


def _first(ours: Curve, theirs: Curve) -> dict[str, float]:
    """Measures of the first trial, on selection rows; `score` alone where there is no baseline's."""
    if not ours:
        return {}
    score = ours[max(ours)]
    found: dict[str, float | None] = {"score": score}
    if theirs:
        base = theirs[max(theirs)]
        found |= {
            records.GAIN: score - base, records.RELATIVE: relative_performance(score, base),
            records.ERROR_REDUCTION: relative_error_reduction(score, base),
        }  # fmt: skip
    known = {f"{records.FIRST}/{name}": value for name, value in found.items() if value is not None}
    return {**known, **_early(f"{records.FIRST}/", ours)}


def _early(prefix: str, curve: Curve) -> dict[str, float]:
    """The score at the first evaluation."""
    return {prefix + records.EARLY: curve[min(curve)]} if curve else {}


def _faster(prefix: str, speed: Speedups | None) -> dict[str, float]:
    found = {records.CONVERGENCE: speed.convergence, records.COMPARABLE: speed.comparable} if speed else {}
    return {prefix + name: value for name, value in found.items() if value is not None and np.isfinite(value)}


def of_unconfirmed(study: Study) -> Entry:
    """A study's run that ends without a winner."""
    return Entry(f"study:{study.key}", study.pair.name, tags={records.STATE: "unconfirmed"}, status=FAILED)


def score_metrics(scores: Sequence[float], name: str) -> dict[str, float]:
    """Mean, spread and number of scores, named for MLflow."""
    return {name: float(np.mean(scores)), f"{name}/std": spread(list(scores)), f"{name}/n": float(len(scores))}
