"""Writes a winner's folder: complete or not at all."""

import json
import shutil
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

from panda_trainable.config.trial import TrialConfig
from panda_trainable.prediction.students import HOLDS, holds
from panda_trainable.prediction.winner import CARD, Scores, card_of, checksum, file_of, winner_of
from panda_trainable.training.evaluation import longest_answer
from panda_trainable.training.trainer import Trainer


def write_winner(folder: Path, config: TrialConfig, trainer: Trainer, scores: Scores) -> list[Path]:
    """Writes a trained configuration as a winner's folder; other files of a folder that is there stay.

    Args:
        folder: where; what it held of another winner is replaced.
        config: what was trained.
        trainer: after its last step.
        scores: of its replicas.

    Returns:
        [K] the replicas' files.
    """
    draft = folder.with_name(f".{folder.name}-{uuid4().hex[:8]}")
    draft.mkdir(parents=True)
    try:
        names = write_files(draft, config, trainer, scores)
        _put(draft, folder)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return [folder / name for name in names]


def write_files(draft: Path, config: TrialConfig, trainer: Trainer, scores: Scores) -> list[str]:
    """Writes a winner's files into a folder that nobody reads yet.

    Returns:
        [K] names of the replicas' files.
    """
    held = holds(trainer.student)
    files = {}
    for replica, seed in enumerate(config.seeds):
        path = draft / file_of(seed)
        HOLDS[held].save(trainer, replica, path)
        files[path.name] = checksum(path)
    most = longest_answer(trainer.data.library, config.setting, config.target)
    (draft / CARD).write_text(card_of(winner_of(config, held, most, scores, files)), encoding="utf-8")
    return list(files)


def copy_winner(source: Path, folder: Path) -> None:
    """Copies a winner's files, and nothing else that lies beside them, into a folder that is not there yet."""
    draft = folder.with_name(f".{folder.name}-{uuid4().hex[:8]}")
    draft.mkdir(parents=True)
    try:
        for name in (*_files_of(source), CARD):
            shutil.copyfile(source / name, draft / name)
        draft.rename(folder)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _put(draft: Path, folder: Path) -> None:
    """Puts a draft in its place: by one renaming, or where a folder is there already without its card until all is in it."""
    with suppress(OSError):
        draft.rename(folder)  # also where an empty folder is there
        return
    old = _files_of(folder)
    (folder / CARD).unlink(missing_ok=True)
    for name in old:
        (folder / name).unlink(missing_ok=True)
    for path in sorted(draft.iterdir(), key=lambda path: path.name == CARD):
        path.replace(folder / path.name)


def _files_of(folder: Path) -> list[str]:
    """Names of the files that a winner's card lists, as far as it can be read; never a path to elsewhere."""
    try:
        listed = json.loads((folder / CARD).read_text(encoding="utf-8"))["files"]
        return [name for name in listed if name == Path(name).name and name.endswith(".safetensors")]
    except (OSError, ValueError, KeyError, TypeError):
        return []
