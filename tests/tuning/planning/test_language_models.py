"""Plans on language models: tasks are asked in words, all classes fit, and what cannot be asked is refused before anything starts."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from panda_trainable.config.keys import content
from panda_trainable.library import PromptLibrary
from tests.kits.command import experiment_file
from tests.kits.language_models import save_lm
from tests.kits.small import OWN, plan_of, plans_of, rewritten, studies_of
from tuning.experiment.experiment import Experiment
from tuning.experiment.loading import load
from tuning.experiment.pinned import pinned
from tuning.experiment.problems import Misuse
from tuning.planning.imported import imported_task, task_card
from tuning.planning.preflight import check_plan, preflight
from tuning.planning.resolve import make_plans, resolve
from tuning.tracking.study_runs import of_plan

ASKED = {**OWN, "template": "{a} It was {answer}.", "words": ["terrible", ["great", "very"]]}
OTHER = {**OWN, "classes": ["c0", "c1"], "template": "{a} It was {answer}.", "words": ["person", "place"]}
TASKS = {"s1": OTHER, "s2": ASKED, "t": ASKED}
Lms = Callable[[str], Path]


@pytest.fixture(scope="module")
def lms(tmp_path_factory: pytest.TempPathFactory) -> Lms:
    """Folders of language models, made once."""
    made: dict[str, Path] = {}

    def folder(name: str) -> Path:
        if name not in made:
            made[name] = save_lm(tmp_path_factory.mktemp("lm") / name, name)
        return made[name]

    return folder


def problems_on(folder: Path, plm: Path | dict[str, Any], **changes: Any) -> str:
    """What the check before a search refuses."""
    values = {"tasks": TASKS, **changes}
    file = rewritten(
        experiment_file(folder, Path("unused"), **values), plm=plm if isinstance(plm, dict) else {"from": str(plm)}
    )
    with pytest.raises(Misuse) as refused:
        preflight(load(file), PromptLibrary(folder / "library"))
    assert not (folder / "runs").exists()
    return str(refused.value)


@pytest.mark.parametrize(("name", "kind"), [("llama", "causal_lm"), ("t5", "seq2seq_lm")])
def test_tasks_are_asked_in_words_and_no_pair_is_left_out(lms: Lms, tmp_path: Path, name: str, kind: str) -> None:
    plan = plan_of(tmp_path, lms(name), tasks=TASKS, methods=["zero_shot", "random_prompt"])
    assert (plan.setting.plm.kind, plan.setting.plm.pooling) == (kind, "answer")
    assert {task.readout for task in plan.tasks.values()} == {"verbaliser"}
    assert plan.tasks["t"].asked == plan.tasks["t"].wording
    assert plan.left_out == ()
    assert len(plan.pairs) == 5  # the baseline, and two methods of two sources


def test_each_plm_of_a_list_answers_as_its_kind_does(lms: Lms, plms: Callable[[str], Path], tmp_path: Path) -> None:
    masked = {"from": str(lms("bert")), "head": "lm"}
    encoder, model, causal = plans_of(tmp_path, plms("bert"), masked, lms("llama"), tasks=TASKS, methods=["zero_shot"])
    assert [plan.tasks["t"].readout for plan in (encoder, model, causal)] == ["linear", "verbaliser", "verbaliser"]
    assert [len(plan.left_out) for plan in (encoder, model, causal)] == [1, 0, 0]
    assert model.setting.plm.kind == "masked_lm"


def test_an_encoder_has_the_keys_that_it_had(lms: Lms, plms: Callable[[str], Path], tmp_path: Path) -> None:
    for folder in (plms("bert"), lms("bert")):
        plain = plan_of(tmp_path, folder)
        (named,) = plans_of(tmp_path, {"from": str(folder), "head": "linear"}, tasks=TASKS)
        assert content(plain.setting.plm) == content(named.setting.plm) == {"files": plain.setting.plm.files}
        asked = plan_of(tmp_path, folder, tasks=dict.fromkeys(TASKS, ASKED))
        assert {s.key for s in studies_of(asked).values()} == {s.key for s in studies_of(plain).values()}


def test_the_wording_decides_the_key_of_a_language_models_study(lms: Lms, tmp_path: Path) -> None:
    other = {**ASKED, "template": "{a} This is {answer}."}
    keys = [
        studies_of(plan_of(tmp_path, lms("llama"), tasks=dict.fromkeys(TASKS, task)))["t · prompt_tuning"].key
        for task in (ASKED, other, ASKED)
    ]
    assert keys[0] == keys[2] != keys[1]


def test_a_sound_experiment_on_a_language_model_passes(lms: Lms, tmp_path: Path) -> None:
    file = experiment_file(tmp_path, lms("llama"), tasks=TASKS, methods=["spot", "zero_shot"])
    plans, notes = preflight(load(file), PromptLibrary(tmp_path / "library"))
    assert len(plans) == 1
    assert [note for note in notes if "prompts start from normal" in note]
    plans, notes = preflight(load(file, ["prompt.init=vocabulary"]), PromptLibrary(tmp_path / "library"))
    assert not [note for note in notes if "prompts start from" in note]


@pytest.mark.parametrize(
    ("name", "head", "prompt", "kind"),
    [
        ("llama", "lm", {"form": "input"}, "vocabulary"), ("t5", "lm", {"form": "input"}, "vocabulary"),
        ("bert", "lm", {"form": "input"}, "vocabulary"), ("llama", "lm", {"form": "prefix"}, "normal"),
        ("llama", "linear", {"form": "input"}, "normal"), ("bert", "linear", {"form": "input"}, "normal"),
        ("llama", "lm", {"form": "input", "init": "normal"}, "normal"),
        ("llama", "lm", {"form": "input", "init": {"kind": "text", "text": "great"}}, "text"),
    ],
)  # fmt: skip
def test_prompts_start_as_the_plm_and_the_form_have_it_where_nobody_says(
    lms: Lms, tmp_path: Path, name: str, head: str, prompt: dict[str, Any], kind: str
) -> None:
    (plan,) = plans_of(tmp_path, {"from": str(lms(name)), "head": head}, tasks=TASKS, prompt={"length": 3, **prompt})
    assert plan.setting.prompt.init.kind == kind
    told = check_plan(PromptLibrary(tmp_path / "library"), plan)
    assert any("input prompts start from vocabulary" in str(note) for note in told) == (kind == "vocabulary")
    trial = studies_of(plan)["t · prompt_tuning"].base
    again = Experiment.placed({**pinned(plan.experiment, trial, None), "confirm": {"seeds": [7]}}, tmp_path)
    assert again.prompt.init == plan.setting.prompt.init  # a pinned file says it
    assert make_plans(again)[0].setting.prompt == plan.setting.prompt


CHOICE = {"kind": "multiple_choice", "text": "a", "choices": ["a", "{label}"], "template": "{a} {answer}"}
BROKEN = [
    ({"tasks": dict.fromkeys(TASKS, OWN)}, "task t: nobody says how it is asked of a language model"),
    ({"tasks": {**TASKS, "t": {"kind": "regression", "text": "a"}}, "methods": []}, "a regression is not answered"),
    ({"methods": ["linear_probe"]}, "linear_probe trains a head alone"),
    (
        {"tasks": {**TASKS, "t": {**CHOICE, "words": ["great", "very", "a"]}}},
        "words must be of each of 2 classes (a, {label})",
    ),
    (
        {
            "tasks": {
                **TASKS,
                "t": {"kind": "regression", "text": "a", "template": "{a} {answer}", "words": ["0", "great"]},
            }
        },
        "words of a regression are two or more different numbers",
    ),
    (
        {"tasks": {**TASKS, "t": {**ASKED, "words": ["terrible", "wonderful"]}}},
        "'wonderful' is no word of its tokenizer",
    ),
    ({"tasks": {**TASKS, "t": {**ASKED, "words": ["very", "very great"]}}}, "'very great' can never be the likelier"),
    ({"tasks": {**TASKS, "t": {**ASKED, "template": "It was {answer}: {a}"}}}, "has a field behind the slot"),
    ({"tasks": {**TASKS, "t": {**ASKED, "template": f"{{a}} {'It was ' * 8}{{answer}}"}}}, "raise train.max_length"),
]


@pytest.mark.parametrize(("changes", "rule"), BROKEN, ids=[rule for _, rule in BROKEN])
def test_what_cannot_be_asked_is_refused_before_anything_starts(
    lms: Lms, tmp_path: Path, changes: dict[str, Any], rule: str
) -> None:
    assert rule in problems_on(tmp_path, lms("llama"), **changes)


def test_the_template_alone_needs_a_language_model_that_answers(lms: Lms, tmp_path: Path) -> None:
    plan = plan_of(tmp_path, lms("llama"), tasks=TASKS, methods=["plain_template"])
    assert [pair.source for pair in plan.pairs if pair.method == "plain_template"] == [None]
    said = problems_on(tmp_path, {"from": str(lms("llama")), "head": "linear"}, methods=["plain_template"])
    assert "plain_template needs a language model that answers with its own head" in said


@pytest.mark.parametrize(
    ("task", "rule"),
    [
        ({**ASKED, "template": "{a} It was."}, "needs the slot"),
        ({**ASKED, "template": "{b} It was {answer}"}, "unknown field b; there are a, 1 and the slot answer"),
        ({**ASKED, "words": ["great", "great"]}, "'great' is a word of no and yes"),
    ],
)
def test_a_wrong_wording_is_told_with_its_place_in_the_file(
    lms: Lms, tmp_path: Path, task: dict[str, Any], rule: str
) -> None:
    with pytest.raises(Misuse) as refused:
        load(experiment_file(tmp_path, lms("llama"), tasks={**TASKS, "t": task}))
    assert rule in str(refused.value)
    assert "experiment.yaml:1: task t: " in str(refused.value)


def test_an_encoder_has_no_head_of_its_own_to_be_asked(plms: Callable[[str], Path], tmp_path: Path) -> None:
    told = problems_on(tmp_path, {"from": str(plms("bert")), "head": "lm"})
    assert "its file lacks weights" in told
    assert "use plm.head: linear" in told


def test_a_masked_model_without_a_mask_token_is_refused(tmp_path: Path) -> None:
    plm = save_lm(tmp_path / "plm", "bert", mask=False)
    assert "no mask token" in problems_on(tmp_path, {"from": str(plm), "head": "lm"})


def test_a_decoder_without_a_start_is_refused(lms: Lms, tmp_path: Path) -> None:
    shutil.copytree(lms("t5"), tmp_path / "t5")
    path = tmp_path / "t5" / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "decoder_start_token_id": None}))
    assert "decoder_start_token_id" in problems_on(tmp_path, tmp_path / "t5")


def test_a_word_of_several_tokens_is_refused_where_one_mask_answers(lms: Lms, tmp_path: Path) -> None:
    tasks = {**TASKS, "t": {**ASKED, "words": ["terrible", "very great"]}}
    told = problems_on(tmp_path, {"from": str(lms("bert")), "head": "lm"}, tasks=tasks)
    assert "label word 'very great' must be one token" in told


def test_imported_prompts_are_known_however_a_plm_is_asked(lms: Lms, tmp_path: Path) -> None:
    plan = plan_of(tmp_path, lms("llama"), tasks=TASKS)
    (tmp_path / "library" / "tasks").mkdir(parents=True)
    (tmp_path / "library" / "tasks" / "s1.json").write_text(json.dumps(task_card(plan.tasks["s1"])))
    raw = resolve(plan.experiment).tasks["s1"]
    assert raw.asked is None
    assert imported_task(tmp_path / "library", raw) is not None


@pytest.mark.parametrize(
    ("name", "head"), [("bert", "lm"), ("bert", "linear"), ("t5", "lm"), ("t5", "linear"), ("llama", "linear")]
)
def test_a_pinned_configuration_is_answered_by_the_same_head(lms: Lms, tmp_path: Path, name: str, head: str) -> None:
    (plan,) = plans_of(tmp_path, {"from": str(lms(name)), "head": head}, tasks=TASKS, methods=["spot"])
    trial = studies_of(plan)["t ← s1 · spot"].base
    filed = pinned(plan.experiment, trial, "s1")
    again = Experiment.placed({**filed, "confirm": {"seeds": [7]}}, tmp_path)
    assert make_plans(again)[0].setting.plm == plan.setting.plm
    assert make_plans(again)[0].tasks["t"] == plan.tasks["t"]


def test_a_study_tells_how_its_target_is_asked(lms: Lms, plms: Callable[[str], Path], tmp_path: Path) -> None:
    for plm, expected in (
        (lms("llama"), {"target.template": "{a} It was {answer}.", "target.words": [["terrible"], ["great", "very"]]}),
        (plms("bert"), {}),
    ):
        plan = plan_of(tmp_path, plm, tasks=TASKS)
        (told,) = of_plan(plan, [], [studies_of(plan)["t · prompt_tuning"]], lambda job: [])
        assert {name: value for name, value in told.params.items() if name.startswith("target.")} == expected


def test_a_label_word_that_yaml_reads_as_something_else_must_be_quoted(lms: Lms, tmp_path: Path) -> None:
    with pytest.raises(Misuse, match=r"tasks\.t\.words.*should be a valid string"):
        load(experiment_file(tmp_path, lms("llama"), tasks={**TASKS, "t": {**ASKED, "words": [True, False]}}))
