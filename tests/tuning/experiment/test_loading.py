"""The file as people mean it: words stay words, numbers numbers, every key is there once, every problem has its line."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from panda_trainable.config.setting import PlmSettings
from tuning.experiment.loading import load, read
from tuning.experiment.names import slug
from tuning.experiment.problems import Misuse
from tuning.planning.resolve import load_whole

HEAD = "name: x\nplm: {from: x}\ntargets: [t]\n"
TASK = "tasks: {t: {text: a, classes: [no, yes]}}\n"


def written(folder: Path, text: str | bytes) -> Path:
    file = folder / "file.yaml"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return file


def refusal(file: Path, *overrides: str) -> list[str]:
    with pytest.raises(Misuse) as refused:
        load(file, overrides)
    return str(refused.value).splitlines()


def told(file: Path, text: str | bytes) -> list[str]:
    """What is said of a text, without the file's name."""
    file = written(file, text)
    return [line.removeprefix(f"{file}:") for line in refusal(file)]


def classes(folder: Path, names: str) -> list[str]:
    return list(load(written(folder, f"{HEAD}tasks: {{t: {{text: a, classes: {names}}}}}\n")).tasks["t"].classes)


@pytest.mark.parametrize(
    ("names", "read"),
    [
        ("[no, yes]", ["no", "yes"]),
        ("[off, on]", ["off", "on"]),
        ("[No, YES, On, OFF, n, y]", ["No", "YES", "On", "OFF", "n", "y"]),
        ("['no', \"yes\"]", ["no", "yes"]),
        ("[false, true]", ["false", "true"]),
        ("[False, TRUE]", ["false", "true"]),
        ("[0, 1]", ["0", "1"]),
        ("[1, 2.5, -3]", ["1", "2.5", "-3"]),
        ("[a b, 'x: y', é, 是]", ["a b", "x: y", "é", "是"]),
    ],
)
def test_classes_are_names_whatever_they_look_like(tmp_path: Path, names: str, read: list[str]) -> None:
    assert classes(tmp_path, names) == read


def test_names_that_are_written_alike_are_read_alike(tmp_path: Path) -> None:
    """To YAML 1.1 07 is an octal number and 08 none."""
    assert classes(tmp_path, "[07, 08]") in (["07", "08"], ["7", "8"])


@pytest.mark.parametrize("name", ["null", "2020-01-01", "[a]", "{a: b}", "~"])
def test_a_class_that_is_no_name_is_refused_with_its_number(tmp_path: Path, name: str) -> None:
    lines = told(tmp_path, f"{HEAD}tasks: {{t: {{text: a, classes: [no, {name}]}}}}\n")
    assert lines[0].startswith("4: tasks.t.classes.1: Input should be a valid string, got ")


def test_a_wrong_value_is_told_and_not_missed_as_well(tmp_path: Path) -> None:
    """The file does not lack what stands in it wrongly."""
    (line,) = told(tmp_path, f"{HEAD}tasks: {{t: {{text: a, classes: [no, null]}}}}\n")
    assert line == "4: tasks.t.classes.1: Input should be a valid string, got None"


def test_a_name_of_a_task_or_field_may_be_yes_or_no(tmp_path: Path) -> None:
    text = "name: on\nplm: {from: x}\ntasks: {no: {text: yes, label: off, classes: [a, b]}}\ntargets: [no]"
    experiment = load(written(tmp_path, text))
    assert (experiment.name, experiment.targets) == ("on", ["no"])
    assert (experiment.task("no").text, experiment.task("no").label) == (("yes",), "off")


@pytest.mark.parametrize(
    ("number", "value"),
    [
        ("1e-2", 0.01), ("1E-2", 0.01), ("1.e-2", 0.01), ("1.0e-2", 0.01), ("+1e-2", 0.01), (".01", 0.01), ("0.01", 0.01),
        ("1e3", 1000.0), ("1e+3", 1000.0), ("5", 5.0), ("5.", 5.0), ("1e-05", 1e-5),
    ],
)  # fmt: skip
def test_a_number_is_a_number_in_every_notation(tmp_path: Path, number: str, value: float) -> None:
    file = written(tmp_path, f"{HEAD}{TASK}source_train: {{learning_rate: {number}}}\n")
    assert load(file).source_train.learning_rate == value
    assert load(file, [f"source_train.learning_rate={number}"]).source_train.learning_rate == value


def test_whole_numbers_in_scientific_notation_count(tmp_path: Path) -> None:
    assert load(written(tmp_path, f"{HEAD}{TASK}search: {{trials: 1e2}}\n")).search.trials == 100
    (line,) = told(tmp_path, f"{HEAD}{TASK}search: {{trials: 1e-2}}\n")
    assert line.startswith("5: search.trials: Input should be a valid integer")
    assert line.endswith("got 0.01")


@pytest.mark.parametrize("text", ["1e", "e5", "1e5x", "1.2.3", "-", "+", ".", "1e5.5", "0x", "--1"])
def test_what_only_looks_like_a_number_stays_a_text(tmp_path: Path, text: str) -> None:
    assert classes(tmp_path, f"[a, '{text}']") == ["a", text]
    assert classes(tmp_path, f"[a, {text}]") == ["a", text]


@pytest.mark.parametrize("number", [".inf", "-.inf", ".nan", "1e999"])
def test_numbers_without_end_are_refused(tmp_path: Path, number: str) -> None:
    (line,) = told(tmp_path, f"{HEAD}{TASK}source_train: {{learning_rate: {number}}}\n")
    assert line.startswith("5: source_train.learning_rate: Input should be")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("name: y\n", ["5: name: duplicate key, first on line 1; remove one"]),
        (
            "train: {steps: 8}\nsearch: {trials: 2}\ntrain: {batch_size: 4}\n",
            ["7: train: duplicate key, first on line 5; remove one"],
        ),
        (
            "train:\n  steps: 8\n  batch_size: 4\n  steps: 9\n",
            ["8: train.steps: duplicate key, first on line 6; remove one"],
        ),
        ("train: {steps: 8, 'steps': 9}\n", ["5: train.steps: duplicate key, first on line 5; remove one"]),
        ("methods: [{a: 1}, {b: 1,\n b: 2}]\n", ["6: methods.1.b: duplicate key, first on line 5; remove one"]),
        (
            "targets: [t]\nweigh_by:\n  t: {a: 1, a: 2}\n  t: {a: 3}\n",
            [
                "5: targets: duplicate key, first on line 3; remove one",
                "8: weigh_by.t: duplicate key, first on line 7; remove one",
                "7: weigh_by.t.a: duplicate key, first on line 7; remove one",
            ],
        ),
    ],
)
def test_a_duplicate_key_is_refused_with_both_lines(tmp_path: Path, text: str, said: list[str]) -> None:
    assert sorted(told(tmp_path, HEAD + TASK + text)) == sorted(said)


def test_the_same_key_in_two_sections_is_no_duplicate(tmp_path: Path) -> None:
    text = "train: {steps: 8}\nsource_train: {steps: 8, early_step: 4}\n"
    assert load(written(tmp_path, HEAD + TASK + text)).source_train.steps == 8


@pytest.mark.parametrize(
    "text",
    [
        "data: &a [*a]\n",
        "data: &a {x: *a}\n",
        "weigh_by: &a {t: *a}\n",
        "tasks: &a {t: {<<: *a}}\n",
        "&a ? [*a]\n: 1\n",
        "train: &a {<<: *a}\n",
        "data: " + "[" * 5000 + "]" * 5000,
        "data: " + "{a: " * 5000 + "1" + "}" * 5000,
    ],
)
def test_what_is_nested_without_end_is_refused(tmp_path: Path, text: str) -> None:
    (line,) = refusal(written(tmp_path, "name: x\nplm: {from: x}\ntargets: [rte]\n" + text))
    assert line.startswith(f"{tmp_path}/file.yaml: is ")


def test_an_alias_stands_for_what_it_names(tmp_path: Path) -> None:
    text = "name: x\nplm: {from: x}\ntasks:\n  a: &own {text: a, classes: [no, yes]}\n  b: *own\n  c: {<<: *own, label: y}\n"
    experiment = load(written(tmp_path, text + "targets: [a, b, c]\n"))
    assert experiment.tasks["a"] == experiment.tasks["b"]
    assert (experiment.tasks["c"].classes, experiment.tasks["c"].label) == (("no", "yes"), "y")


def test_an_override_changes_what_it_names_and_not_what_is_written_like_it(tmp_path: Path) -> None:
    text = "name: x\nplm: {from: x}\ntasks:\n  a: &own {text: a, classes: [no, yes]}\n  b: *own\ntargets: [a, b]\n"
    experiment = load(written(tmp_path, text), ["tasks.a.path=there"])
    assert (experiment.tasks["a"].path, experiment.tasks["b"].path) == ("there", "")


def test_a_mistake_behind_an_alias_is_placed_where_the_alias_stands(tmp_path: Path) -> None:
    text = "name: x\nplm: {from: x}\ntasks:\n  a: &own {text: a, clases: [no, yes]}\n  b: *own\ntargets: [a, b]\n"
    lines = told(tmp_path, text)
    assert sum("clases: unknown key (did you mean classes?)" in line for line in lines) == 2
    assert all(line.startswith(("4: tasks.a", "5: tasks.b", "4: tasks.b")) for line in lines if "clases" in line)


PLMS = "name: x\nplm:\n- {from: a}\n- from: b\n  poling: cls\ntargets: [rte]\n"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (PLMS, "5: plm.1.poling: unknown key (did you mean pooling?); there are from, pooling, layers, positions"),
        (PLMS.replace("poling: cls", "layers: 0"), "5: plm.1.layers: Input should be greater than or equal to 1, got 0"),
        (PLMS.replace("from: b\n  poling", "pooling"), "4: plm.1.from: is missing"),
        ("name: x\nplm:\n  pooling: cls\ntargets: [rte]\n", "2: plm.from: is missing"),
        ("name: x\nplm:\n  from: ''\ntargets: [rte]\n", "3: plm.from: String should have at least 1 character, got ''"),
        ("name: x\nplm: 3\ntargets: [rte]\n", "2: plm: Input should be a valid dictionary"),
        ("name: x\nplm: [3]\ntargets: [rte]\n", "2: plm.0: Input should be a valid dictionary"),
        ("name: x\nplm: []\ntargets: [rte]\n", "2: plm: List should have at least 1 item, not 0"),
        ("name: x\nplm:\ntargets: [rte]\n", "2: plm: Input should be a valid dictionary"),
    ],
)  # fmt: skip
def test_a_mistake_in_a_plm_is_placed_as_the_file_writes_it(tmp_path: Path, text: str, said: str) -> None:
    (line,) = told(tmp_path, text)
    assert line.startswith(said)


def test_a_list_of_plms_and_a_single_one_are_read(tmp_path: Path) -> None:
    several = load(written(tmp_path, PLMS.replace("poling", "pooling")))
    assert [(plm.source, plm.pooling) for plm in several.plm] == [("a", "mean"), ("b", "cls")]
    single = load(written(tmp_path, HEAD + TASK))
    assert [plm.source for plm in single.plm] == ["x"]
    assert load(written(tmp_path, HEAD + TASK), ["plm=[{from: a}, {from: b}]"]).plm[1].source == "b"
    assert load(written(tmp_path, HEAD + TASK), ["plm.pooling=cls"]).plm[0].pooling == "cls"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "must map keys to values, got NoneType"),
        (b"---\n", "must map keys to values, got NoneType"),
        (b"[a, b]", "must map keys to values, got list"),
        (b"42\n", "must map keys to values, got int"),
        (b"1e-2\n", "must map keys to values, got float"),
        (b"yes", "must map keys to values, got str"),
        (HEAD.encode("utf-16"), "cannot be read: "),
        ((HEAD + "data: ä\n").encode("latin-1"), "cannot be read: "),
        (b"name: *nothing\n", "is not YAML: "),
        (b"name: !!set {a}\n\x1b", "is not YAML: "),
        (b"{" * 3 + b"a" + b"}" * 2, "is not YAML: "),
    ],
)
def test_a_file_that_is_no_mapping_is_refused(tmp_path: Path, content: bytes, said: str) -> None:
    (line,) = refusal(written(tmp_path, content))
    assert line.startswith(f"{tmp_path}/file.yaml: {said}")


def test_a_folder_in_the_files_place_is_refused(tmp_path: Path) -> None:
    (line,) = refusal(tmp_path)
    assert line.startswith(f"{tmp_path}: cannot be read: ")


def test_marks_and_line_ends_of_other_systems_do_not_matter(tmp_path: Path) -> None:
    experiment = load(written(tmp_path, HEAD + TASK))
    assert load(written(tmp_path, b"\xef\xbb\xbf" + (HEAD + TASK).encode())) == experiment
    assert load(written(tmp_path, (HEAD + TASK).replace("\n", "\r\n"))) == experiment


@pytest.mark.parametrize("name", ["../x", "a/b", "/x", ".", "..", ".x", "-x", "a b", "''", "ä"])
def test_a_task_is_named_like_a_folder_and_no_path(tmp_path: Path, name: str) -> None:
    quoted = f'"{name}"' if name != "''" else name
    lines = told(
        tmp_path, f"name: x\nplm: {{from: x}}\ntargets: [rte]\ntasks: {{{quoted}: {{text: a, classes: [a, b]}}}}\n"
    )
    assert all(line.startswith("4: tasks.") for line in lines)
    assert any(": a name begins with a letter, digit or '_' and has only letters, digits," in line for line in lines)
    assert not any("^[" in line or "[key]" in line for line in lines)


@pytest.mark.parametrize("name", ["x", "X_1", "a.b", "3rd", "a-b", "_x"])
def test_other_names_of_tasks_are_fine(tmp_path: Path, name: str) -> None:
    text = f"name: x\nplm: {{from: x}}\ntargets: ['{name}']\ntasks: {{'{name}': {{text: a, classes: [a, b]}}}}\n"
    assert load(written(tmp_path, text)).task(name).name == name


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("prompt: {lenght: 3}", "5: prompt.lenght: unknown key (did you mean length?)"),
        ("prompt: {init: {knd: text}}", "5: prompt.init.knd: unknown key (did you mean kind?)"),
        ("shots: {per_clas: 4}", "5: shots.per_clas: unknown key (did you mean per_class?)"),
        ("shots: {per_class: 4, fr: both}", "5: shots.fr: unknown key (did you mean for?)"),
        ("selection: {fractoin: 0.5}", "5: selection.fractoin: unknown key (did you mean fraction?)"),
        ("limit:\n  trian: 50", "6: limit.trian: unknown key (did you mean train?)"),
        ("search: {trails: 2}", "5: search.trails: unknown key (did you mean trials?)"),
        ("confirm: {sedes: [10]}", "5: confirm.sedes: unknown key (did you mean seeds?)"),
        ("tracking: {url: x}", "5: tracking.url: unknown key (did you mean uri?)"),
        ("source_train: {early_stop: 2}", "5: source_train.early_stop: unknown key (did you mean early_step?)"),
        ("overlaps: drop", "5: overlaps: unknown key (did you mean overlap?)"),
        ("metric: glue", "5: metric: unknown key (did you mean metrics?)"),
        ("shots: four", "5: shots: Input should be a valid dictionary"),
        ("shots: {}", "5: shots.per_class: is missing"),
        ("shots: {per_class: 0}", "5: shots.per_class: Input should be greater than or equal to 1, got 0"),
        ("shots: {per_class: 4, for: all}", "5: shots.for: Input should be 'targets', 'sources' or 'both', got 'all'"),
        ("metrics: superglue", "5: metrics: Input should be 'glue' or 'panda', got 'superglue'"),
        ("overlap: keep", "5: overlap: Input should be 'drop', 'warn' or 'refuse', got 'keep'"),
        ("prompt: {form: suffix}", "5: prompt.form: Input should be 'prefix' or 'input', got 'suffix'"),
        ("prompt: {length: 0}", "5: prompt.length: Input should be greater than or equal to 1, got 0"),
        ("prompt: {mlp: 0}", "5: prompt.mlp: Input should be greater than or equal to 1, got 0"),
        ("prompt: {init: text}", "5: prompt.init: init text needs `text:`"),
        ("prompt: {init: {kind: text, text: ' '}}", "5: prompt.init: init text needs `text:`"),
        ("prompt: {init: {kind: file, text: a}}", "5: prompt.init: init file needs `file:`"),
        ("prompt: {init: vocab}", "5: prompt.init.kind: Input should be 'normal', 'uniform'"),
        ("prompt: {init: {kind: normal, std: 0}}", "5: prompt.init.std: Input should be greater than 0, got 0"),
        ("prompt: {init: {kind: sparse, sparsity: 1.5}}", "5: prompt.init.sparsity: Input should be less than or equal"),
        ("methods: [prompt_tuning_long]", "5: methods: unknown method 'prompt_tuning_long' (did you mean prompt_tuning_longer?)"),
        ("space: {model_tuning: {lambda: 1}}", "5: space: unknown knob of model_tuning 'lambda'"),
        ("similarities: [task_embeding]", "5: similarities: unknown similarity 'task_embeding' (did you mean task_embedding?)"),
    ],
)  # fmt: skip
def test_a_mistake_in_a_section_is_placed_with_its_key_and_what_was_meant(tmp_path: Path, text: str, said: str) -> None:
    assert any(line.startswith(said) for line in told(tmp_path, HEAD + TASK + text + "\n"))


TASK_MISTAKES: dict[str, str] = {
    "kind: classify, text: a, classes: [a, b]": "tasks.t.kind: Input should be 'classification', 'regression'",
    "text: [], classes: [a, b]": "task t: text of a classification must name one or two texts, got []",
    "text: [a, b, c], classes: [a, b]": "tasks.t.text: List should have at most 2 items, not 3",
    "text: 3, classes: [a, b]": "tasks.t.text: Input should be a valid string, got 3",
    "text: [a, 3], classes: [a, b]": "tasks.t.text.1: Input should be a valid string, got 3",
    "classes: [a, b]": "tasks.t.text: is missing",
    "text: a, clases: [a, b]": "tasks.t.clases: unknown key (did you mean classes?)",
    "text: a, classes: [a]": "task t: a classification needs at least two classes, got ['a']",
    "text: a, classes: [a, a]": "task t: classes must be different, got ['a', 'a']",
    "text: a, classes: [1, '1']": "task t: classes must be different, got ['1', '1']",
    "kind: regression, text: a, classes: [a, b]": "task t: a regression has no classes, got ['a', 'b']",
    "kind: regression, text: a, metrics: [accuracy]": "task t: metrics of a regression must be of pearson_spearman",
    "kind: multiple_choice, text: a": "task t: choices must be two or more texts of a multiple_choice, or the field of a list of them, got []",
    "kind: multiple_choice, text: a, choices: ['{b}']": "task t: choices must be two or more texts",
    "kind: multiple_choice, text: [a, b], choices: [c, d]": "task t: text of a multiple_choice must name one text",
    "text: a, classes: [a, b], choices: [c, d]": "task t: choices must be two or more texts of a multiple_choice",
    "kind: extractive_qa, text: a": "task t: text of a extractive_qa must name two texts, got ['a']",
    "text: a, classes: [a, b, c], metrics: [f1]": "task t: f1 is of two classes, and there are 3: use macro_f1",
    "text: a, classes: [a, b], metrics: [question_match]": "task t: question_match needs `question`",
    "text: '{a', classes: [a, b]": "task t: '{a' is no template",
    "text: '{a} {}', classes: [a, b]": "task t: '{a} {}' is no template: braces hold the name of a field",
    "text: '{a!r}', classes: [a, b]": "task t: '{a!r}' is no template",
    "text: '{a:>9}', classes: [a, b]": "task t: '{a:>9}' is no template",
    "text: ' ', classes: [a, b]": "task t: ' ' is no template",
    "kind: multiple_choice, text: a, choices: [b, '{c']": "task t: '{c' is no template",
}


@pytest.mark.parametrize("task", TASK_MISTAKES)
def test_an_impossible_task_is_refused_with_its_line(tmp_path: Path, task: str) -> None:
    lines = told(tmp_path, f"{HEAD}tasks:\n  t: {{{task}}}\n")
    assert any(line.startswith(f"5: {TASK_MISTAKES[task]}") for line in lines)


@pytest.mark.parametrize("name", ["label", "text", "init", "plm", "shots", "train"])
def test_a_task_may_be_called_like_a_key(tmp_path: Path, name: str) -> None:
    text = f"name: x\nplm: {{from: x}}\ntargets: [rte]\ntasks: {{{name}: {{text: a, clases: [a, b]}}}}\n"
    assert any(
        line.startswith(f"4: tasks.{name}.clases: unknown key (did you mean classes?)") for line in told(tmp_path, text)
    )


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("resources: {gpus: 1}", "resources.gpus"),
        ("resources: {gpu: x}", "resources.gpu"),
        ("resources: none", "resources"),
        ("weigh_by: {t: {a: b}}", "weigh_by.t.a"),
        ("weigh_by: {t: 3}", "weigh_by.t"),
        ("weigh_by: 3", "weigh_by"),
        ("weigh_by: [t]", "weigh_by"),
    ],
)
def test_a_key_that_takes_one_thing_or_another_is_named_as_the_file_has_it(tmp_path: Path, text: str, key: str) -> None:
    lines = told(tmp_path, HEAD + TASK + text + "\n")
    assert any(line.startswith(f"5: {key}: ") for line in lines)
    assert not [line for line in lines if "literal[" in line or "dict[" in line or "Section." in line]


def test_every_problem_of_a_file_is_told_at_once(tmp_path: Path) -> None:
    text = """\
name: ""
plm:
- {from: x, layers: 0}
- {from: y, form: cls}
tasks:
  t: {text: a, classes: [a], metrics: [acuracy]}
  u: {kind: multiple_choice, text: a}
targets: [t]
sources: [v]
shots: {for: everyone}
prompt: {init: text, mlp: -1}
train: {steps: 0}
confirm: {seeds: [1]}
weigh_by: {t: {v: .nan}}
space: {panda: {lambda: -1}}
overlap: no
zzz: 1
"""
    places = {
        "1: name", "3: plm.0.layers", "4: plm.1.form", "10: shots.per_class", "10: shots.for", "11: prompt.init",
        "11: prompt.mlp", "12: train.steps", "15: space", "16: overlap", "17: zzz", "9: sources",
    }  # fmt: skip
    lines = told(tmp_path, text)
    assert {place for place in places if any(line.startswith(f"{place}: ") for line in lines)} == places
    assert any(line.startswith("14: weigh_by") for line in lines)
    assert any(line.startswith("6: task t: ") for line in lines)
    assert any(line.startswith("7: task u: ") for line in lines)


def test_a_message_is_one_line_whatever_stands_in_the_file(tmp_path: Path) -> None:
    file = written(tmp_path, HEAD + TASK + '"a\\nb": 1\nkd: "x\\ny"\ndata: {"p\\nq": 1}\n')
    assert all(line.startswith(f"{file}:") for line in refusal(file))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("name: x\n" + TASK + "targets: [t]\n", "plm: is missing"),
        ("name: x\nplm: 3\n" + TASK + "targets: [t]\n", "2: plm: Input should be a valid dictionary"),
        ("name: x\nplm: {from: 3}\n" + TASK + "targets: [t]\n", "2: plm.from: Input should be a valid string, got 3"),
    ],
)
def test_a_plm_that_nobody_named_is_not_looked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, said: str
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    file = written(tmp_path, text)
    with pytest.raises(Misuse) as refused:
        load_whole(file)
    lines = str(refused.value).splitlines()
    assert lines[0].removeprefix(f"{file}:").strip().startswith(said)
    assert not [line for line in lines if "PLM 'x'" in line]


def test_a_data_folder_that_is_wrong_is_not_looked_for_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    file = written(tmp_path, HEAD + TASK + "data: 3\n")
    with pytest.raises(Misuse) as refused:
        load_whole(file)
    lines = str(refused.value).splitlines()
    assert lines[0] == f"{file}:5: data: Input should be a valid string, got 3"
    assert not [line for line in lines if f"{tmp_path}/data" in line]


def test_problems_of_the_file_and_of_what_it_names_are_told_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    file = written(tmp_path, f"{HEAD.replace('from: x', 'from: ./nowhere')}{TASK}train: {{steps: 0}}\nzzz: 1\n")
    with pytest.raises(Misuse) as refused:
        load_whole(file)
    said = [
        f"{file}:5: train.steps: ",
        f"{file}:6: zzz: unknown key",
        "PLM './nowhere': nowhere is no folder with a config.json",
        "task t: train and validation or test not found in ",
    ]
    lines = str(refused.value).splitlines()
    assert [part for part in said if not any(line.startswith(part) for line in lines)] == []
    assert len(lines) == len(said)


def test_a_problem_of_a_task_is_told_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    file = written(tmp_path, f"{HEAD}tasks: {{t: {{text: a, classes: [a, b], metrics: [acuracy]}}}}\n")
    with pytest.raises(Misuse) as refused:
        load_whole(file)
    assert sum("metrics of a classification must be of" in line for line in str(refused.value).splitlines()) == 1


def test_what_is_right_of_a_refused_file_is_kept_for_further_checks(tmp_path: Path) -> None:
    file = written(tmp_path, f"{HEAD}{TASK}train: {{steps: 0, batch_size: 7}}\n")
    right, problems = read(file)
    assert [problem.place for problem in problems] == [f"{file}:5: train.steps"]
    assert right
    assert (right.train.steps, right.train.batch_size, right.targets) == (400, 7, ["t"])


def test_a_short_file_that_stands_for_a_million_values_is_refused_at_once(tmp_path: Path) -> None:
    layers = [f"  a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 9)]
    lines = told(tmp_path, "name: x\nspace:\n  a0: &a0 [1]\n" + "".join(layers))
    assert lines == [" its aliases stand for more than 100,000 values; write fewer"]


@pytest.mark.parametrize(
    ("text", "key", "value"),
    [
        ("targets: rte", "targets", ["rte"]),
        ("sources: sst2", "sources", ["sst2"]),
        ("methods: spot\nsources: [sst2]", "methods", ["spot"]),
        ("similarities: c_mean\nweigh_by: none", "similarities", ["c_mean"]),
        ("pairs: {rte: cb}\nsources: cb", "pairs", {"rte": ["cb"]}),
        ("mixtures: {nli: cb}", "mixtures", {"nli": ["cb"]}),
        ("plm: package:a/b", "plm", (PlmSettings("package:a/b"),)),
        ("plm: [a, {from: b}]", "plm", (PlmSettings("a"), PlmSettings("b"))),
        ("teacher_plm: big", "teacher_plm", PlmSettings("big")),
    ],
)
def test_one_name_may_stand_for_a_list_of_one(tmp_path: Path, text: str, key: str, value: Any) -> None:
    keys = {"name": "x", "plm": "{from: x}", "targets": "[rte]"}
    lines = [f"{name}: {given}" for name, given in keys.items() if not text.startswith(name)]
    assert getattr(load(written(tmp_path, "\n".join([*lines, text, ""]))), key) == value


def test_one_seed_may_stand_for_a_list_of_one(tmp_path: Path) -> None:
    found = load(written(tmp_path, HEAD + TASK + "train: {seeds: 2}\nconfirm: {seeds: 11}\n"))
    assert (found.train.seeds, found.confirm.seeds) == ((2,), (11,))


def test_paths_fill_in_home_and_variables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PANDA_TUNE_DATA", str(tmp_path / "d"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    found = load(written(tmp_path, HEAD + TASK + "data: $PANDA_TUNE_DATA/t\nstorage: ~/runs\n"))
    assert (found.data_path, found.storage_path) == (tmp_path / "d" / "t", tmp_path / "home" / "runs")


@pytest.mark.parametrize("name", ["my first try", "a/b", "опыт 1", "实验", "../up", ".hidden", "x" * 150, "con?", "-o"])
def test_an_experiment_may_be_called_anything_and_its_folder_lies_in_the_storage(tmp_path: Path, name: str) -> None:
    found = load(written(tmp_path, (HEAD + TASK).replace("name: x", f"name: {json.dumps(name)}")))
    assert found.name == name
    assert found.search_path.parent == found.storage_path / "searches"
    assert re.fullmatch(r"[\w.-]{1,100}", found.search_path.name)
    assert not found.search_path.name.startswith((".", "-"))
    assert slug(name) != slug(name + " ")


def test_a_plain_name_is_its_folder() -> None:
    assert [slug(name) for name in ("quickstart", "all-tasks", "v1.2_b")] == ["quickstart", "all-tasks", "v1.2_b"]
    assert len({slug(name) for name in ("a b", "a/b", "a-b", "a:b")}) == 4


def test_several_experiments_in_one_file_are_refused_with_how_to_choose_one(tmp_path: Path) -> None:
    text = "name: all-cr-spot\ntargets: [cr]\n---\nname: all-rte-panda\ntargets: [rte]\n"
    (line,) = refusal(written(tmp_path, text))
    assert (
        "holds 2 experiments, and one is wanted: all-cr-spot, all-rte-panda; keep one; panda-tune best FILE --format yaml --target NAME"
        in line
    )


def test_what_best_prints_for_one_target_is_an_experiment_and_for_several_one_must_be_chosen(tmp_path: Path) -> None:
    answer = "- target: t\n  score: {mean: 0.5}\n  config:\n    name: x\n    plm: {from: x}\n    targets: [t]\n    tasks: {t: {text: a}}\n"
    assert load(written(tmp_path, answer)).targets == ["t"]
    (line,) = told(tmp_path, answer.replace("name: x", "nam: x\n    name: x"))
    assert line.startswith("4: nam: unknown key")
    (line,) = refusal(written(tmp_path, answer + answer.replace("target: t", "target: u")))
    assert (
        "holds 2 experiments, and one is wanted: t, u; keep one; panda-tune best FILE --format yaml --target NAME"
        in line
    )
