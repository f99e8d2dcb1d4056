"""What a GPU needs, as far as a CPU can show it: no waiting inside a step, memory given back, bf16 beside float32."""

import weakref
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from panda_trainable.config.setting import Plm, Setting
from panda_trainable.config.task import TaskSpec
from panda_trainable.config.trial import TrialConfig
from panda_trainable.data.tokens import token_table
from panda_trainable.library import PromptLibrary
from panda_trainable.pretrained.files import plm_files
from panda_trainable.training.trainer import Trainer
from panda_trainable.transfer.methods import open_trainer
from panda_trainable.worker import load_encoder, release_encoder
from tests.kits.tasks import HEADED
from tests.kits.trainers import first_gradients, loss_curve

Trial = Callable[..., TrialConfig]
Opened = Callable[..., Trainer]
WAITS = ("_local_scalar_dense", "is_nonzero", "nonzero", "equal", "masked_select", "_unique2")
"""Operations whose answer Python, or the size of a tensor, needs at once."""


class Waits(TorchDispatchMode):
    """Collects the operations for which a GPU would have to be waited for."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = str(func.overloadpacket).removeprefix("aten.")
        boolean_index = name == "index" and any(i is not None and i.dtype == torch.bool for i in args[1])
        if name in WAITS or boolean_index:
            self.seen.append(name)
        return func(*args, **(kwargs or {}))


def test_the_collector_sees_a_question_to_the_device() -> None:
    x = torch.arange(4)
    with Waits() as waits:
        bool((x > 2).all())
        x[x > 2]
        float(x[0])
    assert {"_local_scalar_dense", "index"} <= set(waits.seen)


@pytest.mark.parametrize("kind", HEADED)
def test_no_step_waits_for_the_device(opened: Opened, kind_task: Callable[..., TaskSpec], kind: str) -> None:
    trainer = opened(kind_task(kind), (0, 1))
    trainer.advance(1)
    with Waits() as waits:
        trainer.advance(3)
    assert waits.seen == []


@pytest.mark.parametrize("form", ["prefix", "input"])
def test_no_step_of_a_student_waits_for_the_device(library: PromptLibrary, trial: Trial, form: str) -> None:
    config = trial("panda", lambda_=1.0)
    config = replace(
        config,
        setting=replace(
            config.setting,
            prompt=replace(config.setting.prompt, form=form),
            plm=replace(config.setting.plm, pooling="cls"),
        ),
    )
    trainer = open_trainer(library, config)
    trainer.advance(1)
    with Waits() as waits:
        trainer.advance(3)
    assert waits.seen == []


def test_another_plm_takes_the_place_of_the_first_and_its_memory_is_free(plms: Callable[[str], Path]) -> None:
    folder = plms("bert")
    first = weakref.ref(load_encoder(Plm(str(folder), plm_files(folder), layers=1)))
    assert load_encoder(Plm(str(folder), plm_files(folder), layers=1)) is first()
    assert load_encoder(Plm(str(folder), plm_files(folder), layers=1), "cpu") is first()
    load_encoder(Plm(str(folder), plm_files(folder)))
    assert first() is None
    second = weakref.ref(load_encoder(Plm(str(folder), plm_files(folder))))
    release_encoder()
    assert second() is None


def test_a_table_of_a_cpu_stays_the_mapped_file(library: PromptLibrary, setting: Setting, task: Any) -> None:
    table = token_table(library, setting, task("t"), "train")
    assert table.on(torch.device("cpu")) is table
    there = table.on(torch.device("meta"))
    assert there is table.on(torch.device("meta"))
    assert there.ids.device.type == there.labels.device.type == "meta"


@pytest.mark.parametrize("form", ["prefix", "input"])
@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_bf16_is_near_float32_and_what_is_trained_stays_float32(
    library: PromptLibrary, setting: Setting, task: Callable[..., TaskSpec], opened: Opened, form: str, pooling: str
) -> None:
    curves = {}
    for precision in ("float32", "bf16"):
        own = replace(
            setting,
            prompt=replace(setting.prompt, form=form),
            train=replace(setting.train, precision=precision),
            plm=replace(setting.plm, pooling=pooling),
        )
        trainer = opened(task("t"), (0, 1), setting=own)
        curves[precision] = loss_curve(trainer, 6)
        linears = [m for m in trainer.student.encoder.model.modules() if isinstance(m, nn.Linear)]
        wanted = torch.bfloat16 if precision == "bf16" else torch.float32
        assert {m.weight.dtype for m in linears} == {wanted}
        assert {t.dtype for t in trainer.trainables.values()} == {torch.float32}
        assert {t.dtype for t in first_gradients(trainer).values()} == {torch.float32}
    torch.testing.assert_close(curves["bf16"], curves["float32"], rtol=0.05, atol=0.02)
    assert not torch.equal(curves["bf16"], curves["float32"])


class Attended(TorchDispatchMode):
    """Notes the types of what attention is computed of."""

    def __init__(self) -> None:
        super().__init__()
        self.types: set[torch.dtype] = set()

    def __torch_dispatch__(self, operator: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if "scaled_dot_product" in str(operator):
            self.types |= {each.dtype for each in args if isinstance(each, torch.Tensor)} - {torch.bool}
        return operator(*args, **(kwargs or {}))


@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_on_a_cpu_attention_is_of_float32_for_backward_through_bfloat16_is_far_slower(
    setting: Setting, task: Callable[..., TaskSpec], opened: Opened, precision: Any
) -> None:
    trainer = opened(task("t"), (0, 1), setting=replace(setting, train=replace(setting.train, precision=precision)))
    with Attended() as attended:
        trainer.advance(1)
        trainer.select()
    assert attended.types == {torch.float32}


def test_all_weights_are_tuned_in_float32_under_bf16(
    library: PromptLibrary, setting: Setting, task: Callable[..., TaskSpec]
) -> None:
    config = TrialConfig(
        replace(setting, train=replace(setting.train, precision="bf16")), task("t"), "model_tuning", (0,), 4, 1e-3
    )
    trainer = open_trainer(library, config)
    trainer.advance(4)
    assert all(tensor.dtype != torch.bfloat16 for tensor in trainer.state().values())
