"""How much is trained: what a preset writes, and a small search that ends in time."""

import json
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from tests.kits.tasks import rows_of
from tuning.draft.draft import new
from tuning.draft.presets import LADDER, UNMEASURED, batch_for, length_for, published
from tuning.draft.writing import flow, line
from tuning.experiment.experiment import Experiment
from tuning.experiment.loading import from_values
from tuning.experiment.yaml_file import parse_yaml
from tuning.planning.resolve import make_plans
from tuning.run.dry_run import describe
from tuning.run.estimate import Cost, seconds_from_nothing

Plms = Callable[[str], Path]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two tasks of one's own beside the file's place."""
    for seed, name in enumerate(("first", "second")):
        (tmp_path / "data" / name).mkdir(parents=True)
        rows = "".join(json.dumps(row) + "\n" for row in rows_of(60 + seed, seed=seed))
        (tmp_path / "data" / name / "train.jsonl").write_text(rows, encoding="utf-8")
    return tmp_path


def values_of(folder: Path, plm: Path, **options: Any) -> dict[str, Any]:
    found = parse_yaml(new(folder / "data", folder, plm=str(plm), online=False, **options))
    assert isinstance(found, dict)
    return found


def test_the_usual_preset_is_the_defaults_of_the_file(folder: Path, plms: Plms) -> None:
    written = from_values(values_of(folder, plms("bert")), folder)
    plain = Experiment.placed({"name": "x", "plm": {"from": "x"}, "targets": ["cr"]}, folder)
    assert written.train.steps == plain.train.steps
    assert written.train.seeds == plain.train.seeds
    assert written.source_train == plain.source_train
    assert written.search == plain.search
    assert written.confirm == plain.confirm


def test_the_published_setting_is_a_hundred_epochs_of_one_seed() -> None:
    size = published(rows=2490)
    assert size.steps == 100 * 2490 // 16
    assert (size.trials, size.seeds) == (1, (11,))


def test_batches_and_lengths_fit_the_rows() -> None:
    assert [batch_for(rows) for rows in (10, 20, 40, 60, 1000)] == [2, 4, 8, 16, 16]
    assert [length_for(words) for words in (6, 30, 60, 5000)] == [32, 64, 128, 256]


def test_what_is_written_passes_the_dry_run(folder: Path, plms: Plms) -> None:
    values = values_of(folder, plms("bert"), preset="paper") | {
        "train": {"steps": 8, "batch_size": 4, "max_length": 16}
    }
    told = describe(from_values(values, folder))
    assert "  first ← second · panda" in told
    assert "selects" not in told


def test_a_small_search_ends_in_time_by_its_own_measure(folder: Path, plms: Plms) -> None:
    values = values_of(folder, plms("bert"), preset="small")
    assert values["search"]["trials"] == LADDER[0].trials  # the random model is quick
    assert not (folder / "runs").exists()
    text = new(folder / "data", folder, plm=str(plms("bert")), preset="small", online=False)
    assert "# --preset small: a step takes 0.0" in text


@pytest.mark.parametrize(("step", "place"), [(1e-4, 0), (1e6, len(LADDER) - 1)])
def test_the_largest_search_that_ends_in_time_is_taken(
    folder: Path, plms: Plms, monkeypatch: pytest.MonkeyPatch, step: float, place: int
) -> None:
    monkeypatch.setattr("tuning.draft.fitting.measured", lambda *_: Cost(step, 0.0))
    text = new(folder / "data", folder, plm=str(plms("bert")), preset="small", online=False)
    values = parse_yaml(text)
    assert (values["train"]["steps"], values["search"]["trials"]) == (LADDER[place].steps, LADDER[place].trials)
    assert ("more than it should" in text) is (place > 0)


def test_sizes_become_smaller() -> None:
    work = [(size.steps, size.trials) for size in LADDER]
    assert all(a[0] >= b[0] and a[1] >= b[1] for a, b in pairwise(work))


def test_without_the_plm_a_small_search_is_one_of_few_steps_and_says_so(folder: Path) -> None:
    text = new(folder / "data", folder, plm="nobody/knows", preset="small", online=False)
    assert parse_yaml(text)["train"]["steps"] == UNMEASURED.steps
    assert "no step could be measured, since the plm is not on this machine" in text


def test_the_time_from_nothing_is_that_of_the_dry_run(
    folder: Path, plms: Plms, monkeypatch: pytest.MonkeyPatch
) -> None:
    cost = Cost(0.5, 2.0)
    values = values_of(folder, plms("bert"))
    experiment = from_values(values, folder)
    (plan,) = make_plans(experiment)
    told: list[float] = []
    monkeypatch.setattr("tuning.run.dry_run.measured", lambda *_: cost)
    monkeypatch.setattr("tuning.run.dry_run.duration", lambda s: told.append(s) or "")
    describe(experiment)
    assert told == [pytest.approx(seconds_from_nothing(plan, {"first": cost}))]


@pytest.mark.parametrize(
    "value", ["yes", "1e-2", "it's", "a: b", "#x", "", "null", "1.0", "~", "x\ny", "ß", "-", "a, b", "C:/x", "{text}"]
)
def test_every_text_is_read_back_as_it_is(value: str) -> None:
    assert parse_yaml(f"key: {flow([value])}") == {"key": [value]}
    assert parse_yaml(f"key: {flow({value: value})}") == {"key": {value: value}}
    assert parse_yaml("\n".join(line("key", value, "a # comment\nof two lines"))) == {"key": value}


def test_a_language_model_gets_an_input_prompt_and_is_asked(folder: Path, tmp_path: Path) -> None:
    plm = tmp_path / "causal"
    plm.mkdir()
    (plm / "config.json").write_text('{"architectures": ["LlamaForCausalLM"]}', encoding="utf-8")
    values = values_of(folder, plm)
    assert values["prompt"] == {"form": "input", "length": 20}
    assert values["tasks"]["first"]["template"] == "{a} This is {answer}."
    from_values(values, folder)
