"""What every row of METHODS must keep, and what tells the rows apart."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from panda_trainable.config import KNOBS, SOURCELESS, TrialConfig
from panda_trainable.library import PromptLibrary
from panda_trainable.methods import METHODS, SESSIONS, open_session
from panda_trainable.objectives import KD_LOSSES, cross_entropy
from panda_trainable.session import Session
from panda_trainable.tasks import KINDS, TaskSpec
from panda_trainable.teachers import source_lineage, tuned_prompts
from tests.panda_trainable.conftest import loss_curve, random_starts

Trial = Callable[..., TrialConfig]
every_method = pytest.mark.parametrize("method", METHODS)
of_prompts = pytest.mark.parametrize("method", [name for name, row in METHODS.items() if row.trains == "prompt"])
RATES = {"prompt": 0.1, "model": 0.003}
"""What is trained -> a rate at which it learns the small tasks."""


def end(session: Session) -> list[torch.Tensor]:
    """The trained tensors after the last step, without a pooler, which nothing reads and files may lack."""
    session.advance(session.steps)
    parts = session.state().items()
    return [tensor for name, tensor in parts if name.startswith("trained.") and ".pooler." not in name]


def equal(a: list[torch.Tensor], b: list[torch.Tensor]) -> bool:
    return len(a) > 0 and all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


def test_the_table_and_the_knobs_are_in_step() -> None:
    assert set(METHODS) == set(KNOBS)
    assert {method.trains for method in METHODS.values()} == set(SESSIONS)
    assert all(method.origin for method in METHODS.values())


@every_method
def test_a_method_lowers_its_loss_and_learns(library: PromptLibrary, trial: Trial, method: str) -> None:
    session = open_session(library, trial(method, steps=120, learning_rate=RATES[METHODS[method].trains]))
    losses = loss_curve(session, 120)
    assert (losses[-20:].mean(0) < 0.8 * losses[:20].mean(0)).all()
    assert min(session.select()["accuracy"]) > 0.6


@of_prompts
def test_a_method_moves_prompt_and_head_of_each_replica_and_nothing_of_the_plm(
    library: PromptLibrary, trial: Trial, method: str
) -> None:
    config = trial(method)
    session = open_session(library, config)
    before = {name: tensor.detach().clone() for name, tensor in session.trainables.items()}
    session.advance(8)
    for name, tensor in session.trainables.items():
        assert all(not torch.equal(now, then) for now, then in zip(tensor, before[name], strict=True))
    file = load_file(Path(config.setting.plm.source) / "model.safetensors")
    assert all(torch.equal(session.encoder.model.state_dict()[name], tensor) for name, tensor in file.items())
    assert all(p.grad is None for p in session.encoder.model.parameters())


@every_method
def test_a_method_is_reproducible_from_its_config(trial: Trial, method: str, tmp_path: Path) -> None:
    config = trial(method)
    runs = [end(open_session(PromptLibrary(tmp_path / run), config)) for run in "ab"]
    assert equal(*runs)


@every_method
def test_seeds_together_are_the_seeds_alone(trial: Trial, method: str, tmp_path: Path) -> None:
    config = trial(method, seeds=(0, 5))
    together = loss_curve(open_session(PromptLibrary(tmp_path / "both"), config), 8)
    alone = [replace(config, seeds=(seed,)) for seed in config.seeds]
    curves = [loss_curve(open_session(PromptLibrary(tmp_path / str(c.seeds)), c), 8) for c in alone]
    torch.testing.assert_close(together, torch.cat(curves, 1), rtol=0, atol=1e-5)


@every_method
def test_a_method_saved_and_restored_ends_where_it_would_have(
    library: PromptLibrary, trial: Trial, method: str, tmp_path: Path
) -> None:
    config = trial(method)
    whole, killed, again = (open_session(library, config) for _ in range(3))
    killed.advance(3)
    save_file(killed.state(), tmp_path / "state")
    again.restore(load_file(tmp_path / "state"))
    assert equal(end(again), end(whole))


@every_method
@pytest.mark.parametrize("kind", KINDS)
def test_a_method_runs_on_every_kind_of_task(
    library: PromptLibrary, trial: Trial, kind_task: Callable[..., TaskSpec], method: str, kind: str
) -> None:
    session = open_session(library, trial(method, target=kind_task(kind)))
    assert loss_curve(session, 8).isfinite().all()
    assert all(-1 <= score <= 1 for score in session.select()[session.task.metrics[0]])


def test_where_each_method_starts(library: PromptLibrary, trial: Trial) -> None:
    config = trial("spot")
    random = random_starts(config.setting, config.seeds)
    sources = torch.stack([p.prompt for p in tuned_prompts(library, source_lineage(config, 0), config.seeds)])
    names = {"random": random, "sources": sources, "none": torch.empty(2, 0)}
    starts = {method: row.start(library, trial(method)) for method, row in METHODS.items()}
    assert {m: [n for n, known in names.items() if torch.equal(s, known)] for m, s in starts.items()} == {
        "prompt_tuning": ["random"],
        "prompt_tuning_longer": ["random"],
        "spot": ["sources"],
        "panda": ["random"],
        "model_tuning": ["none"],
    }


@of_prompts
def test_a_student_begins_at_its_methods_start(library: PromptLibrary, trial: Trial, method: str) -> None:
    config = trial(method)
    assert torch.equal(open_session(library, config).prompt(), METHODS[method].start(library, config))


@pytest.mark.parametrize("kd", ["mse", "kl"])
def test_panda_without_lambda_is_prompt_tuning(library: PromptLibrary, trial: Trial, kd: str) -> None:
    panda = open_session(library, trial("panda", lambda_=0.0, kd=kd))
    plain = open_session(library, trial("prompt_tuning"))
    assert torch.equal(loss_curve(panda, 8), loss_curve(plain, 8))
    assert equal(end(panda), end(plain))


@pytest.mark.parametrize("kd", KD_LOSSES)
def test_pandas_loss_is_the_task_loss_and_lambda_times_similarity_times_distillation(
    library: PromptLibrary, trial: Trial, kd: str
) -> None:
    session = open_session(library, trial("panda", lambda_=3.0, kd=kd))  # its source is 0.5 similar
    rows = session.order[0]  # [K, B]
    student = torch.from_numpy(np.stack(session.logits(session.table, list(rows.numpy()))))
    said = torch.stack([known[row] for known, row in zip(session.teachers[0].logits, rows, strict=True)])
    expected = cross_entropy(student, session.table.labels[rows]) + 3.0 * 0.5 * KD_LOSSES[kd](student, said)
    torch.testing.assert_close(loss_curve(session, 1)[0], expected.double(), rtol=0, atol=1e-5)


@every_method
def test_a_students_rate_falls_linearly_to_zero(library: PromptLibrary, trial: Trial, method: str) -> None:
    session, rates = open_session(library, trial(method, steps=4, learning_rate=0.4)), []
    for _ in range(5):
        rates.append(session.rate())
        session.advance(1)
    assert rates == pytest.approx([0.4, 0.3, 0.2, 0.1, 0.0])


def test_early_and_late_fusion_are_one_without_partners(library: PromptLibrary, trial: Trial) -> None:
    early, late = (open_session(library, trial("panda", fusion=fusion)) for fusion in ("early", "late"))
    assert equal(end(early), end(late))


@pytest.mark.parametrize("method", [method for method in METHODS if method not in SOURCELESS])
def test_a_partner_changes_what_is_transferred(library: PromptLibrary, trial: Trial, method: str) -> None:
    alone, joined = (end(open_session(library, trial(method, sources=n))) for n in (1, 2))
    assert not equal(alone, joined)


def test_early_and_late_fusion_differ_with_partners(library: PromptLibrary, trial: Trial) -> None:
    early, late = (end(open_session(library, trial("panda", sources=2, fusion=f))) for f in ("early", "late"))
    assert not equal(early, late)
