"""Where each method starts, and which methods are one where what tells them apart is taken away."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from panda_trainable.config.methods import SOURCELESS, TRAITS
from panda_trainable.config.task import Mixture, TaskSpec
from panda_trainable.config.trial import Source, TrialConfig
from panda_trainable.data.locate import fingerprinted
from panda_trainable.library import PromptLibrary
from panda_trainable.training.trainer import Trainer
from panda_trainable.transfer.lineage import MODEL_FILE, Lineage, tuned, tuned_prompts
from panda_trainable.transfer.methods import METHODS, needed, open_trainer, source_heads
from panda_trainable.transfer.projector import projected_prompts
from panda_trainable.transfer.relative import relative_prompts
from panda_trainable.transfer.teachers import source_lineage, sources_product
from tests.kits.trainers import loss_curve, prompt_trainer, random_starts, same, trained

Trial = Callable[..., TrialConfig]
Task = Callable[..., TaskSpec]


def prompts_of(library: PromptLibrary, config: TrialConfig, lineage: Lineage) -> Tensor:
    """[K, …] the prompts of a lineage."""
    return torch.stack([made.prompt for made in tuned_prompts(library, lineage, config.seeds)])


def ends_alike(a: Trainer, b: Trainer) -> bool:
    """Whether two trainers have the same losses all the way and end as one, bit for bit."""
    assert a.recipe.steps == b.recipe.steps > 0
    return torch.equal(loss_curve(a, a.recipe.steps), loss_curve(b, b.recipe.steps)) and same(trained(a), trained(b))


# where they start


def test_where_each_method_starts(library: PromptLibrary, trial: Trial) -> None:
    config, crossing = trial("spot"), trial("tpt_model_zero_shot")
    both = Mixture("both", (config.sources[0].task, config.target))
    names = {
        "random": random_starts(config.setting, config.seeds),
        "source": prompts_of(library, config, source_lineage(config, 0)),
        "mixture": prompts_of(library, config, Lineage(config.setting, both, 6, 0.02)),
        "shared": prompts_of(library, config, sources_product(trial("mpt"))),
        "projected": projected_prompts(library, crossing),
        "moved": relative_prompts(library, trial("tpt_relative")),
        "no prompt": torch.empty(2, 0),
    }
    found = {}
    for method, row in METHODS.items():
        start = row.start(library, trial(method))
        prompt = [name for name, known in names.items() if torch.equal(start.prompt, known)]
        found[method] = [*prompt, *(["head"] if start.heads else []), *(["weights"] if start.weights else [])]
    assert found == {
        "prompt_tuning": ["random"],
        "prompt_tuning_longer": ["random"],
        "plain_template": ["no prompt"],
        "model_tuning": ["no prompt"],
        "multitask_model_tuning": ["no prompt", "weights"],
        "linear_probe": ["no prompt"],
        "spot": ["source"],
        "spot_mixture": ["mixture"],
        "attempt": ["random"],
        "mpt": ["shared"],
        "zero_shot": ["source", "head"],
        "random_prompt": ["random", "head"],
        "panda": ["random"],
        "panda_as_released": ["random"],
        "distill": ["random"],
        "panda_distill": ["random"],
        "tpt_model": ["projected"],
        "tpt_model_zero_shot": ["projected", "head"],
        "tpt_relative": ["moved"],
        "tpt_relative_zero_shot": ["moved", "head"],
    }


def test_who_teaches_in_each_method(library: PromptLibrary, trial: Trial) -> None:
    taught = {
        method: [teacher.kd for teacher in row.teachers(library, trial(method))] for method, row in METHODS.items()
    }
    assert {method: kds for method, kds in taught.items() if kds} == {
        "panda": ["mse"],
        "panda_as_released": ["mse"],
        "distill": ["inter_class", "inter_instance", "mse"],
        "panda_distill": ["mse", "inter_class", "inter_instance"],
    }


def test_what_each_method_needs_to_be_tuned_before(trial: Trial) -> None:
    found = {method: [f"{n.kind} {n.task.name}" for n in needed(trial(method, sources=2))] for method in PARTNERED}
    assert found == {method: ["prompts s0", "prompts s1"] for method in PARTNERED if method != "panda_distill"} | {
        "panda_distill": ["prompts s0", "prompts s1", "prompts t"]
    }
    assert [n.kind + n.task.name for n in needed(trial("multitask_model_tuning", sources=2))] == ["modelss0+s1"]
    assert [n.kind + n.task.name for n in needed(trial("attempt", sources=2))] == ["promptss0", "promptss1"]
    assert [n.kind + n.task.name for n in needed(trial("mpt", sources=2))] == ["promptss0+s1"]
    assert needed(trial("prompt_tuning")) == []
    plms = [(n.setting.plm.label, n.task.name) for n in needed(trial("tpt_model"))]
    assert [name for _, name in plms] == ["t", "p0", "p0", "p1", "p1"]
    own, other = trial().setting.plm.label, trial("tpt_model").projection.plm.label
    assert [plm for plm, _ in plms] == [other, other, own, other, own]


PARTNERED = [name for name, traits in TRAITS.items() if "partners" in traits.knobs and name != "spot_mixture"]


def test_a_mixtures_prompt_knows_each_source_once_and_the_target_last(library: PromptLibrary, trial: Trial) -> None:
    config = trial("spot_mixture", sources=2)
    first, second = (source.task for source in config.sources)
    pair = Source(Mixture("pair", (second, first)), 0.3)
    config = replace(config, sources=(config.sources[0], pair))
    whole = Lineage(config.setting, Mixture("any name", (first, second, config.target)), 6, 0.02)
    assert torch.equal(open_trainer(library, config).student.prompt(), prompts_of(library, config, whole))


def test_a_mixtures_prompt_knows_the_shots_of_its_target_and_of_its_sources(
    library: PromptLibrary, trial: Trial
) -> None:
    config = trial("spot_mixture")
    config = replace(config, setting=replace(config.setting, shots=3, source_shots=5))
    mixture = Mixture("both", (config.sources[0].task, config.target), shots=(5, 3))
    whole = Lineage(config.setting.of_sources, mixture, 6, 0.02)
    assert torch.equal(open_trainer(library, config).student.prompt(), prompts_of(library, config, whole))


def test_a_model_tuned_on_all_sources_goes_on_with_exactly_those_weights_and_a_fresh_head(
    library: PromptLibrary, trial: Trial
) -> None:
    config = trial("multitask_model_tuning", sources=2)
    mixture = Mixture("both", tuple(source.task for source in config.sources))
    folders = tuned(library, Lineage(config.setting, mixture, 6, 0.02, trains="model"), config.seeds)
    trainer, plain = open_trainer(library, config), open_trainer(library, trial("model_tuning"))
    for k, folder in enumerate(folders):
        file = load_file(folder / MODEL_FILE)
        for name, tensor in trainer.student.copies[k].model.named_parameters():
            assert torch.equal(tensor, file[name]), name
        assert file["head.weight"].shape == (4, 16)  # two classes of each source
        assert all(
            torch.equal(a, b) for a, b in zip(trainer.student.own_heads[k], plain.student.own_heads[k], strict=True)
        )


@pytest.mark.parametrize("method", [name for name, traits in TRAITS.items() if traits.shares_head])
def test_a_shared_head_answers_in_the_order_of_the_targets_classes(
    library: PromptLibrary, trial: Trial, method: str
) -> None:
    config = trial(method)
    weight, bias = source_heads(library, config)
    turned = fingerprinted(replace(config.target, classes=("c1", "c0")))
    weight_turned, bias_turned = source_heads(library, replace(config, target=turned))
    assert torch.equal(weight_turned, weight[:, [1, 0]])
    assert torch.equal(bias_turned, bias[:, [1, 0]])
    mixed = Mixture("mixed", (config.sources[0].task, config.target))
    of_mixture = replace(config, sources=(Source(mixed, 0.5),))
    whole = tuned_prompts(library, Lineage(config.setting, mixed, 6, 0.02), config.seeds)
    assert torch.equal(source_heads(library, of_mixture)[0], torch.stack([prompt.weight[:2] for prompt in whole]))


def test_a_head_of_other_classes_is_not_shared(library: PromptLibrary, trial: Trial, task: Task) -> None:
    with pytest.raises(ValueError, match="t cannot take over the head of s0: they have other classes"):
        open_trainer(library, trial("zero_shot", target=task("t", classes=3)))


# which are one


@pytest.mark.parametrize("kd", ["mse", "kl", "hidden"])
@pytest.mark.parametrize("method", ["panda", "panda_as_released"])
def test_panda_without_lambda_is_prompt_tuning(library: PromptLibrary, trial: Trial, method: str, kd: str) -> None:
    panda = open_trainer(library, trial(method, lambda_=0.0, kd=kd))
    assert ends_alike(panda, open_trainer(library, trial("prompt_tuning")))


def test_panda_of_a_source_that_is_not_similar_is_prompt_tuning(library: PromptLibrary, trial: Trial) -> None:
    config = trial("panda")
    config = replace(config, sources=(replace(config.sources[0], similarity=-0.2),))
    assert ends_alike(open_trainer(library, config), open_trainer(library, trial("prompt_tuning")))


def test_distillation_without_weights_is_prompt_tuning(library: PromptLibrary, trial: Trial) -> None:
    config = trial("distill", lambda_=0.0, inter_class=0.0, inter_instance=0.0)
    assert ends_alike(open_trainer(library, config), open_trainer(library, trial("prompt_tuning")))


def test_panda_distill_without_relations_is_panda_and_without_lambda_is_relations_alone(
    library: PromptLibrary, trial: Trial
) -> None:
    panda, alone = (trial("panda_distill", inter_class=0.0, inter_instance=0.0), trial("panda_distill", lambda_=0.0))
    assert ends_alike(open_trainer(library, panda), open_trainer(library, trial("panda")))
    assert ends_alike(open_trainer(library, alone), open_trainer(library, trial("distill", lambda_=0.0)))


def test_panda_as_released_is_panda_with_lambda_over_the_batch_size(library: PromptLibrary, trial: Trial) -> None:
    released, panda = trial("panda_as_released", lambda_=8.0), trial("panda", lambda_=2.0)  # B is 4
    released, panda = (
        replace(config, sources=(replace(config.sources[0], similarity=1.0),)) for config in (released, panda)
    )
    assert ends_alike(open_trainer(library, released), open_trainer(library, panda))


def test_a_larger_teacher_with_the_students_own_plm_is_like_any_other_teacher(
    library: PromptLibrary, trial: Trial
) -> None:
    config = trial("distill", inter_class=0.0, inter_instance=0.0)
    config = replace(config, teacher_plm=replace(config.teacher_plm, plm=config.setting.plm))
    trainer = open_trainer(library, config)
    (teacher,) = trainer.recipe.teachers
    own = Lineage(config.setting, config.target, 6, 0.02)
    plain = prompt_trainer(
        library, config.setting, config.target, (0, 1), prompts_of(library, config, own), steps=0, learning_rate=0.1,
        heads=tuple(
            torch.stack([getattr(made, part) for made in tuned_prompts(library, own, config.seeds)])
            for part in ("weight", "bias")
        ),
    )  # fmt: skip
    for k, known in enumerate(teacher.outputs):
        rows = known.isfinite().all(1).nonzero()[:, 0]
        expected = plain.student.logits(plain.data.parts[0].table, [rows.numpy()] * 2)[k]
        torch.testing.assert_close(known[rows], torch.from_numpy(expected), rtol=0, atol=1e-5)


def test_fusions_are_one_without_partners(library: PromptLibrary, trial: Trial) -> None:
    for fusion in ("late", "late_logits"):
        early, other = (open_trainer(library, trial("panda", fusion=f)) for f in ("early", fusion))
        assert ends_alike(early, other)


def test_fusions_differ_with_partners(library: PromptLibrary, trial: Trial) -> None:
    early, late, logits = (
        loss_curve(open_trainer(library, trial("panda", sources=2, fusion=f)), 8)
        for f in ("early", "late", "late_logits")
    )
    assert not torch.equal(early, late) and not torch.equal(late, logits) and not torch.equal(early, logits)


@pytest.mark.parametrize("method", [name for name in METHODS if name not in SOURCELESS])
def test_a_longer_run_of_the_sources_is_another_start(library: PromptLibrary, trial: Trial, method: str) -> None:
    short, long = (open_trainer(library, trial(method, source_steps=n)) for n in (6, 9))
    short_logits, long_logits = (
        s.student.logits(s.data.parts[0].table, [s.data.parts[0].rows[0].selection] * 2) for s in (short, long)
    )
    moved = any((a != b).any() for a, b in zip(short_logits, long_logits, strict=True))
    taught = bool(short.recipe.teachers) and not all(
        torch.equal(a.nan_to_num(), b.nan_to_num())
        for a, b in zip(short.recipe.teachers[0].outputs, long.recipe.teachers[0].outputs, strict=True)
    )
    assert moved or taught
