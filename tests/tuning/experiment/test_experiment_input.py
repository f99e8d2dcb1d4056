"""Whatever stands in the file or behind -o: an Experiment or a Misuse, never another exception."""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from panda_trainable.config.section import settings_of
from tests.kits.command import experiment_file
from tuning.experiment.experiment import Experiment, TaskSection
from tuning.experiment.loading import load
from tuning.experiment.names import printable
from tuning.experiment.problems import Misuse
from tuning.planning.resolve import load_whole, resolve


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory, plms: Callable[[str], Path]) -> Path:
    return experiment_file(tmp_path_factory.mktemp("input"), plms("bert"))


@pytest.fixture(scope="module")
def without_hub() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_HUB_OFFLINE", "1")
        yield


def test_an_override_wins_over_the_file(file: Path) -> None:
    overrides = ["search.trials=9", "train={steps: 5, seeds: [4]}", "space.panda.lambda=0.5", "name=other"]
    experiment = load(file, overrides)
    assert (experiment.search.trials, experiment.train.steps, experiment.name) == (9, 5, "other")
    assert experiment.train.seeds == (4,)
    assert experiment.method_space("panda").first()["lambda"] == 0.5


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("search=3", "-o search=3: search: Input should be a valid dictionary"),
        ("search.trials=0", "-o search.trials=0: search.trials: Input should be greater than or equal to 1, got 0"),
        ("search.repeats=0", "-o search.repeats=0: search.repeats: Input should be greater than or equal to 1, got 0"),
        (
            "search.repeats=-1",
            "-o search.repeats=-1: search.repeats: Input should be greater than or equal to 1, got -1",
        ),
        ("search.repeats=1.5", "-o search.repeats=1.5: search.repeats: Input should be a valid integer"),
        ("search.repeats=two", "-o search.repeats=two: search.repeats: Input should be a valid integer"),
        ("search.trails=1", "-o search.trails=1: search.trails: unknown key (did you mean trials?)"),
        ("nothing", "-o nothing: must be key.key=value of the experiment file"),
        ("name.first=x", "-o name.first=x: must be key.key=value of the experiment file"),
        ("=", "-o =: "),
        ("=3", "-o =3: "),
        ("train.steps=[", "-o train.steps=[: "),
        ("train.steps={a", "-o train.steps={a: "),
        ("train.steps=2020-13-45", "-o train.steps=2020-13-45: "),
        ("train.steps=", "-o train.steps=: train.steps: Input should be a valid integer"),
        ("train.steps=a=b", "-o train.steps=a=b: train.steps: Input should be a valid integer"),
        ("train={steps: -1}", "-o train={steps: -1}: train.steps: "),
        ("space.panda.fusion=[early, late]", "-o space.panda.fusion=[early, late]: "),
        ("", "-o : must be key.key=value"),
    ],
)
def test_a_wrong_override_is_refused_with_itself_as_the_place(file: Path, override: str, said: str) -> None:
    with pytest.raises(Misuse) as refused:
        load(file, [override])
    assert any(line.startswith(said) for line in str(refused.value).splitlines())


def test_an_override_fills_a_section_that_the_file_leaves_empty(tmp_path: Path) -> None:
    file = experiment_file(tmp_path, tmp_path / "plm", search=None)
    assert load(file, ["search.trials=3"]).search.trials == 3


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "must map keys to values, got NoneType"),
        (b"# nothing but a comment\n", "must map keys to values, got NoneType"),
        (b"- name\n- plm\n", "must map keys to values, got list"),
        (b"just a text", "must map keys to values, got str"),
        (b"name: [unclosed", "is not YAML: "),
        (b"name: x\n\tplm: y", "is not YAML: "),
        (b"a: 1\n---\nb: 2\n", "holds 2 experiments, and one is wanted: ?, ?"),
        (b"? [a, b]\n: 1\n", "is not YAML: "),
        (b"name: 2020-13-45\n", "is not YAML: "),
        (b"name: !!python/object:os.system x\n", "is not YAML: "),
        (b"\xff\xfe\x00\x01\x02binary", "cannot be read: "),
        (b"name: \x00\x07\n", "is not YAML: "),
        (b"1: 2\n", "Keys should be strings"),
    ],
)
def test_a_file_that_is_no_experiment_is_refused(tmp_path: Path, content: bytes, said: str) -> None:
    file = tmp_path / "broken.yaml"
    file.write_bytes(content)
    with pytest.raises(Misuse) as refused:
        load(file)
    assert str(file) in str(refused.value)
    assert said in str(refused.value)


def test_a_file_that_is_not_there_is_refused_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(Misuse, match=r"nowhere.yaml: no such file; write one .* or try: panda-tune quickstart"):
        load(tmp_path / "nowhere.yaml")
    with pytest.raises(Misuse, match="cannot be read"):
        load(tmp_path)


def nested_keys(schema: Any) -> set[str]:
    """All keys that any section of the file may have."""
    inner = schema.values() if isinstance(schema, dict) else schema if isinstance(schema, list) else ()
    own = set(schema.get("properties", {})) if isinstance(schema, dict) else set()
    return own.union(*(nested_keys(part) for part in inner))


KEYS = sorted(nested_keys(Experiment.schema()))
SCALARS = st.none() | st.booleans() | st.integers(-3, 9) | st.integers() | st.floats() | st.text(max_size=6)
NAMES = st.sampled_from(
    ["s1", "t", "demo_meals", "panda", "late", "choice", "int", "log", "partners", "early", "text", "prefix", "both"]
)
VALUES = st.recursive(
    SCALARS | NAMES,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(NAMES | st.sampled_from(KEYS) | st.text(max_size=4), inner, max_size=3)
    ),
    max_leaves=6,
)
FIELDS = st.sampled_from([*settings_of(Experiment)])
DOMAINS = st.dictionaries(
    st.sampled_from(["lambda", "partners", "fusion", "teacher_steps", "learning_rate"]), VALUES, max_size=3
)
SECTIONS = ("plm", "prompt", "train", "source_train", "limit", "selection", "search", "confirm", "shots", "tracking")


def mutated(values: dict[str, Any], draw: Any) -> dict[str, Any]:
    for _ in range(draw(st.integers(1, 3))):
        key = draw(FIELDS)
        kind = draw(st.sampled_from(["drop", "replace", "inside", "add", "space", "task", "plms"]))
        if kind == "drop":
            values.pop(key, None)
        elif kind == "space":
            values["space"] = {draw(st.sampled_from(["panda", "spot", "model_tuning"])): draw(DOMAINS)}
        elif kind == "task":
            inner = draw(st.sampled_from([*settings_of(TaskSection)]))
            tasks = values.get("tasks") if isinstance(values.get("tasks"), dict) else {}
            values["tasks"] = {**tasks, "t": {"text": "a", inner: draw(VALUES)}}
        elif kind == "plms":
            values["plm"] = [{"from": "x"}, draw(VALUES)]
        elif kind == "inside":
            key = draw(st.sampled_from(SECTIONS))
            section = values.get(key) if isinstance(values.get(key), dict) else {}
            values[key] = {**section, draw(st.sampled_from([*section, *KEYS, "extra"])): draw(VALUES)}
        else:
            values[draw(st.text(max_size=5)) if kind == "add" else key] = draw(VALUES)
    return values


GENERATE = (Phase.explicit, Phase.generate)
"""Without shrinking, which takes minutes: the message names the input."""


def many(examples: int) -> Any:
    return settings(
        max_examples=examples, deadline=None, derandomize=True, phases=GENERATE, suppress_health_check=list(HealthCheck)
    )


def taken_or_refused(file: Path, overrides: Sequence[str] = (), reads: Callable[..., Experiment] = load) -> None:
    """What a file may come to: an Experiment, or a Misuse that says where."""
    try:
        assert isinstance(reads(file, overrides), Experiment)
    except Misuse as refused:
        told = (printable(" ".join(f"-o {override}".splitlines())) for override in overrides)
        places = (f"{file}:", *(" ".join(place.split()) for place in told))
        assert any(place in " ".join(str(refused).split()) for place in places)


LIKE_YAML = st.text("abn0.1e:-[]{}&*!?|>#'\"\n\t ,%@`<~=\\\x00\ufeff\x85\u2028é", max_size=40)
LINES = st.lists(
    st.builds("{}{}: {}".format, st.sampled_from(["", "  ", "- ", "\t", "? "]), st.sampled_from(KEYS), LIKE_YAML),
    max_size=6,
).map("\n".join)


@given(st.text() | LIKE_YAML | LINES | st.binary(max_size=60))
@many(600)
def test_any_text_in_the_files_place_is_an_experiment_or_a_misuse(file: Path, text: str | bytes) -> None:
    changed = file.with_name("any.yaml")
    changed.write_bytes(text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass"))
    taken_or_refused(changed)


@given(st.dictionaries(FIELDS, VALUES, max_size=8))
@many(300)
def test_any_values_under_the_keys_of_the_file_are_an_experiment_or_a_misuse(file: Path, values: Any) -> None:
    changed = file.with_name("values.yaml")
    changed.write_text(json.dumps(values, ensure_ascii=False), encoding="utf-8")
    taken_or_refused(changed)


def written_anew(file: Path, name: str, data: st.DataObject) -> Path:
    changed = file.with_name(name)
    values = mutated(json.loads(file.read_text()), data.draw)
    changed.write_text(json.dumps(values, ensure_ascii=False), encoding="utf-8")
    return changed


@given(st.data())
@many(300)
def test_any_mutation_of_a_file_is_an_experiment_or_a_misuse(file: Path, data: st.DataObject) -> None:
    taken_or_refused(written_anew(file, "mutated.yaml", data))


@given(st.lists(st.text(max_size=12) | st.builds("{}={}".format, FIELDS, st.text(max_size=8)), min_size=1, max_size=3))
@many(100)
def test_any_override_is_taken_or_refused(file: Path, overrides: list[str]) -> None:
    taken_or_refused(file, overrides)


@given(st.data())
@many(50)
def test_any_mutation_is_told_with_what_is_wrong_with_its_tasks_and_plm(
    file: Path, without_hub: None, data: st.DataObject
) -> None:
    """And where the file is taken, its plan is made or refused, without another exception."""
    changed = written_anew(file, "whole.yaml", data)
    taken_or_refused(changed, reads=load_whole)
    with suppress(Misuse):
        resolved = resolve(load(changed), fetches=False)
        assert resolved.plans or resolved.problems
