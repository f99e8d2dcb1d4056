"""Plan to studies: what weighs their sources, their partners, and their keys."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

from panda_trainable.config.methods import KNOBS, TRAITS
from panda_trainable.config.trial import Source
from search_spaces.space import Space
from tuning.experiment.experiment import sources_of
from tuning.planning.bases import study_base
from tuning.planning.overlap import Shared, only_weighed
from tuning.planning.partners import (
    StudyCard,
    cards_of,
    key_without_partners,
    partner_order,
    recorded_studies,
    study_key,
)
from tuning.planning.plan import Pair, Plan, Similarities, Study


def make_studies(plan: Plan, similarities: Similarities, shared: Shared | None = None) -> tuple[list[Study], list[str]]:
    """The studies of a plan, and what was left out and why.

    Args:
        plan: of one PLM.
        similarities: of its pairs.
        shared: (source, target) -> texts that they share; None: none.

    A study's partners are part of its key. A study of the pair that already exists and whose
    partners are all still among the sources goes on with them, so that a larger file extends.
    The repeats of a study, after all first searches, are the same but for the seed of the search.
    """
    studies = []
    cards, notes = recorded_studies(plan.experiment)
    for pair in plan.pairs:
        weights = _weights(plan, pair, similarities) if TRAITS[pair.method].sources != "none" else {}
        if pair.source and "lambda" in KNOBS[pair.method] and weights[pair.source] <= 0:
            notes.append(f"{pair.name} is left out: its similarity {weights[pair.source]:.3f} is not positive")
            continue
        studies.append(_study(plan, pair, weights, similarities, shared or {}, cards))
    repeats = range(1, plan.experiment.search.repeats)
    return [*studies, *(_repeated(plan, study, repeat) for repeat in repeats for study in studies)], notes


def _repeated(plan: Plan, study: Study, repeat: int) -> Study:
    return replace(study, key=study_key(plan, study.base, study.space, repeat), repeat=repeat)


def _weights(plan: Plan, pair: Pair, similarities: Similarities) -> dict[str, float]:
    """Source -> the similarity that weighs it for this target and method."""
    weigh_by, target = plan.experiment.weigh_by, pair.target
    names = sources_of(plan.experiment, target)
    if weigh_by == "none" or not TRAITS[pair.method].weighs_sources:
        return dict.fromkeys(names, 1.0)
    if isinstance(weigh_by, dict):  # of every source: a rule of the file
        return {name: weigh_by[target][name] for name in (*names, *only_weighed(plan.experiment, target))}
    return {name: similarities[name, target][weigh_by] for name in names}


def _study(
    plan: Plan,
    pair: Pair,
    weights: Mapping[str, float],
    similarities: Similarities,
    shared: Shared,
    cards: Sequence[StudyCard],
) -> Study:
    def sources_named(*names: str) -> tuple[Source, ...]:
        drops = plan.experiment.overlap == "drop"
        return tuple(Source(plan.source(n), weights[n], drops and shared.get((n, pair.target), 0) > 0) for n in names)

    sources: tuple[Source, ...] = ()
    if pair.source:
        space = plan.experiment.method_space(pair.method)
        closest = partner_order(space, pair.source, weights, _closeness(plan, pair.target, weights, similarities))
        begun_with = (
            card.partners
            for card in cards_of(cards, pair, weights)
            if card.without_partners
            == key_without_partners(plan, *study_base(plan, pair, sources_named(pair.source, *card.partners), shared))
        )
        sources = sources_named(pair.source, *next(begun_with, closest))
    elif TRAITS[pair.method].sources == "all":
        sources = sources_named(*weights)
    base, space = study_base(plan, pair, sources, shared)
    measured = similarities.get((pair.source, pair.target), {}) if pair.source else {}
    own = sources[:1] if pair.source else sources  # its partners take part in some trials, and are pairs themselves
    overlap = plan.tasks[pair.target].leaked + sum(shared.get((source.task.name, pair.target), 0) for source in own)
    return Study(study_key(plan, base, space), pair, base, space, budget_of(plan, space), measured, overlap)


def budget_of(plan: Plan, space: Space) -> int:
    """Trials of a study: no configuration runs twice."""
    return int(min(plan.experiment.search.trials, space.size))


def _closeness(
    plan: Plan, target: str, weights: Mapping[str, float], similarities: Similarities
) -> Mapping[str, float]:
    """Source -> how similar it is to the target: what weighs it, or the first that is measured where nothing does.

    Sources without a value of that come last.
    """
    first = next(iter(plan.experiment.similarities), "")
    if plan.experiment.weigh_by != "none" or not first:
        return weights
    return {name: similarities.get((name, target), {}).get(first, -math.inf) for name in weights}
