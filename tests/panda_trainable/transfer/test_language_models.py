"""Every method on language models that answer in words: nothing but the prompt is trained, and classes need not be shared."""

from collections.abc import Callable
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from panda_trainable.config.methods import TRAITS
from panda_trainable.config.origin import Unlocated
from panda_trainable.config.setting import EmbeddingSettings, Plm, SimilaritySettings
from panda_trainable.config.trial import TrialConfig
from panda_trainable.data.tokens import token_table
from panda_trainable.library import PromptLibrary
from panda_trainable.plm.language_model import LanguageModel
from panda_trainable.prompt.sources import TrainedPrompts
from panda_trainable.similarity.representations import task_embedding
from panda_trainable.training.evaluation import report_scores
from panda_trainable.training.heads import Verbaliser
from panda_trainable.training.model_student import ModelStudent
from panda_trainable.training.student import PromptStudent
from panda_trainable.training.trainer import Trainer
from panda_trainable.transfer.lineage import Lineage, tuned, tuned_prompts, tuned_student
from panda_trainable.transfer.methods import needed, open_trainer
from panda_trainable.transfer.projector import on_own_plm, on_source_plm
from panda_trainable.transfer.teachers import source_lineage, target_mixture, teacher_outputs, teacher_plm_lineage
from tests.kits.language_models import lm_plm, save_lm
from tests.kits.tasks import HEADED, own_task, rows_of, task_of_kind
from tests.kits.trainers import loss_curve, said_of_selection, same, state_of_trained
from tests.kits.trials import asked_trial

METHODS = [method for method, traits in TRAITS.items() if traits.trains != "head"]
RUNS = [("llama", method, "prefix" if i % 2 else "input") for i, method in enumerate(METHODS)]
RUNS += [*product(["t5", "bert"], ["panda", "zero_shot", "model_tuning", "spot_mixture"], ["prefix"])]
Trials = Callable[..., TrialConfig]


@pytest.fixture(scope="module")
def trials(tmp_path_factory: pytest.TempPathFactory, lms: Callable[[str], Plm], wide_plm: Plm) -> Trials:
    """Trials on a language model: trials("llama", "panda", wide=..., form="prefix")."""
    folder = tmp_path_factory.mktemp("tasks")
    return lambda name, method, wide=wide_plm, **changes: asked_trial(folder, lms(name), wide, method, **changes)


@pytest.mark.parametrize(("name", "method", "form"), RUNS)
def test_a_method_trains_the_prompt_alone_and_goes_on_where_it_was_interrupted(
    trials: Trials, library: PromptLibrary, name: str, method: str, form: str
) -> None:
    config = trials(name, method, form=form)
    trainer = open_trainer(library, config)
    before, frozen = state_of_trained(trainer), trainer.student.encoder.whole.state_dict()
    frozen = {key: tensor.clone() for key, tensor in frozen.items()}
    curve = loss_curve(trainer, config.steps // 2)
    state = trainer.state()
    curve = torch.cat([curve, loss_curve(trainer, config.steps // 2)])
    after, said = state_of_trained(trainer), said_of_selection(trainer)
    if isinstance(trainer.student, ModelStudent):
        assert trainer.student.prompts() == []
    elif method == "plain_template":
        assert (after, trainer.student.prompts()) == ({}, [])
    else:
        assert set(after) == set(trainer.student.source.trainables) >= {"prompt"}
        assert all(torch.equal(before[name], after[name]) == (config.steps == 0) for name in after)
        assert all(prompt.weight.numel() == prompt.bias.numel() == 0 for prompt in trainer.prompts())
    assert same(frozen, trainer.student.encoder.whole.state_dict())
    assert curve.isfinite().all()
    assert all(logits.shape[1] == 2 and (logits < 0).all() for logits in said)
    again = open_trainer(library, config)
    again.restore(state)
    assert torch.equal(loss_curve(again, config.steps // 2), curve[config.steps // 2 :])
    assert all(np.array_equal(a, b) for a, b in zip(said_of_selection(again), said, strict=True))


@pytest.mark.parametrize("name", ["llama", "t5", "bert"])
def test_the_prompt_of_a_source_with_other_classes_answers_untrained(
    trials: Trials, library: PromptLibrary, name: str
) -> None:
    config = trials(name, "zero_shot")
    assert len(config.sources[0].task.classes) == 3 != len(config.target.classes)
    said = said_of_selection(open_trainer(library, config))
    tuned = [prompt.prompt for prompt in tuned_prompts(library, source_lineage(config, 0), config.seeds)]
    plain = open_trainer(
        library,
        replace(
            config,
            method="prompt_tuning",
            steps=1,
            learning_rate=0.1,
            sources=(),
            source_steps=0,
            source_learning_rate=0.0,
        ),
    )
    with torch.no_grad():
        plain.trainables["prompt"].copy_(torch.stack(tuned))
    assert all(np.array_equal(a, b) for a, b in zip(said_of_selection(plain), said, strict=True))
    alone = replace(config, method="random_prompt")
    assert (needed(config), needed(alone)) == ([source_lineage(config, 0)], [])
    control = said_of_selection(open_trainer(library, alone))
    assert not any(np.allclose(a, b) for a, b in zip(control, said, strict=True))


@pytest.mark.parametrize(("name", "teacher"), [("llama", "wide"), ("llama", "bert"), ("t5", "llama")])
def test_another_plm_teaches_class_scores_whatever_reads_its_states(
    trials: Trials, lms: Callable[[str], Plm], wide_plm: Plm, library: PromptLibrary, name: str, teacher: str
) -> None:
    other = wide_plm if teacher == "wide" else lms(teacher)
    config = trials(name, "distill", wide=other, kd="kl")
    lineage = teacher_plm_lineage(config)
    assert lineage.task.tasks[0].readout == ("linear" if teacher == "wide" else "verbaliser")
    known = teacher_outputs(library, config, lineage)[0]
    rows = ~known.isnan().any(1)
    assert rows.any()
    assert (known[rows] < 0).all() == (teacher != "wide")  # log-probabilities, or any logits
    assert loss_curve(open_trainer(library, config), 2).isfinite().all()


@pytest.mark.parametrize(
    ("name", "form"), [("llama", "input"), ("llama", "prefix"), ("bert", "input"), ("t5", "input"), ("t5", "prefix")]
)
def test_a_row_that_attends_is_answered_as_behind_its_own_prompt_alone(
    trials: Trials, library: PromptLibrary, name: str, form: str
) -> None:
    """With words of several tokens; alone, a prompt that no text changes is computed beforehand where the PLM may."""
    config = trials(name, "attempt", form=form, attention_temperature=0.05)
    config = replace(config, target=config.sources[0].task, sources=config.sources)
    trainer = open_trainer(library, config)
    trainer.advance(2)
    student, table, rows = trainer.student, trainer.data.parts[0].table, np.arange(5)
    said = student.logits(table, [rows, rows])
    for k in (0, 1):
        for row in rows[:3]:
            ids = table.ids[row : row + 1, : table.lengths[row]].long()
            embedded, whose = student.encoder.embed(ids), torch.tensor([k])
            own = student.source.of_rows(student.prompt(), embedded, table.lengths[row : row + 1], whose).detach()
            alone = PromptStudent(student.encoder, config.target, (0,), TrainedPrompts(own, torch.device("cpu")))
            np.testing.assert_allclose(alone.logits(table, [[row]])[0][0], said[k][row], rtol=0, atol=1e-5)


ACROSS = [
    ("llama", "bert", "token", "distance", "input"), ("llama", "bert", "flat", "task", "prefix"),
    ("bert", "llama", "flat", "distance", "input"), ("bert", "llama", "token", "task", "prefix"),
    ("llama", "larger", "flat", "task", "input"), ("llama", "larger", "token", "distance", "prefix"),
    ("larger", "llama", "token", "task", "input"), ("llama", "encoder", "flat", "task", "input"),
    ("llama", "encoder", "token", "distance", "prefix"), ("encoder", "llama", "token", "task", "input"),
    ("encoder", "llama", "flat", "task", "prefix"), ("t5", "llama", "token", "task", "input"),
    ("t5", "bert", "flat", "distance", "prefix"), ("llama", "t5", "token", "task", "prefix"),
]  # fmt: skip
"""PLM, that from which prompts come, the projector's form and objective, and the form of prompts."""


@pytest.fixture(scope="module")
def across(
    tmp_path_factory: pytest.TempPathFactory, lms: Callable[[str], Plm], wide_plm: Plm
) -> Callable[..., TrialConfig]:
    """Trials on one PLM from prompts on another: across("llama", "encoder", "tpt_model", "input")."""
    folder = tmp_path_factory.mktemp("across")
    save_lm(folder / "larger", "llama", {"hidden_size": 24, "num_hidden_layers": 3, "num_attention_heads": 3})
    larger = lm_plm(folder / "larger", "lm")

    def plm(name: str) -> Plm:
        return {"larger": larger, "encoder": wide_plm}.get(name) or lms(name)

    def make(name: str, there: str, method: str, form: str) -> TrialConfig:
        config = asked_trial(folder / "tasks", plm(name), plm(there), method, form)
        if plm(name).has_own_head:
            return config
        sources = tuple(replace(source, task=config.target) for source in config.sources)  # who shares its classes
        return replace(config, sources=sources, steps=config.steps)

    return make


@pytest.mark.parametrize(("name", "there", "form", "objective", "prompts"), ACROSS)
@pytest.mark.parametrize("method", ["tpt_model", "tpt_model_zero_shot"])
def test_prompts_are_projected_between_kinds_and_sizes_of_plms(
    across: Callable[..., TrialConfig], library: PromptLibrary, name: str, there: str, form: str, objective: str,
    prompts: str, method: str,
) -> None:  # fmt: skip
    config = across(name, there, method, prompts)
    assert config.projection
    config = replace(config, projection=replace(config.projection, form=form, objective=objective, steps=2))
    trainer = open_trainer(library, config)
    expected = trainer.student.encoder.prompt_shape(3, prompts)
    assert tuple(trainer.student.prompt().shape) == (2, *expected)
    has_head = not config.setting.plm.has_own_head
    assert all((prompt.weight.numel() > 0) == has_head for prompt in trainer.prompts())
    here, other = on_own_plm(config, config.projection.tasks[0]), on_source_plm(config, config.target, target=True)
    assert {task.readout for task in here.task.tasks} == {"linear" if has_head else "verbaliser"}
    assert {task.readout for task in other.task.tasks} == {"linear" if there == "encoder" else "verbaliser"}
    assert loss_curve(trainer, config.steps).isfinite().all()
    assert np.isfinite(said_of_selection(trainer)[0]).all()


@pytest.mark.parametrize(
    ("name", "there"), [("llama", "bert"), ("bert", "larger"), ("encoder", "llama"), ("t5", "encoder")]
)
@pytest.mark.parametrize("method", ["tpt_relative", "tpt_relative_zero_shot"])
def test_prompts_are_moved_between_kinds_and_sizes_of_plms(
    across: Callable[..., TrialConfig], library: PromptLibrary, name: str, there: str, method: str
) -> None:
    trainer = open_trainer(library, across(name, there, method, "input"))
    assert tuple(trainer.student.prompt().shape) == (2, 3, trainer.student.encoder.embedding)
    assert np.isfinite(said_of_selection(trainer)[0]).all()


def test_a_causal_model_with_a_linear_head_reads_its_last_token(
    tmp_path: Path, lms: Callable[[str], Plm], wide_plm: Plm, library: PromptLibrary
) -> None:
    plm = lm_plm(Path(lms("llama").source), "linear")
    assert (plm.kind, plm.head, plm.has_own_head) == ("causal_lm", "linear", False)
    trainer = open_trainer(library, asked_trial(tmp_path, plm, wide_plm))
    assert set(trainer.trainables) == {"prompt", "weight", "bias"}
    assert not isinstance(trainer.student.encoder, LanguageModel)
    table, encoder = trainer.data.parts[0].table, trainer.student.encoder
    rows = torch.arange(6)
    ids, lengths = table.ids[rows].long(), table.lengths[rows]
    assert len(set(lengths.tolist())) > 1
    prompt = trainer.student.prompt()
    found = torch.from_numpy(trainer.student.pooled(table, [rows.numpy(), rows[:0].numpy()])[0])
    for i, n in enumerate(lengths.tolist()):
        given = ids[i : i + 1, :n], torch.zeros(1, n, dtype=torch.long), lengths[i : i + 1]
        alone = encoder.encode(*given, prompt, torch.zeros(1, dtype=torch.long), tokens=True)[0, -1]
        torch.testing.assert_close(found[i], alone.detach(), rtol=0, atol=1e-5)


def test_the_report_of_a_language_model_is_of_classes(trials: Trials, library: PromptLibrary) -> None:
    config = trials("llama", "prompt_tuning")
    scores, logits, gold = report_scores(open_trainer(library, config).student, library, config.setting)
    assert logits.shape == (2, len(gold), 2)
    assert scores["accuracy"] == [np.mean(of_seed.argmax(1) == gold) for of_seed in logits]


def test_keys_tell_wordings_and_kinds_apart(trials: Trials) -> None:
    config = trials("llama", "spot")
    lineage = Lineage.of_target(config.setting, config.target, 4, 0.1)
    assert config.target.asked
    other = replace(config.target, asked=replace(config.target.asked, template="{a} All in all {answer}."))
    assert replace(lineage, task=other).key(0) != lineage.key(0)
    plain = replace(config.target, asked=None, wording=None)
    linear = replace(config.setting, plm=replace(config.setting.plm, kind="encoder", pooling="mean"))
    assert replace(lineage, setting=linear, task=plain).key(0) == replace(
        lineage, setting=linear, task=replace(plain, wording=config.target.wording)
    ).key(0)


def test_a_mixture_is_asked_each_task_in_its_words(trials: Trials, library: PromptLibrary) -> None:
    config = trials("llama", "spot_mixture")
    mixture = target_mixture(config)
    student = tuned_student(mixture, config.seeds, tuned(library, mixture, config.seeds))
    assert [
        len(readout.head.answers.words) for readout in student.readouts if isinstance(readout.head, Verbaliser)
    ] == [3, 2]
    assert [readout.outputs for readout in student.readouts] == [slice(0, 0), slice(0, 0)]


def shares_of_last(trainer: Trainer) -> NDArray[np.float64]:
    """[K] the mean share of the last class."""
    return np.array([float(torch.from_numpy(each).softmax(1)[:, -1].mean()) for each in said_of_selection(trainer)])


@pytest.mark.parametrize(("name", "form"), [("llama", "input"), ("t5", "input"), ("bert", "prefix")])
def test_a_prompt_alone_learns_to_make_the_frequent_word_likely(
    trials: Trials, library: PromptLibrary, tmp_path: Path, name: str, form: str
) -> None:
    config = trials(name, "prompt_tuning", form=form)
    rows = [{**row, "label": int(i % 6 > 0)} for i, row in enumerate(rows_of(60))]
    raw = replace(config.target, name="uneven", fingerprints=(), counts=(), asked=None, origin=Unlocated())
    target = own_task(tmp_path, raw, rows).on(config.setting.plm)
    trainer = open_trainer(library, replace(config, target=target, steps=80, learning_rate=0.1))
    before = shares_of_last(trainer)
    trainer.advance(80)
    after = shares_of_last(trainer)
    assert (after > before + 0.03).all(), (before, after)
    assert (after > 0.55).all()


@pytest.mark.parametrize("name", ["llama", "bert", "t5"])
def test_a_task_embedding_is_the_mean_of_the_states_that_answer(
    trials: Trials, library: PromptLibrary, name: str
) -> None:
    config = trials(name, "spot")
    lineage = source_lineage(config, 0)
    (folder,) = tuned(library, lineage, [0])
    student = tuned_student(lineage, [0], [folder])
    table = token_table(library, lineage.setting, config.sources[0].task, "train")
    own = student.pooled(table, [np.arange(len(table))])[0].astype(np.float64).mean(0)
    np.testing.assert_allclose(task_embedding(library, lineage, 0), own, atol=1e-5)
    settings = SimilaritySettings(embedding=EmbeddingSettings(pooling="mean"))
    assert not np.allclose(task_embedding(library, lineage, 0, settings), own, atol=1e-3)


@pytest.mark.parametrize("kind", HEADED)
def test_a_trained_head_on_a_causal_model_answers_every_kind_of_task(
    lms: Callable[[str], Plm], wide_plm: Plm, tmp_path: Path, library: PromptLibrary, kind: str
) -> None:
    plm = lm_plm(Path(lms("llama").source), "linear")
    config = replace(asked_trial(tmp_path, plm, wide_plm), target=task_of_kind(tmp_path / "kinds", kind))
    trainer = open_trainer(library, config)
    assert loss_curve(trainer, 2).isfinite().all()
    assert np.isfinite(list(trainer.select().values())).all()


@pytest.mark.parametrize("several", [False, True])
def test_a_step_reads_prompt_and_text_once_and_gives_the_numbers_of_reading_them_for_each_row_and_word(
    trials: Trials, library: PromptLibrary, several: bool
) -> None:
    config = trials("llama", "prompt_tuning", seeds=(0, 1, 2))
    if several:
        config = replace(config, target=trials("llama", "spot").sources[0].task)
    curves, starts, tokens = [], [], []
    for lacking in ((), ("can_prefill", "can_fork", "shortens")):
        trainer = open_trainer(library, config)
        plm = trainer.student.encoder
        assert isinstance(plm, LanguageModel)
        kept = {name: getattr(plm, name) for name in lacking}
        counted: list[int] = []
        hook = plm.model.layers[0].register_forward_pre_hook(lambda _, given, seen=counted: seen.append(given[0][..., 0].numel()))  # fmt: skip
        for name in lacking:
            setattr(plm, name, False)
        try:
            trainer.advance(1)
            tokens.append(sum(counted))
            curves.append(loss_curve(trainer, config.steps - 1))
            starts.append(trainer.trainables["prompt"].detach().clone())
        finally:
            hook.remove()
            for name, value in kept.items():
                setattr(plm, name, value)
    torch.testing.assert_close(*curves, rtol=0, atol=1e-5)
    torch.testing.assert_close(*starts, rtol=0, atol=1e-4)
    replicas, length, rows = len(config.seeds), config.setting.prompt.length, config.setting.train.batch_size
    spared = (rows - 1) * replicas * length
    assert tokens[1] - tokens[0] >= spared if several else tokens[1] - tokens[0] == spared
