"""Source prompts for others: exported with all that starting from them needs, but for the data; and imported."""

import json
import re
import shutil
import zipfile
import zlib
from pathlib import Path
from uuid import uuid4

from panda_trainable.config.task import TaskSpec
from panda_trainable.library import DamagedArtefact, PromptLibrary, verify
from tuning.experiment.problems import Misuse, Problem
from tuning.planning.imported import source_artefacts, source_counts, task_card
from tuning.planning.plan import Plan

_ARTEFACT = re.compile(r"(prompts|embeddings|texts|counts)/[0-9a-f]{20}/[A-Za-z0-9_.-]+")
_TASK = re.compile(r"tasks/[A-Za-z0-9_][A-Za-z0-9_.-]*\.json")


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
    known = any(_ARTEFACT.fullmatch(name) or _TASK.fullmatch(name) for name in names)
    return known or path.suffix == ".zip" or not path.exists()


def import_archive(root: Path, archive: Path) -> tuple[list[str], int]:
    """Puts an archive's artefacts into a library; those that are there already stay.

    Args:
        root: of the library.
        archive: as `export` wrote it.

    Returns:
        Names of the tasks, and the number of artefacts that are new.

    Raises:
        Misuse: if it is no such archive, or something in it is damaged; then nothing is taken.
    """
    draft = root / f".import-{uuid4().hex[:8]}"
    try:
        with zipfile.ZipFile(archive) as file:
            names = [name for name in file.namelist() if not name.endswith("/")]
            strange = [name for name in names if not (_ARTEFACT.fullmatch(name) or _TASK.fullmatch(name))]
            if strange or not names:
                rule = f"is no archive of panda-tune library export; it holds {strange[:3] or 'nothing'}"
                raise Misuse(Problem(str(archive), rule, remedy="name a file that export wrote"))
            draft.mkdir(parents=True)
            for name in names:
                target = draft / name
                target.parent.mkdir(parents=True, exist_ok=True)
                with file.open(name) as inside, target.open("wb") as out:
                    shutil.copyfileobj(inside, out)
        return _moved(draft, root)
    except (zipfile.BadZipFile, zlib.error, OSError, EOFError, RuntimeError, NotImplementedError) as error:
        raise Misuse(
            Problem(
                str(archive), f"cannot be read as an archive ({error})", remedy="name a file that library export wrote"
            )
        ) from error
    except (DamagedArtefact, ValueError, KeyError, TypeError, AttributeError) as error:
        raise Misuse(Problem(str(archive), f"is damaged: {error!r}", remedy="have it exported again")) from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _moved(draft: Path, root: Path) -> tuple[list[str], int]:
    """Moves verified artefacts and task cards into the library."""
    artefacts = sorted(folder for folder in draft.glob("*/*") if folder.is_dir())
    for folder in artefacts:
        verify(folder)
    cards = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(draft.glob("tasks/*.json"))]
    names = [str(card["task"]) for card in cards]
    for card in cards:  # what `imported_task` will read
        _ = card["is"].items(), [(s, str(d)) for s, d in card["fingerprints"]], [(s, [*c]) for s, c in card["counts"]]
    fresh = 0
    for folder in artefacts:
        target = root / folder.relative_to(draft)
        target.parent.mkdir(parents=True, exist_ok=True)
        if not target.exists():
            folder.rename(target)
            fresh += 1
    (root / "tasks").mkdir(parents=True, exist_ok=True)
    for path in draft.glob("tasks/*.json"):
        path.replace(root / "tasks" / path.name)
    return names, fresh
