"""Partners of a study: the most similar other sources; and those that it began with, which a larger file keeps."""

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from panda_trainable.config.keys import content_key
from panda_trainable.config.trial import TrialConfig
from panda_trainable.library import set_aside
from search_spaces.space import Choice, Int, Space
from tuning.experiment.experiment import Experiment
from tuning.planning.plan import Pair, Plan, Study


def partner_order(space: Space, source: str, weights: Mapping[str, float], closeness: Mapping[str, float]) -> list[str]:
    """The partners a study may use: the most similar other sources, at most as many as its space asks for.

    Args:
        space: of the method.
        source: the pair's own.
        weights: source -> what weighs it; only those above zero can be partners.
        closeness: source -> by what they are ordered, ties by name.
    """
    domain = space.domain("partners")
    wanted = domain.high if isinstance(domain, Int) else max(domain.values) if isinstance(domain, Choice) else 0
    positive = weights[source] > 0  # otherwise no share of an average is defined
    others = [name for name in weights if positive and name != source and weights[name] > 0]
    return sorted(others, key=lambda name: (-closeness[name], name))[: int(wanted)]


@dataclass(frozen=True)
class StudyCard:
    """What is kept of a study when it begins.

    Attributes:
        key: of the study.
        pair: target, source, method.
        partners: sources that may be averaged with the pair's own, the most similar first.
        without_partners: the study's key as it were without partners.
    """

    key: str
    pair: tuple[str, str | None, str]
    partners: tuple[str, ...]
    without_partners: str


def recorded_studies(experiment: Experiment) -> tuple[list[StudyCard], list[str]]:
    """The cards of an experiment's studies, the oldest first; and what is to be said of those that are damaged.

    A damaged card is set aside; the study's next search writes it again.
    """
    cards, notes = [], []
    paths = (experiment.search_path / "studies").glob("*.json")
    for path in sorted(paths, key=lambda p: p.stat().st_mtime):
        try:
            cards.append(_card_of(json.loads(path.read_text(encoding="utf-8"))))
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            kept = set_aside(path).name
            notes.append(f"{path} is damaged ({error!r}); it is kept as {kept} and written again")
    return cards, notes


def _card_of(kept: Mapping[str, Any]) -> StudyCard:
    target, source, method = kept["pair"]
    return StudyCard(kept["key"], (target, source, method), tuple(kept["partners"]), kept["without_partners"])


def cards_of(cards: Sequence[StudyCard], pair: Pair, sources: Collection[str]) -> Iterator[StudyCard]:
    """The cards of a pair of which all partners are still among the sources."""
    return (
        card
        for card in cards
        if card.pair == (pair.target, pair.source, pair.method) and set(card.partners) <= set(sources)
    )


def record_study(plan: Plan, study: Study) -> None:
    """Keeps a study's card beside its journal: what it is and with which partners it began."""
    path = study_path(plan.experiment, study, "json")
    if path.exists():
        return
    card = {
        "key": study.key,
        "pair": [study.pair.target, study.pair.source, study.pair.method],
        "partners": [source.task.name for source in study.base.sources[1:]],
        "without_partners": key_without_partners(plan, study.base, study.space),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(".draft")
    draft.write_text(json.dumps(card, indent=1), encoding="utf-8")
    draft.rename(path)


def study_path(experiment: Experiment, study: Study, suffix: str) -> Path:
    """A study's file: `json` its card, `journal` its trials."""
    return experiment.search_path / "studies" / f"{study.key}.{suffix}"


def study_key(plan: Plan, base: TrialConfig, space: Space, repeat: int = 0) -> str:
    """A study's key: of what decides its numbers. Repeat r has that of the study of a file whose `search.seed` is r more."""
    return content_key("study", base, space, *_search_settings(plan, repeat))


def key_without_partners(plan: Plan, base: TrialConfig, space: Space) -> str:
    """A study's key as it were without partners: tells whether an earlier study is the same but for them."""
    domains = tuple(knob for knob in space.knobs if knob.name != "partners")
    asked = plan.experiment.method_space(base.method).domain("partners")
    return content_key("study", replace(base, sources=base.sources[:1]), domains, asked, *_search_settings(plan))


def _search_settings(plan: Plan, repeat: int = 0) -> tuple[int | str | None, ...]:
    """What of the search decides a study's numbers, beside its base trial and space; budgets do not."""
    search = plan.experiment.search
    # On paper's protocol the search looks at validation rows, and the report limit cuts them.
    rows = (plan.setting.limit.report,) if plan.setting.protocol == "paper" else ()
    return plan.setting.train.eval_every, search.sampler, search.scheduler, plan.search_seed(repeat), *rows
