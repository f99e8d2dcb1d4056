"""The largest small search that ends in time, from a step that is measured here as the dry run measures it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from panda_trainable.library import PromptLibrary
from panda_trainable.worker import release_encoder, single_threaded
from tuning.draft.presets import LADDER, UNMEASURED, Size
from tuning.experiment.experiment import Experiment
from tuning.experiment.loading import from_values
from tuning.planning.resolve import resolve
from tuning.run.estimate import measured, seconds_from_nothing
from tuning.run.progress import duration

MOST_S = 3600.0
"""A small search ends within an hour."""

SHARE = 0.8
"""Of that time, which an estimate may take: a machine has other things to do."""


def fitted(values: Callable[[Size], Mapping[str, Any]], folder: Path, plm: Path, *, most_s: float = MOST_S) -> Size:
    """The first size of LADDER that ends in time on this machine; nothing is fetched, and nothing is kept.

    Args:
        values: of the experiment file with a size.
        folder: of the file.
        plm: the files of its PLM.
        most_s: seconds that it may take.
    """
    single_threaded()
    with TemporaryDirectory() as kept:
        local = {"storage": kept, "plm": {**values(LADDER[0])["plm"], "from": str(plm)}}
        experiments = [from_values({**values(size), **local}, folder) for size in LADDER]
        found = _expected(experiments, PromptLibrary(Path(kept)))
    release_encoder()
    if isinstance(found, str):
        return replace(
            UNMEASURED,
            why=f"no step could be measured ({found}), so few steps and trials; --dry-run says how long it takes",
        )
    step, expected = found
    place = next((n for n, time in enumerate(expected) if time <= SHARE * most_s), len(LADDER) - 1)
    took = f"a step takes {step:.2f} s here, so all of it about {duration(expected[place])} (h:mm:ss)"
    more = (
        ""
        if expected[place] <= SHARE * most_s
        else ", which is more than it should: name a smaller plm, or fewer sources"
    )
    return replace(LADDER[place], why=f"{took}{more}")


def _expected(experiments: Sequence[Experiment], library: PromptLibrary) -> tuple[float, list[float]] | str:
    """Seconds of a step, and of each experiment; a reason where nothing can be measured."""
    resolved = resolve(experiments[0], fetches=False)
    plans = resolved.plans
    missing = [name for name in experiments[0].targets if name not in resolved.tasks]
    if not plans or missing:
        return str(next(iter(resolved.problems), "the plm is not here"))
    try:
        costs = {name: measured(plans[0], library, name) for name in experiments[0].targets}
    except (ValueError, OSError) as error:
        return " ".join(str(error).split())
    steps = [cost.step for cost in costs.values()]
    sizes = [replace(plans[0], experiment=experiment) for experiment in experiments]
    return sum(steps) / len(steps), [seconds_from_nothing(plan, costs) for plan in sizes]
