"""Source prompts for others: exported with all that starting from them needs, but for the data; and imported."""

import json
import re
import shutil
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from panda_trainable.config import content
from panda_trainable.library import DamagedArtefact, PromptLibrary, verify
from panda_trainable.tasks import TaskSpec
from tuning.experiment import Misuse

if TYPE_CHECKING:
    from tuning.plan import Plan

IMPORTED = "imported:"
"""Path of a task of which there are prompts but no data."""

_ARTEFACT = re.compile(r"(prompts|embeddings|texts)/[0-9a-f]{20}/[A-Za-z0-9_.-]+")
_TASK = re.compile(r"tasks/[A-Za-z0-9_][A-Za-z0-9_.-]*\.json")


def _identity(task: TaskSpec) -> Any:
    """What a task is, but for its rows."""
    return content(replace(task, fingerprints=()))


def _task_card(task: TaskSpec) -> dict[str, Any]:
    return {
        "task": task.name, "is": _identity(task), "fingerprints": task.fingerprints, "counts": task.counts,
    }  # fmt: skip


def imported_task(root: Path, task: TaskSpec) -> TaskSpec | None:
    """The task as it was where its prompts were made; None where none of it were imported.

    Args:
        root: of the library.
        task: as the experiment knows it.
    """
    path = root / "tasks" / f"{task.name}.json"
    if not path.is_file():
        return None
    card = json.loads(path.read_text(encoding="utf-8"))
    if card["is"] != json.loads(json.dumps(_identity(task))):
        return None
    fingerprints = tuple((split, digest) for split, digest in card["fingerprints"])
    counts = tuple((split, tuple(sizes)) for split, sizes in card["counts"])
    return replace(task, path=IMPORTED + task.name, fingerprints=fingerprints, counts=counts)


def source_artefacts(plan: "Plan", task: TaskSpec, *, searches: bool = True) -> Iterator[tuple[str, str]]:
    """(kind, key) of what starting from a source task's prompts needs, for all seeds of a plan.

    Args:
        plan: of one PLM.
        task: the source.
        searches: whether similarities are measured and winners confirmed, too.
    """
    from panda_trainable.similarity import embedding_key
    from panda_trainable.teachers import Lineage
    from panda_trainable.tokens import texts_key

    train = plan.experiment.source_train
    last = Lineage(plan.setting.of_sources, task, train.steps, train.learning_rate)
    early = last.at(train.early_step)
    for seed in plan.experiment.train.seeds if searches else ():
        yield "prompts", early.key(seed)
        yield "embeddings", embedding_key(early, seed, plan.experiment.measuring)
    for seed in (*plan.experiment.train.seeds, *(plan.experiment.confirm.seeds if searches else ())):
        yield "prompts", last.key(seed)
    yield "texts", texts_key(task, "train", plan.setting.limit_train)


def export(plans: tuple["Plan", ...], archive: Path) -> tuple[list[str], int]:
    """Writes the source prompts of an experiment that are there into an archive.

    The archive holds prompts, early snapshots, task embeddings, scores, and hashes of the texts that
    were trained on (for counting overlaps); no text.

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
        for kind, key in source_artefacts(plan, task)
        if library.sound(kind, key)
    ]
    if not any(kind == "prompts" for kind, _ in found):
        raise Misuse(f"{plans[0].experiment.name}: no source prompt is there yet; run panda-tune search first")
    try:
        with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
            for kind, key in dict.fromkeys(found):
                for path in sorted(library.path(kind, key).iterdir()):
                    file.write(path, f"{kind}/{key}/{path.name}")
            for name, task in tasks.items():
                file.writestr(f"tasks/{name}.json", json.dumps(_task_card(task), indent=1))
    except OSError as error:
        raise Misuse(f"{archive}: cannot be written ({error.strerror or error})") from error
    return list(tasks), len(set(found))


def take_in(root: Path, archive: Path) -> tuple[list[str], int]:
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
                raise Misuse(
                    f"{archive}: is no archive of panda-tune library export; it holds {strange[:3] or 'nothing'}"
                )
            draft.mkdir(parents=True)
            for name in names:
                target = draft / name
                target.parent.mkdir(parents=True, exist_ok=True)
                with file.open(name) as inside, target.open("wb") as out:
                    shutil.copyfileobj(inside, out)
        return _moved(draft, root)
    except (zipfile.BadZipFile, zlib.error, OSError, EOFError, RuntimeError, NotImplementedError) as error:
        raise Misuse(f"{archive}: cannot be read as an archive ({error})") from error
    except (DamagedArtefact, ValueError, KeyError, TypeError, AttributeError) as error:
        raise Misuse(f"{archive}: is damaged: {error!r}; have it exported again") from error
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
