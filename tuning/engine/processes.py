"""Which process has a trial, from the moment that it is there."""

import time
from typing import Any

from ray._private import state
from ray.tune.experiment import Trial

LOOKS_EVERY_S = 5.0
"""Seconds between two questions to Ray whether the process of a trial is there."""


class TrialProcesses:
    """The processes of Tune's trials, those that are just starting among them.

    Tune itself tells of a process once it has started: one that hangs before would be waited for without end. What it
    knows of others is private to it, and to Ray.

    Attributes:
        controller: Tune's, which knows the processes that are to start; None: of no trial yet.
    """

    def __init__(self) -> None:
        self.controller: Any = None
        self._starting: dict[str, tuple[float, bool]] = {}

    def of(self, trial: Trial) -> Any | None:
        """The actor that has a trial or starts for it; None while the trial waits for room."""
        if actor := trial.temporary_state.ray_actor:
            self._starting.pop(trial.trial_id, None)
            return actor
        actor = self._asked_for(trial)
        return actor if actor is not None and self._is_there(trial, actor) else None

    def _asked_for(self, trial: Trial) -> Any | None:
        """The actor that Tune has asked Ray for; Ray may have no room for it yet."""
        if self.controller is None or (tracked := self.controller._trial_to_actor.get(trial)) is None:  # noqa: SLF001
            return None
        begun = self.controller._actor_manager._live_actors_to_ray_actors_resources  # noqa: SLF001
        return begun[tracked][0] if tracked in begun else None

    def _is_there(self, trial: Trial, actor: Any) -> bool:
        """Whether Ray has begun a process for it: Ray is asked from time to time."""
        looked_at, is_there = self._starting.get(trial.trial_id, (-LOOKS_EVERY_S, False))
        if not is_there and (now := time.monotonic()) - looked_at > LOOKS_EVERY_S:
            is_there = bool(state.actors(actor._actor_id.hex()).get("Pid"))  # noqa: SLF001
            self._starting[trial.trial_id] = now, is_there
        return is_there
