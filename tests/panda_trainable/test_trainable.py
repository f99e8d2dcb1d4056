"""PandaTrainable: results and failures as Tune sees them, without a cluster."""

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import ray

from panda_trainable import worker as encoder
from panda_trainable.config.task import TaskSpec
from panda_trainable.config.trial import TrialConfig
from panda_trainable.library import PromptLibrary
from panda_trainable.result import TrialResult
from panda_trainable.trainable import PandaTrainable
from panda_trainable.transfer.methods import open_trainer
from tests.kits.tasks import HEADED

Trial = Callable[..., TrialConfig]


@pytest.fixture(autouse=True, scope="module")
def no_cluster_left() -> Iterator[None]:
    """Whatever Ray an actor has started for itself ends with these tests."""
    before = ray.is_initialized()
    yield
    if ray.is_initialized() and not before:
        ray.shutdown()


@pytest.fixture
def actor(library: PromptLibrary) -> Callable[..., PandaTrainable]:
    """Begins a trial: actor(base, learning_rate=0.1)."""

    def begin(base: TrialConfig, **knobs: Any) -> PandaTrainable:
        class Bound(PandaTrainable):
            """As Tune binds it."""

            def setup(self, config: dict[str, Any]) -> None:
                super().setup(config, library=library, bases={"study": base})

        return Bound(asked(**knobs))

    return begin


def asked(**knobs: Any) -> dict[str, Any]:
    return {"study": "study", "number": 0, "knobs": {"learning_rate": 0.02, **knobs}}


def step(running: PandaTrainable) -> TrialResult:
    return TrialResult.from_ray(running.step())


def test_a_trial_reports_at_every_evaluation_until_its_last_step(
    actor: Callable[..., PandaTrainable], trial: Trial, library: PromptLibrary
) -> None:
    config = trial("panda", steps=10)
    running, trainer = actor(config, **{"lambda": 2.0}), open_trainer(library, replace(config, lambda_=2.0))
    for step in (4, 8, 10):
        reported = running.step()
        result = TrialResult.from_ray(reported)
        trainer.advance(4)
        scores, losses = trainer.select(), trainer.losses()
        assert (result.step, result.failure, result.is_last, reported["done"]) == (step, "", step == 10, step == 10)
        assert result.scores == {
            metric: dict(zip(config.seeds, values, strict=True)) for metric, values in scores.items()
        }
        assert reported["score"] == result.score == pytest.approx(sum(scores["accuracy"]) / 2)
        assert list(result.losses.values()) == losses
        assert result.lambda_effective == pytest.approx(2.0 * 0.5)
        assert 0 < result.evaluation_share < 1
        assert result.seconds > 0


@pytest.mark.parametrize("kind", HEADED)
@pytest.mark.parametrize("method", ["prompt_tuning", "model_tuning"])
def test_a_trial_of_any_kind_reports_the_score_of_its_first_metric(
    actor: Callable[..., PandaTrainable],
    trial: Trial,
    kind_task: Callable[..., TaskSpec],
    library: PromptLibrary,
    method: str,
    kind: str,
) -> None:
    config = trial(method, target=kind_task(kind))
    running, trainer = actor(config), open_trainer(library, config)
    result = step(running)
    trainer.advance(4)
    assert (result.failure, result.step) == ("", 4)
    assert result.score == pytest.approx(sum(trainer.select()[config.target.metrics[0]]) / 2)


def test_an_actor_turned_to_another_trial_begins_anew(actor: Callable[..., PandaTrainable], trial: Trial) -> None:
    running, fresh = actor(trial()), actor(trial(), learning_rate=0.3)
    running.step()
    assert running.reset_config(asked(learning_rate=0.3))
    first, second = (step(each) for each in (running, fresh))
    assert (first.step, first.scores, first.losses) == (second.step, second.scores, second.losses)


def test_an_actor_turned_to_a_trial_of_another_plm_has_it_before_the_first_step(
    actor: Callable[..., PandaTrainable], trial: Trial
) -> None:
    config = trial()
    other = replace(config, setting=replace(config.setting, plm=replace(config.setting.plm, layers=1)))
    running = actor(config)
    running.step()
    running.bases["other"] = other
    assert running.reset_config({**asked(), "study": "other"})
    assert [key[0] for key in encoder._loaded] == [other.setting.plm]
    assert step(running).failure == ""


def test_a_plm_that_is_gone_is_the_failure_of_its_trial_alone(
    actor: Callable[..., PandaTrainable], trial: Trial, tmp_path: Path
) -> None:
    config = trial()
    gone = replace(config.setting.plm, source=str(tmp_path / "gone"), files="0")
    running = actor(config)
    running.bases["gone"] = replace(config, setting=replace(config.setting, plm=gone))
    assert running.reset_config({**asked(), "study": "gone"})
    assert "gone" in step(running).failure
    assert running.reset_config(asked())
    assert step(running).failure == ""


@pytest.mark.parametrize("method", ["prompt_tuning", "spot", "model_tuning"])
def test_a_checkpoint_goes_on_as_the_uninterrupted_trial(
    actor: Callable[..., PandaTrainable], trial: Trial, tmp_path: Path, method: str
) -> None:
    killed, again = actor(trial(method)), actor(trial(method))
    killed.step()
    killed.save_checkpoint(str(tmp_path))
    again.load_checkpoint(str(tmp_path))
    one, other = step(killed), step(again)
    assert (one.step, one.scores, one.losses) == (other.step, other.scores, other.losses)


@pytest.mark.parametrize("eval_every", [1, 4])
def test_a_trial_that_diverges_is_a_failure_with_its_seeds_and_no_score(
    actor: Callable[..., PandaTrainable], trial: Trial, eval_every: int
) -> None:
    base = trial()
    running = actor(
        replace(base, setting=replace(base.setting, train=replace(base.setting.train, eval_every=eval_every))),
        learning_rate=1e38,
    )
    reported = running.step()
    assert math.isnan(reported["score"])
    assert reported["done"]
    assert "seed 0, 1 is not finite at step" in TrialResult.from_ray(reported).failure
    assert running.reset_config(asked())
    assert step(running).failure == ""


def test_a_fault_of_a_trial_is_told_and_the_actor_lives(actor: Callable[..., PandaTrainable], trial: Trial) -> None:
    base = trial()
    running = actor(replace(base, setting=replace(base.setting, train=replace(base.setting.train, max_length=62))))
    assert "ValueError: prompt length 3 + max_length 62 is over the 64 positions" in step(running).failure


def test_knobs_that_make_no_trial_are_a_failure_and_not_the_end_of_the_actor(
    actor: Callable[..., PandaTrainable], trial: Trial
) -> None:
    running = actor(trial())
    assert running.reset_config(asked(learning_rate=-1.0))
    assert "learning_rate must be positive, got -1.0" in step(running).failure
