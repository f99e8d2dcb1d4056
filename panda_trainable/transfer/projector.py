"""Projectors: prompts of one PLM made into prompts of another, and how they are trained."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from math import prod
from pathlib import Path
from types import MappingProxyType

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn.functional import leaky_relu

from panda_trainable.config.keys import content_key
from panda_trainable.config.task import Mixture, TaskSpec
from panda_trainable.config.trial import Projection, TrialConfig
from panda_trainable.library import PromptLibrary
from panda_trainable.prompt.soft_prompt import SoftPrompt, of_tokens, tokens_of
from panda_trainable.prompt.sources import PromptSource, trained_on
from panda_trainable.training.data import training_data
from panda_trainable.training.student import Heads, PromptStudent, encoder_of
from panda_trainable.training.trainer import Recipe, Trainer, adamw, clip_replicas
from panda_trainable.transfer.lineage import Lineage, tuned_prompts

FILE = "projector.safetensors"
Tensors = Mapping[str, Tensor]


@dataclass(frozen=True)
class Form:
    """How a projector computes.

    Attributes:
        widths: of its layers, first to last, from the shapes of both prompts' tokens [P, D] and the middle width.
        apply: parameters [K, …] and tokens [K, M, P, D of the source] -> [K, M, P, D of the target].
    """

    widths: Callable[[int, int, int, int], tuple[int, ...]]
    apply: Callable[[Tensors, Tensor, int], Tensor]


def _flat(parameters: Tensors, tokens: Tensor, length: int) -> Tensor:
    inner = leaky_relu(_linear(parameters, 0, tokens.flatten(2)))
    return _linear(parameters, 1, inner).unflatten(-1, (length, -1))


def _token(parameters: Tensors, tokens: Tensor, _length: int) -> Tensor:
    return _linear(parameters, 0, tokens.flatten(1, 2)).unflatten(1, tokens.shape[1:3])


def _linear(parameters: Tensors, layer: int, x: Tensor) -> Tensor:
    """[K, n, out] of x [K, n, in]."""
    return torch.baddbmm(parameters[f"bias_{layer}"][:, None], x, parameters[f"weight_{layer}"].transpose(1, 2))


FORMS: Mapping[str, Form] = MappingProxyType(
    {
        "flat": Form(lambda p, a, b, hidden: (p * a, hidden, p * b), _flat),
        "token": Form(lambda _p, a, b, _hidden: (a, b), _token),
    }
)
"""Form -> projector. Source: Su et al. (2022), their two-layer projector of the flattened prompt, and the token-wise one.

Deviation: no layer norm at the end; docs/deviations.md#projector.
"""


@dataclass(frozen=True)
class Projector:
    """A map of prompts from one shape to another, K replicas at once.

    Attributes:
        form: a row of FORMS.
        source: shape of the prompts it takes.
        target: shape of the prompts it makes; of as many tokens.
        hidden: width of its middle layer, where it has one.

    Raises:
        ValueError: if the two have different numbers of tokens.
    """

    form: str
    source: tuple[int, ...]
    target: tuple[int, ...]
    hidden: int

    def __post_init__(self) -> None:
        if self.source[-2] != self.target[-2]:
            raise ValueError(f"prompts of one length are projected, got {self.source[-2]} and {self.target[-2]} tokens")

    def drawn(self, seeds: Sequence[int]) -> dict[str, Tensor]:
        """The parameters [K, …], as PyTorch draws linear layers; the seeds decide them."""
        length = self.source[-2]
        widths = FORMS[self.form].widths(length, prod(self.source) // length, prod(self.target) // length, self.hidden)
        replicas = [_drawn(widths, seed) for seed in seeds]
        return {name: torch.stack([replica[name] for replica in replicas]) for name in replicas[0]}

    def __call__(self, parameters: Tensors, prompts: Tensor) -> Tensor:
        """[K, M, *target] of prompts [K, M, *source]."""
        tokens = torch.stack([torch.stack([tokens_of(prompt) for prompt in of]) for of in prompts])
        return of_tokens(FORMS[self.form].apply(parameters, tokens, self.target[-2]), self.target)


def _drawn(widths: Sequence[int], seed: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed + 3_000_017)
    drawn = {}
    for layer, (inputs, outputs) in enumerate(pairwise(widths)):
        bound = inputs**-0.5
        drawn[f"weight_{layer}"] = torch.empty(outputs, inputs).uniform_(-bound, bound, generator=generator)
        drawn[f"bias_{layer}"] = torch.empty(outputs).uniform_(-bound, bound, generator=generator)
    return drawn


def fitted(
    projector: Projector, given: Tensor, wanted: Tensor, seeds: Sequence[int], steps: int, learning_rate: float
) -> dict[str, Tensor]:
    """The parameters [K, …] that bring prompts nearest to prompts of the same tasks on another PLM.

    Args:
        projector: what is trained.
        given: [K, M, *source] prompts of M tasks.
        wanted: [K, M, *target] the same tasks' prompts on the other PLM.
        seeds: [K].
        steps: of Adam, over all tasks at once.
        learning_rate: constant.

    Source: Su et al. (2022), distance minimising: min ‖Proj(P_s) − P_t‖₂, mean over the tasks.
    """
    parameters = trained_on(given.device, projector.drawn(seeds))
    optimiser = adamw(parameters.values(), learning_rate)
    for _ in range(steps):
        distances = (projector(parameters, given) - wanted).flatten(2).norm(dim=2)  # [K, M]
        distances.mean(1).sum().backward()
        clip_replicas(list(parameters.values()))
        optimiser.step()
        optimiser.zero_grad()
    return {name: tensor.detach() for name, tensor in parameters.items()}


class ProjectedPrompts(PromptSource):
    """Prompts that a projector makes of prompts of another PLM; only the projector is trained.

    Args:
        projector: what is trained.
        given: [K, M, …] prompts of M tasks on the other PLM, in the order of the mixture's tasks.
        seeds: [K] of the projector.
        device: where it is trained.
    """

    def __init__(self, projector: Projector, given: Tensor, seeds: Sequence[int], device: torch.device):
        self.projector, self.given = projector, given.to(device)
        self.trainables = trained_on(device, projector.drawn(seeds))

    def prompts(self) -> Tensor:
        """[K, M, …] the projected prompts of all tasks."""
        return self.projector(self.trainables, self.given)

    def of_task(self, prompts: Tensor | None, number: int) -> Tensor | None:
        """[K, …] the projected prompt of one task."""
        return None if prompts is None else prompts[:, number]


def projector_trainer(
    library: PromptLibrary, config: TrialConfig, projector: Projector, given: Tensor, heads: Heads, seeds: Sequence[int]
) -> Trainer:
    """Trains a projector by the losses of several tasks: their prompts and heads are fixed.

    Args:
        library: where token tables come from.
        config: of the trial; its projection says which tasks, and how.
        projector: what is trained.
        given: [K, M, …] prompts of the tasks on the other PLM.
        heads: of all tasks, one behind the other.
        seeds: [K].

    Source: Su et al. (2022), task tuning: −log p(y | [Proj(P_s); x]), only the projector is trained.
    Deviation: each task is read by the head that was trained beside its own prompt; docs/deviations.md#projector.
    """
    how, setting = _projection(config), config.setting.of_sources
    encoder, mixture = encoder_of(setting), Mixture("projector", how.tasks)
    prompts = ProjectedPrompts(projector, given, seeds, encoder.device)
    student = PromptStudent(encoder, mixture, seeds, prompts, heads, trains_heads=False)
    data = training_data(library, setting, mixture, seeds, how.steps, encoder.device)
    return Trainer(student, data, Recipe(how.steps, how.learning_rate, "constant"))


def on_source_plm(config: TrialConfig, task: TaskSpec, *, target: bool) -> Lineage:
    """The prompt of a task on the PLM that prompts are projected from."""
    own, plm = on_own_plm(config, task, target=target), _projection(config).plm
    return replace(own, setting=replace(own.setting, plm=plm), task=task.on(plm))


def on_own_plm(config: TrialConfig, task: TaskSpec, *, target: bool = False) -> Lineage:
    """The prompt of the same task on the trial's own PLM."""
    named = Lineage.of_target if target else Lineage.of_source
    return named(config.setting, task, config.source_steps, config.source_learning_rate)


def _projection(config: TrialConfig) -> Projection:
    assert config.projection is not None, "a method that projects has a projection"
    return config.projection


def projection_lineages(config: TrialConfig) -> list[Lineage]:
    """All prompts that a projected start needs: the target's, and those of the projector's tasks on both PLMs."""
    tasks = _projection(config).tasks
    both = [lineage for t in tasks for lineage in (on_source_plm(config, t, target=False), on_own_plm(config, t))]
    return [on_source_plm(config, config.target, target=True), *both]


def projected_prompts(library: PromptLibrary, config: TrialConfig) -> Tensor:
    """[K, …] the target's own prompt on the other PLM, projected. The projector never saw the target.

    Source: Su et al. (2022), TPT_MODEL.
    """
    given = _stacked(library, [on_source_plm(config, config.target, target=True)], config.seeds)
    shape = _shape(config)
    projector = Projector(_projection(config).form, tuple(given.shape[2:]), shape, _projection(config).hidden)
    keys = [projector_key(config, seed) for seed in config.seeds]
    if not all(library.sound("projectors", key) for key in keys):
        with library.lock(f"projector-{keys[0]}"):
            gone = [i for i, key in enumerate(keys) if not library.sound("projectors", key)]
            if gone:
                _make(library, config, projector, [config.seeds[i] for i in gone], [keys[i] for i in gone])
    replicas = [load_file(library.get("projectors", key) / FILE) for key in keys]
    parameters = {name: torch.stack([replica[name] for replica in replicas]) for name in replicas[0]}
    return projector(parameters, given)[:, 0]


def projector_key(config: TrialConfig, seed: int) -> str:
    """The content key of one seed's projector."""
    how = config.source_steps, config.source_learning_rate
    return content_key("projectors", config.setting.of_sources, config.projection, *how, seed)


def _shape(config: TrialConfig) -> tuple[int, ...]:
    setting = config.setting
    return encoder_of(setting).prompt_shape(setting.prompt.length, setting.prompt.form)


def _stacked(library: PromptLibrary, lineages: Sequence[Lineage], seeds: Sequence[int]) -> Tensor:
    """[K, M, …] prompts of M lineages."""
    return torch.stack([torch.stack([p.prompt for p in of]) for of in _tuned(library, lineages, seeds)])


def _tuned(library: PromptLibrary, lineages: Sequence[Lineage], seeds: Sequence[int]) -> list[tuple[SoftPrompt, ...]]:
    return list(zip(*(tuned_prompts(library, lineage, seeds) for lineage in lineages), strict=True))


def _make(
    library: PromptLibrary, config: TrialConfig, projector: Projector, seeds: Sequence[int], keys: Sequence[str]
) -> None:
    how = _projection(config)
    given = _stacked(library, [on_source_plm(config, task, target=False) for task in how.tasks], seeds)
    own = _tuned(library, [on_own_plm(config, task) for task in how.tasks], seeds)
    if how.objective == "distance":
        wanted = torch.stack([torch.stack([p.prompt for p in of]) for of in own])
        parameters = fitted(projector, given, wanted, seeds, how.steps, how.learning_rate)
    else:
        heads = (
            torch.stack([torch.cat([p.weight for p in of]) for of in own]),
            torch.stack([torch.cat([p.bias for p in of]) for of in own]),
        )
        trainer = projector_trainer(library, config, projector, given, heads, seeds)
        trainer.advance(how.steps)
        parameters = {name: tensor.detach().cpu() for name, tensor in trainer.trainables.items()}
    for i, (seed, key) in enumerate(zip(seeds, keys, strict=True)):
        card = {
            "task": " + ".join(task.name for task in how.tasks), "from": how.plm.label, "plm": config.setting.plm.label, "seed": seed, "form": how.form,
            "objective": how.objective,
        }  # fmt: skip
        library.put("projectors", key, partial(_save, {name: t[i] for name, t in parameters.items()}), card)


def _save(tensors: Tensors, draft: Path) -> None:
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, draft / FILE)
