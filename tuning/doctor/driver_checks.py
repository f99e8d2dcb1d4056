"""What must hold on the driver: each a function that says what it found, or raises Failed."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from analysis.records.address import cleaned
from analysis.records.connection import client, experiment_of, within
from analysis.wording import counted
from panda_trainable.library import PromptLibrary, make_storage
from tuning.cluster.resources import slots, trial_resources
from tuning.doctor.findings import Failed, Skipped
from tuning.experiment.experiment import Experiment
from tuning.planning.jobs import source_jobs, target_jobs
from tuning.planning.plan import Plan
from tuning.planning.preflight import preflight

TRACKING_WITHIN_S = 60.0
"""Seconds in which MLflow must have taken a write; a new sqlite file takes six, and over twenty on a busy machine."""
TRACKING_EXPERIMENT = "panda-tune doctor"
"""The MLflow experiment that shows that one can write: it holds a tag and no runs."""
BYTES_PER_TRIAL = 50_000
"""What a finished trial leaves in the storage at most."""
SPARE = 3
"""How often the prompts of a plan fit into what is estimated: snapshots, teachers, confirmed configurations."""


@dataclass
class Patient:
    """An experiment that is looked at, and what is known of it so far.

    Attributes:
        experiment: its file, checked.
        wait_s: seconds to wait for nodes.
        tell: told what is waited for.
        plans: once its tasks and PLMs are checked.
        asked: what a trial takes, once that is known to fit.
    """

    experiment: Experiment
    wait_s: float = 0
    tell: Callable[[str], None] = lambda _: None
    plans: tuple[Plan, ...] = ()
    asked: dict[str, float] = field(default_factory=dict)


def file_holds(patient: Patient) -> str:
    """Tasks, PLMs and settings are right, as `search` checks them."""
    experiment = patient.experiment
    patient.plans, _ = preflight(experiment, PromptLibrary(experiment.storage_path / "library"))
    pairs = sum(len(plan.pairs) for plan in patient.plans)
    return f"{counted(pairs, 'study')} on {counted(len(patient.plans), 'PLM')}"


def disk_suffices(patient: Patient) -> str:
    """The storage has room for what the experiment will leave there."""
    if not patient.plans:
        raise Skipped("no plan")
    needed, left = sum(map(_bytes, patient.plans)), shutil.disk_usage(patient.experiment.storage_path).free
    said = f"{_size(left)} left, about {_size(needed)} needed"
    if left < needed:
        raise Failed(said)
    return said


def _bytes(plan: Plan) -> int:
    """What a plan leaves in the storage, about."""
    from panda_trainable.pretrained.files import load_config

    experiment, config = plan.experiment, load_config(plan.setting.plm).get_text_config()
    layers = 2 * config.num_hidden_layers if plan.setting.prompt.form == "prefix" else 1
    prompt = 4 * plan.setting.prompt.length * config.hidden_size * layers
    stacked = [(len(job.seeds), 1 + len(job.also)) for job in (*source_jobs(plan), *target_jobs(plan))]
    confirmed = len(plan.pairs) * experiment.confirm.top * len(experiment.confirm.seeds)
    trials = len(plan.pairs) * experiment.search.trials * experiment.search.repeats
    return SPARE * prompt * (confirmed + sum(seeds * states for seeds, states in stacked)) + trials * BYTES_PER_TRIAL


def _size(count: float) -> str:
    return f"{count / 2**30:.1f} GiB" if count >= 2**30 else f"{count / 2**20:.0f} MiB"


def tracking_takes_writes(patient: Patient) -> str:
    """MLflow answers, and takes a write: a tag of an experiment of its own, which holds nothing else."""
    make_storage(patient.experiment.storage_path)
    try:
        within(TRACKING_WITHIN_S, partial(_write, patient.experiment))
    except Exception as error:  # MLflow raises its own, requests' and SQLAlchemy's; all are told
        raise Failed(f"{type(error).__name__}: {cleaned(str(error).split(chr(10))[0][:200])}") from error
    return "takes writes"


def _write(experiment: Experiment) -> None:
    store: Any = client(experiment.tracking_uri)
    experiment_of(store, experiment.name)  # which refuses one that is deleted
    found = store.get_experiment_by_name(TRACKING_EXPERIMENT)
    if found is None:
        store.create_experiment(TRACKING_EXPERIMENT)
        return
    if found.lifecycle_stage == "deleted":
        store.restore_experiment(found.experiment_id)
    store.set_experiment_tag(found.experiment_id, "asked_by", experiment.name)


def resources_fit(patient: Patient) -> str:
    """A trial fits some node."""
    asked = trial_resources(patient.experiment, patient.wait_s, patient.tell)
    patient.asked = asked
    return f"{asked['cpu']:g} CPU and {asked['gpu']:g} GPU a trial, {slots(asked)} at once"
