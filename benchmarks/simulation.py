"""Experiments whose truth is known: gains of source, target, pair and training seed, scored on rows that are drawn."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from analysis.records.contributions import Contributions
from analysis.records.evidence import Evidence
from analysis.records.names import BASELINE, CONFIRMED, NO, START
from analysis.records.studies import Estimate, StudyRecord, Winner
from analysis.statistics.crossed import gains
from analysis.statistics.crossfit import grounds_of
from analysis.statistics.gains import NONE, Gain, spread

Floats = NDArray[np.float64]
OF_ROWS, OF_STUDY = 0.5, 0.2
"""Shares of a row's difficulty that all studies have in common, and that a study has with all its seeds."""


@dataclass(frozen=True)
class World:
    """The truth of an experiment; scores in score units, accuracies.

    Attributes:
        sources: per target.
        targets: how many.
        methods: with sources; all alike.
        rows: of the report split.
        selection_rows: of each seed.
        seeds: confirm seeds.
        seed_sd: deviation of a configuration's true score over training seeds.
        source_sd: deviation of gains over sources, the same for all targets.
        pair_sd: deviation of gains over pairs.
        gain: mean of all gains.
        score: of prompt tuning.
        similarities: how many are measured.
        of_source: correlation of each similarity with the source's effect.
        of_pair: with the pair's.
    """

    sources: int = 8
    targets: int = 1
    methods: int = 1
    rows: int = 200
    selection_rows: int = 128
    seeds: int = 3
    seed_sd: float = 0.01
    source_sd: float = 0.0
    pair_sd: float = 0.0
    gain: float = 0.0
    score: float = 0.75
    similarities: int = 1
    of_source: float = 0.0
    of_pair: float = 0.0


def experiment(world: World, generator: np.random.Generator) -> tuple[Evidence, Floats]:
    """One experiment as MLflow would hold it, and its true gains [S, T]."""
    source, pair = generator.normal(size=(world.sources, 1)), generator.normal(size=(world.sources, world.targets))
    truth = world.gain + world.source_sd * source + world.pair_sd * pair
    own = np.sqrt(max(0.0, 1 - world.of_source**2 - world.of_pair**2))
    similar = [
        world.of_source * source + world.of_pair * pair + own * generator.normal(size=pair.shape)
        for _ in range(world.similarities)
    ]
    studies = [
        study
        for target in range(world.targets)
        for study in _target(world, target, truth[:, target], [one[:, target] for one in similar], generator)
    ]
    return Evidence("simulated", tuple(studies)), truth


def _target(
    world: World, target: int, truth: Floats, similar: list[Floats], generator: np.random.Generator
) -> list[StudyRecord]:
    """The studies of a target: prompt tuning first, then each method with each source."""
    means = world.score + np.concatenate([[0.0], np.tile(truth, world.methods)])
    true = np.clip(means[:, None] + world.seed_sd * generator.normal(size=(len(means), world.seeds)), 0.01, 0.99)
    right = answers(true, world.rows, generator)
    error = np.sqrt(world.score * (1 - world.score) / world.selection_rows)
    selection = true + error * generator.normal(size=true.shape)
    searched = means + np.hypot(error, world.seed_sd) * generator.normal(size=len(means))
    found, seeds = gains(list(right), right[0]) if world.seeds else [], tuple(range(10, 10 + world.seeds))
    assert len(found) == len(means)
    names = [("prompt_tuning", None), *((f"method{m}", s) for m in range(world.methods) for s in range(world.sources))]
    return [
        _study(
            f"t{target}", method, source, [float(one[source]) for one in similar] if source is not None else [],
            _winner(right[i], selection[i], float(searched[i]), NONE if i == 0 else found[i], right[0], seeds),
        )
        for i, (method, source) in enumerate(names)
    ]  # fmt: skip


def answers(true: Floats, rows: int, generator: np.random.Generator) -> Floats:
    """[C, K, N] whether a row is right, of configurations and seeds whose true accuracies are [C, K].

    Rows are hard or easy for all, and for all seeds of a configuration, besides by chance.
    """
    studies, seeds = true.shape
    shared = generator.standard_normal(rows, np.float32)
    own = generator.standard_normal((studies, 1, rows), np.float32)
    chance = generator.standard_normal((studies, seeds, rows), np.float32)
    hard = np.sqrt(OF_ROWS) * shared + np.sqrt(OF_STUDY) * own + np.sqrt(1 - OF_ROWS - OF_STUDY) * chance
    return np.asarray(hard < ndtri(true)[..., None], float)


def _winner(
    right: Floats, selection: Floats, searched: float, gain: Gain, baseline: Floats, seeds: tuple[int, ...]
) -> Winner:
    """A study's winner as a search records it, which had one configuration."""
    scores, theirs = right.mean(axis=1), baseline.mean(axis=1)
    grounds = grounds_of(selection[None], [searched])[0]
    return Winner(
        score=_estimate(scores, seeds), selection=_estimate(selection, seeds),
        chosen_by={seed: float(ground) for seed, ground in zip(seeds, grounds, strict=True)},
        contributions=Contributions(seeds, right),
        gain=Estimate(gain.mean, gain.std, gain.n, gain.low, gain.high, gain.p, dict(zip(seeds, (scores - theirs).tolist(), strict=True))),
    )  # fmt: skip


def _estimate(values: Floats, seeds: tuple[int, ...]) -> Estimate:
    known = values.tolist()
    return Estimate(float(values.mean()), spread(known), len(known), by_seed=dict(zip(seeds, known, strict=True)))


def _study(target: str, method: str, source: int | None, similar: list[float], winner: Winner) -> StudyRecord:
    reference = {"prompt_tuning": BASELINE, "method0": START}.get(method, "")
    name = None if source is None else f"s{source}"
    return StudyRecord(
        target=target, source=name, method=method, plm="plm", run_id=f"{target} {method} {name}", state=CONFIRMED,
        reference=reference, similarity_in_loss=NO, signal=True, winner=winner,
        similarities={f"similarity{i}": value for i, value in enumerate(similar)},
    )  # fmt: skip
