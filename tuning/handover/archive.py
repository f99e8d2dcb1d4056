"""Source prompts for others: exported with all that starting from them needs, but for the data; and imported."""

import json
import shutil
import zipfile
import zlib
from pathlib import Path
from uuid import uuid4

from panda_trainable.config.task import TaskSpec
from panda_trainable.library import DamagedArtefact, PromptLibrary, make_storage, verify
from panda_trainable.result import STORAGE_FAILS
from tuning.experiment.problems import Misuse, Problem
from tuning.handover.trust import artefact_problem, is_known, size_problem, task_names
from tuning.planning.imported import source_artefacts, source_counts, task_card
from tuning.planning.plan import Plan


def export(plans: tuple[Plan, ...], archive: Path) -> tuple[list[str], int]:
    """Writes the source prompts of an experiment that are there into an archive.

    The archive holds prompts, early snapshots, task embeddings, scores, numbers of rows and labels,
    and hashes of the texts that were trained on (for counting overlaps); no text.

    Returns:
        Names of the tasks, and the number of artefacts.

    Raises:
        Misuse: if there is none yet, or the archive cannot be written.
    """
    library = PromptLibrary(plans[0].experiment.storage_path / "library")
    tasks = {task.name: task for plan in plans for task in plan.sources if isinstance(task, TaskSpec)}
    found = [
        (kind, key)
        for plan in plans
        for task in plan.sources
        if isinstance(task, TaskSpec)
        for kind, key in (*source_artefacts(plan, task), *source_counts(plan, task))
        if library.sound(kind, key)
    ]
    if not any(kind == "prompts" for kind, _ in found):
        name = plans[0].experiment.name
        raise Misuse(Problem(name, "no source prompt is there yet", remedy="run panda-tune search first"))
    try:
        with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
            for kind, key in dict.fromkeys(found):
                for path in sorted(library.path(kind, key).iterdir()):
                    file.write(path, f"{kind}/{key}/{path.name}")
            for name, task in tasks.items():
                file.writestr(f"tasks/{name}.json", json.dumps(task_card(task), indent=1))
    except OSError as error:
        raise Misuse(
            Problem(str(archive), f"cannot be written ({error.strerror or error})", remedy="name another file")
        ) from error
    return list(tasks), len(set(found))


def is_archive(path: Path) -> bool:
    """Whether a file is an archive as `export` writes it, and not a prompt made elsewhere; what cannot be read as either is."""
    try:
        names = zipfile.ZipFile(path).namelist() if path.is_file() and zipfile.is_zipfile(path) else []
    except (OSError, zipfile.BadZipFile):
        names = []
    return any(map(is_known, names)) or path.suffix == ".zip" or not path.exists()


def import_archive(library: PromptLibrary, archive: Path) -> tuple[list[str], int]:
    """Puts an archive's artefacts into a library; those that are there already stay.

    Args:
        library: where they go; its experiment uses them.
        archive: as `export` wrote it.

    Returns:
        Names of the tasks, and the number of artefacts that are new.

    Raises:
        Misuse: if it is no such archive, or something in it is damaged; then nothing is taken.
    """
    draft = library.root / f".import-{uuid4().hex[:8]}"
    try:
        with zipfile.ZipFile(archive) as file:
            _unpack(file, archive, draft)
        return _moved(draft, library)
    except (zipfile.BadZipFile, zlib.error, OSError, EOFError, RuntimeError, NotImplementedError) as error:
        if getattr(error, "errno", None) in STORAGE_FAILS and getattr(error, "filename", None) != str(archive):
            raise
        reason = _reason(error)
        remedy = "name a file that library export wrote"
        raise Misuse(Problem(str(archive), f"cannot be read as an archive ({reason})", remedy=remedy)) from error
    except (DamagedArtefact, ValueError, KeyError, TypeError, AttributeError) as error:
        raise Misuse(Problem(str(archive), f"is damaged: {_reason(error)}", remedy="have it exported again")) from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _reason(error: Exception) -> str:
    return repr(error) if isinstance(error, KeyError) else str(error) or type(error).__name__


def _unpack(file: zipfile.ZipFile, archive: Path, draft: Path) -> None:
    """Unpacks the entries that `export` writes.

    Raises:
        Misuse: before anything is written, if others are there or it would be too large.
    """
    entries = [entry for entry in file.infolist() if not entry.filename.endswith("/")]
    strange = [entry.filename for entry in entries if not is_known(entry.filename)]
    if strange or not entries:
        rule = f"is no archive of panda-tune library export; it holds {strange[:3] or 'nothing'}"
        raise Misuse(Problem(str(archive), rule, remedy="name a file that export wrote"))
    if problem := size_problem(entries, archive, draft.parent):
        raise Misuse(Problem(str(archive), problem, remedy="have it exported again"))
    make_storage(draft.parents[1])
    draft.mkdir(parents=True)
    for entry in entries:
        target = draft / entry.filename
        target.parent.mkdir(parents=True, exist_ok=True)
        with file.open(entry) as inside, target.open("wb") as out:  # reads the declared size at most
            shutil.copyfileobj(inside, out)


def _moved(draft: Path, library: PromptLibrary) -> tuple[list[str], int]:
    """Moves artefacts and task cards into the library, all of them checked before."""
    artefacts = sorted(folder for folder in draft.glob("*/*") if folder.is_dir())
    for folder in artefacts:
        verify(folder)
        if problem := artefact_problem(folder):
            raise ValueError(problem)
    names = list(task_names(draft / "tasks"))
    fresh = 0
    for folder in artefacts:
        target = library.root / folder.relative_to(draft)
        library.note_use(folder.parent.name, folder.name)
        target.parent.mkdir(parents=True, exist_ok=True)
        if not target.exists():
            folder.rename(target)
            fresh += 1
    (library.root / "tasks").mkdir(parents=True, exist_ok=True)
    for path in draft.glob("tasks/*.json"):
        path.replace(library.root / "tasks" / path.name)
    return names, fresh
