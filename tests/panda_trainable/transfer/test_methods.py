"""What every row of METHODS must keep: a conformance kit."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from panda_trainable.config.methods import KNOBS, SOURCELESS, TRAITS
from panda_trainable.config.task import TaskSpec
from panda_trainable.config.trial import Source, TrialConfig
from panda_trainable.library import PromptLibrary
from panda_trainable.training.forward import encoded
from panda_trainable.training.metrics import METRICS
from panda_trainable.training.model_student import ModelStudent
from panda_trainable.training.student import drawn_heads
from panda_trainable.training.trainer import Trainer
from panda_trainable.transfer.lineage import tuned, tuned_prompts
from panda_trainable.transfer.methods import METHODS, needed, open_trainer
from panda_trainable.transfer.teachers import source_lineage
from panda_trainable.worker import device, load_encoder
from tests.kits.tasks import HEADED
from tests.kits.trainers import loss_curve, said_of_selection, same, state_of_trained

Trial = Callable[..., TrialConfig]
KindTask = Callable[..., TaskSpec]
IDLE = [name for name, traits in TRAITS.items() if traits.trains == "nothing"]
TRAINING = [name for name in TRAITS if name not in IDLE]
every_method = pytest.mark.parametrize("method", METHODS)
training = pytest.mark.parametrize("method", TRAINING)
idle_with_a_source = pytest.mark.parametrize("method", [name for name in IDLE if TRAITS[name].sources == "pair"])
RATES = {"prompt": 0.1, "head": 0.1, "model": 0.003}
"""What is trained -> a rate at which it learns the small tasks."""


def end(trainer: Trainer) -> dict[str, Tensor]:
    """What was trained, after the last step."""
    trainer.advance(trainer.recipe.steps)
    return state_of_trained(trainer)


def test_the_tables_of_methods_are_in_step() -> None:
    assert set(METHODS) == set(TRAITS) == set(KNOBS)
    assert all(method.origin for method in METHODS.values())
    assert set(SOURCELESS) == {name for name, traits in TRAITS.items() if traits.sources in ("none", "all")}


@training
def test_a_method_lowers_its_loss_and_learns(library: PromptLibrary, trial: Trial, method: str) -> None:
    config = trial(method, steps=120, learning_rate=RATES[TRAITS[method].trains])
    if config.teacher_plm:  # one that knows something
        config = replace(config, teacher_plm=replace(config.teacher_plm, steps=60, learning_rate=0.1))
    trainer = open_trainer(library, config)
    losses = loss_curve(trainer, 120)
    assert (losses[-20:].mean(0) < 0.8 * losses[:20].mean(0)).all()
    assert min(trainer.select()["accuracy"]) > 0.6


@idle_with_a_source
def test_a_method_that_trains_nothing_scores_as_its_sources_head_behind_its_prompt(
    library: PromptLibrary, trial: Trial, method: str
) -> None:
    config = trial(method)
    trainer, source = open_trainer(library, config), tuned_prompts(library, source_lineage(config, 0), (0, 1))
    scores, losses = trainer.select(), trainer.losses()
    trainer.advance(5)
    assert trainer.done == 0 and trainer.select() == scores and losses == [0.0, 0.0]
    prompt = METHODS[method].start(library, config).prompt
    encoder, right = load_encoder(config.setting.plm, device()), []
    for replica, own in enumerate(source):
        rows = torch.from_numpy(trainer.data.parts[0].rows[replica].selection)
        pooled = encoded(encoder, trainer.data.parts[0].table, prompt, rows, torch.full_like(rows, replica))
        answers = pooled @ own.weight.T + own.bias
        torch.testing.assert_close(torch.from_numpy(said_of_selection(trainer)[replica]), answers, rtol=0, atol=1e-5)
        right.append(METRICS["accuracy"](answers.numpy(), trainer.data.parts[0].table.labels[rows].numpy()))
    assert scores["accuracy"] == right


@pytest.mark.parametrize("method", ["panda", "tpt_model", "multitask_model_tuning"])  # all that is made beside it
def test_a_method_is_reproducible_from_its_config(trial: Trial, method: str, tmp_path: Path) -> None:
    config = trial(method)
    runs = [end(open_trainer(PromptLibrary(tmp_path / run), config)) for run in "ab"]
    assert same(*runs)


@every_method
@pytest.mark.parametrize("kind", HEADED)
def test_a_method_runs_on_every_kind_of_task(
    library: PromptLibrary, trial: Trial, kind_task: KindTask, method: str, kind: str
) -> None:
    config = trial(method, target=kind_task(kind))
    if TRAITS[method].shares_head:
        config = replace(config, sources=(Source(kind_task(kind, "source", seed=1), 0.5),))
    trainer = open_trainer(library, config)
    assert loss_curve(trainer, config.steps).isfinite().all()
    assert all(-1 <= score <= 1 for score in trainer.select()[trainer.data.parts[0].task.metrics[0]])


@pytest.mark.parametrize("kind", HEADED[1:])
@pytest.mark.parametrize("method", [name for name, traits in TRAITS.items() if traits.shares_head])
def test_a_head_is_not_shared_with_a_task_of_another_kind(
    library: PromptLibrary, trial: Trial, kind_task: KindTask, method: str, kind: str
) -> None:
    with pytest.raises(ValueError, match="k cannot take over the head of s0: they have other classes"):
        open_trainer(library, trial(method, target=kind_task(kind)))


@every_method
def test_a_student_begins_at_its_methods_start(library: PromptLibrary, trial: Trial, method: str) -> None:
    config = trial(method)
    start, trainer = METHODS[method].start(library, config), open_trainer(library, config)
    if start.prompt.numel():
        assert torch.equal(trainer.student.source.trainables["prompt"], start.prompt)
    else:
        assert trainer.student.prompt() is None and trainer.prompts() == []
    if isinstance(trainer.student, ModelStudent):
        heads = [torch.stack(parts) for parts in zip(*trainer.student.own_heads, strict=True)]
    else:
        heads = [trainer.student.heads[name] for name in ("weight", "bias")]
    for mine, given in zip(
        heads,
        start.heads or drawn_heads(config.target.outputs, trainer.student.encoder.hidden, config.seeds),
        strict=True,
    ):
        assert torch.equal(mine, given)


@every_method
def test_a_students_rate_falls_linearly_to_zero(library: PromptLibrary, trial: Trial, method: str) -> None:
    if method in IDLE:
        assert open_trainer(library, trial(method)).recipe.steps == 0
        return
    trainer, rates = open_trainer(library, trial(method, steps=4, learning_rate=0.004)), []
    for _ in range(5):
        rates.append(trainer.recipe.rate(trainer.done))
        trainer.advance(1)
    assert rates == pytest.approx([0.004, 0.003, 0.002, 0.001, 0.0])


@pytest.mark.parametrize("method", [name for name, traits in TRAITS.items() if "partners" in traits.knobs])
def test_a_partner_changes_what_is_transferred(library: PromptLibrary, trial: Trial, method: str) -> None:
    alone, joined = (end(open_trainer(library, trial(method, sources=n))) for n in (1, 2))
    assert not same(alone, joined)


@every_method
def test_a_method_tunes_nothing_of_what_it_says_it_needs_once_that_is_there(
    library: PromptLibrary, trial: Trial, method: str
) -> None:
    config = trial(method)
    for lineage in needed(config):
        tuned(library, lineage, config.seeds)
    before = {path: path.stat().st_mtime_ns for path in library.root.rglob("*.safetensors")}
    assert len(before) >= len({lineage.key(0) for lineage in needed(config)})
    open_trainer(library, config)
    assert before.items() <= {path: path.stat().st_mtime_ns for path in library.root.rglob("*.safetensors")}.items()
