"""What Optuna's samplers suggest next for a study, from its trials alone."""

import random
import warnings
import zlib
from collections.abc import Sequence

import optuna
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.storages import InMemoryStorage
from optuna.trial import FrozenTrial, TrialState

from search_spaces.space import Space

ATTEMPTS = 10
"""How often a sampler is asked before an untried configuration is drawn at random."""

optuna.logging.set_verbosity(optuna.logging.WARNING)
warnings.filterwarnings("ignore", category=ExperimentalWarning)  # multivariate and grouped TPE, which we mean


class Suggestions:
    """Suggests a study's trials, none twice.

    Samplers read a copy of the trials in memory: in the journal, a trial that is asked for knob by knob would be half
    written for a while. The copy is kept, and follows the trials as they begin and end; one made anew from the same
    trials suggests the same.

    Args:
        key: name of the study.
        space: of its knobs.
        seed: of its samplers, each trial's own made of it.
        sampler: `tpe` or `random`.
    """

    def __init__(self, key: str, space: Space, seed: int, sampler: str):
        self._key, self._space, self._seed, self._kind = key, space, seed, sampler
        self._storage = InMemoryStorage()
        self._study = optuna.create_study(storage=self._storage, direction="maximize")
        self._id = self._storage.get_study_id_from_name(self._study.study_name)
        self._copies: list[int] = []
        self._unfinished: set[int] = set()

    def next(self, trials: Sequence[FrozenTrial]) -> FrozenTrial:
        """A configuration that none of the trials has had: the sampler's first, where that is new.

        Args:
            trials: all of the study by number, with those of the last call among them; not changed.

        Returns:
            Its parameters and their distributions, as a trial that is in no study.
        """
        self._follow(trials)
        seed = zlib.crc32(f"{self._seed}/{self._key}/{len(trials)}".encode())
        self._study.sampler = self._sampler(seed)
        if not trials:
            self._study.enqueue_trial(self._space.first())
        asked = self._asked(seed, [trial.params for trial in trials])
        for trial in asked:  # none of them runs: samplers pass over those that failed
            self._study.tell(trial, state=TrialState.FAIL)
        return _running(asked[-1])

    def _asked(self, seed: int, tried: Sequence[dict[str, object]]) -> list[optuna.Trial]:
        """Trials of the copy, of which the last is new."""
        asked = []
        for _ in range(ATTEMPTS):
            asked.append(self._study.ask())
            self._space(asked[-1])
            if asked[-1].params not in tried:
                return asked
        untried = [values for values in self._space.configurations() if values not in tried]
        self._study.enqueue_trial(random.Random(seed).choice(untried))  # noqa: S311  # no secret
        asked.append(self._study.ask())
        self._space(asked[-1])
        return asked

    def _follow(self, trials: Sequence[FrozenTrial]) -> None:
        """Copies what samplers read of the trials that are new or have ended: of one that runs, its parameters."""
        for trial in trials[len(self._copies) :]:
            self._unfinished.add(trial.number)
            self._copies.append(self._storage.create_new_trial(self._id, _running(trial)))
        for number in sorted(self._unfinished):
            if (trial := trials[number]).state.is_finished():
                for step, score in trial.intermediate_values.items():
                    self._storage.set_trial_intermediate_value(self._copies[number], step, score)
                self._storage.set_trial_state_values(self._copies[number], trial.state, trial.values)
                self._unfinished.remove(number)

    def _sampler(self, seed: int) -> BaseSampler:
        if self._kind == "random":
            return RandomSampler(seed=seed)
        return TPESampler(seed=seed, multivariate=True, group=True, constant_liar=True)


def _running(trial: optuna.Trial | FrozenTrial) -> FrozenTrial:
    """A trial that runs, in no study, with another's parameters."""
    return optuna.create_trial(state=TrialState.RUNNING, params=trial.params, distributions=trial.distributions)
