"""What a search came to, from the library and the journals alone: for when MLflow does not answer."""

import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, Any

from analysis.records.connection import Away, NoRecords
from analysis.records.reader import confirmed_of, confirmed_studies, winner_config
from analysis.records.studies import StudyRecord
from tuning.experiment.experiment import Experiment
from tuning.experiment.problems import Misuse

if TYPE_CHECKING:
    from tuning.tracking.local import LocalRecords

ConfigOf = Callable[[str], dict[str, Any]]


def confirmed(experiment: Experiment, target: str | None) -> tuple[Sequence[StudyRecord], ConfigOf]:
    """The studies whose winners are confirmed, and a winner's complete experiment file by its study's run id.

    Where MLflow does not answer they come from the library, which stderr is told.

    Args:
        experiment: whose studies they are.
        target: of which one at least must be confirmed; None: of any.

    Raises:
        NoRecords: if there are none; Away, if MLflow does not answer and the library cannot tell.
    """
    uri = experiment.tracking_uri
    try:
        return confirmed_studies(uri, experiment.name, target), partial(winner_config, uri)
    except Away as away:
        try:
            found = from_library(experiment)
            studies = confirmed_of(found.studies, experiment.name, target)
        except (NoRecords, Misuse):
            raise away from None
        sys.stderr.write(f"{away}; what follows is from the library\n")
        return studies, found.config


def from_library(experiment: Experiment) -> "LocalRecords":
    """The studies of a search whose sources are made; nothing is computed.

    Raises:
        NoRecords: if they are not, or nothing was searched here.
        Misuse: if the search is running: its journals are its own.
    """
    from tuning.engine.journal import only_driver
    from tuning.experiment.storage import library_of
    from tuning.planning.jobs import score_jobs, source_jobs, target_jobs
    from tuning.planning.resolve import make_plans
    from tuning.run.confirm import candidates, winners
    from tuning.run.jobs import is_made, is_scored
    from tuning.run.progress import Progress
    from tuning.run.search import Run

    if not experiment.search_path.exists():
        raise NoRecords(f"{experiment.name} was not searched in {experiment.storage_path}")
    library = library_of(experiment)
    with ExitStack() as stack:
        stack.enter_context(only_driver(experiment.search_path))
        run = Run(make_plans(experiment), None, Progress(), stack)
        for plan in run.plans:
            made = (is_made(library, job) for job in (*source_jobs(plan), *target_jobs(plan)))
            if not (all(made) and all(is_scored(library, job) for job in score_jobs(plan))):
                raise NoRecords(f"sources of {experiment.name} are still to be made")
            run.make_studies(plan)
        run.is_over = True
        run.winners = list(winners(library, run.all_studies, candidates(experiment, run.all_studies)))
        return run.outcome().records
