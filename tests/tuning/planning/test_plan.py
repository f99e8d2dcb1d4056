"""The plan: which studies there are, who partners whom, and how a larger file extends a smaller one."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from panda_trainable.config.trial import Source
from panda_trainable.library import PromptLibrary
from search_spaces.space import Int
from tests.kits.small import OWN, like, studies_of
from tests.kits.tasks import rows_of, write_task
from tuning.experiment.loading import load
from tuning.experiment.problems import Misuse
from tuning.planning.checks import Checked
from tuning.planning.partners import partner_order, record_study, recorded_studies, study_path
from tuning.planning.plan import Pair, Plan, Study
from tuning.planning.preflight import CHECKS, preflight
from tuning.planning.studies import make_studies

Planned = Callable[..., Plan]


def partners_of(study: Study) -> list[str]:
    return [source.task.name for source in study.base.sources[1:]]


def with_third(folder: Path) -> dict[str, Any]:
    write_task(folder / "data/s3", rows_of(60, 2, seed=7), rows_of(24, 2, seed=8))
    return {"tasks": dict.fromkeys(("s1", "s2", "s3", "t"), OWN), "sources": ["s1", "s2", "s3"]}


def test_every_target_has_its_baseline_once_and_each_method_with_each_source(planned: Planned) -> None:
    names = ["t · prompt_tuning", "t ← s1 · spot", "t ← s2 · spot", "t ← s1 · panda", "t ← s2 · panda"]
    assert [pair.name for pair in planned().pairs] == names


def test_a_task_is_its_own_source_only_where_the_file_says_so(planned: Planned) -> None:
    both = {"sources": ["s1", "t"], "methods": ["spot"]}
    assert [pair.source for pair in planned(**both).pairs] == [None, "s1"]
    assert [pair.source for pair in planned(**both, self_pairs="include").pairs] == [None, "s1", "t"]


def test_pairs_say_which_sources_a_target_has(planned: Planned) -> None:
    plan = planned(methods=["spot"], targets=["t", "s2"], pairs={"t": ["s2"]})
    assert [(pair.target, pair.source) for pair in plan.pairs if pair.source] == [("t", "s2"), ("s2", "s1")]
    assert plan.measured == [("s2", "t"), ("s1", "s2")]
    assert [task.name for task in planned(methods=["spot"], pairs={"t": ["s2"]}).sources] == ["s2"]


def test_a_table_of_the_file_weighs_sources(planned: Planned) -> None:
    study = studies_of(planned(weigh_by={"t": {"s1": 0.25, "s2": 0.75}}))["t ← s1 · panda"]
    assert [(source.task.name, source.similarity) for source in study.base.sources] == [("s1", 0.25), ("s2", 0.75)]


def test_weigh_by_none_weighs_all_sources_alike(planned: Planned) -> None:
    study = studies_of(planned(weigh_by="none"), s1=-1.0)["t ← s1 · panda"]
    assert [source.similarity for source in study.base.sources] == [1.0, 1.0]
    assert study.similarities == like(-1.0)


def test_weigh_by_names_the_similarity_that_counts(planned: Planned) -> None:
    study = studies_of(planned(weigh_by="c_mean"))["t ← s1 · spot"]
    assert study.base.sources == (Source(study.base.sources[0].task, 0.4), Source(study.base.sources[1].task, 0.2))


def test_a_pair_without_positive_similarity_has_no_panda_study_and_says_so(planned: Planned) -> None:
    plan = planned()
    studies, notes = make_studies(plan, {("s1", "t"): like(-0.25), ("s2", "t"): like(0.5)})
    assert notes == ["t ← s1 · panda is left out: its similarity -0.250 is not positive"]
    assert [study.pair for study in studies] == [pair for pair in plan.pairs if pair != Pair("t", "s1", "panda")]
    spot = next(study for study in studies if study.pair == Pair("t", "s1", "spot"))
    assert partners_of(spot) == []
    assert spot.base.shares == (1.0,)


def test_partners_are_the_most_similar_other_sources_and_ties_go_by_name(planned: Planned) -> None:
    space = planned().experiment.method_space("spot")
    weights = {"pair": 0.5, "b": 0.3, "c": 0.9, "a": 0.3, "worse": -0.1, "none": 0.0}
    assert partner_order(space, "pair", weights, weights) == ["c", "a"]
    assert partner_order(space.overridden({"partners": Int(0, 5)}), "pair", weights, weights) == ["c", "a", "b"]
    assert partner_order(space, "worse", weights, weights) == []


def test_partners_that_nothing_weighs_are_the_most_similar_by_what_is_measured_first(
    planned: Planned, tmp_path: Path
) -> None:
    plan = planned(**with_third(tmp_path), weigh_by="none", methods=["spot"], similarities=["c_mean", "c_pair"])
    measured = {"s1": -0.2, "s2": 0.5, "s3": 0.9}
    studies, _ = make_studies(plan, {(name, "t"): {"c_mean": v, "c_pair": -v} for name, v in measured.items()})
    partners = {study.pair.source: partners_of(study) for study in studies if study.pair.source}
    assert partners == {"s1": ["s3", "s2"], "s2": ["s3", "s1"], "s3": ["s2", "s1"]}


def test_a_study_that_began_with_partners_keeps_them_and_its_key_when_a_source_is_added(
    planned: Planned, tmp_path: Path
) -> None:
    small = planned()
    before = studies_of(small)
    for study in before.values():
        record_study(small, study)
    after = studies_of(planned(**with_third(tmp_path)))
    assert {name: after[name].key for name in before} == {name: study.key for name, study in before.items()}
    assert partners_of(after["t ← s1 · spot"]) == ["s2"]
    assert partners_of(after["t ← s3 · spot"]) == ["s1", "s2"]
    assert partners_of(studies_of(planned(**with_third(tmp_path), name="anew"))["t ← s1 · spot"]) == ["s3", "s2"]


@pytest.mark.parametrize("content", ["{", "[]", '{"key": 1}', "[" * 10_000, '{"key": "k", "pair": 3}'])
def test_a_damaged_card_of_a_study_is_named_set_aside_and_written_again(planned: Planned, content: str) -> None:
    plan = planned()
    study = studies_of(plan)["t ← s1 · spot"]
    record_study(plan, study)
    path = study_path(plan.experiment, study, "json")
    sound = path.read_text()
    path.write_text(content)
    cards, (said,) = recorded_studies(plan.experiment)
    assert cards == []
    assert said.startswith(f"{path} is damaged (")
    assert path.with_name(f"{path.name}.damaged-1").read_text() == content
    record_study(plan, study)
    assert path.read_text() == sound


def test_partners_of_a_study_that_was_another_are_not_kept(planned: Planned, tmp_path: Path) -> None:
    small = planned()
    record_study(small, studies_of(small)["t ← s1 · spot"])
    later = planned(**with_third(tmp_path), train={"steps": 4, "batch_size": 4, "max_length": 16, "eval_every": 2})
    assert partners_of(studies_of(later)["t ← s1 · spot"]) == ["s3", "s2"]


def test_a_changed_partners_domain_is_searched_whatever_an_earlier_study_had(planned: Planned, tmp_path: Path) -> None:
    alone = planned(space={"spot": {"partners": 0}, "panda": {"partners": 0}})
    for study in studies_of(alone).values():
        record_study(alone, study)
    after, fresh = studies_of(planned()), studies_of(planned(name="fresh"))
    assert {name: study.space for name, study in after.items()} == {name: study.space for name, study in fresh.items()}
    assert {name: study.key for name, study in after.items()} == {name: study.key for name, study in fresh.items()}


def test_a_study_is_recorded_once_with_what_it_began_with(planned: Planned) -> None:
    plan = planned()
    study = studies_of(plan)["t ← s1 · panda"]
    record_study(plan, study)
    path = study_path(plan.experiment, study, "json")
    card = json.loads(path.read_text())
    assert (card["key"], card["pair"], card["partners"]) == (study.key, ["t", "s1", "panda"], ["s2"])
    path.write_text("{}")
    record_study(plan, study)
    assert path.read_text() == "{}"


def test_all_that_is_missing_is_told_at_once(planned: Planned, tmp_path: Path) -> None:
    with pytest.raises(Misuse) as refused:
        planned(plm=tmp_path / "no-plm", data="no-data")
    said = str(refused.value).splitlines()
    assert [f"{tmp_path}/no-plm" in line for line in said] == [True, False, False, False]
    assert [line.split(":")[0] for line in said[1:]] == ["task t", "task s1", "task s2"]
    assert all(f"not found in {tmp_path}/no-data" in line for line in said[1:])
    assert not (tmp_path / "runs").exists()


def test_rows_that_are_wrong_are_told_with_file_and_line(planned: Planned, tmp_path: Path) -> None:
    planned()
    for task, row in (("t", {"a": "x", "label": 2}), ("s1", {"a": " ", "label": 1})):
        with (tmp_path / f"data/{task}/validation.jsonl").open("a") as file:
            file.write(json.dumps(row) + "\n")
    with pytest.raises(Misuse) as refused:
        planned()
    assert "data/t/validation.jsonl:25: label must be 0 to 1 or one of no, yes, got 2" in str(refused.value)
    assert "data/s1/validation.jsonl:25: a must be a text that is not empty, got ' '" in str(refused.value)


@pytest.mark.parametrize("layers", [3, 99])
def test_more_layers_than_the_plm_has_are_refused_before_anything_starts(
    planned: Planned, library: PromptLibrary, tmp_path: Path, layers: int
) -> None:
    planned()
    with pytest.raises(Misuse, match=f"layers must be 1 to 2, got {layers}"):
        preflight(load(tmp_path / "experiment.yaml", [f"plm.layers={layers}"]), library)


def test_rows_that_cannot_be_split_are_refused_before_anything_starts(planned: Planned, library: PromptLibrary) -> None:
    plan = planned(selection={"fraction": 0.01}, limit={"train": 10}, prompt={"length": 60})
    with pytest.raises(Misuse) as refused:
        preflight(plan.experiment, library)
    assert any("60" in line for line in str(refused.value).splitlines())


@pytest.mark.parametrize(
    ("train", "confirm", "told"),
    [
        (3, [10], ["train.seeds is the one seed 3; for 3 seeds write [0, 1, 2]"]),
        ([0], 2, ["confirm.seeds is the one seed 2; for 2 seeds write [10, 11]"]),
        ([0, 1], [10, 11], []), (0, 10, []), (42, 1, []),
    ],
)  # fmt: skip
def test_one_seed_that_may_be_meant_as_a_count_is_told(planned: Planned, train: Any, confirm: Any, told: list[str]) -> None:  # fmt: skip
    plan = planned(train={"steps": 8, "seeds": train}, confirm={"seeds": confirm})
    found = CHECKS["seeds"].find(Checked(PromptLibrary(Path()), plan, searches=True), plan)
    assert list(found or ()) == told


def test_a_study_has_no_more_trials_than_configurations(planned: Planned) -> None:
    """The partner that there is doubles those of spot."""
    space = {name: {"learning_rate": {"choice": [0.001, 0.01]}} for name in ("prompt_tuning", "spot")}
    plan = planned(methods=["spot", "panda"], space=space, search={"trials": 3})
    assert {name: study.budget for name, study in studies_of(plan).items()} == {
        "t · prompt_tuning": 2, "t ← s1 · spot": 3, "t ← s2 · spot": 3, "t ← s1 · panda": 3, "t ← s2 · panda": 3,
    }  # fmt: skip
    assert studies_of(planned(methods=["spot"], space=space, search={"trials": 9}))["t ← s1 · spot"].budget == 4
