"""PandaTrainable: a Trainer as a Ray Tune trial. The only module of this package that knows Ray."""

import math
import socket
import time
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ray
from ray import tune
from safetensors.torch import load_file, save_file

from panda_trainable.config.trial import TrialConfig
from panda_trainable.library import PromptLibrary
from panda_trainable.result import TrialResult
from panda_trainable.worker import single_threaded

STATE = "state.safetensors"


class PandaTrainable(tune.Trainable):
    """One trial with all its seeds. Its actor is reused: the PLM and the tables stay loaded.

    A fault of the trial itself (a loss that is not finite, a teacher that cannot be made) is a
    result with a `failure`, so that the actor lives and the search goes on.
    """

    def setup(
        self, config: dict[str, Any], library: PromptLibrary | None = None,
        bases: Mapping[str, TrialConfig] | None = None,
    ) -> None:  # fmt: skip
        """Opens the first trial.

        Args:
            config: `study`, `number` and `knobs`, as the searcher suggests them.
            library: of the search; None only where Tune asks what a trainable is.
            bases: study key -> the trial that knobs are put into.
        """
        single_threaded()
        node = ray.get_runtime_context().get_node_id() if ray.is_initialized() else ""
        self.node = f"{socket.gethostname()}/{node[:8]}"
        self.library, self.bases = library or PromptLibrary(Path()), bases or {}
        self._open(config)

    def _open(self, config: dict[str, Any]) -> None:
        self.trainer: Any = None  # a Trainer; its module imports torch, which the driver does without
        self.began = time.perf_counter()
        self.asked = config

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Turns this actor to another trial, with its PLM; never refuses, since Tune would lose the trial."""
        self._open(new_config)
        try:
            self._swap_in()
        except Exception:  # noqa: BLE001  # the first step meets it again, and tells it as the trial's failure
            traceback.print_exc()
        return True

    def _swap_in(self) -> None:
        """Loads the trial's PLM in the place of another, whose memory is given back first."""
        from panda_trainable.worker import device, load_encoder

        setting = self.bases[self.asked["study"]].setting
        load_encoder(setting.plm, device(), setting.train.precision)

    def step(self) -> dict[str, Any]:
        """Trains up to the next evaluation and scores the selection rows."""
        try:
            return self._advance().as_ray()
        except Exception as error:  # noqa: BLE001  # the border: whatever goes wrong is this trial's failure, with its reason
            traceback.print_exc()
            return self._failed(f"{type(error).__name__}: {error}").as_ray()

    def _opened(self) -> Any:
        from panda_trainable.transfer.methods import open_trainer  # torch is imported in the worker alone

        if self.trainer is None:
            self.trial_config = self.bases[self.asked["study"]].with_knobs(self.asked["knobs"])
            self.trainer = open_trainer(self.library, self.trial_config)
        return self.trainer

    def _advance(self) -> TrialResult:
        trainer, config = self._opened(), self.trial_config
        trainer.advance(config.setting.train.eval_every)
        losses = dict(zip(config.seeds, trainer.losses(), strict=True))
        scores = {m: dict(zip(config.seeds, values, strict=True)) for m, values in trainer.select().items()}
        for what, values in (("loss", losses), ("score", scores[config.target.metrics[0]])):
            diverged = [str(seed) for seed, value in values.items() if not math.isfinite(value)]
            if diverged:
                return self._failed(f"{what} of seed {', '.join(diverged)} is not finite at step {trainer.done}")
        return TrialResult(
            trainer.done, self._seconds(), self.node,
            {m: scores[m] for m in config.target.metrics if all(map(math.isfinite, scores[m].values()))}, losses,
            trainer.evaluate_s / max(trainer.evaluate_s + trainer.train_s, 1e-9),
            config.lambda_effective, trainer.done >= config.steps,
        )  # fmt: skip

    def _seconds(self) -> float:
        return time.perf_counter() - self.began

    def _failed(self, reason: str) -> TrialResult:
        return TrialResult.failed(reason, self.trainer.done if self.trainer else 0, self._seconds(), self.node)

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Writes the trainer's state as safetensors into the checkpoint folder."""
        save_file(self._opened().state(), Path(checkpoint_dir) / STATE)

    def load_checkpoint(self, checkpoint: Any) -> None:
        """Restores the trainer's state from a checkpoint."""
        self._opened().restore(load_file(Path(checkpoint) / STATE))
