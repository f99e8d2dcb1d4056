"""Experiment: the YAML file as a checked value. Imports neither torch nor Ray."""

import copy
import difflib
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PrivateAttr,
    ValidationError,
    ValidationInfo,
    field_validator,
)

from panda_trainable.config import KNOBS, SIMILARITY_NAMES
from panda_trainable.tasks import TASKS, TaskSpec
from search_spaces.defaults import SPACES
from search_spaces.space import Choice, Domain, Float, Space, parse_domain

BASELINE = "prompt_tuning"


class Misuse(Exception):
    """A user's mistake: one message with everything that is wrong. Exit code 2, no traceback.

    Attributes:
        partial: what of the experiment is right, so that more of it can be checked; None if nothing is.
    """

    partial: "Experiment | None" = None


class Section(BaseModel):
    """A part of the file: frozen, unknown keys refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class PlmSection(Section):
    """The frozen PLM."""

    source: str = Field(alias="from", min_length=1, description="hub id, folder, or package:<module>/<folder>")
    pooling: Literal["cls", "mean"] = Field("mean", description="what heads read: first token, or mean of all")
    layers: int | None = Field(None, ge=1, description="keep so many layers; default all")
    positions: Literal["after_prompt", "from_zero"] = Field(
        "after_prompt", description="position of the first token: P, or 0"
    )


class TaskSection(Section):
    """A task of your own, from a folder of JSON lines."""

    kind: Literal["classification", "regression"] = Field(description="what is predicted")
    text: list[str] = Field(min_length=1, max_length=2, description="one field, or two read as a pair")
    label: str = Field("label", description="field of the label")
    classes: list[str] = Field([], description="class names in the order of their numbers; none for regression")
    metrics: list[str] = Field(min_length=1, description="metrics; the first is the score")
    path: str = Field("", description="folder inside `data`; default the task's name")


class PromptSection(Section):
    """The soft prompt."""

    form: Literal["prefix"] = Field("prefix", description="keys and values in every layer (P-tuning v2)")
    length: int = Field(20, ge=1, le=512, description="P, prompt tokens")


Seeds = Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)]


class TrainSection(Section):
    """How students are trained."""

    steps: int = Field(400, ge=1, description="steps of a trial")
    batch_size: int = Field(16, ge=1, description="B, examples per step and seed")
    max_length: int = Field(128, ge=4, description="tokens of an example; longer ones are cut")
    eval_every: int = Field(50, ge=1, description="steps between evaluations on selection rows")
    seeds: Seeds = Field([0, 1, 2], description="one replica and one whole pipeline each")

    @field_validator("seeds")
    @classmethod
    def _different(cls, seeds: list[int]) -> list[int]:
        if len(set(seeds)) != len(seeds):
            raise ValueError(f"seeds must differ, got {seeds}")
        return seeds


class SourceTrainSection(Section):
    """How source prompts, embeddings' prompts and teachers are trained: plainly, at a constant rate."""

    steps: int = Field(1000, ge=1, description="steps of a source prompt")
    early_step: int = Field(200, ge=1, description="step of the snapshot that similarities compare")
    learning_rate: float = Field(0.01, gt=0, allow_inf_nan=False, description="constant; of teachers too")

    @field_validator("early_step")
    @classmethod
    def _within(cls, early: int, info: ValidationInfo) -> int:
        if "steps" in info.data and early > info.data["steps"]:
            raise ValueError(f"early_step must be at most steps, got {early} of {info.data['steps']}")
        return early


class LimitSection(Section):
    """Caps on rows."""

    train: int | None = Field(None, ge=10, description="rows of each train split at most, selection included")
    report: int | None = Field(None, ge=1, description="report rows at most")


class SelectionSection(Section):
    """Rows the search looks at."""

    fraction: float = Field(0.2, gt=0, lt=1, description="share of train rows held out")
    max_rows: int = Field(1000, ge=1, description="at most so many")


class SearchSection(Section):
    """The search."""

    trials: int = Field(24, ge=1, description="trials of each study")
    hours: float | None = Field(None, gt=0, description="no new trial starts after so many hours")
    sampler: Literal["tpe", "random"] = Field("tpe", description="how trials are suggested")
    scheduler: Literal["asha", "none"] = Field("asha", description="whether poor trials stop early")
    per_study: int = Field(4, ge=1, description="live trials of a study at most")
    seed: int = Field(0, ge=0, description="of the sampler")


class ConfirmSection(Section):
    """The best configurations again, with fresh seeds, on report rows."""

    top: int = Field(2, ge=1, description="configurations of each study")
    seeds: Seeds = Field([10, 11, 12], description="must differ from train.seeds")


class ResourcesSection(Section):
    """What a trial takes of the cluster."""

    cpu: float = Field(1, gt=0, description="CPUs of a trial")
    gpu: float = Field(0, ge=0, description="GPUs of a trial; fractions are fine")


class TrackingSection(Section):
    """Where MLflow is."""

    uri: str | None = Field(None, description="default: sqlite in the storage")


def _as_domains(value: Any) -> Any:
    if not isinstance(value, Mapping):
        raise ValueError(f"a space maps knobs to domains, got {value!r}")
    return {name: parse_domain(domain) for name, domain in value.items()}


Domains = Annotated[dict[str, Any], BeforeValidator(_as_domains)]
Weights = dict[str, dict[str, Annotated[float, Field(allow_inf_nan=False)]]]


class Experiment(Section):
    """The experiment file. Paths are relative to it."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", description="names the MLflow experiment and the folder")
    plm: PlmSection = Field(description="the frozen pretrained language model")
    data: str = Field("data", description="holds <task>/{train,validation,test}.jsonl")
    tasks: dict[str, TaskSection] = Field({}, description="your own tasks beside the built-in table")
    sources: list[str] = Field([], description="source tasks")
    targets: list[str] = Field(min_length=1, description="target tasks")
    methods: list[str] = Field([], description="methods; prompt_tuning is always there")
    pairs: dict[str, list[str]] = Field({}, description="target: its sources, where not all of them")
    prompt: PromptSection = Field(PromptSection(), description="the soft prompt")
    train: TrainSection = Field(TrainSection(), description="students")
    source_train: SourceTrainSection = Field(SourceTrainSection(), description="sources, embeddings, teachers")
    limit: LimitSection = Field(LimitSection(), description="caps on rows")
    selection: SelectionSection = Field(SelectionSection(), description="rows the search looks at")
    similarities: list[str] = Field(list(SIMILARITY_NAMES), description="measured for all pairs")
    weigh_by: str | Weights = Field("task_embedding", description="a similarity, none, or target: {source: value}")
    kd: Literal["mse", "kl"] = Field("mse", description="distillation loss")
    search: SearchSection = Field(SearchSection(), description="the search")
    space: dict[str, Domains] = Field({}, description="overrides of the default spaces, per method")
    confirm: ConfirmSection = Field(ConfirmSection(), description="the confirmation")
    protocol: Literal["held_out", "paper"] = Field("held_out", description="select on train rows, or on validation")
    self_pairs: Literal["exclude", "include"] = Field("exclude", description="may a task be its own source")
    resources: Literal["auto"] | ResourcesSection = Field("auto", description="auto asks for the GPUs there are")
    storage: str = Field("runs", description="a folder that every node sees")
    tracking: TrackingSection = Field(TrackingSection(), description="MLflow")
    _folder: Path = PrivateAttr(Path())

    @field_validator("sources", "targets")
    @classmethod
    def _known_tasks(cls, names: list[str], info: ValidationInfo) -> list[str]:
        own = (info.context or {}).get("tasks", info.data.get("tasks", {}))
        return _known(names, [*TASKS, *own], "task")

    @field_validator("methods")
    @classmethod
    def _known_methods(cls, names: list[str]) -> list[str]:
        return _known(names, list(KNOBS), "method")

    @field_validator("similarities")
    @classmethod
    def _known_similarities(cls, names: list[str]) -> list[str]:
        return _known(names, list(SIMILARITY_NAMES), "similarity")

    @field_validator("pairs")
    @classmethod
    def _known_pairs(cls, pairs: dict[str, list[str]], info: ValidationInfo) -> dict[str, list[str]]:
        _known(list(pairs), info.data.get("targets", list(pairs)), "target")
        for names in pairs.values():
            _known(names, info.data.get("sources", names), "source")
        return pairs

    @field_validator("weigh_by")
    @classmethod
    def _known_weights(cls, value: str | Weights, info: ValidationInfo) -> str | Weights:
        if isinstance(value, str):
            names = [*info.data.get("similarities", SIMILARITY_NAMES), "none"]
            _known([value], names, "similarity among `similarities`")
        return value

    @field_validator("space")
    @classmethod
    def _known_knobs(cls, space: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
        _known(list(space), list(KNOBS), "method")
        for method, domains in space.items():
            _known(list(domains), list(KNOBS[method]), f"knob of {method}")
            for knob, domain in domains.items():
                _check_domain(knob, domain)
        return space

    @field_validator("confirm")
    @classmethod
    def _fresh_seeds(cls, confirm: ConfirmSection, info: ValidationInfo) -> ConfirmSection:
        seen = set(info.data["train"].seeds) & set(confirm.seeds) if "train" in info.data else set()
        if seen or len(set(confirm.seeds)) != len(confirm.seeds):
            raise ValueError(f"confirm.seeds must be fresh: different and none of train.seeds, got {confirm.seeds}")
        return confirm

    @classmethod
    def placed(cls, raw: Mapping[str, Any], folder: Path) -> "Experiment":
        """The experiment of a file's values; its paths are relative to the folder."""
        own = raw.get("tasks")
        experiment = cls.model_validate(raw, context={"tasks": list(own)} if isinstance(own, Mapping) else None)
        experiment._folder = folder  # noqa: SLF001  # its own
        return experiment

    @property
    def folder(self) -> Path:
        """Where the file lies."""
        return self._folder

    @property
    def storage_path(self) -> Path:
        """The storage folder, absolute."""
        return (self.folder / self.storage).resolve()

    @property
    def data_path(self) -> Path:
        """The data folder, absolute."""
        return (self.folder / self.data).resolve()

    @property
    def search_path(self) -> Path:
        """The folder of this experiment's search, absolute."""
        return self.storage_path / "searches" / self.name

    @property
    def tracking_uri(self) -> str:
        """MLflow's address."""
        return self.tracking.uri or f"sqlite:///{self.storage_path / 'mlflow.db'}"

    @property
    def all_methods(self) -> list[str]:
        """The baseline first, then the file's methods."""
        return list(dict.fromkeys([BASELINE, *self.methods]))

    def task(self, name: str) -> TaskSpec:
        """A task by name: of the file or of the table."""
        if name not in self.tasks:
            return TASKS[name]
        own = self.tasks[name]
        return TaskSpec(
            name, own.kind, tuple(own.text), own.label, tuple(own.classes), tuple(own.metrics), own.path or name
        )

    def method_space(self, method: str) -> Space:
        """A method's space with the file's overrides."""
        return SPACES[method].overridden(self.space.get(method, {}))


def _check_domain(knob: str, domain: Domain) -> None:
    """Refuses values that a knob can't take."""
    values: Sequence[Any] = domain.values if isinstance(domain, Choice) else (domain.low, domain.high)
    whole = [v for v in values if isinstance(v, int) and not isinstance(v, bool)]
    numbers = [v for v in values if isinstance(v, int | float) and not isinstance(v, bool) and math.isfinite(v)]
    rules = {
        "learning_rate": ("positive numbers", len(numbers) == len(values) and min(numbers, default=0) > 0),
        "lambda": ("numbers of at least 0", len(numbers) == len(values) and min(numbers, default=-1) >= 0),
        "teacher_steps": (
            "a choice of positive integers",
            isinstance(domain, Choice) and len(whole) == len(values) and min(whole) > 0,
        ),
        "partners": (
            "integers of at least 0",
            not isinstance(domain, Float) and len(whole) == len(values) and min(whole) >= 0,
        ),
        "fusion": ("early and late", set(values) <= {"early", "late"}),
    }
    rule, holds = rules[knob]
    if not holds:
        raise ValueError(f"{knob} takes {rule}, got {list(values)}")


def _known(names: list[str], known: Sequence[str], what: str) -> list[str]:
    unknown = [f"{name!r}{_near(name, known)}" for name in names if name not in known]
    if unknown:
        raise ValueError(f"unknown {what} {', '.join(unknown)}; there are {', '.join(known) or 'none'}")
    if len(set(names)) != len(names):
        raise ValueError(f"each {what} once, got {names}")
    return names


def _near(name: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(str(name), known, n=1)
    return f" (did you mean {close[0]}?)" if close else ""


def load(file: Path, overrides: Sequence[str] = ()) -> Experiment:
    """The experiment of a file.

    Args:
        file: the YAML file.
        overrides: `key.key=value` each, over what the file says.

    Raises:
        Misuse: with every problem, its place and what to do.
    """
    raw, lines = _read(file)
    places: dict[tuple[Any, ...], str] = {path: f"{file}:{line}" for path, line in lines.items()}
    problems = []
    for override in overrides:
        path, equals, value = override.partition("=")
        keys = tuple(path.split("."))
        try:
            parsed = yaml.safe_load(value)
        except (yaml.YAMLError, ValueError) as error:
            problems.append(f"-o {override}: is not YAML: {' '.join(str(error).split())}")
            continue
        if not equals or not _set(raw, keys, parsed):
            problems.append(f"-o {override}: must be key.key=value of the experiment file")
        places = {path: place for path, place in places.items() if path[: len(keys)] != keys}
        places[keys] = f"-o {override}"
    try:
        experiment = Experiment.placed(raw, file.absolute().parent)
    except ValidationError as error:
        problems += [_problem(file, places, detail) for detail in error.errors()]
        experiment = None
    partial = experiment or _without_errors(raw, file)
    problems += [f"{_place(file, places, path)}: {text}" for path, text in _task_problems(partial)] if partial else []
    if experiment is None or problems:
        refused = Misuse("\n".join(dict.fromkeys(problems)))
        refused.partial = partial
        raise refused
    return experiment


def _without_errors(raw: dict[str, Any], file: Path) -> Experiment | None:
    """What can be checked of a file that has mistakes: the file without its wrong parts."""
    raw = {"name": "x", "plm": {"from": "x"}, **copy.deepcopy(raw)}
    while True:
        try:
            return Experiment.placed(raw, file.absolute().parent)
        except ValidationError as error:
            if not any(_drop(raw, detail["loc"]) for detail in error.errors()):
                return None
            raw = {"name": "x", "plm": {"from": "x"}, **raw}


def _drop(raw: Any, path: tuple[Any, ...]) -> bool:
    """Removes the innermost part of a path that is there; whether there was one."""
    if not path:
        return False
    inside = isinstance(raw, dict) and path[0] in raw
    if inside and not _drop(raw[path[0]], path[1:]):
        del raw[path[0]]
    return inside


def _task_problems(experiment: Experiment) -> Iterator[tuple[tuple[str, ...], str]]:
    """Rules over several keys, own tasks and weights and pairs: the key and what is wrong."""
    for name in experiment.tasks:
        try:
            experiment.task(name)
        except ValueError as error:
            yield ("tasks", name), str(error)
    weighed = experiment.weigh_by if isinstance(experiment.weigh_by, dict) else {}
    for target in weighed:
        if target not in experiment.targets:
            yield ("weigh_by", target), f"weigh_by: unknown target {target!r}{_near(target, experiment.targets)}"
    for target in experiment.targets if isinstance(experiment.weigh_by, dict) else ():
        missing = [name for name in sources_of(experiment, target) if name not in weighed.get(target, {})]
        if missing:
            yield ("weigh_by", target), f"weigh_by must weigh every source of {target}: {', '.join(missing)} missing"
    needs_source = [method for method in experiment.methods if method != BASELINE]
    if needs_source and not experiment.sources:
        yield ("methods",), f"methods {', '.join(needs_source)} need sources: add `sources: [...]`"
    unpaired = [t for t in experiment.targets if needs_source and experiment.sources and not sources_of(experiment, t)]
    if unpaired:
        yield (
            ("sources",),
            f"no source is left for target {', '.join(unpaired)} (a task never is its own source: self_pairs: include)",
        )


def sources_of(experiment: Experiment, target: str) -> list[str]:
    """The sources that are paired with a target."""
    names = experiment.pairs.get(target, experiment.sources)
    return [name for name in names if name != target or experiment.self_pairs == "include"]


def _read(file: Path) -> tuple[dict[str, Any], dict[tuple[Any, ...], int]]:
    try:
        text = file.read_text(encoding="utf-8")
        node, raw = yaml.compose(text), yaml.safe_load(text)
    except FileNotFoundError:
        raise Misuse(
            f"{file}: no such file; write one (docs/experiment-file.md) or try: panda-tune quickstart"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise Misuse(f"{file}: cannot be read: {error}") from error
    except (yaml.YAMLError, ValueError) as error:
        raise Misuse(f"{file}: is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(raw, dict):
        raise Misuse(f"{file}: must map keys to values, got {type(raw).__name__}")
    return raw, dict(_lines(node, ()))


def _lines(node: Any, path: tuple[Any, ...]) -> Iterator[tuple[tuple[Any, ...], int]]:
    """Path in the file -> line, of every key and item."""
    pairs: list[tuple[Any, Any]] = []
    if isinstance(node, yaml.MappingNode):
        pairs = [(key.value, (key, value)) for key, value in node.value]
    elif isinstance(node, yaml.SequenceNode):
        pairs = [(i, (value, value)) for i, value in enumerate(node.value)]
    for name, (at, value) in pairs:
        yield (*path, name), at.start_mark.line + 1
        yield from _lines(value, (*path, name))


def _set(raw: dict[str, Any], keys: tuple[str, ...], value: Any) -> bool:
    for key in keys[:-1]:
        raw[key] = {} if raw.get(key) is None else raw[key]
        raw = raw[key]
        if not isinstance(raw, dict):
            return False
    raw[keys[-1]] = value
    return True


def _place(file: Path, places: Mapping[tuple[Any, ...], str], path: tuple[Any, ...]) -> str:
    """Where a key stands: its line, else what is inside it, else what it is inside of."""
    for end in range(len(path), 0, -1):
        inside = [place for known, place in places.items() if known[:end] == path[:end]]
        if path[:end] in places or inside:
            return places.get(path[:end]) or inside[0]
    return str(file)


def _problem(file: Path, places: Mapping[tuple[Any, ...], str], detail: Any) -> str:
    """One line: place, key, rule, value, likely name."""
    key = ".".join(str(part) for part in detail["loc"])
    text = detail["msg"].removeprefix("Value error, ")
    if detail["type"] == "extra_forbidden":
        near = _near(str(detail["loc"][-1]), _keys_beside(detail["loc"]))
        text = f"unknown key{near}; there are {', '.join(_keys_beside(detail['loc']))}"
    elif detail["type"] == "missing":
        text = "is missing"
    elif detail["type"] != "value_error":
        text = f"{text}, got {detail['input']!r}"
    return f"{_place(file, places, detail['loc'])}: {key}: {text}"


def _keys_beside(path: tuple[Any, ...]) -> list[str]:
    """The keys that are known where an unknown one stands."""
    model: Any = Experiment
    for part in path[:-1]:
        fields = {field.alias or name: field for name, field in getattr(model, "model_fields", {}).items()}
        model = getattr(fields.get(part), "annotation", model)
        model = TaskSection if part == "tasks" else ResourcesSection if part == "resources" else model
    fields = getattr(model, "model_fields", {})
    return [field.alias or name for name, field in fields.items()]
