"""Everything checked before anything starts: one table of checks, and one refusal with all that is wrong."""

from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from types import MappingProxyType
from typing import Any, Literal

from panda_trainable.library import PromptLibrary
from panda_trainable.worker import release_encoder
from tuning.experiment.experiment import Experiment
from tuning.experiment.problems import Misuse, Problem, problems_of
from tuning.planning import checks
from tuning.planning.checks import Checked, Finding
from tuning.planning.plan import Plan
from tuning.planning.resolve import resolve

Kind = Literal["plm", "task", "plan"]


@dataclass(frozen=True)
class Check:
    """A row of the table.

    Attributes:
        of: what it looks at, one after the other: PLMs (as settings), tasks, or the plan as a whole.
        find: gives problems and notes of one of them, or raises a ValueError, which is a problem.
        after: checks without whose success it has nothing to look at: of the same PLM or task, or of any.
    """

    of: Kind
    find: Callable[[Checked, Any], Iterable[Finding] | None]
    after: tuple[str, ...] = ()


LOCATED = "located"
"""Every task was found: told by `resolve`, and a row that all others may depend on."""

CHECKS: Mapping[str, Check] = MappingProxyType(
    {
        "config": Check("plm", checks.config_loads),
        "tokenizer": Check("plm", checks.tokenizer_loads, after=("config",)),
        "encoder": Check("plm", checks.encoder_loads, after=("config",)),
        "vocabulary": Check("plm", checks.tokens_have_embeddings, after=("encoder", "tokenizer")),
        "form": Check("plm", checks.prompt_form_fits, after=("encoder",)),
        "positions": Check("plm", checks.positions_suffice, after=("encoder",)),
        "initial": Check("plm", checks.initial_prompt_fits, after=("form",)),
        "start": Check("plm", checks.start_of_language_models),
        "neurons": Check("plm", checks.neurons_can_be_compared, after=("encoder",)),
        "layer": Check("plm", checks.embedded_layer_exists, after=("encoder",)),
        "imported": Check("task", checks.imported_prompts_are_whole),
        "reading": Check("task", checks.reading_notes),
        "words": Check("task", checks.words_fit, after=("tokenizer", "encoder")),
        "classes": Check("task", checks.classes_survive_limit, after=("tokenizer", "words")),
        "rows": Check("task", checks.rows_can_be_split, after=("classes",)),
        "teacher": Check("task", checks.tokens_match_those_of_teacher, after=("tokenizer",)),
        "truncation": Check("task", checks.truncated_rows, after=("classes",)),
        "imbalance": Check("task", checks.imbalanced_classes),
        "given": Check("plan", checks.given_prompts_fit),
        "distillation": Check("plan", checks.weak_distillation, after=(LOCATED,)),
        "seeds": Check("plan", checks.one_seed_may_be_meant_as_count),
        "heads": Check("plan", checks.pairs_without_shared_head),
        "similarities": Check("plan", checks.similarities_are_defined, after=(LOCATED,)),
        "anchors": Check("plan", checks.anchors_are_shared, after=("tokenizer",)),
        "overlap": Check("plan", checks.overlap_is_allowed, after=(LOCATED, "tokenizer", "imported")),
        "dropped": Check("plan", checks.classes_survive_drop, after=("overlap", "rows")),
    }
)
"""Name -> check, in the order in which they run."""


def preflight(
    experiment: Experiment, library: PromptLibrary, *, searches: bool = True
) -> tuple[tuple[Plan, ...], list[str]]:
    """The plans of an experiment, one per PLM, and notes of what a user should know.

    Refuses what no worker could train, before anything starts; leaves the train tables tokenised.

    Args:
        experiment: its file, checked.
        library: where token tables are kept; nothing is written where the experiment is refused already.
        searches: whether similarities will be measured and winners confirmed, or one configuration trained.

    Raises:
        Misuse: with all that is wrong with files, PLMs, tasks and settings.
    """
    resolved = resolve(experiment)
    plans = resolved.plans
    with ExitStack() as stack:
        if resolved.problems:  # what is right is checked further, without writing into the storage
            library = PromptLibrary(Path(stack.enter_context(TemporaryDirectory())))
        findings = [finding for plan in plans for finding in check_plan(library, plan, searches=searches)]
    problems = [*resolved.problems, *(finding for finding in findings if isinstance(finding, Problem))]
    if problems:
        raise Misuse(*problems)
    return plans, list(dict.fromkeys(str(note) for note in findings))


def check_plan(library: PromptLibrary, plan: Plan, *, searches: bool = True) -> list[Finding]:
    """All problems and notes of a plan, or of what is right of one that is refused."""
    checked = Checked(library, plan, searches)
    subjects: dict[Kind, list[tuple[str, Any]]] = {
        "plm": [(f"PLM {setting.plm.source!r}", setting) for setting in plan.settings],
        "task": [(f"task {name}", task) for name, task in plan.tasks.items()],
        "plan": [(plan.experiment.name, plan)],
    }
    findings: list[Finding] = []
    failed = frozenset() if plan.is_complete else frozenset({LOCATED})
    for of, of_kind in subjects.items():
        runs = [_run(checked, of, place, subject, failed) for place, subject in of_kind]
        if of == "plm":
            release_encoder()  # nothing after the checks of PLMs needs their weights
        findings += [finding for found, _ in runs for finding in found]
        failed = failed.union(*(names for _, names in runs))
    return findings


def _run(
    checked: Checked, of: Kind, place: str, subject: Any, failed_before: frozenset[str]
) -> tuple[list[Finding], set[str]]:
    """What the checks of one kind find of a subject, and the names of those that failed or could not be made."""
    findings: list[Finding] = []
    failed = set(failed_before)
    for name, check in CHECKS.items():
        if check.of != of:
            continue
        found = None if failed & {*check.after} else _found(check, checked, place, subject)
        if found is None or any(isinstance(finding, Problem) for finding in found):
            failed.add(name)
        findings += found or []
    return findings, failed


def _found(check: Check, checked: Checked, place: str, subject: Any) -> list[Finding]:
    try:
        return list(check.find(checked, subject) or ())
    except ValueError as error:
        return [*problems_of(error, place)]
