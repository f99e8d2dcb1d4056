"""One experiment, from sources to confirmed winners; starts, resumes and extends by the same road."""

import shutil
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any

from optuna.trial import FixedTrial
from ray import tune

from panda_trainable.library import PromptLibrary
from panda_trainable.trainable import PandaTrainable
from tuning.engine.journal import StudyHandle, curves, only_driver
from tuning.engine.scheduler import StudyScheduler
from tuning.engine.searcher import SearchPolicy, StudySearcher
from tuning.experiment.experiment import Experiment
from tuning.planning.jobs import Job, source_jobs, target_jobs
from tuning.planning.overlap import shared_texts
from tuning.planning.partners import record_study, study_path
from tuning.planning.plan import Plan, Study
from tuning.planning.preflight import preflight
from tuning.planning.results import Winner, confirm_key, twin
from tuning.planning.studies import make_studies
from tuning.run import cluster
from tuning.run.confirm import candidates, confirm_trial, jobs_of, winners, winning
from tuning.run.jobs import is_made, make, measure, source_cards
from tuning.run.progress import Progress
from tuning.run.watch import Watcher
from tuning.tracking.study_runs import of_plan
from tuning.tracking.tracker import Tracker
from tuning.tracking.trial_runs import of_journal, trial_id
from tuning.tracking.winner_runs import Learnt, of_study_end, of_unconfirmed, of_winner

WORKER_LOSSES = 3
"""How often a trial is begun again when its process or node dies."""


@dataclass(frozen=True)
class Outcome:
    """What a search came to.

    Attributes:
        winners: of the studies that have one.
        unconfirmed: names of the studies that have none.
        failures: what failed and why.
        computed: whether anything had to be computed.
    """

    winners: tuple[Winner, ...]
    unconfirmed: tuple[str, ...]
    failures: tuple[str, ...]
    computed: bool


class Run:
    """One call of `search`: Ray is started when something is to be computed, and only then.

    Attributes:
        trainable: what Tune runs as a trial.
    """

    trainable: type[PandaTrainable] = PandaTrainable

    def __init__(self, plans: Sequence[Plan], address: str | None, progress: Progress, stack: ExitStack):
        self.plans, self.address, self.progress, self.stack = plans, address, progress, stack
        self.experiment = plans[0].experiment
        self.library = PromptLibrary(self.experiment.storage_path / "library")
        self.tracker = Tracker(self.experiment.tracking_uri, self.experiment.name, self.experiment.search_path)
        self.failures: list[str] = []
        self.began = time.time()
        self._asked: dict[str, float] | None = None

    @property
    def computed(self) -> bool:
        """Whether Ray was needed."""
        return self._asked is not None

    def asked(self) -> dict[str, float]:
        """Resources of a trial; connects to Ray at the first call."""
        if self._asked is None:
            self.stack.enter_context(cluster.connected(self.address))
            self._asked = cluster.resources(self.experiment)
        return self._asked

    def run_all(
        self, stage: str, function: Callable[..., None], calls: Sequence[tuple[Any, ...]], names: Sequence[str]
    ) -> None:
        """Runs calls as Ray tasks under one line of progress; failures are noted."""
        if not calls:
            self.progress.say(f"{stage}: nothing to do")
            return
        asked = self.asked()
        self.progress.stage(stage, len(calls))
        failed = cluster.run_all(function, calls, asked, lambda number, _: self.progress.advance(names[number]))
        for number, reason in failed:
            self.progress.advance(names[number])
            self.failures.append(f"{stage}, {names[number]}: {reason}")

    def make_prompts(self, stage: str, jobs: Sequence[Job]) -> None:
        """Trains the prompts that are missing."""
        missing = [job for job in dict.fromkeys(jobs) if not is_made(self.library, job)]
        calls = [(str(self.library.root), job) for job in missing]
        self.run_all(stage, make, calls, [job.lineage.task.name for job in missing])

    def studies_of(self, plan: Plan) -> list[Study]:
        """The studies of a PLM's plan, told to MLflow; its sources and embeddings are made."""
        sources = source_jobs(plan)
        shared = shared_texts(self.library, plan)
        for (source, target), count in shared.items():
            dropped = "dropped from" if self.experiment.overlap == "drop" else "left in"
            self.progress.say(
                f"{source} and {target}: {count} texts of {target}'s report rows {dropped} {source}'s train rows"
            )
        studies, left_out = make_studies(plan, measure(self.library, plan), shared)
        for note in left_out:
            self.progress.say(note)
        for study in studies:
            record_study(plan, study)
        for entry in of_plan(plan, sources, studies, lambda job: list(source_cards(self.library, job))):
            self.tracker.write(entry)
        return studies

    def search(self, studies: Sequence[Study]) -> None:
        """Runs what is left of all studies in one Tuner."""
        rules = self._rules()
        searched = [
            StudyHandle(s.key, study_path(self.experiment, s, "journal"), s.space, s.budget, s.base.steps)
            for s in studies
        ]
        searcher = StudySearcher(searched, rules)
        self._catch_up(studies, searcher)
        left = searcher.left()
        if not left:
            self.progress.say(
                f"search: all {sum(study.budget for study in studies)} trials of {len(studies)} studies are there"
            )
            return
        asked = self.asked()
        searcher.rules = self._rules(cluster.slots(asked))
        self.progress.stage("search", left)
        watcher = Watcher(self.tracker, self.progress, {study.key: study for study in studies}, searcher)
        self._tune(studies, searcher, watcher, asked)
        self.failures += watcher.failures
        if searcher.left():
            self.failures.append(
                f"search: ended after {self.experiment.search.hours} hours with {searcher.left()} trials to go"
            )

    def _catch_up(self, studies: Sequence[Study], searcher: StudySearcher) -> None:
        """Tells MLflow of trials that ended just before their driver died: the journals are the truth."""
        for study in studies:
            for trial in searcher.ended(study.key):
                if not self.tracker.has_ended(trial_id(study, trial.number)):
                    for entry in of_journal(study, trial):
                        self.tracker.write(entry)

    def _rules(self, slots: int = 1) -> SearchPolicy:
        search = self.experiment.search
        deadline = self.began + search.hours * 3600 if search.hours else None
        return SearchPolicy(
            search.sampler,
            search.scheduler,
            search.seed,
            search.per_study,
            slots,
            self.experiment.train.eval_every,
            deadline,
        )

    def _tune(
        self, studies: Sequence[Study], searcher: StudySearcher, watcher: Watcher, asked: dict[str, float]
    ) -> None:
        folder = self.experiment.search_path / "ray"
        shutil.rmtree(folder, ignore_errors=True)  # Tune's own files of an earlier start: nobody reads them
        trainable = tune.with_parameters(
            self.trainable, library=str(self.library.root), bases={study.key: study.base for study in studies}
        )
        tune.Tuner(
            tune.with_resources(trainable, asked),
            tune_config=tune.TuneConfig(
                search_alg=searcher, scheduler=StudyScheduler(searcher), num_samples=-1, reuse_actors=True
            ),
            run_config=tune.RunConfig(
                name=folder.name, storage_path=str(folder.parent), verbose=0, callbacks=[watcher],
                failure_config=tune.FailureConfig(max_failures=WORKER_LOSSES),
                checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
            ),
        ).fit()  # fmt: skip

    def confirm(self, studies: Sequence[Study]) -> list[Winner]:
        """Trains the best configurations again with fresh seeds, then the twins of the winners."""
        chosen = candidates(self.experiment, studies)
        configs = [config for found in chosen.values() for config in found]
        self.make_prompts("sources for confirm", jobs_of(configs))
        self._confirm("confirm", configs)
        self._confirm("twins", [t for config in winning(self.library, chosen) if (t := twin(config))])
        return list(winners(self.library, studies, chosen))

    def _confirm(self, stage: str, configs: Sequence[Any]) -> None:
        missing = {confirm_key(c): c for c in configs if not self.library.sound("confirmed", confirm_key(c))}
        names = [f"{config.target.name} · {config.method}" for config in missing.values()]
        self.run_all(stage, confirm_trial, [(str(self.library.root), config) for config in missing.values()], names)


def search(experiment: Experiment, address: str | None = None, progress: Progress | None = None) -> Outcome:
    """Runs an experiment, or what is left of it.

    Args:
        experiment: its file, checked.
        address: of a running Ray cluster; None starts Ray here.
        progress: where it is shown.

    Raises:
        Misuse: before anything starts, for whatever the user must mend.
    """
    cluster.check_address(address)
    progress = progress or Progress()
    with ExitStack() as stack:
        stack.enter_context(progress)
        plans, notes = preflight(experiment, PromptLibrary(experiment.storage_path / "library"))
        stack.enter_context(only_driver(experiment.search_path))
        run = Run(plans, address, progress, stack)
        stack.callback(run.tracker.close_left_running)
        for note in notes:
            progress.say(note)
        return _run(run)


def _run(run: Run) -> Outcome:
    jobs = [job for plan in run.plans for job in (*source_jobs(plan), *target_jobs(plan))]
    run.make_prompts("sources and embeddings", jobs)
    if run.failures:
        names = tuple(pair.name for plan in run.plans for pair in plan.pairs)
        return Outcome((), names, tuple(run.failures), run.computed)
    studies = [study for plan in run.plans for study in run.studies_of(plan)]
    run.tracker.mark_current({study.key for study in studies})
    more = [job for job in jobs_of([study.base for study in studies]) if job not in jobs]
    if any(not is_made(run.library, job) for job in more):
        run.make_prompts("other prompts and teachers", more)
    run.search(studies)
    found = run.confirm(studies)
    for winner in found:
        for entry in of_winner(winner):
            run.tracker.write(entry)
    _finish(run, studies, found)
    missing = {study.key for study in studies} - {winner.study.key for winner in found}
    unconfirmed = tuple(study.pair.name for study in studies if study.key in missing)
    return Outcome(tuple(found), unconfirmed, tuple(run.failures), run.computed)


def _learnt(experiment: Experiment, winner: Winner) -> Learnt:
    """How a study's first trial learnt, and the trial that won it, with the seeds of the search."""
    study, won = winner.study, winner.confirmed.config
    trials = curves(study.key, study_path(experiment, study, "journal"), study.base.steps)
    wanted = replace(won, seeds=study.base.seeds)
    same = [curve for params, curve in trials if study.base.with_knobs(study.space(FixedTrial(params))) == wanted]
    return Learnt(trials[0][1], same[0] if same else {})


def _finish(run: Run, studies: Sequence[Study], found: Sequence[Winner]) -> None:
    """Links winners to their runs, and leaves nothing running or unsaid."""
    learnt = {winner.study.key: _learnt(run.experiment, winner) for winner in found}
    for winner in found:
        ours, theirs = learnt[winner.study.key], learnt[winner.baseline_study]
        run.tracker.write(of_study_end(run.experiment, winner, ours, theirs))
    for study in studies:
        if study.key not in {winner.study.key for winner in found}:
            run.tracker.write(of_unconfirmed(study))
    if not run.tracker.flush():
        run.progress.say(
            f"MLflow at {run.tracker.uri} is away: {len(run.tracker.waiting)} records wait in {run.tracker.spool}; the next search sends them"
        )
