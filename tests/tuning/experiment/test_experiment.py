"""The experiment file: every mistake is refused before anything starts, with its place and what was meant."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest
import yaml

from panda_trainable.config.kinds import KINDS, METRIC_NAMES
from panda_trainable.config.methods import BASELINE, KD_KINDS, KNOBS, SIMILARITY_NAMES, TRAITS
from panda_trainable.config.origin import Unlocated
from panda_trainable.config.setting import READ_BY, InitSettings, NeuronSettings, SimilaritySettings
from panda_trainable.config.task import SplitSettings
from panda_trainable.config.task_section import TaskSection
from panda_trainable.config.trial import MethodSettings, ProjectorSettings
from panda_trainable.data.task_table import PANDA_METRICS, TASKS
from panda_trainable.data.tokenisers import TOKENISERS
from panda_trainable.prompt.initialisers import INITIALISERS
from panda_trainable.similarity.similarities import SIMILARITIES
from panda_trainable.training.distillation import KD_LOSSES, RAMPS
from panda_trainable.training.metrics import METRICS
from panda_trainable.transfer.methods import METHODS
from panda_trainable.transfer.projector import FORMS
from search_spaces.defaults import SPACES
from search_spaces.space import Choice, Float, Int
from tests.kits.command import experiment_file
from tests.kits.small import UNUSUAL
from tuning.experiment.experiment import Experiment, sources_of
from tuning.experiment.loading import load
from tuning.experiment.problems import Misuse
from tuning.experiment.sections import PromptSection


def refusal(file: Path, *overrides: str) -> list[str]:
    with pytest.raises(Misuse) as refused:
        load(file, overrides)
    return str(refused.value).splitlines()


def written(folder: Path, text: str) -> Path:
    file = folder / "file.yaml"
    file.write_text(text, encoding="utf-8")
    return file


def test_a_file_is_read_with_its_defaults_and_paths_relative_to_it(tmp_path: Path) -> None:
    experiment = load(experiment_file(tmp_path, tmp_path / "plm", storage="../kept"))
    assert (experiment.train.steps, experiment.search.trials, experiment.search.sampler) == (8, 2, "tpe")
    assert experiment.data_path == tmp_path / "data"
    assert experiment.storage_path == tmp_path.parent / "kept"
    assert experiment.search_path == tmp_path.parent / "kept/searches/small"
    assert experiment.tracking_uri == f"sqlite:///{tmp_path.parent}/kept/mlflow.db"
    assert experiment.all_methods == ["prompt_tuning", "spot", "panda"]


MISTAKES: dict[str, tuple[str, list[str]]] = {
    "unknown key": ("sourcess: [s1]", ["sourcess: unknown key (did you mean sources?)"]),
    "unknown key without a near name": ("xyzzy: 1", ["xyzzy: unknown key; there are name, plm, data"]),
    "unknown key of a section": ("train: {stepps: 8}", ["train.stepps: unknown key (did you mean steps?)"]),
    "unknown key of the plm": ("plm: {from: x, layerz: 1}", ["plm.layerz: unknown key (did you mean layers?)"]),
    "unknown key of a task": (
        "tasks: {mine: {kind: regression, text: [a], metrics: [pearson], txt: b}}",
        ["tasks.mine.txt: unknown key (did you mean text?)"],
    ),
    "unknown key of the resources": ("resources: {gpus: 1}", ["unknown key (did you mean gpu?); there are cpu, gpu"]),
    "unknown task": ("targets: [rta]", ["targets: unknown task 'rta' (did you mean rte?)"]),
    "unknown source": ("sources: [sst22]", ["sources: unknown task 'sst22' (did you mean sst2?)"]),
    "unknown method": ("methods: [pandas]", ["methods: unknown method 'pandas' (did you mean panda?)"]),
    "unknown similarity": (
        "similarities: [c_men]",
        ["similarities: unknown similarity 'c_men' (did you mean c_mean?)"],
    ),
    "similarity that is not measured": (
        "similarities: [c_mean]\nweigh_by: c_pair",
        ["weigh_by: unknown similarity among `similarities` 'c_pair'"],
    ),
    "unknown target of a pair": ("pairs: {rta: [sst2]}", ["pairs: unknown target 'rta' (did you mean rte?)"]),
    "unknown source of a pair": ("pairs: {rte: [sst]}", ["pairs: unknown source 'sst' (did you mean sst2?)"]),
    "method of a space": ("space: {pand: {lambda: 1}}", ["space: unknown method 'pand' (did you mean panda?)"]),
    "knob of a space": ("space: {panda: {lamda: 1}}", ["space: unknown knob of panda 'lamda' (did you mean lambda?)"]),
    "knob of another method": ("space: {spot: {lambda: 1}}", ["unknown knob of spot 'lambda'"]),
    "no domain": ("space: {panda: {lambda: {log: [1]}}}", ["a domain is a value,", "got {'log': [1]}"]),
    "no mapping of domains": ("space: {panda: 3}", ["space.panda: a space maps knobs to domains, got 3"]),
    "list that is no domain": (
        "space: {panda: {lambda: [1, 2]}}",
        ["space.panda: lambda: a list is no domain; write {choice: [1, 2]} to search its values"],
    ),
    "knob without its method": (
        "methods: [spot, panda]\nspace: {learning_rate: {log: [0.001, 0.1]}}",
        [
            "space: learning_rate is a knob of prompt_tuning, spot, panda, which stands below a method's name: ",
            "write {panda: {learning_rate: …}}",
        ],
    ),
    "knob of a method that is not asked for": (
        "space: {temperature: 2}",
        [
            "space: temperature is a knob of distill, panda_distill, which stands below",
            "{panda_distill: {temperature: …}}",
        ],
    ),
    "metric that is no list": (
        "tasks: {mine: {text: a, classes: [a, b], metrics: accuracy}}",
        ["tasks.mine.metrics: Input should be a valid list", "write [accuracy]"],
    ),
    "number as a PLM": ("plm: 3", ["plm: Input should be a valid dictionary"]),
    "section without its keys": (
        "limit: 3",
        ["limit: Input should be a valid dictionary", "; its keys are train, report"],
    ),
    "mapping that is a number": (
        "pairs: 3",
        ["pairs: Input should be a valid dictionary", "write pairs: {name: value}"],
    ),
    "near word": (
        "overlap: wrn",
        ["overlap: Input should be 'drop', 'warn' or 'refuse', got 'wrn'; did you mean warn?"],
    ),
    "key without a value": ("name:", ["name: Input should be a valid string, got None; give it a value"]),
    "folder as MLflow's address": (
        "tracking: {uri: ./mlruns}",
        [
            "tracking.uri: MLflow's address is that of a server or a database (sqlite:///, http://,",
            "no folder of files, got './mlruns'; leave the key out for sqlite in the storage",
        ],
    ),
    "file as MLflow's address": (
        "tracking: {uri: 'file:///x'}",
        ["tracking.uri: MLflow's address is", "got 'file:///x'"],
    ),
    "host as MLflow's address": ("tracking: {uri: 'mlflow:5000'}", ["got 'mlflow:5000'; write http://mlflow:5000"]),
    "negative lambda": ("space: {panda: {lambda: -1}}", ["lambda takes numbers of at least 0, got [-1]"]),
    "infinite rate": (
        "space: {spot: {learning_rate: {float: [0.1, .inf]}}}",
        ["learning_rate takes positive numbers, got [0.1, inf]"],
    ),
    "teacher steps in a range": (
        "space: {panda: {teacher_steps: {int: [1, 5]}}}",
        ["teacher_steps takes a choice of positive integers, got [1, 5]"],
    ),
    "fusion": ("space: {panda: {fusion: middle}}", ["fusion takes early, late, late_logits, got ['middle']"]),
    "partners": ("space: {spot: {partners: -1}}", ["partners takes integers of at least 0, got [-1]"]),
    "wrong type": ("train: {steps: many}", ["train.steps: Input should be a valid integer", "got 'many'"]),
    "number too small": ("train: {steps: 0}", ["train.steps: Input should be greater than or equal to 1, got 0"]),
    "not one of the words": (
        "relation: cka",
        ["relation: Input should be 'inter_instance', 'gram' or 'distance'", "got 'cka'"],
    ),
    "unknown distillation loss": (
        "kd: inter_clas",
        [
            "kd: unknown distillation loss 'inter_clas' (did you mean inter_class?); there are mse, kl, hidden, inter_class,"
        ],
    ),
    "unknown schedule": (
        "lambda_schedule: cosine",
        ["lambda_schedule: Input should be 'constant', 'decay' or 'warmup_decay', got 'cosine'"],
    ),
    "mixture of an unknown task": (
        "mixtures: {nli: [rte, mnl]}",
        ["mixtures: unknown task 'mnl' (did you mean mnli?)"],
    ),
    "mixture of a mixture": ("mixtures: {nli: [rte], all: [nli, cb]}", ["mixtures: unknown task 'nli'"]),
    "mixture with a task's name": (
        "mixtures: {mnli: [rte, cb]}",
        ["mixtures: mnli is a task already; give the mixture another name"],
    ),
    "mixture with a task twice": ("mixtures: {nli: [cb, cb]}", ["mixtures: each task once, got ['cb', 'cb']"]),
    "mixture of nothing": ("mixtures: {nli: []}", ["mixtures.nli: List should have at least 1 item"]),
    "mixture as a target": ("mixtures: {nli: [cb, rte]}\ntargets: [nli]", ["targets: unknown task 'nli'"]),
    "mixture that is not there": (
        "mixtures: {nli: [cb, rte]}\nsources: [nlu]",
        ["sources: unknown task 'nlu' (did you mean nli?)"],
    ),
    "mixture without rows": ("mixing_cap: 0", ["mixing_cap: Input should be greater than or equal to 1, got 0"]),
    "layers the wrong way round": (
        "neurons: {layers: [3, 1]}",
        ["neurons.layers: layers are [first, last], got [3, 1]"],
    ),
    "layer from zero": ("neurons: {layers: [0, 1]}", ["neurons.layers.0: Input should be greater than or equal to 1"]),
    "one layer": ("neurons: {layers: [2]}", ["neurons.layers: List should have at least 2 items"]),
    "layer of an embedding from zero": (
        "embedding: {layer: 0}",
        ["embedding.layer: Input should be greater than", "got 0"],
    ),
    "unknown key of the embedding": ("embedding: {layers: 1}", ["embedding.layers: unknown key (did you mean layer?)"]),
    "unknown key of another PLM": (
        "teacher_plm: {from: x, pool: cls}",
        ["teacher_plm.pool: unknown key (did you mean pooling?)"],
    ),
    "another PLM without its place": ("source_plm: {pooling: cls}", ["source_plm.from: is missing"]),
    "no teacher PLM": (
        "methods: [distill]",
        ["methods distill need another PLM: add `teacher_plm: {from: ...}`"],
    ),
    "no source PLM": (
        "methods: [tpt_model, tpt_model_zero_shot]",
        ["methods tpt_model, tpt_model_zero_shot need another PLM: add `source_plm: {from: ...}`"],
    ),
    "projector on a task that is no source": (
        "methods: [tpt_model]\nsource_plm: {from: x}\nprojector: {tasks: [cb]}",
        ["a projector needs a prompt of each task on both PLMs, and cb is none of the source tasks"],
    ),
    "projector on a mixture": (
        "mixtures: {nli: [cb, rte]}\nsources: [sst2, nli]\nmethods: [tpt_model]\nsource_plm: {from: x}\nprojector: {tasks: [nli]}",
        ["and nli is none of the source tasks"],
    ),
    "temperature of zero": ("space: {distill: {temperature: 0}}", ["temperature takes positive numbers, got [0]"]),
    "negative relation": (
        "space: {distill: {inter_class: {float: [-1, 1]}}}",
        ["inter_class takes numbers of at least 0, got [-1.0, 1.0]"],
    ),
    "knob of a method that has none": ("space: {zero_shot: {partners: 1}}", ["unknown knob of zero_shot 'partners'"]),
    "section that is a number": ("search: 3", ["search: Input should be a valid dictionary", "got 3"]),
    "empty section": ("search:", ["search: Input should be a valid dictionary", "got None"]),
    "seeds twice": ("train: {seeds: [1, 1]}", ["train.seeds: seeds must differ, got [1, 1]"]),
    "confirm seeds not fresh": (
        "confirm: {seeds: [0, 10]}",
        ["confirm: confirm.seeds must be fresh: different and none of train.seeds, got [0, 10]"],
    ),
    "early step too late": (
        "source_train: {steps: 5, early_step: 9}",
        ["source_train.early_step: early_step must be at most steps, got 9 of 5"],
    ),
    "name of two lines": (
        'name: "a\\nb"',
        ["name: a name has 1 to 200 characters that can be printed, on one line, got 'a\\nb'"],
    ),
    "data in a variable that is not set": (
        "data: $PANDA_TUNE_NOWHERE",
        ["data: ", "names $PANDA_TUNE_NOWHERE, which is not set"],
    ),
    "task twice": ("targets: [rte, rte]", ["targets: each task once, got ['rte', 'rte']"]),
    "infinite constant rate": ("source_train: {learning_rate: .inf}", ["source_train.learning_rate:", "got inf"]),
    "weight that is no number": ("weigh_by: {rte: {sst2: .nan}}", ["weigh_by", "got nan"]),
    "weight of an unknown target": ("weigh_by: {rtx: {sst2: 1}}", ["weigh_by", "'rtx' (did you mean rte?)"]),
    "key of the program": ("folder: /elsewhere", ["folder: unknown key"]),
}
SOUND = {"name": "x", "plm": "{from: somewhere}", "targets": "[rte]", "sources": "[sst2]", "methods": "[spot]"}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_line_with_place_key_rule_value_and_near_name(tmp_path: Path, mistake: str) -> None:
    text, said = MISTAKES[mistake]
    own = {line.partition(":")[0] for line in text.splitlines()}
    sound = [f"{key}: {value}" for key, value in SOUND.items() if key not in own]
    file = written(tmp_path, "\n".join([*sound, text]))
    places = [f"{file}:{number}: " for number in range(len(sound) + 1, len(sound) + 1 + len(text.splitlines()))]
    lines = [line for line in refusal(file) if all(part in line for part in said)]
    assert lines
    assert lines[0].startswith(tuple(places))


@pytest.mark.parametrize("key", ["name", "plm", "targets"])
def test_a_key_that_must_be_there_is_missed(tmp_path: Path, key: str) -> None:
    file = written(tmp_path, "\n".join(f"{k}: {v}" for k, v in SOUND.items() if k != key))
    assert refusal(file) == [f"{file}: {key}: is missing"]


def test_all_mistakes_of_a_file_are_told_at_once(tmp_path: Path) -> None:
    text = "name: ''\nplm: {from: x, layers: 0}\ntargets: [rte]\ntrain: {steps: 0, seedz: [1]}\nsearch: {trials: x}\nzzz: 1"
    file = written(tmp_path, text)
    told = [(line.split(": ")[0], line.split(": ")[1]) for line in refusal(file)]
    keys = [(1, "name"), (2, "plm.layers"), (4, "train.steps"), (4, "train.seedz"), (5, "search.trials"), (6, "zzz")]
    assert sorted(told) == sorted((f"{file}:{number}", key) for number, key in keys)


@pytest.mark.parametrize("mistake", ["train: {steps: 0}", "name: ''", "plm: {}"])
def test_a_rule_over_several_keys_is_told_beside_a_mistake_in_one(tmp_path: Path, mistake: str) -> None:
    sound = {"name": "x", "plm": "{from: x}", "targets": "[rte]", "methods": "[panda]"}
    sound.pop(mistake.partition(":")[0], None)
    file = written(tmp_path, "\n".join([*(f"{key}: {value}" for key, value in sound.items()), mistake]))
    assert any("methods panda need sources: add `sources: [...]`" in line for line in refusal(file))


def test_an_unknown_task_is_told_beside_a_mistake_in_an_own_task(tmp_path: Path) -> None:
    file = written(tmp_path, "name: x\nplm: {from: x}\ntasks: {mine: {kindd: regression}}\ntargets: [rta]")
    assert any("unknown task 'rta'" in line for line in refusal(file))


def test_an_own_task_that_is_impossible_is_refused_with_its_place(tmp_path: Path) -> None:
    file = written(
        tmp_path,
        "name: x\nplm: {from: x}\ntasks:\n  mine: {kind: classification, text: [a], classes: [neg, pos], metrics: [acuracy]}\ntargets: [mine]",
    )
    (line,) = refusal(file)
    assert "must be of accuracy" in line
    assert line.startswith(f"{file}:4: ")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sources": []}, "methods spot, panda need sources: add `sources: [...]`"),
        ({"sources": ["t"]}, "no source is left for target t (a task never is its own source: self_pairs: include)"),
        ({"pairs": {"t": []}}, "no source is left for target t"),
        ({"weigh_by": {"t": {"s1": 0.5}}}, "weigh_by must weigh every source of t: s2 missing"),
    ],
)
def test_methods_without_what_they_need_are_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    (line,) = refusal(experiment_file(tmp_path, tmp_path / "plm", **changes))
    assert message in line


def test_a_task_is_its_own_source_where_the_file_asks_for_it(tmp_path: Path) -> None:
    alone = experiment_file(tmp_path, tmp_path / "plm", sources=["s1", "t"])
    assert sources_of(load(alone), "t") == ["s1"]
    assert sources_of(load(alone, ["self_pairs=include"]), "t") == ["s1", "t"]


def test_a_mixture_that_holds_a_target_is_no_source_of_it_unless_the_file_asks_for_it(tmp_path: Path) -> None:
    mixed = {
        "mixtures": {"own": ["s1", "t"], "other": ["s1", "s2"]},
        "sources": ["own", "other"],
        "targets": ["t", "s2"],
    }
    file = experiment_file(tmp_path, tmp_path / "plm", **mixed)
    assert {target: sources_of(load(file), target) for target in ("t", "s2")} == {"t": ["other"], "s2": ["own"]}
    included = load(file, ["self_pairs=include"])
    assert sources_of(included, "t") == sources_of(included, "s2") == ["own", "other"]


def test_the_tasks_of_mixtures_are_read_too_and_only_of_those_that_are_sources(tmp_path: Path) -> None:
    mixed = {"mixtures": {"pool": ["s2", "cb"], "unused": ["rte"]}, "sources": ["s1", "pool"]}
    assert load(experiment_file(tmp_path, tmp_path / "plm", **mixed)).members == ["t", "s1", "s2", "cb"]


def test_a_mixture_may_hold_an_own_task_that_is_wrong_and_only_that_is_told(tmp_path: Path) -> None:
    tasks = "tasks: {mine: {text: a, kindd: regression}}\nmixtures: {pool: [mine, rte]}\nsources: [pool]"
    (line,) = refusal(written(tmp_path, f"name: x\nplm: {{from: x}}\ntargets: [cb]\n{tasks}"))
    assert "tasks.mine.kindd: unknown key (did you mean kind?)" in line


def test_a_source_that_is_a_wrong_mixture_is_told_once(tmp_path: Path) -> None:
    file = written(tmp_path, "name: x\nplm: {from: x}\ntargets: [cb]\nmixtures: {pool: [rtee]}\nsources: [pool]")
    (line,) = refusal(file)
    assert "mixtures: unknown task 'rtee' (did you mean rte?)" in line


def test_another_plm_may_stand_in_the_file_without_a_method_that_needs_it(tmp_path: Path) -> None:
    other = {"teacher_plm": {"from": "x"}, "source_plm": {"from": "y"}, "projector": {"tasks": ["s3"]}}
    experiment = load(experiment_file(tmp_path, tmp_path / "plm", **other))
    assert (experiment.needs("teacher_plm"), experiment.needs("source_plm")) == ([], [])


def test_the_similarity_on_is_a_word_and_no_truth(tmp_path: Path) -> None:
    text = (
        "name: x\nplm: {from: x}\ntargets: [rte]\nsimilarities: [on, c_mean]\nweigh_by: on\nneurons: {layers: [1, 2]}\n"
    )
    experiment = load(written(tmp_path, text))
    assert (experiment.similarities, experiment.weigh_by) == (["on", "c_mean"], "on")
    assert experiment.similarity_settings == SimilaritySettings(neurons=NeuronSettings(layers=(1, 2)))


def test_domains_of_the_file_replace_the_defaults(tmp_path: Path) -> None:
    space = {"panda": {"lambda": {"log": [0.1, 1]}, "partners": {"int": [0, 1]}, "fusion": "late"}}
    panda = load(experiment_file(tmp_path, tmp_path / "plm", space=space)).method_space("panda")
    assert [panda.domain(name) for name in ("lambda", "partners", "fusion")] == [
        Float(0.1, 1.0, log=True),
        Int(0, 1),
        Choice(("late",)),
    ]


@pytest.mark.parametrize("number", ["1e-2", "1.0e-2", "0.01"])
def test_a_number_in_scientific_notation_is_a_number_everywhere(tmp_path: Path, number: str) -> None:
    """YAML 1.1 reads 1e-2 as a text, which nobody means."""
    text = f"name: x\nplm: {{from: x}}\ntargets: [rte]\nsource_train: {{learning_rate: {number}}}\n"
    space = f"space: {{prompt_tuning: {{learning_rate: {{log: [{number}, 1]}}}}, spot: {{learning_rate: {number}}}}}"
    experiment = load(written(tmp_path, text + space))
    assert experiment.source_train.learning_rate == 0.01
    assert experiment.method_space("prompt_tuning").domain("learning_rate") == Float(0.01, 1.0, log=True)
    assert experiment.method_space("spot").domain("learning_rate") == Choice((0.01,))


TABLES: dict[str, tuple[type, str, Any]] = {
    "kinds of tasks": (TaskSection, "kind", KINDS),
    "initialisers": (InitSettings, "kind", INITIALISERS),
    "what initialisers read": (InitSettings, "kind", READ_BY),
    "schedules of lambda": (MethodSettings, "lambda_schedule", RAMPS),
    "relations of a batch": (MethodSettings, "relation", [name for name, loss in KD_LOSSES.items() if loss.joint]),
    "forms of a projector": (ProjectorSettings, "form", FORMS),
}


@pytest.mark.parametrize("name", TABLES)
def test_the_words_that_a_key_takes_are_the_rows_of_its_table(name: str) -> None:
    section, setting, table = TABLES[name]
    assert sorted(get_args(get_type_hints(section)[setting])) == sorted(table)


def test_every_distillation_loss_has_its_kinds_and_every_similarity_its_name() -> None:
    assert set(KD_KINDS) == set(KD_LOSSES)
    assert set(SIMILARITY_NAMES) == set(SIMILARITIES)
    assert {kind for kinds in KD_KINDS.values() for kind in kinds} == set(KINDS)


@pytest.mark.parametrize("name", ["logme", "leep", "source_size", "label_entropy"])
def test_what_is_no_share_of_lambda_does_not_weigh(tmp_path: Path, name: str) -> None:
    file = tmp_path / "x.yaml"
    file.write_text(f"name: x\nplm: {{from: x}}\ntargets: [rte]\nsimilarities: [c_mean, {name}]\nweigh_by: {name}\n")
    told = f"weigh_by: weighs a loss, by a similarity of source and target within -1 and 1, which {name} is not; there are c_mean, none"
    with pytest.raises(Misuse) as refused:
        load(file)
    assert told in str(refused.value)


def test_every_method_has_its_knobs_its_space_and_its_trainer() -> None:
    assert set(KNOBS) == set(SPACES) == set(METHODS) == set(TRAITS)
    others = {name for traits in TRAITS.values() for name in (traits.twin, traits.as_long_as) if name}
    assert {BASELINE, *others} <= set(METHODS)


def test_every_kind_of_task_has_its_metrics_and_its_tokeniser() -> None:
    assert set(KINDS) == set(METRIC_NAMES) == set(TOKENISERS) | {"generation"}
    assert {name for names in METRIC_NAMES.values() for name in names} == set(METRICS)


def own_task(folder: Path, task: str, **more: str) -> Any:
    lines = [f"{key}: {value}" for key, value in more.items()]
    text = f"name: x\nplm: {{from: x}}\ntasks: {{t: {{{task}}}}}\ntargets: [t]\n" + "\n".join(lines)
    return load(written(folder, text)).task("t")


def test_a_task_is_a_classification_with_its_usual_metrics_where_the_file_says_no_more(tmp_path: Path) -> None:
    task = own_task(tmp_path, "text: a, classes: [no, yes]")
    assert (task.kind, task.text, task.label, task.classes) == ("classification", ("a",), "label", ("no", "yes"))
    assert (task.metrics, task.origin, task.id, task.choices) == (("accuracy", "macro_f1"), Unlocated(), "id", ())


@pytest.mark.parametrize(
    ("task", "metrics"),
    [
        ("kind: regression, text: a", ("pearson_spearman", "pearson", "spearman")),
        ("kind: multiple_choice, text: a, choices: [b, c]", ("accuracy",)),
        ("kind: tagging, text: words, classes: [O, B-X]", ("entity_f1", "word_accuracy")),
        ("kind: extractive_qa, text: [q, p], label: answers", ("answer_f1", "exact_match")),
        ("text: a, classes: [a, b], metrics: [f1, accuracy]", ("f1", "accuracy")),
    ],
)
def test_metrics_are_those_of_the_kind_unless_they_are_named(
    tmp_path: Path, task: str, metrics: tuple[str, ...]
) -> None:
    assert own_task(tmp_path, task).metrics == metrics


def test_a_text_is_a_field_or_a_template_and_one_of_them_needs_no_list(tmp_path: Path) -> None:
    assert own_task(tmp_path, "text: a, classes: [no, yes]") == own_task(tmp_path, "text: [a], classes: [no, yes]")
    pair = own_task(tmp_path, "text: [title, '{q} or {a}?'], classes: [no, yes], label: gold")
    assert pair.text == ("title", "{q} or {a}?")
    assert pair.fields == ("title", "q", "a", "gold")


def test_a_task_of_choices_names_their_fields_and_may_do_without_ids(tmp_path: Path) -> None:
    task = own_task(tmp_path, "kind: multiple_choice, text: a, choices: [one, two, '{three}!'], id: ''")
    assert (task.choices, task.id) == (("one", "two", "{three}!"), "")
    assert task.fields == ("a", "one", "two", "three", "label")


def test_a_task_of_the_file_stands_before_one_of_the_table(tmp_path: Path) -> None:
    text = "name: x\nplm: {from: x}\ntasks: {rte: {text: a, classes: [no, yes], path: mine}}\ntargets: [rte]\n"
    assert load(written(tmp_path, text)).task("rte").origin == Unlocated("mine")


@pytest.mark.parametrize("name", PANDA_METRICS)
def test_pandas_metrics_come_first_where_the_file_asks_for_them(tmp_path: Path, name: str) -> None:
    text = f"name: x\nplm: {{from: x}}\ntargets: [{name}, rte]\n"
    glue, panda = (load(written(tmp_path, f"{text}metrics: {which}\n")) for which in ("glue", "panda"))
    assert glue == load(written(tmp_path, f"{text}metrics: glue\n"))
    assert glue.task(name) == TASKS[name]
    assert glue.task(name).metrics[0] != panda.task(name).metrics[0] == "accuracy"
    assert sorted(glue.task(name).metrics) == sorted(panda.task(name).metrics)
    assert replace(panda.task(name), metrics=glue.task(name).metrics) == glue.task(name)
    assert panda.task("rte") == glue.task("rte")


def test_metrics_of_an_own_task_are_its_own_whatever_the_table_has(tmp_path: Path) -> None:
    task = "text: a, classes: [no, yes], metrics: [macro_f1]"
    assert own_task(tmp_path, task, metrics="panda").metrics == ("macro_f1",)


def test_shots_are_of_targets_unless_the_file_says_whose(tmp_path: Path) -> None:
    text = "name: x\nplm: {from: x}\ntargets: [rte]\n"
    experiment = load(written(tmp_path, text + "shots: {per_class: 4}\n"))
    assert experiment.shots is not None
    assert (experiment.shots.per_class, experiment.shots.of) == (4, "targets")
    assert load(written(tmp_path, text)).shots is None
    assert load(written(tmp_path, text), ["shots={per_class: 2, for: both}"]).shots.of == "both"
    assert load(written(tmp_path, text + "shots: {per_class: 4}\n"), ["shots=null"]).shots is None


def test_where_a_prompt_starts_is_a_word_or_a_section(tmp_path: Path) -> None:
    text = "name: x\nplm: {from: x}\ntargets: [rte]\n"
    word, section = (
        load(written(tmp_path, f"{text}prompt: {{init: {said}}}\n"))
        for said in ("vocabulary", "{kind: vocabulary, population: 5000}")
    )
    assert word == section
    assert word.prompt.init.kind == "vocabulary"
    assert load(written(tmp_path, text)).prompt == PromptSection()
    assert load(written(tmp_path, text), ["prompt.init={kind: text, text: no}"]).prompt.init.text == "no"


def test_methods_without_a_source_need_no_sources(tmp_path: Path) -> None:
    text = "name: x\nplm: {from: x}\ntargets: [rte]\nmethods: [model_tuning, prompt_tuning_longer]\n"
    experiment = load(written(tmp_path, text))
    assert experiment.needs_source == []
    assert experiment.all_methods == ["prompt_tuning", "model_tuning", "prompt_tuning_longer"]
    assert load(written(tmp_path, text), ["methods=[linear_probe]"]).needs_source == []
    asking = ["multitask_model_tuning", "zero_shot", "tpt_model"]
    assert (
        load(
            written(tmp_path, text + "sources: [cb]\nsource_plm: {from: y}\n"), [f"methods=[{', '.join(asking)}]"]
        ).needs_source
        == asking
    )


def test_the_experiment_says_itself_again_after_it_is_dumped(tmp_path: Path) -> None:
    more: dict[str, Any] = {"shots": {"per_class": 4, "for": "both"}, "overlap": "warn", "metrics": "panda"}
    prompt = {"form": "input", "length": 3, "init": {"kind": "text", "text": "yes"}, "mlp": 8}
    more |= {
        "mixtures": {"pool": ["s1", "s2"]},
        "sources": ["pool", "s1"],
        "teacher_plm": {"from": "x", "layers": 3},
        **UNUSUAL,
    }
    more |= {"source_plm": {"from": "y"}, "neurons": {"layers": [1, 2]}, "embedding": {"pooling": "cls", "layer": 1}}
    more["projector"] = {**UNUSUAL["projector"], "tasks": ["s1"]}
    experiment = load(experiment_file(tmp_path, tmp_path / "plm", prompt=prompt, **more))
    dumped = yaml.safe_dump(experiment.filed)
    assert load(written(tmp_path, dumped)) == experiment
    assert isinstance(experiment, Experiment)


@pytest.mark.parametrize(
    ("split", "settings"),
    [
        ("0.1", SplitSettings(0.1)), ("0.5", SplitSettings(0.5)), ("{validation: 0.3}", SplitSettings(0.3)),
        ("{seed: 3}", SplitSettings(seed=3)), ("null", None),
    ],
)  # fmt: skip
def test_a_number_alone_stands_for_the_share_of_a_split(
    tmp_path: Path, split: str, settings: SplitSettings | None
) -> None:
    text = f"name: x\nplm: x\ntargets: t\ntasks: {{t: {{text: a, split: {split}}}}}\n"
    assert load(written(tmp_path, text)).task("t").split == settings


@pytest.mark.parametrize(
    ("key", "rule"),
    [
        ("split: 1", "Input should be less than 1, got 1"), ("split: 10%", "Input should be a valid dictionary"),
        ("split: true", "Input should be a valid dictionary"), ("delimiter: tabulator", "a delimiter is one character, or comma,"),
        ("delimiter: ',;'", "a delimiter is one character, or comma,"), ("columns: [a, a]", "columns must have different names"),
        ("original: {files: {dev: x}}", "files must be of train, validation, test, got ['dev']"),
    ],
)  # fmt: skip
def test_a_way_to_read_files_that_is_none_is_refused(tmp_path: Path, key: str, rule: str) -> None:
    with pytest.raises(Misuse, match=re.escape(rule)):
        load(written(tmp_path, f"name: x\nplm: x\ntargets: t\ntasks: {{t: {{text: a, {key}}}}}\n"))


def test_shots_may_be_a_number_and_what_is_called_otherwise_a_name_or_a_list(tmp_path: Path) -> None:
    task = "{text: a, original: {fields: {a: review, label: [sentiment, stars]}, classes: {1: bad}}, columns: a}"
    found = load(written(tmp_path, f"name: x\nplm: x\ntargets: t\nshots: 16\ntasks: {{t: {task}}}\n"))
    assert (found.shots.per_class if found.shots else 0) == 16
    original = found.task("t").original
    assert original
    assert (original.fields, original.classes) == ({"a": ("review",), "label": ("sentiment", "stars")}, {"1": "bad"})
