"""Keys of studies: made of what decides their numbers, and of nothing else."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from panda_trainable.config.methods import TRAITS
from tests.kits.small import MEASURED, OWN, WITH_HEADS, every_method, like, studies_of
from tuning.planning.jobs import source_lineage_of, target_lineage_of
from tuning.planning.plan import Plan
from tuning.planning.studies import make_studies
from tuning.tracking.study_runs import of_plan

Plms = Callable[[str], Path]
Planned = Callable[..., Plan]
ALL = {"prompt_tuning", "spot", "panda"}


def train(**changes: Any) -> dict[str, Any]:
    return {"train": {"steps": 8, "batch_size": 4, "max_length": 16, "eval_every": 2, "seeds": [0, 1], **changes}}


SAME: dict[str, dict[str, Any]] = {
    "name": {"name": "other"},
    "trials": {"search": {"trials": 50}},
    "hours": {"search": {"trials": 2, "hours": 3}},
    "live trials": {"search": {"trials": 2, "per_study": 1}},
    "confirm": {"confirm": {"top": 3, "seeds": [20]}},
    "storage": {"storage": "elsewhere"},
    "tracking": {"tracking": {"uri": "http://nowhere:5000"}},
    "resources": {"resources": {"cpu": 2}},
    "report rows": {"limit": {"report": 10}},
    "methods": {"methods": ["panda"]},
    "similarities": {"similarities": ["task_embedding"]},
    "no shots": {"shots": None},
    "the usual start": {"prompt": {"length": 3, "init": "normal"}},
    "the usual start with its deviation": {"prompt": {"length": 3, "init": {"kind": "normal", "std": 0.02}}},
    "settings of other starts": {
        "prompt": {
            "length": 3,
            "init": {"kind": "normal", "scale": 0.1, "population": 9, "sparsity": 0.9, "text": "no"},
        }
    },
    "no mlp": {"prompt": {"length": 3, "mlp": None}},
    "the usual form": {"prompt": {"length": 3, "form": "prefix"}},
    "overlaps that are dropped, without any": {"overlap": "drop"},
    "overlaps that are told, without any": {"overlap": "warn"},
    "overlaps that are refused, without any": {"overlap": "refuse"},
    "metrics of other tasks": {"metrics": "panda"},
}
OTHER: dict[str, tuple[dict[str, Any], set[str]]] = {
    "steps": (train(steps=4), ALL),
    "seeds": (train(seeds=[0, 2]), ALL),
    "batch size": (train(batch_size=2), ALL),
    "evaluations": (train(eval_every=4), ALL),
    "prompt": ({"prompt": {"length": 4}}, ALL),
    "selection": ({"selection": {"fraction": 0.3}}, ALL),
    "protocol": ({"protocol": "paper"}, ALL),
    "train rows": ({"limit": {"train": 40}}, ALL),
    "sampler": ({"search": {"sampler": "random"}}, ALL),
    "scheduler": ({"search": {"scheduler": "none"}}, ALL),
    "sampler's seed": ({"search": {"seed": 1}}, ALL),
    "space": ({"space": {"panda": {"lambda": 0.5}}}, {"panda"}),
    "source steps": ({"source_train": {"steps": 9, "early_step": 4}}, {"spot", "panda"}),
    "distillation": ({"kd": "kl"}, {"panda"}),
    "weights": ({"weigh_by": "c_mean"}, {"spot", "panda"}),
    "deviation of the start": ({"prompt": {"length": 3, "init": {"kind": "normal", "std": 0.03}}}, ALL),
    "start": ({"prompt": {"length": 3, "init": "zeros"}}, ALL),
    "form": ({"prompt": {"length": 3, "form": "input"}}, ALL),
    "mlp": ({"prompt": {"length": 3, "mlp": 4}}, ALL),
    "shots of targets": ({"shots": {"per_class": 4}}, ALL),
    "shots of sources": ({"shots": {"per_class": 4, "for": "sources"}}, {"spot", "panda"}),
    "shots of both": ({"shots": {"per_class": 4, "for": "both"}}, ALL),
}


@pytest.mark.parametrize("change", SAME)
def test_what_decides_no_number_leaves_the_keys_as_they_are(planned: Planned, change: str) -> None:
    before, after = studies_of(planned()), studies_of(planned(**SAME[change]))
    assert {name: study.key for name, study in after.items()}.items() <= {n: s.key for n, s in before.items()}.items()


@pytest.mark.parametrize("change", OTHER)
def test_what_decides_numbers_changes_the_keys_of_those_methods_alone(planned: Planned, change: str) -> None:
    changes, methods = OTHER[change]
    before, after = studies_of(planned()), studies_of(planned(**changes))
    assert {before[name].pair.method for name in before if before[name].key != after[name].key} == methods


DISTILLED = {"panda", "distill", "panda_distill"}
TAUGHT = {"distill", "panda_distill"}
PROJECTED = {"tpt_model", "tpt_model_zero_shot"}
MOVED = {"tpt_relative", "tpt_relative_zero_shot"}
FOR_TARGETS = {"prompt_tuning", "prompt_tuning_longer", "model_tuning", "linear_probe", "distill"}
"""Methods that know of no source."""

OF_SOME: dict[str, tuple[dict[str, Any], set[str]]] = {
    "distillation loss": ({"kd": "kl"}, DISTILLED),
    "schedule of lambda": ({"lambda_schedule": "decay"}, DISTILLED),
    "relation": ({"relation": "gram"}, TAUGHT),
    "weights of partners": ({"partner_weights": "uniform"}, {"spot", "spot_mixture", "panda", "panda_distill"}),
    "how the larger PLM is tuned": ({"teacher_train": {"trains": "model"}}, TAUGHT),
    "steps of the larger PLM": ({"teacher_train": {"steps": 9}}, TAUGHT),
    "steps of the larger PLM as they are": ({"teacher_train": {"steps": 8, "learning_rate": 0.01}}, set()),
    "projector": ({"projector": {"form": "flat"}}, PROJECTED),
    "tasks of the projector": ({"projector": {"tasks": ["s1"]}}, PROJECTED),
    "tasks of the projector as they are": ({"projector": {"tasks": ["s1", "s2"]}}, set()),
    "steps of the projector": ({"projector": {"steps": 9}}, PROJECTED),
    "anchors": ({"relative": {"anchors": 20}}, MOVED),
    "embeddings": ({"embedding": {"pooling": "cls", "layer": 1}}, set()),
    "neurons": ({"neurons": {"inputs": "real"}}, set()),
    "similarities": ({"similarities": ["task_embedding", "on"]}, set()),
    "unused mixtures": ({"mixtures": {"pool": ["s1", "s2"], "unused": ["s2"]}}, set()),
    "space of another": ({"space": {"distill": {"inter_class": 1.0}}}, {"distill"}),
    "source steps": ({"source_train": {"steps": 9, "early_step": 4}}, set(WITH_HEADS) - FOR_TARGETS),
    "rate of sources": (
        {"source_train": {"steps": 8, "early_step": 4, "learning_rate": 0.02}},
        (set(WITH_HEADS) - FOR_TARGETS - {"multitask_model_tuning"}) | {"distill"},
    ),
}  # fmt: skip


@pytest.mark.parametrize("change", OF_SOME)
def test_a_setting_of_some_methods_changes_the_keys_of_those_alone(planned: Planned, plms: Plms, change: str) -> None:
    changes, methods = OF_SOME[change]
    before = studies_of(planned(**every_method(plms)))
    after = studies_of(planned(**every_method(plms, **changes)))
    assert before.keys() == after.keys()
    assert {before[name].pair.method for name in before if before[name].key != after[name].key} == methods


def test_what_caps_a_mixture_counts_where_several_sources_are_trained_on(planned: Planned, plms: Plms) -> None:
    def keys(**changes: Any) -> dict[str, str]:
        plan = planned(**every_method(plms, mixtures={}, sources=["s1", "s2"], **changes))
        return {name: study.key for name, study in studies_of(plan).items()}

    before, after = keys(), keys(mixing_cap=40)
    changed = {name.split(" · ")[-1] for name in before if before[name] != after[name]}
    mixing = {"spot_mixture", "mpt", "multitask_model_tuning"}
    assert changed == {method for method in TRAITS if TRAITS[method].mixes} == mixing


@pytest.mark.parametrize("change", [name for name, (_, methods) in (OTHER | OF_SOME).items() if methods])
def test_what_makes_another_study_is_seen_in_its_parameters(planned: Planned, plms: Plms, change: str) -> None:
    """Two studies that differ in their numbers never look the same to who compares them in MLflow."""

    def told(**changes: Any) -> dict[str, tuple[str, Any]]:
        plan = planned(**every_method(plms, **changes))
        studies = studies_of(plan)
        entries = of_plan(plan, [], list(studies.values()), lambda _: [])
        return {
            name: (study.key, (entry.params, entry.tags["protocol"]))
            for (name, study), entry in zip(studies.items(), entries, strict=True)
        }

    before, after = told(), told(**(OTHER | OF_SOME)[change][0])
    same = [n for n in before if before[n][0] != after[n][0] and before[n][1] == after[n][1]]
    assert same == []


@pytest.mark.parametrize(("key", "methods"), [("teacher_plm", TAUGHT), ("source_plm", PROJECTED | MOVED)])
def test_another_plm_counts_by_its_files_and_only_where_it_is_used(
    planned: Planned, plms: Plms, tmp_path: Path, key: str, methods: set[str]
) -> None:
    before = studies_of(planned(**every_method(plms)))
    usual = json.loads((tmp_path / "experiment.yaml").read_text())[key]["from"]
    copied = studies_of(
        planned(**every_method(plms, **{key: {"from": str(shutil.copytree(usual, tmp_path / "copy"))}}))
    )
    other = studies_of(planned(**every_method(plms, **{key: {"from": str(plms("electra"))}})))
    read_otherwise = studies_of(planned(**every_method(plms, **{key: {"from": usual, "pooling": "cls"}})))
    assert {name: study.key for name, study in copied.items()} == {name: study.key for name, study in before.items()}
    for after in (other, read_otherwise):
        assert {before[name].pair.method for name in before if before[name].key != after[name].key} == methods


def test_a_mixture_counts_by_what_it_holds_and_not_by_its_name(planned: Planned) -> None:
    def keys(name: str, members: list[str], **more: Any) -> set[str]:
        plan = planned(mixtures={name: members}, sources=[name], methods=["spot"], **more)
        return {study.key for study in studies_of(plan, **{name: 0.5}).values() if study.pair.source}

    assert keys("pool", ["s1", "s2"]) == keys("other", ["s1", "s2"])
    assert not keys("pool", ["s1", "s2"]) & keys("pool", ["s1"])
    assert not keys("pool", ["s1", "s2"]) & keys("pool", ["s1", "s2"], mixing_cap=40)


def test_the_prompt_of_a_mixture_of_one_is_no_prompt_of_its_task(planned: Planned) -> None:
    """It says of itself that it is a mixture, so that nothing of the one is taken for the other."""
    plan = planned(mixtures={"alone": ["s1"]}, sources=["s1", "alone"], methods=["spot"])
    one, mixture = (source_lineage_of(plan, plan.source(name)) for name in ("s1", "alone"))
    assert one.key(0) != mixture.key(0)


def test_a_method_more_leaves_the_keys_of_all_others(planned: Planned, plms: Plms) -> None:
    alone = {}
    for method in WITH_HEADS:
        said = every_method(plms, methods=[method] if method != "prompt_tuning" else [])
        alone |= {name: study.key for name, study in studies_of(planned(**said)).items()}
    assert alone == {name: study.key for name, study in studies_of(planned(**every_method(plms))).items()}


def test_another_method_leaves_the_keys_of_those_that_were_there(planned: Planned) -> None:
    before = {name: study.key for name, study in studies_of(planned()).items()}
    more = studies_of(planned(methods=["spot", "panda", "model_tuning", "prompt_tuning_longer"]))
    assert before.items() <= {name: study.key for name, study in more.items()}.items()
    assert len(more) == len(before) + 2


@pytest.mark.parametrize(
    ("whose", "sources", "targets"),
    [("targets", False, True), ("sources", True, False), ("both", True, True)],
)
def test_shots_change_the_prompts_of_those_whose_rows_are_few(
    planned: Planned, whose: str, sources: bool, targets: bool
) -> None:
    before, after = planned(), planned(shots={"per_class": 4, "for": whose})
    for seed in (0, 10):
        old, new = (source_lineage_of(plan, plan.tasks["s1"]).key(seed) for plan in (before, after))
        assert (old != new) is sources
        old, new = (target_lineage_of(plan, plan.tasks["t"]).key(seed) for plan in (before, after))
        assert (old != new) is targets


def test_a_source_that_is_a_target_too_is_drawn_in_both_roles(planned: Planned) -> None:
    """With shots of targets alone its source prompt still sees all of its rows."""
    changes = {"targets": ["t", "s1"], "methods": ["spot"]}
    plan = planned(**changes, shots={"per_class": 4})
    task = plan.tasks["s1"]
    assert source_lineage_of(plan, task) == source_lineage_of(planned(**changes), task)
    assert (source_lineage_of(plan, task).setting.shots, target_lineage_of(plan, task).setting.shots) == (0, 4)


def test_more_shots_are_other_studies(planned: Planned) -> None:
    four, five = (studies_of(planned(shots={"per_class": n, "for": "both"})) for n in (4, 5))
    assert not {study.key for study in four.values()} & {study.key for study in five.values()}


def test_settings_of_the_chosen_start_count_and_those_of_others_do_not(planned: Planned) -> None:
    def keys(**init: Any) -> set[str]:
        plan = planned(prompt={"length": 3, "init": {"kind": "vocabulary", **init}})
        return {study.key for study in studies_of(plan).values()}

    assert keys() == keys(population=5000) == keys(std=3.0, scale=7.0, sparsity=1.0, text="x")
    assert not keys() & keys(population=4)


def test_a_file_to_start_from_counts_by_what_is_in_it(planned: Planned, tmp_path: Path) -> None:
    def keys(name: str) -> list[str]:
        plan = planned(prompt={"length": 3, "init": {"kind": "file", "file": name}})
        assert plan.setting.prompt.init.file == str(tmp_path / name)
        return [study.key for study in studies_of(plan).values()]

    for name, value in (("a", 0.0), ("b", 0.0), ("c", 1.0)):
        save_file({"prompt": torch.full((2, 2, 2, 3, 8), value)}, tmp_path / name)
    assert keys("a") == keys("b")
    assert not set(keys("a")) & set(keys("c"))


def test_where_files_lie_and_what_tasks_are_called_does_not_matter(planned: Planned, tmp_path: Path) -> None:
    before = studies_of(planned())
    shutil.copytree(tmp_path / "data", tmp_path / "there/moved")
    (tmp_path / "there/moved/t").rename(tmp_path / "there/moved/renamed")
    plm = shutil.copytree(planned().setting.plm.source, tmp_path / "there/plm")
    tasks = dict.fromkeys(("s1", "s2", "renamed"), OWN)
    moved = planned(tmp_path / "there", plm, tasks=tasks, targets=["renamed"], data="moved")
    after = make_studies(moved, {(s, "renamed"): like(MEASURED[s]) for s in ("s1", "s2")})[0]
    assert [study.key for study in after] == [study.key for study in before.values()]


@pytest.mark.parametrize(("task", "changed"), [("t", ALL), ("s1", {"spot", "panda"})])
def test_another_row_of_data_makes_other_studies(
    planned: Planned, tmp_path: Path, task: str, changed: set[str]
) -> None:
    before = studies_of(planned())
    with (tmp_path / f"data/{task}/train.jsonl").open("a") as file:
        file.write(json.dumps({"a": "one more", "label": 1}) + "\n")
    after = studies_of(planned())
    assert {before[name].pair.method for name in before if before[name].key != after[name].key} == changed


def test_other_weights_of_the_plm_make_other_studies(planned: Planned, tmp_path: Path) -> None:
    before = studies_of(planned())
    plm = shutil.copytree(planned().setting.plm.source, tmp_path / "plm")
    weights = load_file(plm / "model.safetensors")
    save_file({name: value + 1e-3 for name, value in weights.items()}, plm / "model.safetensors")
    after = studies_of(planned(plm=plm))
    assert not {study.key for study in before.values()} & {study.key for study in after.values()}
