"""The parts of the experiment file that no trial holds as they are, each a checked value. Imports neither torch nor Ray."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt, MinLen
from pydantic import BeforeValidator, Discriminator, Field, ValidationError

from panda_trainable.config.section import Doc, ReadBy, Section, ShortFor, WrongSetting, file_key, one_as_list
from panda_trainable.config.setting import InitSettings, PromptSettings, TrainSettings
from panda_trainable.config.trial import ProjectorSettings
from search_spaces.space import parse_domain
from tuning.experiment.explanations import TASK_NAME


@dataclass(frozen=True)
class ShotsSection(Section):
    """Few-shot draws."""

    per_class: Annotated[int, Ge(1), Doc("train rows of each class, drawn per seed, and as many to select on")]
    of: Annotated[Literal["targets", "sources", "both"], Doc("whose rows")] = "targets"


Seeds = Annotated[tuple[Annotated[int, Ge(0)], ...], MinLen(1), ReadBy(one_as_list, also=("int",))]
Names = Annotated[list[str], BeforeValidator(one_as_list, json_schema_input_type=str | list[str])]


@dataclass(frozen=True)
class PromptSection(PromptSettings):
    """The soft prompt; where nobody says how it starts, the PLM and the form do."""

    init: Annotated[
        InitSettings | None,
        ShortFor("kind"),
        Doc("where it starts; default normal, and vocabulary for an input prompt of a PLM whose own head answers"),
    ] = None  # type: ignore[assignment]  # a plan's setting always has one


@dataclass(frozen=True)
class TrainSection(TrainSettings):
    """How students are trained."""

    steps: Annotated[int, Ge(1), Doc("steps of a trial")] = 400
    seeds: Annotated[
        Seeds, Doc("one replica and one whole pipeline each; a number alone is that one seed, no count")
    ] = (0, 1, 2)

    def __post_init__(self) -> None:
        if len(set(self.seeds)) != len(self.seeds):
            raise WrongSetting("seeds", f"seeds must differ, got {list(self.seeds)}")


@dataclass(frozen=True)
class SourceTrainSection(Section):
    """How source prompts, embeddings' prompts and teachers are trained: plainly, at a constant rate."""

    steps: Annotated[int, Ge(1), Doc("steps of a source prompt")] = 1000
    early_step: Annotated[int, Ge(1), Doc("step of the snapshot that similarities compare")] = 200
    learning_rate: Annotated[float, Gt(0), Doc("constant; of teachers too")] = 0.01

    def __post_init__(self) -> None:
        if self.early_step > self.steps:
            raise WrongSetting("early_step", f"early_step must be at most steps, got {self.early_step} of {self.steps}")


@dataclass(frozen=True, kw_only=True)
class ProjectorSection(ProjectorSettings):
    """How prompts of `source_plm` become prompts of the PLM."""

    tasks: Annotated[
        tuple[str, ...], Doc("sources whose prompts train it; default all; never the target")
    ] = ()  # fmt: skip


@dataclass(frozen=True)
class SearchSection(Section):
    """The search."""

    trials: Annotated[
        int, Ge(1), Doc("trials of each study; fewer where its space has fewer configurations: none runs twice")
    ] = 24
    hours: Annotated[float | None, Field(gt=0, allow_inf_nan=True), Doc("no new trial starts after so many hours")] = (
        None
    )
    trial_timeout: Annotated[
        float | None,
        Field(gt=0),
        Doc(
            "seconds between two results of a trial, after which it hangs, is ended and counts as failed; its first also "
            "takes the start of its process and what is made for it, such as teachers; waiting for room on the cluster does "
            "not count; default never, and a long silence is told"
        ),
    ] = None
    sampler: Annotated[Literal["tpe", "random"], Doc("how trials are suggested")] = "tpe"
    scheduler: Annotated[Literal["asha", "none"], Doc("whether poor trials stop early")] = "asha"
    per_study: Annotated[int, Ge(1), Doc("live trials of a study at most")] = 4
    seed: Annotated[int, Ge(0), Doc("of the sampler")] = 0
    repeats: Annotated[
        int,
        Ge(1),
        Doc("searches of each study: with `seed`, which is reported, then seed + 1 and so on, which show its luck"),
    ] = 1


@dataclass(frozen=True)
class ConfirmSection(Section):
    """The best configurations again, with fresh seeds, on report rows."""

    top: Annotated[int, Ge(1), Doc("configurations of each study")] = 2
    seeds: Annotated[Seeds, Doc("must differ from train.seeds")] = (10, 11, 12)


@dataclass(frozen=True)
class ResourcesSection(Section):
    """What a trial takes of the cluster."""

    cpu: Annotated[float, Gt(0), Doc("CPUs of a trial")] = 1
    gpu: Annotated[float, Ge(0), Doc("GPUs of a trial; fractions are fine")] = 0


STORES = ("sqlite:///", "http://", "https://", "postgresql", "mysql", "mssql", "databricks")
"""How addresses of MLflow begin."""


@dataclass(frozen=True)
class TrackingSection(Section):
    """Where MLflow is."""

    uri: Annotated[str | None, Doc("default: sqlite in the storage")] = None
    register: Annotated[
        bool, Doc("register each target's winner as the model `<name>.<target>` under the alias champion")
    ] = True

    def __post_init__(self) -> None:
        if self.uri is None or self.uri.startswith(STORES):
            return
        rule = f"MLflow's address is that of a server or a database ({', '.join(STORES)}), no folder of files, got {self.uri!r}"
        is_host = re.fullmatch(r"[\w.-]+:\d+", self.uri)
        remedy = f"write http://{self.uri}" if is_host else "leave the key out for sqlite in the storage"
        raise WrongSetting("uri", f"{rule}; {remedy}")


def _as_domains(value: Any) -> Any:
    if not isinstance(value, Mapping):
        raise ValueError(f"a space maps knobs to domains, got {value!r}; write {{knob: {{log: [low, high]}}}}")
    domains, wrong = {}, []
    for name, domain in value.items():
        try:
            domains[name] = parse_domain(domain)
        except ValueError as error:
            wrong.append(f"{name}: {error}")
    if wrong:
        raise ValueError(", and ".join(wrong))
    return domains


Domains = Annotated[dict[str, Any], BeforeValidator(_as_domains)]
TaskName = Annotated[str, Field(pattern=TASK_NAME)]
Weights = dict[str, dict[str, Annotated[float, Field(allow_inf_nan=False)]]]

TEXT, MAPPING = "(text)", "(mapping)"
"""Tags of the two ways to write a key that takes either: pydantic's paths name them, messages leave them out."""


def written_as(value: Any) -> str:
    """Which of two ways to write a key a value is."""
    return MAPPING if isinstance(value, Mapping | Section) else TEXT


Alternatives = Discriminator(written_as)


def details(error: ValidationError) -> list[dict[str, Any]]:
    """What is wrong with a file's values, each with its path (`loc`): of a rule over a section, that of the setting.

    Files have lists and mappings, whatever the values are that they become.
    """
    found = []
    for detail in [dict[str, Any](each) for each in error.errors()]:
        cause = detail.get("ctx", {}).get("error")
        if isinstance(cause, WrongSetting):
            detail["loc"] = (*detail["loc"], file_key(cause.setting))
        text = detail["msg"].replace("a valid tuple", "a valid list").replace("Tuple should", "List should")
        text = text.replace("Value should have", "List should have")
        is_section = detail["type"] == "dataclass_type"
        detail["msg"] = "Input should be a valid dictionary" if is_section else text.replace(" after validation", "")
        found.append(detail)
    return [detail for detail in found if not (detail["type"] == "too_short" and _inside(detail["loc"], found))]


def _inside(path: tuple[Any, ...], found: Sequence[Mapping[str, Any]]) -> bool:
    """Whether something is wrong inside of a path: wrong items are not missing, too."""
    return any(len(detail["loc"]) > len(path) and detail["loc"][: len(path)] == path for detail in found)
