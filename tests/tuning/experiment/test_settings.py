"""A setting is one line: what is said of it there stands in the file, the key, MLflow, pinned files and the document."""

from collections.abc import Iterator
from dataclasses import dataclass, fields, make_dataclass, replace
from typing import Annotated, Any, get_type_hints

import pytest
from annotated_types import Ge
from pydantic import TypeAdapter, ValidationError

from panda_trainable.config.keys import content_key
from panda_trainable.config.section import Doc, Section, as_filed, file_key, flattened, section_in, settings_of
from panda_trainable.config.setting import CommonSettings, PlmSettings
from panda_trainable.config.trial import MethodSettings, ProjectorSettings, RelativeSettings, TeacherTrainSettings
from tests.kits.small import every_method, studies_of
from tuning.experiment import reference
from tuning.experiment.experiment import Experiment, TrialKeys
from tuning.experiment.pinned import pinned, trial_settings
from tuning.experiment.reference import table
from tuning.tracking.study_runs import of_plan

NEEDED = {"shots": {"per_class": 6, "for": "both"}}


def keys_of(section: type, above: str = "") -> Iterator[str]:
    """`section.key` of every setting of a section and of the sections inside."""
    for name in settings_of(section):
        inner = section_in(get_type_hints(section)[name])
        key = above + file_key(name)
        yield from keys_of(inner, f"{key}.") if inner else [key]


EVERY = {
    *keys_of(TrialKeys), *keys_of(PlmSettings, "plm."), *keys_of(PlmSettings, "teacher_plm."),
    *keys_of(PlmSettings, "source_plm."), *keys_of(TeacherTrainSettings, "teacher_train."),
    *keys_of(ProjectorSettings, "projector."), *keys_of(RelativeSettings, "relative."),
}  # fmt: skip


def in_schema(schema: dict[str, Any], part: dict[str, Any], above: str = "") -> Iterator[tuple[str, str]]:
    """(`section.key`, meaning) of a JSON schema."""
    for key, inner in part.get("properties", {}).items():
        yield above + key, inner.get("description", "")
        refs = [
            inner,
            *inner.get("anyOf", ()),
            inner.get("items", {}),
            *(i.get("items", {}) for i in inner.get("anyOf", ())),
        ]
        for name in {ref["$ref"].rsplit("/", 1)[-1] for ref in refs if "$ref" in ref}:
            yield from in_schema(schema, schema["$defs"][name], f"{above}{key}.")


def test_every_setting_of_a_trial_is_in_the_schema_mlflow_pinned_files_and_the_table(planned: Any, plms: Any) -> None:
    plan = planned(**every_method(plms, methods=["panda_distill", "tpt_model", "tpt_relative"]), **NEEDED)
    studies = list(studies_of(plan).values())
    assert {key for key, meaning in in_schema(Experiment.schema(), Experiment.schema()) if meaning} >= EVERY
    told = [update.params for update in of_plan(plan, [], studies, lambda job: [])]
    assert {key for params in told for key in params} >= EVERY
    files = [dict(flattened(pinned(plan.experiment, study.base, study.pair.source))) for study in studies]
    assert {key for file in files for key in file} >= EVERY
    rows = {line.split("`")[1] for line in table().splitlines() if line.startswith("| `")}
    assert {key for key in EVERY if not key.startswith(("teacher_plm.", "source_plm."))} <= rows


def test_what_is_told_are_the_values_that_the_trial_has(planned: Any) -> None:
    """Not those of the file where a method does without: and seeds and steps of the very trial."""
    plan = planned(kd="kl", lambda_schedule="decay", partner_weights="uniform", methods=["spot"])
    base = replace(studies_of(plan)["t ← s1 · spot"].base, seeds=(7,), steps=3)
    said = dict(flattened(trial_settings(plan.experiment, base)))
    assert (said["kd"], said["lambda_schedule"], said["partner_weights"]) == ("mse", "constant", "uniform")
    assert (said["train.seeds"], said["train.steps"], said["prompt.length"]) == ([7], 3, 3)


@dataclass(frozen=True)
class Made(Section):
    """A section with a made-up setting."""

    width: Annotated[int, Ge(1), Doc("of something")] = 4


def test_a_made_up_setting_of_one_line_is_read_checked_keyed_written_and_told(monkeypatch: pytest.MonkeyPatch) -> None:
    read = TypeAdapter(Made)
    assert read.validate_python({"width": 5}) == Made(5)
    for wrong in ({"width": 0}, {"wide": 3}, {"width": float("inf")}):
        with pytest.raises(ValidationError):
            read.validate_python(wrong)
    assert read.json_schema()["properties"]["width"]["description"] == "of something"
    assert (
        content_key("study", Made(5)) != content_key("study", Made()) == content_key("study", make_dataclass("E", [])())
    )
    assert as_filed(Made(5)) == {"width": 5}
    monkeypatch.setattr(reference, "Experiment", Made)
    assert table().splitlines()[2:] == ["| `width` | `4` | of something |"]


@pytest.mark.parametrize("section", [CommonSettings, MethodSettings, PlmSettings, ProjectorSettings, RelativeSettings])
def test_every_field_of_a_section_is_a_documented_setting(section: type) -> None:
    assert set(settings_of(section)) == {field.name for field in fields(section)}
    assert all(settings_of(section).values())
