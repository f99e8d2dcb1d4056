"""One experiment, from sources to confirmed winners; starts, resumes and extends by the same road."""

import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from typing import Any

from optuna.trial import FixedTrial
from ray import tune

from panda_trainable.origins.lines import listed
from panda_trainable.result import storage_failure
from panda_trainable.trainable import PandaTrainable
from tuning.cluster.address import check_address
from tuning.cluster.calls import run_all
from tuning.cluster.connection import connected
from tuning.cluster.resources import trial_resources
from tuning.cluster.room import Room
from tuning.doctor.examine import check_nodes
from tuning.engine.journal import StudyHandle, only_driver
from tuning.engine.scheduler import StudyScheduler
from tuning.engine.searcher import WAVE, SearchPolicy, StudySearcher
from tuning.experiment.experiment import Experiment
from tuning.experiment.storage import library_of
from tuning.planning.jobs import Job, score_jobs, source_jobs, target_jobs
from tuning.planning.overlap import shared_texts
from tuning.planning.partners import record_study, study_path
from tuning.planning.plan import Plan, Study
from tuning.planning.preflight import preflight
from tuning.planning.results import Winner, confirm_key, kept_winner
from tuning.planning.studies import make_studies
from tuning.run.confirm import candidates, confirm_trial, jobs_of, make_winner, twins_needed, winners
from tuning.run.jobs import is_made, is_scored, make, measure, score, source_cards
from tuning.run.progress import CHECKING, Progress
from tuning.run.watch import Watcher
from tuning.tracking.local import LocalRecords, local_records
from tuning.tracking.registry import Registry
from tuning.tracking.study_runs import of_plan
from tuning.tracking.tracker import Tracker
from tuning.tracking.trial_runs import of_trial
from tuning.tracking.unfinished import set_unfinished_aside
from tuning.tracking.updates import RunUpdate
from tuning.tracking.winner_runs import Learnt, of_study_end, of_unconfirmed, of_winner
from tuning.tracking.writer import Writer


@dataclass(frozen=True)
class Outcome:
    """What a search came to.

    Attributes:
        winners: of the studies that have one.
        unconfirmed: names of the studies that have none.
        failures: what failed and why.
        computed: whether anything had to be computed.
        records: its studies as MLflow shows them, or will: made of the library and the journals.
    """

    winners: tuple[Winner, ...]
    unconfirmed: tuple[str, ...]
    failures: tuple[str, ...]
    computed: bool
    records: LocalRecords


class Run:
    """One call of `search`: Ray is started when something is to be computed, and only then.

    Attributes:
        trainable: what Tune runs as a trial.
        wave: trials of one Tuner at most.
        wait_s: seconds to wait for nodes that fit a trial.
        studies: of each PLM's plan, once they are made.
        winners: once they are confirmed.
        is_over: whether studies without a winner will have none.
        is_recorded: whether MLflow has all of it.
    """

    trainable: type[PandaTrainable] = PandaTrainable
    wave: int = WAVE
    wait_s: float = 0

    def __init__(self, plans: Sequence[Plan], address: str | None, progress: Progress, stack: ExitStack):
        self.plans, self.address, self.progress, self.stack = plans, address, progress, stack
        self.experiment = plans[0].experiment
        self.library = library_of(self.experiment)
        self.tracker = Tracker(
            self.experiment.tracking_uri, self.experiment.name, self.experiment.search_path, self.updates, progress.say
        )
        self.writer = Writer(self.tracker, progress.say)
        self.is_recorded = False
        self.failures: list[str] = []
        self.studies: list[tuple[Plan, list[Study]]] = []
        self.winners: list[Winner] = []
        self.is_over = False
        self.began = time.time()
        self._searcher: StudySearcher | None = None
        self._asked: dict[str, float] | None = None

    @property
    def computed(self) -> bool:
        """Whether Ray was needed."""
        return self._asked is not None

    @property
    def all_studies(self) -> list[Study]:
        """The studies of all PLMs."""
        return [study for _, studies in self.studies for study in studies]

    @property
    def searcher(self) -> StudySearcher:
        """The studies' journals, and what is left to run of them."""
        if self._searcher is None:
            handles = [
                StudyHandle(
                    s.key, study_path(self.experiment, s, "journal"), s.space, s.budget, s.base.steps,
                    plan.search_seed(s.repeat),
                )
                for plan, studies in self.studies for s in studies
            ]  # fmt: skip
            self._searcher = StudySearcher(handles, self._policy())
            for damage in filter(None, (journal.damage for journal in self._searcher.journals.values())):
                self.progress.say(damage)
        return self._searcher

    def asked(self) -> dict[str, float]:
        """Resources of a trial; connects to Ray at the first call."""
        if self._asked is None:
            self.progress.doing("connecting to Ray" if self.address else "starting Ray")
            self.stack.enter_context(connected(self.address))
            self._asked = trial_resources(self.experiment, self.wait_s, self.progress.say)
            if self.address not in (None, "local"):
                check_nodes(self.experiment.storage_path, self.progress.say)
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
        failed = run_all(function, calls, asked, lambda number, _: self.progress.advance(names[number]))
        kinds: dict[str, list[str]] = {}
        for number, reason in failed:
            self.progress.advance(names[number])
            if failure := storage_failure(reason):
                raise failure
            kinds.setdefault(reason, []).append(names[number])
        self.failures += [f"{stage}, {listed(who)}: {reason}" for reason, who in kinds.items()]

    def make_prompts(self, stage: str, jobs: Sequence[Job]) -> None:
        """Trains the prompts that are missing."""
        missing = [job for job in dict.fromkeys(jobs) if not is_made(self.library, job)]
        calls = [(self.library, job) for job in missing]
        self.run_all(stage, make, calls, [job.lineage.task.name for job in missing])

    def score_pairs(self) -> None:
        """Scores the pairs of all PLMs that are not scored yet; their prompts are made."""
        missing = [job for plan in self.plans for job in score_jobs(plan) if not is_scored(self.library, job)]
        if missing:
            calls = [(self.library, job) for job in missing]
            self.run_all("scores of pairs", score, calls, [job.name for job in missing])

    def make_studies(self, plan: Plan) -> None:
        """The studies of a PLM's plan; its sources and embeddings are made."""
        self.progress.doing("measuring similarities")
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
        self.studies.append((plan, studies))

    def updates(self) -> Iterator[RunUpdate]:
        """All that MLflow should show so far, parents first, from the plan, the library and the journals."""
        yield from self._study_beginnings()
        for study in self.all_studies:
            yield from (of_trial(study, trial) for trial in self.searcher.journals[study.key].trials)
        for winner in self.winners:
            yield from of_winner(winner)
        yield from self._study_ends()

    def _study_beginnings(self) -> Iterator[RunUpdate]:
        for plan, studies in self.studies:
            yield from of_plan(plan, source_jobs(plan), studies, lambda job: list(source_cards(self.library, job)))

    def _study_ends(self) -> Iterator[RunUpdate]:
        curves = {winner.study.key: self._curves(winner) for winner in self.winners}
        for winner in self.winners:
            yield of_study_end(self.experiment, winner, curves[winner.study.key], curves[winner.baseline_study])
        yield from (of_unconfirmed(study) for study in self.unconfirmed() if self.is_over)

    def unconfirmed(self) -> list[Study]:
        """The studies without a winner."""
        won = {winner.study.key for winner in self.winners}
        return [study for study in self.all_studies if study.key not in won]

    def _curves(self, winner: Winner) -> Learnt:
        """How a study's first trial learnt, and the trial that won it, with the seeds of the search."""
        study = winner.study
        wanted = replace(winner.confirmed.config, seeds=study.base.seeds)
        trials = self.searcher.journals[study.key].curves(study.base.steps)
        configs = (study.base.with_knobs(study.space(FixedTrial(dict(trial.params)))) for trial in trials)
        won = (trial.scores for trial, config in zip(trials, configs, strict=True) if config == wanted)
        return Learnt(trials[0].scores, next(won, {}))

    def show(self) -> None:
        """Lets MLflow show all of this call so far, and its studies alone as current; waits for nothing."""
        assert self.searcher, "made here, before another thread reads its journals"
        self.writer.show({study.key for study in self.all_studies})

    def show_all(self) -> None:
        """The same, once nothing more is to come: waits for MLflow as long as it answers."""
        self.progress.doing("writing to MLflow")
        self.is_recorded = self.writer.show_all({study.key for study in self.all_studies})

    def search(self) -> None:
        """Runs what is left of all studies, wave after wave, in one Tuner each."""
        remaining = self.searcher.remaining()
        if not remaining:
            count = sum(study.budget for study in self.all_studies)
            self.progress.say(f"search: all {count} trials of {len(self.all_studies)} studies are there")
            return
        studies = {study.key: study for study in self.all_studies}
        timeout = self.experiment.search.trial_timeout
        with closing(Room(self.asked(), is_ours=self.address in (None, "local"))) as room:
            self.searcher.policy = self._policy(room.look(self.searcher.wanted()))
            self.progress.stage("search", remaining)
            watcher = Watcher(self.writer, self.progress, studies, self.searcher, room.look, timeout)
            self._run_waves(watcher)
        self.failures += watcher.failures
        if left := self.searcher.remaining():
            hours = f" after {self.experiment.search.hours} hours" if self.searcher.is_late() else ""
            self.failures.append(f"search: ended{hours} with {left} trials to go")

    def _run_waves(self, watcher: Watcher) -> None:
        """Runs Tuner after Tuner until nothing is left, the hours are over, or one gets no further."""
        remaining = self.searcher.remaining()
        while remaining and not self.searcher.is_late():
            self.searcher.begin_wave()
            self._tune(watcher)
            before, remaining = remaining, self.searcher.remaining()
            if remaining == before:
                return

    def _policy(self, slots: int = 1) -> SearchPolicy:
        search = self.experiment.search
        return SearchPolicy(
            search.sampler, search.scheduler, search.per_study, slots, self.experiment.train.eval_every,
            deadline=self.began + search.hours * 3600 if search.hours else None, wave=self.wave,
        )  # fmt: skip

    def _tune(self, watcher: Watcher) -> None:
        folder = self.experiment.search_path / "ray"
        shutil.rmtree(folder, ignore_errors=True)  # Tune's own files of an earlier start: nobody reads them
        trainable = tune.with_parameters(
            self.trainable, library=self.library, bases={study.key: study.base for study in self.all_studies}
        )
        tune.Tuner(
            tune.with_resources(trainable, self.asked()),
            tune_config=tune.TuneConfig(
                search_alg=self.searcher, scheduler=StudyScheduler(self.searcher), num_samples=-1, reuse_actors=True
            ),
            run_config=tune.RunConfig(
                name=folder.name, storage_path=str(folder.parent), verbose=0, callbacks=[watcher],
                checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
            ),
        ).fit()  # fmt: skip

    def confirm(self) -> None:
        """Trains the best configurations again with fresh seeds, then the twins of those that are chosen."""
        chosen = candidates(self.experiment, self.all_studies)
        configs = [one.config for found in chosen.values() for one in found]
        self.make_prompts("sources for confirm", jobs_of(configs))
        self._confirm("confirm", configs)
        self._confirm("twins", twins_needed(self.library, chosen))
        self.winners = list(winners(self.library, self.all_studies, chosen))

    def _confirm(self, stage: str, configs: Sequence[Any]) -> None:
        missing = {confirm_key(c): c for c in configs if not self.library.sound("confirmed", confirm_key(c))}
        names = [f"{config.target.name} · {config.method}" for config in missing.values()]
        self.run_all(stage, confirm_trial, [(self.library, config) for config in missing.values()], names)

    def register(self) -> None:
        """Registers each target's winner in MLflow, its files made first where confirmation kept none."""
        if not (self.experiment.tracking.register and self.winners and self.is_recorded):
            return
        registry = Registry(self.tracker.uri, self.experiment.name, self.progress.say)
        entries = self.writer.done(lambda: registry.missing(self.winners))
        lacking = [
            winner.confirmed.config for winner in entries if kept_winner(self.library, winner.confirmed.config) is None
        ]
        calls = [(self.library, config) for config in lacking]
        if calls:
            self.run_all("files of winners", make_winner, calls, [f"{c.target.name} · {c.method}" for c in lacking])
        for winner in entries:
            if folder := kept_winner(self.library, winner.confirmed.config):
                self.progress.doing(f"registering {winner.study.pair.name}")
                self.writer.done(partial(registry.register, winner, folder))

    def outcome(self) -> Outcome:
        """What the call came to."""
        if self.studies:
            unconfirmed = tuple(study.name for study in self.unconfirmed())
        else:
            unconfirmed = tuple(pair.name for plan in self.plans for pair in plan.pairs)
        updates = chain(self._study_beginnings(), self._study_ends()) if self.winners else ()
        return Outcome(
            tuple(self.winners), unconfirmed, tuple(self.failures), self.computed,
            local_records(updates, self.tracker.run_ids),
        )  # fmt: skip


def search(
    experiment: Experiment, address: str | None = None, progress: Progress | None = None, wait_s: float = 0
) -> Outcome:
    """Runs an experiment, or what is left of it.

    Args:
        experiment: its file, checked.
        address: of a running Ray cluster; None starts Ray here.
        progress: where it is shown.
        wait_s: seconds to wait for nodes that fit a trial.

    Raises:
        Misuse, Deleted: before anything starts, for whatever the user must mend, the latter in MLflow.
    """
    check_address(address)
    with ExitStack() as stack:
        progress = stack.enter_context(progress or Progress())
        progress.doing(CHECKING)
        plans, notes = preflight(experiment, library_of(experiment))
        stack.enter_context(only_driver(experiment.search_path))
        if note := set_unfinished_aside(experiment.tracking_uri):
            progress.say(note)
        run = Run(plans, address, progress, stack)
        run.wait_s = wait_s
        run.tracker.check()
        stack.callback(run.writer.close)
        for note in notes:
            progress.say(note)
        try:
            _experiment(run)
        except KeyboardInterrupt:
            progress.doing("stopping: Ray ends its processes")
            raise
        return run.outcome()


def _experiment(run: Run) -> None:
    """From sources to confirmed winners; MLflow is shown each part as it is done."""
    jobs = [job for plan in run.plans for job in (*source_jobs(plan), *target_jobs(plan))]
    run.make_prompts("sources and embeddings", jobs)
    if not run.failures:
        run.score_pairs()
    if run.failures:
        return  # no similarities, no studies
    for plan in run.plans:
        run.make_studies(plan)
    run.show()
    more = [job for job in jobs_of([study.base for study in run.all_studies]) if job not in jobs]
    if any(not is_made(run.library, job) for job in more):
        run.make_prompts("other prompts and teachers", more)
    run.search()
    run.confirm()
    run.is_over = True
    run.show_all()
    run.register()
    if not run.is_recorded:
        run.progress.say(
            f"MLflow at {run.tracker.place} still does not answer, and lacks what is new: run the same command again once "
            "it does; it computes nothing and writes what is missing"
        )
