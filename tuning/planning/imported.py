"""Sources known by imported prompts alone, without their data: of an archive, or made elsewhere."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from panda_trainable.config.given import GivenPrompt
from panda_trainable.config.keys import content, content_key
from panda_trainable.config.origin import Imported
from panda_trainable.config.setting import Plm
from panda_trainable.config.task import TaskSpec
from panda_trainable.library import CARD, PromptLibrary
from tuning.experiment.experiment import Experiment
from tuning.experiment.problems import Misuse, Problem
from tuning.planning.plan import Plan


def _identity(task: TaskSpec) -> Any:
    """What a task is, but for its rows, and for how a PLM is asked, which keys of prompts tell."""
    return content(replace(task.unasked, fingerprints=()))


def task_card(task: TaskSpec) -> dict[str, Any]:
    """What an archive says of a task whose prompts it holds."""
    return {
        "task": task.name, "is": _identity(task), "fingerprints": task.fingerprints, "counts": task.counts,
    }  # fmt: skip


def imported_task(root: Path, task: TaskSpec) -> TaskSpec | None:
    """The task as it was where its prompts were made; None where none of it were imported.

    Args:
        root: of the library.
        task: as the experiment knows it.

    Raises:
        Misuse: if what says so is damaged.
    """
    path = root / "tasks" / f"{task.name}.json"
    if not path.is_file():
        return None
    try:
        card = json.loads(path.read_text(encoding="utf-8"))
        fingerprints = tuple((split, digest) for split, digest in card["fingerprints"])
        counts = tuple((split, tuple(sizes)) for split, sizes in card["counts"])
        identity = card["is"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise Misuse(Problem(str(path), f"is damaged ({error!r})", remedy="import its archive again")) from error
    if identity != json.loads(json.dumps(_identity(task))):
        return None
    return replace(task, origin=Imported(), fingerprints=fingerprints, counts=counts)


def source_artefacts(plan: Plan, task: TaskSpec, *, searches: bool = True) -> Iterator[tuple[str, str]]:
    """(kind, key) of what starting from a source task's prompts needs, for all seeds of a plan.

    Args:
        plan: of one PLM.
        task: the source.
        searches: whether similarities are measured and winners confirmed, too.
    """
    from panda_trainable.data.overlap import texts_key
    from panda_trainable.similarity.representations import embedding_key
    from panda_trainable.transfer.lineage import Lineage

    train = plan.experiment.source_train
    last = Lineage.of_source(plan.setting, task, train.steps, train.learning_rate)
    early = last.at(train.early_step)
    for seed in plan.experiment.train.seeds if searches else ():
        yield "prompts", early.key(seed)
        yield "embeddings", embedding_key(early, seed, plan.experiment.similarity_settings)
    for seed in (*plan.experiment.train.seeds, *(plan.experiment.confirm.seeds if searches else ())):
        yield "prompts", last.key(seed)
    yield "texts", texts_key(task, "train", plan.setting.limit.train)


def source_counts(plan: Plan, task: TaskSpec) -> Iterator[tuple[str, str]]:
    """(kind, key) of what is known of a source's rows without them, where its similarities were measured: starting needs none of it."""
    from panda_trainable.similarity.source_rows import counts_key
    from panda_trainable.transfer.lineage import Lineage

    train = plan.experiment.source_train
    early = Lineage.of_source(plan.setting, task, train.early_step, train.learning_rate)
    yield from (("counts", counts_key(early, seed)) for seed in plan.experiment.train.seeds)


def given_prompts(experiment: Experiment, plm: Plm) -> dict[str, GivenPrompt]:
    """Name -> prompt made elsewhere, of those that the experiment's sources name and that were imported for a PLM."""
    found = {}
    for name in experiment.imported:
        keys = given_keys(given_card(experiment.storage_path / "library", name))
        if name in experiment.sources and plm.files in keys:
            found[name] = GivenPrompt(name, keys[plm.files])
    return found


def given_card(root: Path, name: str) -> Path:
    """Where a library says which imported prompt a name has: a key for each PLM, by the hash of its files."""
    return root / "given" / f"{name}.json"


def given_keys(path: Path) -> dict[str, str]:
    """Hash of a PLM's files -> key of its prompt, of such a card; none where it is not there, or damaged: then it is imported again."""
    try:
        return dict(json.loads(path.read_text(encoding="utf-8"))["prompts"]) if path.is_file() else {}
    except (ValueError, KeyError, TypeError, RecursionError):
        return {}


def given_key(plm: Plm, digest: str) -> str:
    """The content key of an imported prompt.

    Args:
        plm: of which files it is.
        digest: of its numbers.
    """
    return content_key("prompts", {"imported": digest, "plm": plm.files})


def given_problems(library: PromptLibrary, plan: Plan) -> Iterator[Problem]:
    """What is wrong with the imported prompts that serve as sources: damaged, or of another form or length."""
    asked = plan.setting.prompt
    for given in (source for source in plan.sources if isinstance(source, GivenPrompt)):
        place = f"imported {given.name}"
        if not library.sound("prompts", given.key):
            yield Problem(place, "its prompt in the library is missing or damaged", remedy="import its file again")
            continue
        card = json.loads((library.path("prompts", given.key) / CARD).read_text(encoding="utf-8"))
        form, length = form_and_length(card["shape"])
        if (form, length) != (asked.form, asked.length):
            rule = f"its prompt has form {form} and length {length}, and prompt has form {asked.form} and length {asked.length}"
            yield Problem(place, rule, remedy=f"use prompt: {{form: {form}, length: {length}}}")


def form_and_length(shape: Sequence[int]) -> tuple[str, int]:
    """The form and the number of tokens of a prompt [P, E] or [L, 2, heads, P, d]."""
    return ("input" if len(shape) == 2 else "prefix"), shape[-2]
