"""Several PLMs: a plan of each, told apart by name and by key, and none disturbs another."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from panda_trainable.library import PromptLibrary
from search_spaces.space import Choice
from tests.kits.plms import save_wide_plm
from tests.kits.small import OWN, plan_of, plans_of, studies_of
from tests.kits.tasks import rows_of, write_task
from tuning.experiment.problems import Misuse, Problem
from tuning.planning.losses import weak_losses
from tuning.planning.partners import record_study, study_path
from tuning.planning.plan import Pair, Plan
from tuning.planning.preflight import check_plan

Plms = Callable[[str], Path]
Planned = Callable[..., Plan]
BATCH_OF_16 = {"train": {"steps": 8, "batch_size": 16, "max_length": 16, "eval_every": 2, "seeds": [0, 1]}}
KIND_TASKS: dict[str, dict[str, Any]] = {
    "regression": {"kind": "regression", "text": "a"},
    "tagging": {"kind": "tagging", "text": "words", "label": "tags", "classes": ["O", "B-X"]},
    "extractive_qa": {"kind": "extractive_qa", "text": ["q", "p"], "label": "gold"},
}
KIND_ROWS: dict[str, list[dict[str, Any]]] = {
    "regression": rows_of(60, 2, kind="regression"),
    "tagging": [{"words": [f"x{i}", "w1", "w2"], "tags": ["O", "B-X", "O"]} for i in range(60)],
    "extractive_qa": [{"q": "w2", "p": f"w1 x{i}", "gold": {"text": ["w1"], "answer_start": [0]}} for i in range(60)],
}


def keys_of(plan: Plan) -> dict[tuple[str, str | None, str], str]:
    """(target, source, method) -> key of its study."""
    return {(s.pair.target, s.pair.source, s.pair.method): s.key for s in studies_of(plan).values()}


def test_two_plms_give_two_plans_of_the_same_pairs(plms: Plms, tmp_path: Path) -> None:
    first, second = plans_of(tmp_path, plms("bert"), plms("distilbert"))
    assert [plan.setting.plm.source for plan in (first, second)] == [str(plms("bert")), str(plms("distilbert"))]
    assert [(p.target, p.source, p.method) for p in first.pairs] == [
        (p.target, p.source, p.method) for p in second.pairs
    ]
    assert first.tasks == second.tasks
    assert not set(keys_of(first).values()) & set(keys_of(second).values())


def test_names_of_pairs_say_the_plm_where_there_are_several_and_only_there(plms: Plms, tmp_path: Path) -> None:
    first, second = plans_of(tmp_path, plms("bert"), plms("distilbert"), methods=["spot"], sources=["s1"])
    (single,) = plans_of(tmp_path, plms("bert"), methods=["spot"], sources=["s1"])
    bert, distilbert = (str(plms(family)).strip("/") for family in ("bert", "distilbert"))
    assert [pair.name for pair in single.pairs] == ["t · prompt_tuning", "t ← s1 · spot"]
    assert [pair.name for pair in first.pairs] == [f"t · prompt_tuning · {bert}", f"t ← s1 · spot · {bert}"]
    assert [pair.plm for pair in second.pairs] == [distilbert] * 2
    assert Pair("t", None, "prompt_tuning", "x").name == "t · prompt_tuning · x"


@pytest.mark.parametrize(
    ("other", "note"),
    [
        ({"pooling": "cls"}, "cls, after_prompt"),
        ({"positions": "from_zero"}, "mean, from_zero"),
        ({"layers": 1}, ""),
    ],
)
def test_one_plm_read_in_two_ways_is_told_apart_by_how_it_is_read(
    plms: Plms, tmp_path: Path, other: dict[str, object], note: str
) -> None:
    bert = {"from": str(plms("bert"))}
    first, second = plans_of(tmp_path, bert, {**bert, **other})
    labels = [plan.setting.plm.label for plan in (first, second)]
    name = str(plms("bert")).strip("/")
    assert labels == ([f"{name} · mean, after_prompt", f"{name} · {note}"] if note else [name, f"{name} · 1 layers"])
    assert len({pair.name for plan in (first, second) for pair in plan.pairs}) == len(first.pairs) * 2
    assert not set(keys_of(first).values()) & set(keys_of(second).values())


@pytest.mark.parametrize("copied", [False, True])
def test_the_same_plm_twice_is_refused_wherever_its_files_lie(plms: Plms, tmp_path: Path, copied: bool) -> None:
    again = shutil.copytree(plms("bert"), tmp_path / "again") if copied else plms("bert")
    with pytest.raises(Misuse, match=r"plm: each PLM once, but two of the list are the same files, read the same way"):
        plans_of(tmp_path, plms("bert"), again)


def test_a_second_plm_leaves_the_keys_of_the_first_as_they_are(plms: Plms, tmp_path: Path) -> None:
    bert = {"from": str(plms("bert"))}
    (alone,) = plans_of(tmp_path, bert)
    assert alone == plan_of(tmp_path, plms("bert"))
    for other in ({"from": str(plms("distilbert"))}, {**bert, "pooling": "cls"}):
        assert keys_of(plans_of(tmp_path, bert, other)[0]) == keys_of(alone)
        assert keys_of(plans_of(tmp_path, other, bert)[1]) == keys_of(alone)


def test_a_study_keeps_the_partners_of_its_own_plm(plms: Plms, tmp_path: Path) -> None:
    """The studies of two PLMs lie side by side; what one began with does not tell the other."""
    both = plms("bert"), plms("distilbert")
    first, second = plans_of(tmp_path, *both)
    record_study(first, studies_of(first)[f"t ← s1 · spot · {first.setting.plm.label}"])
    write_task(tmp_path / "data/s3", rows_of(60, 2, seed=7), rows_of(24, 2, seed=8))
    more = {"tasks": dict.fromkeys(("s1", "s2", "s3", "t"), OWN), "sources": ["s1", "s2", "s3"]}
    after = plans_of(tmp_path, *both, **more)
    partners = [
        [source.task.name for source in studies_of(plan)[f"t ← s1 · spot · {plan.setting.plm.label}"].base.sources[1:]]
        for plan in after
    ]
    assert partners == [["s2"], ["s3", "s2"]]  # the second has its own: today's most similar
    path = study_path(first.experiment, studies_of(first)[f"t ← s1 · spot · {first.setting.plm.label}"], "json")
    assert json.loads(path.read_text())["pair"] == ["t", "s1", "spot"]
    assert second.experiment.search_path == after[1].experiment.search_path


def test_all_plms_that_are_not_there_are_told_at_once(plms: Plms, tmp_path: Path) -> None:
    with pytest.raises(Misuse) as refused:
        plans_of(tmp_path, tmp_path / "one", plms("bert"), tmp_path / "two")
    lines = str(refused.value).splitlines()
    assert [f"{tmp_path}/{name}" in line for line, name in zip(lines, ("one", "two"), strict=True)] == [True, True]


def test_a_mistake_of_the_second_plm_is_found_before_anything_starts(
    plms: Plms, tmp_path: Path, library: PromptLibrary
) -> None:
    bert = {"from": str(plms("bert"))}
    first, second = plans_of(tmp_path, bert, {**bert, "layers": 9})
    assert check_plan(library, first) == []
    assert [str(problem) for problem in check_plan(library, second)] == [
        f"PLM '{plms('bert')}': layers must be 1 to 2, got 9"
    ]


def test_tuning_for_longer_has_the_steps_of_the_longest_teacher_too(planned: Planned) -> None:
    control = {"methods": ["prompt_tuning_longer", "panda"]}

    def steps(**changes: object) -> tuple[int, int]:
        studies = studies_of(planned(**control, **changes))
        return studies["t · prompt_tuning_longer"].base.steps, studies["t · prompt_tuning"].base.steps

    assert steps() == (8 + 4, 8)  # half of 8
    assert steps(space={"panda": {"teacher_steps": {"choice": [3, 30, 6]}}}) == (8 + 30, 8)
    assert steps(space={"panda": {"teacher_steps": 5}}) == (8 + 5, 8)


def test_tuning_for_longer_is_one_study_of_each_target_without_sources(planned: Planned) -> None:
    plan = planned(methods=["prompt_tuning_longer", "model_tuning"], targets=["t", "s1"])
    names = [
        f"{target} · {m}" for target in ("t", "s1") for m in ("prompt_tuning", "prompt_tuning_longer", "model_tuning")
    ]
    assert [pair.name for pair in plan.pairs] == names
    for study in studies_of(plan).values():
        assert (study.base.sources, study.base.teacher_steps, study.base.source_steps) == ((), 0, 0)
        assert [knob.name for knob in study.space.knobs] == ["learning_rate"]


def test_a_change_of_the_teachers_steps_changes_the_control_too(planned: Planned) -> None:
    control = {"methods": ["prompt_tuning_longer", "panda"]}
    before = studies_of(planned(**control))
    after = studies_of(planned(**control, space={"panda": {"teacher_steps": 3}}))
    changed = {before[name].pair.method for name in before if before[name].key != after[name].key}
    assert changed == {"prompt_tuning_longer", "panda"}
    assert after["t ← s1 · panda"].space.domain("teacher_steps") == Choice((3,))


@pytest.mark.parametrize(
    ("task", "changes", "said"),
    [
        (
            {"kind": "regression", "text": "a"},
            {"prompt": {"length": 3, "init": "labels"}},
            "prompt.init: labels starts from class names, and t has none; use another",
        ),
        (
            {"kind": "regression", "text": "a"},
            {"kd": "kl"},
            "panda: kl is not defined for t (regression); use mse",
        ),
    ],
)
def test_what_a_regression_cannot_do_is_refused(
    planned: Planned, task: dict[str, str], changes: dict[str, object], said: str
) -> None:
    with pytest.raises(Misuse) as refused:
        planned(tasks={"s1": OWN, "s2": OWN, "t": task}, **changes)
    assert str(refused.value) == said


def test_a_regression_may_be_distilled_by_mse_or_not_at_all(planned: Planned) -> None:
    tasks = {"s1": OWN, "s2": OWN, "t": {"kind": "regression", "text": "a"}}
    assert planned(tasks=tasks, kd="mse").tasks["t"].kind == "regression"
    assert planned(tasks=tasks, kd="kl", methods=["spot"]).pairs


@pytest.mark.parametrize("kind", ["regression", "tagging", "extractive_qa"])
def test_relations_of_classes_have_no_weight_where_a_target_has_no_such_classes(
    plms: Plms, tmp_path: Path, kind: str
) -> None:
    """The study is there, and its trials can be built."""
    write_task(tmp_path / "data/t", *(KIND_ROWS[kind][i:] for i in (0, 36)))
    off = {"distill": {"inter_instance": 0}} if kind != "regression" else {}
    others = {"teacher_plm": {"from": str(plms("distilbert"))}, "methods": ["distill"], "space": off}
    plan = plan_of(tmp_path, plms("bert"), tasks={"s1": OWN, "s2": OWN, "t": KIND_TASKS[kind]}, **others)
    study = studies_of(plan)["t · distill"]
    assert study.space.domain("inter_class") == Choice((0.0,))
    assert study.base.with_knobs(study.space.first()).inter_class == 0
    assert next(weak_losses(plan)) == "t has no classes, so distill is trained without inter_class there"


def test_relations_of_two_classes_are_told_to_have_almost_no_gradient(plms: Plms, tmp_path: Path) -> None:
    others = {"teacher_plm": {"from": str(plms("distilbert"))}, "methods": ["distill"], **BATCH_OF_16}

    def notes(**changes: Any) -> list[str]:
        return list(weak_losses(plan_of(tmp_path, plms("bert"), **{**others, **changes})))

    few = "t has two classes, for which inter_class has almost no gradient: "
    helped = "only inter_instance passes on what the larger PLM knows"
    alone = "next to nothing is learnt from the teacher"
    assert notes() == [f"{few}in distill {helped}"]
    assert notes(methods=["panda"], kd="inter_class") == [f"{few}in panda {alone}"]
    both = notes(methods=["panda", "panda_distill"], kd="inter_class")
    assert both == [f"{few}in panda_distill {helped}; in panda {alone}"]
    assert notes(space={"distill": {"inter_class": 0}}) == []


def test_relations_of_a_small_batch_are_refused_or_told_to_be_noise(plms: Plms, tmp_path: Path) -> None:
    def planned_with(size: int, relation: str) -> list[str]:
        train = {"steps": 8, "batch_size": size, "max_length": 16, "eval_every": 2, "seeds": [0, 1]}
        off = {"distill": {"inter_class": 0}}
        others = {"teacher_plm": {"from": str(plms("distilbert"))}, "methods": ["distill"], "space": off}
        return list(weak_losses(plan_of(tmp_path, plms("bert"), train=train, relation=relation, **others)))

    for relation, size in (("inter_instance", 1), ("gram", 2), ("distance", 2)):
        said = f"distill: {relation} compares the examples of a batch and needs at least {size + 1} of them, got {size}"
        with pytest.raises(Misuse, match=said):
            planned_with(size, relation)
        (note,) = planned_with(size + 1, relation)
        assert (
            note == f"{relation} compares the {size + 1} examples of a batch: with fewer than 16 that is mostly noise"
        )
    assert planned_with(16, "gram") == []


@pytest.mark.parametrize("kind", ["tagging", "extractive_qa"])
def test_a_larger_plm_that_cuts_words_elsewhere_is_refused_before_anything_starts(
    plms: Plms, tmp_path: Path, kind: str
) -> None:
    longer: dict[str, Any] = {"words": [f"w1{i % 10}" for i in range(30)], "tags": ["O", "B-X"] * 15}
    rows = [
        {**row, "p": "w1 w2 " * 20 + row["p"]}
        if "p" in row
        else {name: [*row[name], *more] for name, more in longer.items()}
        for row in KIND_ROWS[kind]
    ]
    write_task(tmp_path / "data/t", rows, rows[40:])
    parted = save_wide_plm(tmp_path / "parted", parted=True).source
    space = {"distill": {"lambda": 0.5, "inter_class": 0, "inter_instance": 0}}
    others: dict[str, Any] = {
        "methods": ["distill"],
        "tasks": {"s1": OWN, "s2": OWN, "t": KIND_TASKS[kind]},
        "space": space,
    }
    library = PromptLibrary(tmp_path / "library")

    def problems(teacher: str, **changes: Any) -> list[str]:
        plan = plan_of(tmp_path, plms("bert"), teacher_plm={"from": teacher}, **{**others, **changes})
        return [str(finding) for finding in check_plan(library, plan) if isinstance(finding, Problem)]

    (problem,) = problems(parted)
    assert re.match(f"task t: .*parted cannot teach .* the {kind} t", problem)
    assert problems(str(plms("distilbert"))) == problems(parted, space={}, methods=["panda"]) == []


def test_a_loss_that_a_method_does_not_weigh_is_not_silently_ignored(plms: Plms, tmp_path: Path) -> None:
    others = {"teacher_plm": {"from": str(plms("distilbert"))}, "methods": ["panda", "distill"], **BATCH_OF_16}

    def notes(**changes: Any) -> list[str]:
        off = {"inter_class": 0, **changes.pop("distill", {})}
        return list(weak_losses(plan_of(tmp_path, plms("bert"), **others, space={"distill": off}, **changes)))

    (unheard,) = notes(kd="kl")
    assert unheard.startswith("kd: kl has no part in distill, whose lambda is 0; to compare it there, space:")
    assert notes(kd="kl", distill={"lambda": 0.5}) == []
    assert notes() == []
    (idle,) = notes(distill={"inter_instance": 0})
    assert idle.startswith("distill has no distillation term: lambda, inter_class and inter_instance are all 0")


def test_the_released_code_runs_as_it_is_whatever_loss_the_file_has(planned: Planned) -> None:
    studies = studies_of(planned(methods=["panda", "panda_as_released"], kd="kl", lambda_schedule="decay"))
    assert (studies["t ← s1 · panda"].base.kd, studies["t ← s1 · panda"].base.lambda_schedule) == ("kl", "decay")
    released = studies["t ← s1 · panda_as_released"].base
    assert (released.kd, released.lambda_schedule) == ("mse", "constant")


def test_a_method_that_takes_over_a_head_is_paired_with_sources_of_the_targets_classes_alone(
    plms: Plms, tmp_path: Path
) -> None:
    """In any order, and in a mixture one task is enough; all other methods have all sources."""
    tasks = {"s1": {**OWN, "classes": ["bad", "good"]}, "s2": {**OWN, "classes": ["yes", "no"]}, "t": OWN}
    mixed = {"mixtures": {"pool": ["s1", "s2"], "bad": ["s1"]}, "sources": ["s1", "s2", "pool", "bad"]}
    methods = ["zero_shot", "random_prompt", "tpt_model_zero_shot", "spot"]
    plan = plan_of(
        tmp_path, plms("bert"), tasks=tasks, **mixed, methods=methods, source_plm={"from": str(plms("roberta"))}
    )
    pairs = {method: [pair.source for pair in plan.pairs if pair.method == method] for method in methods}
    assert pairs == {**{method: ["s2", "pool"] for method in methods[:3]}, "spot": ["s1", "s2", "pool", "bad"]}


def test_prompts_of_the_form_that_a_method_takes_are_needed(plms: Plms, tmp_path: Path) -> None:
    said = {"methods": ["tpt_relative", "spot"], "source_plm": {"from": str(plms("roberta"))}}
    rule = "prompt.form: tpt_relative takes prompts of form input alone, got prefix; use prompt.form: input, or leave"
    with pytest.raises(Misuse, match=rule):
        plan_of(tmp_path, plms("bert"), **said)
    plan = plan_of(tmp_path, plms("bert"), **said, prompt={"length": 3, "form": "input"})
    base = studies_of(plan)["t · tpt_relative"].base
    assert (base.relative.plm, base.relative.anchors) == (plan.source_plm, 8192)
    notes = check_plan(PromptLibrary(tmp_path / "library"), plan)
    assert [str(note) for note in notes if "fewer than relative.anchors 8192" in str(note)]


def test_prompts_are_moved_without_sources_by_words_that_both_plms_know(plms: Plms, tmp_path: Path) -> None:
    said = {"methods": ["tpt_relative"], "sources": [], "prompt": {"length": 3, "form": "input"}}
    plan = plan_of(tmp_path, plms("bert"), **said, source_plm={"from": str(save_wide_plm(tmp_path / "w", True).source)})
    (problem,) = check_plan(PromptLibrary(tmp_path / "library"), plan)
    assert "share 0 words that are one token for both, and tpt_relative needs at least 10" in str(problem)


@pytest.mark.parametrize("key", ["teacher_plm", "source_plm"])
def test_a_larger_plm_of_several_may_not_be_one_of_them_however_they_are_told_apart(
    plms: Plms, tmp_path: Path, key: str
) -> None:
    bert = {"from": str(plms("bert"))}
    said = {"methods": ["distill", "tpt_model"], "teacher_plm": {"from": str(plms("distilbert"))}}
    said["source_plm"] = {"from": str(plms("roberta"))}
    with pytest.raises(Misuse, match=rf"plm: .* is its own {key}; name another") as refused:
        plans_of(tmp_path, bert, {**bert, "pooling": "cls"}, **{**said, key: {**bert, "pooling": "cls"}})
    assert len(str(refused.value).splitlines()) == 1


def test_other_plms_are_those_of_every_plan(plms: Plms, tmp_path: Path) -> None:
    said = {"methods": ["distill"], "teacher_plm": {"from": str(plms("electra")), "pooling": "cls"}}
    plans = plans_of(tmp_path, plms("bert"), plms("distilbert"), **said, source_plm={"from": str(tmp_path / "nowhere")})
    assert [plan.teacher_plm and plan.teacher_plm.pooling for plan in plans] == ["cls", "cls"]
    assert [plan.source_plm for plan in plans] == [None, None]
    assert [setting.plm for setting in plans[0].settings] == [plans[0].setting.plm, plans[0].teacher_plm]


WEIGHED = {"weigh_by": {"t": {"s1": 0.5, "s2": 0.4, "pool": 0.9, "unused": 0.8, "t": 1.0}}}


def test_a_table_makes_partners_of_sources_that_are_not_paired_and_of_nothing_else(planned: Planned) -> None:
    """Not of a mixture that is no source, nor of the target, alone or in a mixture."""
    mixed = {"mixtures": {"pool": ["s2", "t"], "unused": ["s2"]}, "sources": ["s1", "s2", "pool"], "methods": ["spot"]}
    plan = planned(**WEIGHED, **mixed, pairs={"t": ["s1"]})
    study = studies_of(plan)["t ← s1 · spot"]
    assert [(source.task.name, source.similarity) for source in study.base.sources] == [("s1", 0.5), ("s2", 0.4)]
    included = studies_of(planned(**WEIGHED, **mixed, pairs={"t": ["s1"]}, self_pairs="include"))["t ← s1 · spot"]
    assert [source.task.name for source in included.base.sources] == ["s1", "pool", "s2"]
