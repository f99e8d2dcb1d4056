"""Sources known by imported prompts alone, without their data."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from panda_trainable.config.keys import content
from panda_trainable.config.origin import Imported
from panda_trainable.config.task import TaskSpec
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
    """
    path = root / "tasks" / f"{task.name}.json"
    if not path.is_file():
        return None
    card = json.loads(path.read_text(encoding="utf-8"))
    if card["is"] != json.loads(json.dumps(_identity(task))):
        return None
    fingerprints = tuple((split, digest) for split, digest in card["fingerprints"])
    counts = tuple((split, tuple(sizes)) for split, sizes in card["counts"])
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
