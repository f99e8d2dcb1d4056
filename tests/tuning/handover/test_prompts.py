"""Imported prompts: they serve as sources as they are, for the PLM that they are of, and nothing of them is trained."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from panda_trainable.config.given import GivenPrompt
from panda_trainable.config.keys import content
from panda_trainable.library import PromptLibrary
from panda_trainable.similarity.similarities import c_mean
from panda_trainable.transfer.lineage import tuned_prompts
from panda_trainable.transfer.methods import open_trainer
from tests.kits.command import experiment_file, panda_tune_here
from tests.kits.small import rewritten
from tuning.experiment.loading import load
from tuning.experiment.pinned import pinned
from tuning.experiment.problems import Misuse
from tuning.handover.prompts import import_prompt
from tuning.planning.jobs import source_jobs, source_lineage_of, target_jobs, target_lineage_of
from tuning.planning.plan import Plan
from tuning.planning.preflight import check_plan, preflight
from tuning.planning.resolve import make_plans
from tuning.planning.studies import make_studies
from tuning.run.jobs import make, measure, source_cards
from tuning.tracking.study_runs import of_plan

SETTINGS: dict[str, Any] = {
    "imported": ["elsewhere"], "sources": ["elsewhere"], "methods": ["spot", "panda"], "prompt": {"form": "input", "length": 3},
    "similarities": ["c_mean", "e_avg", "task_embedding", "c_mean_change", "logme", "leep", "on"], "weigh_by": "c_mean",
}  # fmt: skip
H = 16


@pytest.fixture(scope="module")
def there(tmp_path_factory: pytest.TempPathFactory, plms: Callable[[str], Path]) -> Path:
    """A folder with an experiment, into whose library a file of torch was imported."""
    folder = tmp_path_factory.mktemp("there")
    experiment_file(folder, plms("bert"), **SETTINGS)
    torch.manual_seed(0)
    torch.save(torch.randn(3, H).abs(), folder / "task_prompt")  # pairs with a positive similarity have PANDA studies
    done = panda_tune_here(
        "library",
        "import",
        folder / "experiment.yaml",
        folder / "task_prompt",
        "--name",
        "elsewhere",
        "--shape",
        "3,16",
    )
    assert done.stdout.startswith("elsewhere: a prompt of form input and length 3 for ")
    return folder


@pytest.fixture(scope="module")
def plan(there: Path) -> Plan:
    return make_plans(load(there / "experiment.yaml"))[0]


@pytest.fixture(scope="module")
def library(there: Path) -> PromptLibrary:
    return PromptLibrary(there / "runs/library")


def test_an_imported_prompt_is_a_source_of_which_all_seeds_have_the_same_prompt(
    there: Path, plan: Plan, library: PromptLibrary
) -> None:
    (source,) = plan.sources
    assert isinstance(source, GivenPrompt)
    lineage = source_lineage_of(plan, source)
    assert {lineage.key(0), lineage.key(7), lineage.at(3).key(0)} == {source.key}
    stored = torch.load(there / "task_prompt", weights_only=True)
    assert all(torch.equal(each.prompt, stored) for each in tuned_prompts(library, lineage, (0, 1), (4,)))


def test_its_key_is_that_of_its_numbers_and_its_plm(
    there: Path, plan: Plan, tmp_path: Path, plms: Callable[[str], Path]
) -> None:
    same = tmp_path / "a.safetensors"
    save_file({"x": torch.load(there / "task_prompt", weights_only=True)}, same)
    changes = {"prompt": {"form": "input", "length": 5}, "source_train": {"steps": 9, "early_step": 3}}
    file = experiment_file(tmp_path, plms("bert"), **{**SETTINGS, **changes})
    import_prompt(load(file), same, "elsewhere")
    assert make_plans(load(file))[0].given == plan.given
    torch.save(torch.zeros(3, 16), tmp_path / "zeros")
    import_prompt(load(file), tmp_path / "zeros", "elsewhere")
    assert make_plans(load(file))[0].given["elsewhere"].key != plan.given["elsewhere"].key
    assert content(GivenPrompt("a", "k")) == content(GivenPrompt("b", "k"))


def test_similarities_of_prompts_are_measured_and_others_are_told_as_missing(
    plan: Plan, library: PromptLibrary
) -> None:
    for job in (*source_jobs(plan), *target_jobs(plan)):
        make(library, job)
    found = measure(library, plan)["elsewhere", "t"]
    assert set(found) == {"c_mean", "e_avg", "logme", "on"}
    prompts = (
        [tuned_prompts(library, lineage, [seed])[0].prompt for lineage in lineages]
        for lineages in [(source_lineage_of(plan, plan.sources[0]), target_lineage_of(plan, plan.tasks["t"]))]
        for seed in plan.experiment.train.seeds
    )
    assert found["c_mean"] == pytest.approx(sum(c_mean(*pair) for pair in prompts) / 2, abs=1e-6)
    notes = check_plan(library, plan)
    assert [str(note) for note in notes if "elsewhere" in str(note)] == [
        (
            "nothing is known of what elsewhere was trained on: texts shared with targets are not found, and similarities "
            "that read more than a prompt have no value"
        ),
        *(
            f"{name} is not measured for t ← elsewhere: it reads more than a prompt, and of elsewhere a prompt alone was imported"
            for name in ("task_embedding", "c_mean_change", "leep")
        ),
    ]


def test_students_start_from_it_and_teachers_too(plan: Plan, library: PromptLibrary) -> None:
    studies, _ = make_studies(plan, {("elsewhere", "t"): {"c_mean": 0.5}})
    stored = tuned_prompts(library, source_lineage_of(plan, plan.sources[0]), (0,))[0].prompt
    by_method = {study.pair.method: study for study in studies}
    spot = replace(by_method["spot"].base.with_knobs(by_method["spot"].space.first()), seeds=(0, 1))
    start = open_trainer(library, spot).student.prompt()
    assert start is not None and torch.equal(start.detach(), torch.stack([stored, stored]))
    panda = by_method["panda"].base.with_knobs(by_method["panda"].space.first())
    assert panda.sources[0].similarity == 0.5
    trainer = open_trainer(library, panda)
    trainer.advance(1)
    again = make_plans(load(plan.experiment.folder / "experiment.yaml"))[0]
    assert [study.key for study in make_studies(again, {("elsewhere", "t"): {"c_mean": 0.5}})[0]] == [
        study.key for study in studies
    ]


def test_mlflow_is_told_of_it_once_and_a_pinned_file_names_it(plan: Plan, library: PromptLibrary, there: Path) -> None:
    studies, _ = make_studies(plan, {("elsewhere", "t"): {"c_mean": 0.5}})
    runs = list(of_plan(plan, source_jobs(plan), studies, lambda job: list(source_cards(library, job))))
    (own,) = [run for run in runs if run.tags["stage"] == "source"]
    assert (own.name, own.params, own.metrics) == (
        "elsewhere · imported", {"imported": "task_prompt", "shape": [3, 16]}, {},
    )  # fmt: skip
    spot = next(study for study in studies if study.pair.method == "spot")
    config = replace(spot.base.with_knobs(spot.space.first()), seeds=(10, 11))
    filed = pinned(plan.experiment, config, "elsewhere")
    assert (filed["imported"], filed["sources"]) == (["elsewhere"], ["elsewhere"])
    file = there / "pinned.yaml"
    file.write_text(json.dumps(filed), encoding="utf-8")
    assert make_plans(load(file))[0].given == plan.given


@pytest.fixture
def here(tmp_path: Path, plms: Callable[[str], Path]) -> Callable[..., Path]:
    """An experiment with the changes, into whose library the prompt was imported."""

    def file(**changes: Any) -> Path:
        made = experiment_file(tmp_path, plms("bert"), **SETTINGS)
        torch.save(torch.ones(3, H), tmp_path / "elsewhere.pt")
        import_prompt(load(made), tmp_path / "elsewhere.pt")
        return rewritten(made, **changes)

    return file


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "another length": (
        {"prompt": {"form": "input", "length": 4}},
        "its prompt has form input and length 3, and prompt has form input and length 4; use prompt: {form: input, length: 3}",
    ),
    "another form": ({"prompt": {"form": "prefix", "length": 3}}, "imported elsewhere: its prompt has form input and length 3"),
    "a name that was not imported": (
        {"imported": ["other"], "sources": ["other"]}, "imported other: no prompt of that name was imported for ",
    ),
    "a weight that it has not": (
        {"weigh_by": "task_embedding"}, "weigh_by: task_embedding is to weigh the sources of spot, panda, and is not defined for t ← elsewhere",
    ),
    "rows that it has not": ({"methods": ["spot_mixture"]}, "spot_mixture: trains on rows of elsewhere, of which"),
    "a head that it has not": ({"methods": ["zero_shot"]}, "methods: zero_shot takes over a source's head, and no source has"),
}  # fmt: skip


@pytest.mark.parametrize("how", REFUSED)
def test_what_it_cannot_serve_for_is_refused_before_anything_starts(here: Callable[..., Path], how: str) -> None:
    changes, said = REFUSED[how]
    file = here(**changes)
    with pytest.raises(Misuse) as refused:
        preflight(load(file), PromptLibrary(file.parent / "runs/library"))
    assert said in str(refused.value), refused.value


def test_a_prompt_for_another_plm_is_not_taken_for_this_one(
    here: Callable[..., Path], plms: Callable[[str], Path]
) -> None:
    file = here(plm={"from": str(plms("electra"))})
    with pytest.raises(Misuse, match="imported elsewhere: no prompt of that name was imported for .*electra"):
        make_plans(load(file))


def test_a_damaged_one_is_told_and_not_trained(here: Callable[..., Path]) -> None:
    (plan,) = make_plans(load(here()))
    library = PromptLibrary(plan.experiment.storage_path / "library")
    (library.path("prompts", plan.given["elsewhere"].key) / "prompt.safetensors").write_bytes(b"")
    (problem,) = [each for each in check_plan(library, plan) if "elsewhere" in str(each) and "damaged" in str(each)]
    assert str(problem) == "imported elsewhere: its prompt in the library is missing or damaged; import its file again"
    with pytest.raises(ValueError, match="the imported prompt elsewhere is missing in the library, or damaged"):
        tuned_prompts(library, source_lineage_of(plan, plan.sources[0]), [0])


ASKED: dict[str, tuple[list[str], str]] = {
    "a task's name": (["--name", "s1"], "--name s1: is a task or mixture already; give the prompt another name"),
    "no name": (["--name", "a b"], "--name a b: must be a name that a task may have"),
    "no PLM": (["--plm", "gpt"], "--plm gpt: is none of the experiment's PLMs"),
    "no shape": (["--shape", "3,x,"], "--shape 3,x,: must be positive numbers with commas between them"),
    "another shape": (["--shape", "4,12"], "holds a tensor of shape [3, 16], declared was [4, 12]"),
}


@pytest.mark.parametrize("how", ASKED)
def test_what_is_asked_wrongly_is_refused_and_nothing_is_written(
    tmp_path: Path, plms: Callable[[str], Path], how: str
) -> None:
    options, said = ASKED[how]
    torch.save(torch.ones(3, H), tmp_path / "elsewhere.pt")
    file = experiment_file(tmp_path, plms("bert"), **SETTINGS)
    done = panda_tune_here("library", "import", file, tmp_path / "elsewhere.pt", *options, code=2)
    assert said in done.stderr
    assert not (tmp_path / "runs").exists()


def test_a_damaged_name_of_an_imported_prompt_is_as_if_it_had_not_been_imported(
    tmp_path: Path, plms: Callable[[str], Path]
) -> None:
    torch.save(torch.ones(3, H), tmp_path / "elsewhere.pt")
    file = experiment_file(tmp_path, plms("bert"), **SETTINGS)
    panda_tune_here("library", "import", file, tmp_path / "elsewhere.pt")
    given = tmp_path / "runs/library/given/elsewhere.json"
    sound = given.read_text()
    given.write_text("{")
    with pytest.raises(Misuse, match="no prompt of that name was imported .*; panda-tune library import"):
        preflight(load(file), PromptLibrary(tmp_path / "runs/library"))
    panda_tune_here("library", "import", file, tmp_path / "elsewhere.pt")
    assert given.read_text() == sound


def test_a_prompt_of_another_width_is_refused(tmp_path: Path, plms: Callable[[str], Path]) -> None:
    torch.save(torch.ones(3, 768), tmp_path / "elsewhere.pt")
    file = experiment_file(tmp_path, plms("bert"), **SETTINGS)
    done = panda_tune_here("library", "import", file, tmp_path / "elsewhere.pt", code=2)
    assert (
        "a prompt of this PLM has shape input ['P', 16] or prefix [2, 2, 2, 'P', 8] with P tokens, got [3, 768]"
        in done.stderr
    )
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"imported": ["t"]}, "t is a task or mixture already"),
        ({"imported": []}, "unknown task 'elsewhere'"),
        ({"imported": ["elsewhere", "elsewhere"]}, "each imported prompt once"),
    ],
)
def test_names_of_imported_prompts_are_checked(
    tmp_path: Path, plms: Callable[[str], Path], changes: dict[str, Any], said: str
) -> None:
    file = experiment_file(tmp_path, plms("bert"), **{**SETTINGS, **changes})
    with pytest.raises(Misuse) as refused:
        load(file)
    assert said in str(refused.value)
