"""Prompts with a history: sources, embeddings' prompts and teachers, and what teachers say. Made once."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from panda_trainable.config import Setting, TrialConfig, content_key
from panda_trainable.data import selection_split, stream
from panda_trainable.encoder import load_encoder
from panda_trainable.heads import reference_logits
from panda_trainable.initialisers import INITIALISERS, Ground
from panda_trainable.library import PromptLibrary
from panda_trainable.metrics import METRICS
from panda_trainable.model_session import ModelSession, read_model_heads
from panda_trainable.objectives import KD_LOSSES
from panda_trainable.prompts import SoftPrompt, average_prompt
from panda_trainable.session import Part, Session, Teacher, device
from panda_trainable.tasks import Mixture, TaskSpec
from panda_trainable.tokens import gold_of, token_table

FILE, MODEL_FILE = "prompt.safetensors", "model.safetensors"


@dataclass(frozen=True)
class Lineage:
    """How a prompt came to be: plain prompt tuning at a constant rate, from some start.

    One value serves the three places where the field tunes plainly: a source prompt (random start),
    the short tuning that a task embedding needs, and PANDA's target-like teacher (which starts from
    source prompts). A constant rate makes every earlier step a snapshot of the same run.

    Attributes:
        setting: what the plan shares.
        task: the task it was tuned on.
        steps: steps so far; a snapshot of a longer run is the run of so many steps.
        learning_rate: constant.
        start: (share, lineage) of the prompts it starts from, averaged; empty: as `setting.init` says.
        apart_from: a target of which no report row shares a text with the rows it was tuned on; None where
            none does anyway.
        trains: `prompt` (and head), or `model`: all weights.
    """

    setting: Setting
    task: TaskSpec | Mixture
    steps: int
    learning_rate: float
    start: tuple[tuple[float, "Lineage"], ...] = ()
    apart_from: TaskSpec | None = None
    trains: Literal["prompt", "model"] = "prompt"

    @property
    def kind(self) -> str:
        """The library's folder: `models`, or `prompts` from a random start and `teachers` from source prompts."""
        return "models" if self.trains == "model" else "teachers" if self.start else "prompts"

    def key(self, seed: int) -> str:
        """The content key of one seed's prompt."""
        return content_key(self.kind, self, seed)

    def at(self, steps: int) -> "Lineage":
        """The same run at another step."""
        return replace(self, steps=steps)


def source_lineage(config: TrialConfig, number: int) -> Lineage:
    """The source prompt that a trial's source number `number` brings."""
    source = config.sources[number]
    return Lineage(
        config.setting.of_sources, source.task, config.source_steps, config.source_learning_rate,
        apart_from=config.target if source.apart else None,
    )  # fmt: skip


def source_lineages(config: TrialConfig) -> list[Lineage]:
    """The lineages of all source prompts that a trial starts or learns from."""
    return [source_lineage(config, i) for i in range(len(config.sources))]


def target_mixture(config: TrialConfig) -> Lineage:
    """The prompt that is trained on a trial's sources and its target together."""
    members = [*(task for source in config.sources for task in source.task.tasks), config.target]
    tasks = tuple(dict.fromkeys(members))
    setting = config.setting.of_sources
    shots: tuple[int, ...] = ()
    if config.setting.shots != config.setting.source_shots:
        few = config.setting
        shots = tuple(few.shots if task == config.target else few.source_shots for task in tasks)
    mixture = Mixture("+".join(task.name for task in tasks), tasks, config.mixing_cap, shots)
    return _on_sources(config, setting, mixture)


def sources_model(config: TrialConfig) -> Lineage:
    """The PLM, all its weights tuned on a trial's sources together."""
    tasks = tuple(dict.fromkeys(task for source in config.sources for task in source.task.tasks))
    mixture = Mixture("+".join(task.name for task in tasks), tasks, config.mixing_cap)
    return replace(_on_sources(config, config.setting.of_sources, mixture), trains="model")


def _on_sources(config: TrialConfig, setting: Setting, mixture: Mixture) -> Lineage:
    apart = config.target if any(source.apart for source in config.sources) else None
    return Lineage(setting, mixture, config.source_steps, config.source_learning_rate, apart_from=apart)


def starting_prompts(library: PromptLibrary, lineage: Lineage, seeds: Sequence[int]) -> Tensor:
    """[K, L, 2, heads, P, d] or [K, P, E] the prompts that a lineage starts from."""
    if not lineage.start:
        encoder, initial = (
            load_encoder(lineage.setting.plm, device(), lineage.setting.precision),
            INITIALISERS[lineage.setting.init.kind],
        )
        return torch.stack([initial(Ground(encoder, lineage.setting, lineage.task, seed)) for seed in seeds])
    shares = tuple(share for share, _ in lineage.start)
    parents = [[p.prompt for p in tuned_prompts(library, parent, seeds)] for _, parent in lineage.start]
    return torch.stack([average_prompt(list(of_seed), shares) for of_seed in zip(*parents, strict=True)])


def tuned_prompts(
    library: PromptLibrary, lineage: Lineage, seeds: Sequence[int], also: Sequence[int] = ()
) -> list[SoftPrompt]:
    """[K] the prompts of a lineage, one per seed; the missing are trained, stacked, in one run.

    Args:
        library: where they are kept.
        lineage: which.
        seeds: one prompt each.
        also: further steps of the same run to keep.
    """
    return [SoftPrompt.load(folder / FILE) for folder in tuned(library, lineage, seeds, also)]


def tuned(library: PromptLibrary, lineage: Lineage, seeds: Sequence[int], also: Sequence[int] = ()) -> list[Path]:
    """[K] the folders of what a lineage tuned; the missing are made. The arguments are those of `tuned_prompts`."""
    stops = sorted({lineage.steps, *also})
    if missing_seeds(library, lineage, seeds, stops):
        with library.lock(content_key(lineage.kind, lineage.at(0))):
            missing = missing_seeds(library, lineage, seeds, stops)  # another process may have made them
            if missing:
                _train(library, lineage.at(stops[-1]), missing, stops)
    return [library.get(lineage.kind, lineage.key(seed)) for seed in seeds]


def missing_seeds(library: PromptLibrary, lineage: Lineage, seeds: Sequence[int], stops: Sequence[int]) -> list[int]:
    """Seeds of which a snapshot is missing or damaged."""
    return [s for s in seeds if not all(library.sound(lineage.kind, lineage.at(n).key(s)) for n in stops)]


def _train(library: PromptLibrary, lineage: Lineage, seeds: Sequence[int], stops: Sequence[int]) -> None:
    """Runs that leave a snapshot at each stop: prompts of all seeds stacked, whole models one after the other."""
    for together in [seeds] if lineage.trains == "prompt" else [[seed] for seed in seeds]:
        session = _opened(library, lineage, together)
        for stop in stops:
            session.advance(stop - session.done)
            scores = {} if lineage.start else _source_scores(session)
            for i, (seed, save) in enumerate(zip(together, _savers(session), strict=True)):
                card = {**_card(lineage.at(stop), seed), **{name: values[i] for name, values in scores.items()}}
                library.put(lineage.kind, lineage.at(stop).key(seed), save, card)


def _opened(library: PromptLibrary, lineage: Lineage, seeds: Sequence[int]) -> Session:
    kind = ModelSession if lineage.trains == "model" else Session
    start = torch.empty(len(seeds), 0) if lineage.trains == "model" else starting_prompts(library, lineage, seeds)
    return kind(
        library, lineage.setting, lineage.task, seeds, start,
        steps=lineage.steps, learning_rate=lineage.learning_rate, schedule="constant",
        apart_from=lineage.apart_from,
    )  # fmt: skip


def _savers(session: Session) -> list[Callable[[Path], None]]:
    """[K] what writes each replica into a folder."""
    if isinstance(session, ModelSession):
        return [partial(_save_model, session, replica) for replica in range(len(session.seeds))]
    return [partial(_save, prompt) for prompt in session.prompts()]


def _save(prompt: SoftPrompt, draft: Path) -> None:
    prompt.save(draft / FILE)


def _save_model(session: ModelSession, replica: int, draft: Path) -> None:
    session.save_model(replica, draft / MODEL_FILE)


def _source_scores(session: Session) -> dict[str, list[float]]:
    """Selection score of each replica, and its majority class's, so that a poor source can be flagged.

    Of a mixture the means over its tasks.
    """
    scores = [session.select(i)[part.task.metrics[0]] for i, part in enumerate(session.parts)]
    majorities = [_majority(session, part) for part in session.parts]
    return {"score": np.mean(scores, 0).tolist(), "majority": np.mean(majorities, 0).tolist()}


def _majority(session: Session, part: Part) -> list[float]:
    """[K] selection score of the reference that ignores the text."""
    task, metric = part.task, METRICS[part.task.metrics[0]]
    labels = part.table.labels.numpy()
    selected = token_table(session.library, session.setting, task, selection_split(session.setting, task))
    majority = []
    for rows in part.rows:
        reference = reference_logits(task, labels[rows.train], selected, rows.selection)
        majority.append(metric(reference, gold_of(selected, task, rows.selection)))
    return majority


def _card(lineage: Lineage, seed: int) -> dict[str, Any]:
    parents = [[share, parent.task.name, parent.key(seed)] for share, parent in lineage.start]
    return {
        "task": lineage.task.name, "plm": lineage.setting.plm.label, "seed": seed, "steps": lineage.steps,
        "learning_rate": lineage.learning_rate, "start": parents or lineage.setting.init.kind,
        **({"apart_from": lineage.apart_from.name} if lineage.apart_from else {}),
    }  # fmt: skip


def target_like_teachers(library: PromptLibrary, config: TrialConfig) -> list[Teacher]:
    """PANDA's teachers of a trial: source prompts after `teacher_steps` steps on the target.

    `early` fusion averages the source prompts first, which gives one teacher; `late` has a teacher
    of each source, `late_logits` one that says the average of what these say. All weigh by α · sim,
    and are the same where there is one source.

    Source: PANDA (arXiv:2208.10160), its target-like teacher; the fusions as described in
    docs/deviations.md#fusion.
    """
    weighted = [
        (weight, said(library, config, lineage, KD_LOSSES[config.kd].reads))
        for weight, lineage in teacher_lineages(config)
    ]
    if config.fusion == "late_logits" and len(weighted) > 1:
        shares = [share for share, weight in zip(config.shares, config.source_weights, strict=True) if weight > 0]
        whole = sum(shares)
        tables = [
            torch.stack([share / whole * table for share, table in zip(shares, of_seed, strict=True)]).sum(0)
            for of_seed in zip(*(tables for _, tables in weighted), strict=True)
        ]
        weighted = [(config.lambda_effective, tuple(tables))]
    return [Teacher(weight, tables, config.kd) for weight, tables in weighted]


def teacher_lineages(config: TrialConfig) -> list[tuple[float, Lineage]]:
    """Weight, > 0, and lineage of each of a trial's target-like teachers."""
    if config.lambda_ == 0:
        return []
    sources = [(share, source_lineage(config, i)) for i, share in enumerate(config.shares)]
    if config.fusion == "early":
        starts = [(config.lambda_effective, tuple(sources))]
    else:
        starts = [
            (weight, ((1.0, source),)) for weight, (_, source) in zip(config.source_weights, sources, strict=True)
        ]
    rate, steps = config.source_learning_rate, config.teacher_steps
    return [
        (weight, Lineage(config.setting.of_targets, config.target, steps, rate, start))
        for weight, start in starts
        if weight > 0
    ]


def tutor_lineage(config: TrialConfig) -> Lineage:
    """The tuning of the larger PLM that teaches."""
    tutor = config.tutor
    assert tutor is not None, "a method that asks for its tutor has one"
    setting = replace(config.setting.of_targets, plm=tutor.plm)
    return Lineage(setting, config.target, tutor.steps, tutor.learning_rate, trains=tutor.trains)


def relation_teachers(library: PromptLibrary, config: TrialConfig) -> list[Teacher]:
    """What a larger PLM teaches by relations: between classes, and between the examples of a batch.

    Source: Yuan & Lang (2024); the forms of both as described in docs/deviations.md#relations.
    """
    weights = {"inter_class": config.inter_class, config.relation: config.inter_instance}
    return _tutor_says(library, config, weights)


def larger_teachers(library: PromptLibrary, config: TrialConfig) -> list[Teacher]:
    """The same, and beside relations a plain distillation loss that λ weighs."""
    return [*relation_teachers(library, config), *_tutor_says(library, config, {config.kd: config.lambda_})]


def _tutor_says(library: PromptLibrary, config: TrialConfig, weights: Mapping[str, float]) -> list[Teacher]:
    lineage, taught = tutor_lineage(config), {kd: weight for kd, weight in weights.items() if weight > 0}
    if taught:
        check_places(library, config.setting, lineage.setting, config.target)
    return [
        Teacher(weight, said(library, config, lineage, KD_LOSSES[kd].reads), kd, config.temperature)
        for kd, weight in taught.items()
    ]


def check_places(library: PromptLibrary, setting: Setting, other: Setting, task: TaskSpec) -> None:
    """Answers to words and tokens are compared place by place, which must be the same ones.

    Args:
        library: where token tables are kept.
        setting: of the student.
        other: of the PLM that teaches.
        task: what it teaches.

    Raises:
        ValueError: if the other PLM's tokenizer cuts texts elsewhere.
    """
    tables = [token_table(library, each, task, "train") for each in (setting, other)]
    places = [(table.slots.numpy() >= 0, np.asarray(table.offsets)) for table in tables]
    if not all(np.array_equal(a, b) for a, b in zip(*places, strict=True)):
        raise ValueError(
            f"{other.plm.label} cannot teach {setting.plm.label} the {task.kind} {task.name}: it is answered place by place, and their tokenizers cut its rows differently; raise "
            "max_length, or take a teacher_plm with the same tokenizer"
        )


def said(
    library: PromptLibrary, config: TrialConfig, lineage: Lineage, reads: Literal["logits", "hidden"] = "logits"
) -> tuple[Tensor, ...]:
    """[K] what a teacher says of the train rows: [N, …], NaN for rows no student meets; mapped.

    The rows are those that the seed's data order reaches; all trials of a study share them. They are
    matched by number, so that a teacher on another PLM may have another tokenizer.

    Args:
        library: where it is kept.
        config: of the student's trial.
        lineage: of the teacher.
        reads: its logits, or the `hidden` vectors that its head reads.
    """
    keys = [content_key("teachers", lineage, seed, reads, config.steps) for seed in config.seeds]
    if not all(library.sound("teachers", key) for key in keys):
        with library.lock(content_key("teachers", lineage, reads, config.steps)):
            gone = [i for i, key in enumerate(keys) if not library.sound("teachers", key)]
            if gone:
                _say(library, config, lineage, reads, [config.seeds[i] for i in gone], [keys[i] for i in gone])
    maps = [np.load(library.get("teachers", key) / f"{reads}.npy", mmap_mode="c") for key in keys]
    return tuple(torch.from_numpy(mapped) for mapped in maps)


def _say(
    library: PromptLibrary, config: TrialConfig, lineage: Lineage, reads: str, seeds: Sequence[int], keys: list[str]
) -> None:
    also = config.candidates if lineage.start else ()
    folders = tuned(library, lineage, seeds, also)
    for numbers in [range(len(seeds))] if lineage.trains == "prompt" else [[i] for i in range(len(seeds))]:
        chosen = [seeds[i] for i in numbers]
        session = teaching_session(library, lineage, chosen, [folders[i] for i in numbers])
        met = [
            np.unique(stream(rows.train, seed, config.steps * config.setting.batch_size))
            for rows, seed in zip(session.rows, chosen, strict=True)
        ]
        ask = session.logits if reads == "logits" else session.pooled
        for i, rows, known in zip(numbers, met, ask(session.table, met), strict=True):
            table = np.full((len(session.table), *known.shape[1:]), np.nan, np.float32)
            table[rows] = known
            card = {**_card(lineage, seeds[i]), "holds": f"{reads} of train rows", "rows": len(rows)}
            library.put("teachers", keys[i], partial(_save_table, table, reads), card)


def teaching_session(
    library: PromptLibrary, lineage: Lineage, seeds: Sequence[int], folders: Sequence[Path]
) -> Session:
    """A session that holds what was tuned and trains nothing."""
    setting = replace(lineage.setting, mlp=0)
    still: dict[str, Any] = {"steps": 0, "learning_rate": lineage.learning_rate, "apart_from": lineage.apart_from}
    if lineage.trains == "model":
        files = [folder / MODEL_FILE for folder in folders]
        return ModelSession(
            library, setting, lineage.task, seeds, torch.empty(len(seeds), 0),
            weights=files, heads=read_model_heads(files), **still,
        )  # fmt: skip
    tuned_ones = [SoftPrompt.load(folder / FILE) for folder in folders]
    heads = torch.stack([t.weight for t in tuned_ones]), torch.stack([t.bias for t in tuned_ones])
    prompts = torch.stack([t.prompt for t in tuned_ones])
    return Session(library, setting, lineage.task, seeds, prompts, heads=heads, **still)


def tutor_scores(library: PromptLibrary, config: TrialConfig) -> list[float]:
    """[K] the larger PLM's own score on report rows. For `confirm` alone."""
    lineage = tutor_lineage(config)
    scores = []
    for seed, folder in zip(config.seeds, tuned(library, lineage, config.seeds), strict=True):
        session = teaching_session(library, lineage, [seed], [folder])
        scores += session.report()[0][config.target.metrics[0]]
    return scores


def _save_table(table: np.ndarray, reads: str, draft: Path) -> None:
    np.save(draft / f"{reads}.npy", table, allow_pickle=False)
