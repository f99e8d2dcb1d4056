"""Model tuning: all weights of a private copy, replica after replica, and the frozen PLM of the process untouched."""

from collections.abc import Callable
from dataclasses import replace
from math import isfinite, isnan
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModel

from panda_trainable.config.setting import Plm, Setting
from panda_trainable.config.task import TaskSpec
from panda_trainable.config.trial import TrialConfig
from panda_trainable.data.tokens import gold_of, token_table
from panda_trainable.library import PromptLibrary
from panda_trainable.pretrained.files import plm_files
from panda_trainable.training.metrics import METRICS
from panda_trainable.training.model_student import ModelStudent
from panda_trainable.training.trainer import BETAS, EPSILON, Trainer
from panda_trainable.transfer.methods import open_trainer
from panda_trainable.worker import device, load_encoder
from tests.kits.plms import FAMILIES
from tests.kits.tasks import HEADED
from tests.kits.trainers import loss_curve, model_trainer, order_of, same, state_of_trained

Task = Callable[..., TaskSpec]
Trial = Callable[..., TrialConfig]
Tuned = Callable[..., Trainer]
CLOSE = {"rtol": 0, "atol": 1e-5}
RATE = 0.003


@pytest.fixture
def tuned(library: PromptLibrary, setting: Setting) -> Tuned:
    """Opens trainers that tune the model: tuned(task, seeds=(0,), steps=10)."""

    def make(task: TaskSpec, seeds: tuple[int, ...] = (0,), steps: int = 10, **changes: object) -> Trainer:
        values = {"learning_rate": RATE, **changes}
        own = values.pop("setting", setting)
        return model_trainer(library, own, task, seeds, steps=steps, **values)

    return make


def test_the_method_opens_it(library: PromptLibrary, trial: Trial) -> None:
    trainer = open_trainer(library, trial("model_tuning"))
    assert isinstance(trainer.student, ModelStudent)
    assert trainer.prompts() == []
    assert trainer.recipe.teachers == ()


def test_a_copy_begins_as_the_file_and_all_of_its_weights_that_matter_move(
    tuned: Tuned, task: Task, setting: Setting
) -> None:
    trainer, file = tuned(task("t"), (0, 1)), load_file(Path(setting.plm.source) / "model.safetensors")
    before = state_of_trained(trainer)
    for k in (0, 1):
        assert {name for name in before if name.startswith(f"{k}.")} == {
            f"{k}.{name}" for name in [*file, "head.weight", "head.bias"]
        }
        assert all(torch.equal(before[f"{k}.{name}"], tensor) for name, tensor in file.items())
    trainer.advance(10)
    after = state_of_trained(trainer)
    still = {name.partition(".")[2] for name in before if torch.equal(before[name], after[name])}
    assert still <= {name for name in file if name.endswith("key.bias")}  # no softmax depends on it
    unseen = sorted(set(range(45, 60)))  # words that no text has keep their embeddings
    embedding = "embeddings.word_embeddings.weight"
    assert torch.equal(after[f"0.{embedding}"][unseen], file[embedding][unseen])


def test_the_frozen_plm_of_the_process_is_not_touched(tuned: Tuned, task: Task, setting: Setting) -> None:
    encoder = load_encoder(setting.plm, device())
    before = {name: tensor.clone() for name, tensor in encoder.model.state_dict().items()}
    trainer = tuned(task("t"), (0, 1))
    trainer.advance(10)
    trainer.select()
    assert load_encoder(setting.plm, device()) is trainer.student.encoder is encoder
    assert same(before, encoder.model.state_dict())
    assert not any(p.requires_grad or p.grad is not None for p in encoder.model.parameters())
    owned = {p.data_ptr() for p in encoder.model.parameters()}
    copies = [{p.data_ptr() for p in copy.model.parameters()} for copy in trainer.student.copies]
    assert not owned & copies[0] and not owned & copies[1] and not copies[0] & copies[1]


@pytest.mark.parametrize("kind", ["classification", "tagging"])
def test_replicas_together_are_the_replicas_alone(tuned: Tuned, kind_task: Task, kind: str) -> None:
    spec, seeds = kind_task(kind), (0, 3)
    together, alone = tuned(spec, seeds), [tuned(spec, (seed,)) for seed in seeds]
    curves = [loss_curve(trainer, 10) for trainer in alone]
    assert torch.equal(loss_curve(together, 10), torch.cat(curves, 1))
    for k, trainer in enumerate(alone):
        own = {name.removeprefix("0."): tensor for name, tensor in state_of_trained(trainer).items()}
        both = {
            name.removeprefix(f"{k}."): t for name, t in state_of_trained(together).items() if name.startswith(f"{k}.")
        }
        assert same(own, both)
    assert together.select() == {
        name: [trainer.select()[name][0] for trainer in alone] for name in together.data.parts[0].task.metrics
    }


def test_the_first_steps_are_those_of_the_plain_model_and_torchs_adam(
    tuned: Tuned, task: Task, setting: Setting
) -> None:
    trainer = tuned(task("t"), steps=3)
    model = AutoModel.from_pretrained(setting.plm.source, attn_implementation="sdpa", add_pooling_layer=False).eval()
    head = [part.detach().clone().requires_grad_() for part in trainer.student.own_heads[0]]
    parameters = [*model.parameters(), *head]
    adam = torch.optim.AdamW(parameters, lr=RATE, betas=BETAS, eps=EPSILON, weight_decay=0.0)
    table = trainer.data.parts[0].table
    for step in range(3):
        rows, losses = order_of(trainer)[step, 0], []
        for row in rows:  # one after the other, without padding
            n = table.lengths[row]
            hidden = model(table.ids[row, None, :n].long(), token_type_ids=table.types[row, None, :n].long())
            logits = hidden.last_hidden_state[0].mean(0) @ head[0].T + head[1]
            losses.append(torch.nn.functional.cross_entropy(logits, table.labels[row]))
        loss = torch.stack(losses).mean()
        adam.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        adam.param_groups[0]["lr"] = RATE * (1 - step / 3)
        adam.step()
        assert float(loss_curve(trainer, 1)[0, 0]) == pytest.approx(float(loss.detach()), abs=1e-5)
    expected = dict(model.named_parameters())
    for name, tensor in state_of_trained(trainer).items():
        if name.startswith("0.encoder") and not name.endswith("key.bias"):  # Adam makes steps of its rounding
            torch.testing.assert_close(tensor, expected[name.removeprefix("0.")], rtol=0, atol=1e-5)


def test_a_state_stays_what_it_was_while_training_goes_on(tuned: Tuned, task: Task) -> None:
    trainer = tuned(task("t"))
    loss_curve(trainer, 3)
    state, expected = trainer.state(), loss_curve(trainer, 4)
    trainer.restore(state)
    assert torch.equal(loss_curve(trainer, 4), expected)


def test_a_run_depends_on_its_seed_alone(tuned: Tuned, task: Task) -> None:
    torch.manual_seed(1)
    np.random.seed(1)
    first = tuned(task("t"), (4,))
    expected = loss_curve(first, 5)
    torch.manual_seed(2)
    np.random.seed(2)
    again = tuned(task("renamed"), (4,))
    assert torch.equal(loss_curve(again, 5), expected)
    assert same(state_of_trained(again), state_of_trained(first))
    assert not torch.equal(loss_curve(tuned(task("t"), (5,)), 5), expected)


@pytest.mark.parametrize("kind", HEADED)
def test_model_tuning_lowers_the_loss_and_learns_every_kind(tuned: Tuned, kind_task: Task, kind: str) -> None:
    trainer = tuned(kind_task(kind), steps=60)
    losses = loss_curve(trainer, 60)
    assert losses[-10:].mean() < 0.6 * losses[:10].mean()
    assert trainer.select()[trainer.data.parts[0].task.metrics[0]][0] > 0.6


@pytest.mark.parametrize(("family", "pooling"), list(zip(FAMILIES, ["cls", "mean"] * 2, strict=True)))
def test_every_family_is_tuned_whatever_its_head_reads(
    tuned: Tuned, task: Task, setting: Setting, plms: Callable[[str], Path], family: str, pooling: str
) -> None:
    own = replace(setting, plm=Plm(str(plms(family)), plm_files(plms(family)), pooling=pooling))
    trainer = tuned(task("t"), setting=own, steps=30)
    losses = loss_curve(trainer, 30)
    assert losses[-5:].mean() < losses[:5].mean()
    before = load_file(plms(family) / "model.safetensors")
    moved = {
        name
        for name, tensor in state_of_trained(trainer).items()
        if not torch.equal(tensor, before.get(name[2:], tensor))
    }
    assert len(moved) > 0.8 * len(before)


def test_the_rate_falls_linearly_to_zero_for_every_replica(tuned: Tuned, task: Task) -> None:
    trainer, rates = tuned(task("t"), (0, 1), steps=4, learning_rate=0.004), []
    for _ in range(4):
        trainer.advance(1)
        rates.append([optimiser.param_groups[0]["lr"] for optimiser in trainer.optimisers])
    assert rates == [[pytest.approx(0.001 * left)] * 2 for left in (4, 3, 2, 1)]
    last = state_of_trained(trainer)
    trainer.advance(5)
    assert trainer.done == 4
    assert same(state_of_trained(trainer), last)


def test_losses_are_means_since_they_were_last_asked_for(tuned: Tuned, task: Task) -> None:
    spec = task("t")
    steps, whole = loss_curve(tuned(spec, (0, 1)), 6), tuned(spec, (0, 1))
    for span in (slice(0, 4), slice(4, 6)):
        whole.advance(span.stop - span.start)
        assert whole.losses() == pytest.approx(steps[span].mean(0).tolist(), abs=1e-6)


def test_a_replica_that_diverges_is_told_and_leaves_the_others_alone(tuned: Tuned, task: Task) -> None:
    spec = task("t")
    healthy, faulty = tuned(spec, (0, 1)), tuned(spec, (0, 1))
    with torch.no_grad():
        faulty.student.own_heads[1][0].fill_(torch.nan)
    healthy.advance(3)
    faulty.advance(3)
    good, bad = healthy.losses(), faulty.losses()
    assert bad[0] == good[0]
    assert not isfinite(bad[1])
    assert [isnan(score) for score in faulty.select()["accuracy"]] == [False, True]


@pytest.mark.parametrize("kind", HEADED)
def test_the_report_scores_every_row_of_the_report_split(tuned: Tuned, kind_task: Task, kind: str) -> None:
    trainer = tuned(kind_task(kind), (0, 1))
    trainer.advance(4)
    scores, logits, gold = trainer.report()
    table = token_table(trainer.data.library, trainer.data.setting, trainer.data.parts[0].task, "validation")
    expected = gold_of(table, trainer.data.parts[0].task, np.arange(24))
    assert logits.shape[:2] == (2, 24)
    assert [str(g) for g in gold] == [str(g) for g in expected]
    for name in trainer.data.parts[0].task.metrics:
        assert scores[name] == [METRICS[name](said, gold) for said in logits]


def test_a_trainer_leaves_nothing_in_the_library(library: PromptLibrary, tuned: Tuned, task: Task) -> None:
    before = set(library.root.rglob("card.json"))
    tuned(task("t", seed=5)).advance(10)
    made = set(library.root.rglob("card.json")) - before
    assert {path.parent.parent.name for path in made} <= {"tokens"}
