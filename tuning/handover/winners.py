"""What is exported: a target's confirmed winner, or a winner's folder; checked, with its PLM here."""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from panda_trainable.library import DamagedArtefact, PromptLibrary
from panda_trainable.prediction.folder import copy_winner
from panda_trainable.prediction.predictor import found_plm
from panda_trainable.prediction.winner import CARD, read_winner
from tuning.experiment.experiment import Experiment
from tuning.experiment.problems import Misuse, Problem, check_target, problems_of
from tuning.handover.finished import confirmed


def export_from(
    where: str, to: Path, target: str | None = None, form: str = "peft", plm: str | None = None,
    tracking: str | None = None, override: Sequence[str] = (),
) -> list[str]:  # fmt: skip
    """Writes a winner for others, wherever it is; the other arguments are those of `export`.

    Args:
        where: with a target, the experiment's file; else a folder that `train` wrote, a pinned file, or a model of
            MLflow's registry.
        to: a folder that is not there yet, or empty.
        target: whose confirmed winner.
        form: `peft` or `own`.
        plm: where the PLM is, if not where it was; with a target: which, where there are several.
        tracking: MLflow's address, for `models:/`.
        override: values of the experiment's file set anew, as `-o` has them; only with a target.
    """
    from tuning.experiment.loading import load
    from tuning.prediction.places import winner_folder

    if target is not None:
        return export(winner_of_target(load(Path(where), override), target, plm or "", where), to, form)
    if override:
        rule = "changes the experiment that a target is taken from"
        raise Misuse(Problem(f"-o {override[0]}", rule, remedy="name the experiment's file and --target"))
    with winner_folder(where, tracking) as folder:
        return export(folder, to, form, plm)


def export(folder: Path, to: Path, form: str = "peft", plm: str | None = None) -> list[str]:
    """Writes a winner for others: as PEFT adapters, or as a winner's folder.

    Args:
        folder: of the winner.
        to: a folder that is not there yet, or empty.
        form: `peft` or `own`.
        plm: where its PLM is, if not where it was.

    Returns:
        What was written, in words.

    Raises:
        Misuse: if the folder is none, or damaged; if its PLM is not here or another; if PEFT cannot say it.
    """
    from tuning.handover.adapters import check_place, export_adapters

    check_place(to)
    try:
        winner = read_winner(folder)
        if form == "own":
            if to.is_dir():
                to.rmdir()
            copy_winner(winner.folder, to)
            return [f"{len(winner.seeds)} replicas as a winner's folder"]
        return export_adapters(replace(winner, plm=found_plm(winner.plm, plm)), to)
    except ValueError as error:
        raise Misuse(*problems_of(error)) from error
    except OSError as error:
        shutil.rmtree(to, ignore_errors=True)
        rule = f"cannot be written ({error.strerror or error})"
        raise Misuse(Problem(f"--to {to}", rule, remedy="name another folder")) from error


def winner_of_target(experiment: Experiment, target: str, plm: str = "", file: str = "FILE") -> Path:
    """The folder of a target's confirmed winner in the library: the one that `panda-tune best` names.

    Args:
        experiment: its file, searched.
        target: one of its targets.
        plm: on which PLM, by label; empty: the best over all.
        file: of the experiment, for what is said.

    Raises:
        Misuse: if nothing of it is confirmed, or it was confirmed before winners were kept.
    """
    from analysis.findings.best import rows as rows_of
    from analysis.records.connection import NoRecords

    check_target(target, experiment.targets)
    try:
        rows = rows_of(*confirmed(experiment, target), target)
    except NoRecords as error:
        raise Misuse(Problem(experiment.name, str(error))) from error
    row = next((row for row in rows if plm == row["plm"] or (not plm and row["best_plm"])), None)
    if row is None:
        labels = ", ".join(each["plm"] for each in rows)
        raise Misuse(Problem(f"--plm {plm}", f"has no winner of {target}", remedy=f"there are those on {labels}"))
    try:
        return _confirmed(experiment, row["config"])
    except ValueError as error:
        anew = f"panda-tune best {file} --target {target} --format yaml > {target}.yaml; panda-tune train {target}.yaml"
        raise Misuse(Problem(target, str(error), remedy=f"{anew}; then export the folder that it names")) from error


def _confirmed(experiment: Experiment, config: Mapping[str, Any]) -> Path:
    """The folder of a pinned configuration's confirmed run.

    Raises:
        ValueError: if it is not there, or without prompts.
    """
    from tuning.experiment.loading import from_values
    from tuning.planning.results import confirm_key
    from tuning.run.train import pinned_trial

    library = PromptLibrary(experiment.storage_path / "library")
    pinned = from_values({**config, "storage": str(experiment.storage_path)}, experiment.folder)
    key = confirm_key(pinned_trial(pinned, library))
    try:
        folder = library.get("confirmed", key)
    except DamagedArtefact as error:
        raise ValueError(f"its confirmed run is not in the library ({error})") from error
    if not (folder / CARD).is_file():
        raise ValueError("was confirmed without keeping its prompts")
    return folder
