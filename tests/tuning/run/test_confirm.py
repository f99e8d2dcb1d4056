"""Confirmation: fresh seeds, winners by selection score, twins without distillation, nothing lost on disk."""

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis.statistics.crossed import gain
from analysis.statistics.gains import NONE
from panda_trainable.config.trial import Source, TrialConfig
from panda_trainable.library import PromptLibrary
from panda_trainable.training.metrics import METRICS
from tests.kits.by_hand import play
from tests.kits.small import found, put_confirmed, studies_of
from tuning.engine.journal import StudyHandle
from tuning.engine.searcher import SearchPolicy
from tuning.planning.partners import study_path
from tuning.planning.plan import Plan, Study
from tuning.planning.results import LOGITS, Candidate, Winner, confirm_key, read_confirmed, twin
from tuning.run.confirm import _logits_frame, candidates, confirm_trial, jobs_of, twins_needed, winners

Planned = Callable[..., Plan]
KNOBS = {"learning_rate": 0.02, "lambda": 1.0, "teacher_steps": 4, "partners": 1, "fusion": "late"}


@pytest.fixture
def studies(planned: Planned) -> dict[str, Study]:
    return studies_of(planned())


def trial(study: Study, **knobs: object) -> TrialConfig:
    """A confirmed configuration of a study, told apart by its rate."""
    values = {name: KNOBS[name] for name in KNOBS if study.space.domain(name) is not None}
    return replace(study.base.with_knobs({**values, **knobs}), seeds=(10, 11))


def test_a_twin_is_plain_prompt_tuning_of_the_same_rate_steps_and_seeds(studies: dict[str, Study]) -> None:
    panda = trial(studies["t ← s1 · panda"])
    plain = trial(studies["t · prompt_tuning"])
    assert twin(panda) == plain
    assert confirm_key(twin(panda)) == confirm_key(plain)
    assert (panda.lambda_, len(panda.sources), panda.fusion) == (1.0, 2, "late")


@pytest.mark.parametrize("name", ["t · prompt_tuning", "t ← s1 · spot"])
def test_only_a_distilled_configuration_has_a_twin(studies: dict[str, Study], name: str) -> None:
    assert twin(trial(studies[name])) is None


def test_a_distilled_configuration_without_lambda_has_its_twins_numbers(
    studies: dict[str, Study], library: PromptLibrary
) -> None:
    off = trial(studies["t ← s1 · panda"], **{"lambda": 0.0})
    for config in (off, twin(off)):
        confirm_trial(library, config)
    a, b = read_confirmed(library, off), read_confirmed(library, twin(off))
    assert (a.selection, a.report) == (b.selection, b.report)
    assert np.array_equal(a.rows(), b.rows())
    assert pd.read_parquet(a.folder / LOGITS).equals(pd.read_parquet(b.folder / LOGITS))


def test_every_report_row_is_kept_with_its_logits_and_its_part_of_the_score_and_gives_the_scores_again(
    studies: dict[str, Study], library: PromptLibrary
) -> None:
    config = trial(studies["t ← s2 · panda"])
    confirm_trial(library, config)
    confirmed = read_confirmed(library, config)
    rows = [json.loads(line) for line in Path(config.target.origin.place("validation")).read_text().splitlines()]
    labels = np.array([row["label"] for row in rows])
    frame = pd.read_parquet(confirmed.folder / LOGITS)
    logits = frame[["logit_0", "logit_1"]].to_numpy().reshape(2, len(rows), 2)
    assert frame["seed"].tolist() == [10] * len(rows) + [11] * len(rows)
    accuracy = METRICS["accuracy"]
    assert (
        [accuracy(said, labels) for said in logits]
        == [accuracy.score(contributed) for contributed in confirmed.rows()]
        == confirmed.report
        == confirmed.report_metrics["accuracy"]
    )
    assert np.array_equal(confirmed.rows(), np.stack([accuracy.rows(said, labels) for said in logits]))


def test_what_each_report_row_adds_to_the_score_is_kept_and_has_the_score_for_its_mean(
    studies: dict[str, Study], library: PromptLibrary
) -> None:
    config = trial(studies["t · prompt_tuning"])
    confirm_trial(library, config)
    confirmed = read_confirmed(library, config)
    assert confirmed.contributions().shape == (2, 24)
    assert confirmed.contributions().mean(axis=1).tolist() == pytest.approx(confirmed.report)
    assert confirmed.majority == 0.5
    assert confirmed.constant_selection == [0.5, 0.5]
    assert all(0 <= error < 0.5 for error in confirmed.excess_error)
    assert confirmed.truncated == {"train": 0.0, "report": 0.0}


def test_what_was_cut_is_kept_beside_the_scores(planned: Planned, library: PromptLibrary) -> None:
    train = {"steps": 4, "batch_size": 4, "max_length": 9, "seeds": [0, 1]}
    plan = planned(train=train, methods=[], sources=[])
    config = trial(studies_of(plan)["t · prompt_tuning"])
    confirm_trial(library, config)
    # Texts have 4 to 8 words and two of their own, and [CLS] and [SEP] stand around them: 9 hold 7 words.
    cut = {}
    for name, split in (("train", "train"), ("report", "validation")):
        texts = [json.loads(line)["a"] for line in Path(config.target.origin.place(split)).read_text().splitlines()]
        cut[name] = float(np.mean([len(text.split()) > 7 for text in texts]))
    assert read_confirmed(library, config).truncated == pytest.approx(cut)
    assert 0 < cut["train"] < 1


def test_what_is_confirmed_is_not_trained_again(studies: dict[str, Study], library: PromptLibrary) -> None:
    config = trial(studies["t · prompt_tuning"])
    confirm_trial(library, config)
    before = {path: path.stat().st_mtime_ns for path in library.path("confirmed", confirm_key(config)).iterdir()}
    confirm_trial(library, config)
    assert before == {path: path.stat().st_mtime_ns for path in before}


@pytest.mark.parametrize("steps", [8, 1])
def test_a_configuration_that_diverges_even_at_its_last_step_is_refused_and_leaves_nothing(
    planned: Planned, library: PromptLibrary, steps: int
) -> None:
    train = {"steps": steps, "batch_size": 4, "max_length": 16, "seeds": [0, 1]}
    config = trial(studies_of(planned(train=train))["t · prompt_tuning"], learning_rate=1e38)
    with pytest.raises(ValueError, match=r"seed of \[10, 11\] is not finite"):
        confirm_trial(library, config)
    assert not library.has("confirmed", confirm_key(config))


def test_more_report_rows_are_another_confirmation(studies: dict[str, Study]) -> None:
    config = trial(studies["t · prompt_tuning"])
    fewer = replace(config, setting=replace(config.setting, limit=replace(config.setting.limit, report=10)))
    assert confirm_key(fewer) != confirm_key(config)


def test_logits_are_told_by_seed_and_row_in_the_order_of_the_seeds() -> None:
    logits = np.arange(12, dtype=np.float32).reshape(2, 3, 2)
    frame = _logits_frame((11, 10), logits)
    assert list(frame.columns) == ["seed", "row", "logit_0", "logit_1"]
    assert frame["seed"].tolist() == [11, 11, 11, 10, 10, 10]
    assert frame.iloc[4].tolist() == [10, 1, 8.0, 9.0]


def test_logits_of_many_numbers_a_row_are_told_flat() -> None:
    frame = _logits_frame((0,), np.arange(12, dtype=np.float32).reshape(1, 2, 2, 3))
    assert list(frame.columns) == ["seed", "row", *(f"logit_{number}" for number in range(6))]
    assert frame.iloc[1].tolist() == [0, 1, *range(6, 12)]


def configs_of(studies: dict[str, Study], name: str) -> list[TrialConfig]:
    """Two configurations of a study."""
    return [trial(studies[name], learning_rate=rate) for rate in (0.03, 0.02)]


def chosen_by(
    library: PromptLibrary, studies: dict[str, Study], *names: str, seed_0: float = 0.6, seed_1: float = 0.7
) -> dict[str, Winner]:
    """The winners of studies with two configurations each: 0.02 is better on selection rows, 0.03 on report rows.

    Args:
        library: where they are confirmed.
        studies: by name.
        names: of those that are confirmed.
        seed_0: selection score of 0.03 with the first seed; of 0.02 it is 0.7.
        seed_1: with the second; of 0.02 it is 0.8.
    """
    chosen = {}
    for name in names:
        high, low = configs_of(studies, name)
        chosen[studies[name].key] = [found(high), found(low)]
        put_confirmed(library, high, [seed_0, seed_1], [0.9, 0.95])
        put_confirmed(library, low, [0.7, 0.8], [0.5, 0.6])
    ended = winners(library, [studies[name] for name in names], chosen)
    return {winner.study.pair.name: winner for winner in ended}


def test_winners_are_chosen_by_selection_score_and_not_by_report_score(
    studies: dict[str, Study], library: PromptLibrary
) -> None:
    names = ("t · prompt_tuning", "t ← s1 · spot", "t ← s1 · panda")
    for winner in chosen_by(library, studies, *names).values():
        assert [one.config.learning_rate for one in winner.chosen.ranked] == [0.02, 0.03]
        assert winner.confirmed.config.learning_rate == 0.02
        assert winner.baseline.winner.config == trial(studies["t · prompt_tuning"], learning_rate=0.02)
        assert (winner.chosen.report, winner.chosen.grounds) == ([0.5, 0.6], (0.8, 0.7))


def test_a_seed_is_scored_on_what_the_other_seeds_choose(studies: dict[str, Study], library: PromptLibrary) -> None:
    # 0.03 has luck with its second seed: so it is chosen for the first, whose own score says 0.02.
    (winner,) = chosen_by(library, studies, "t · prompt_tuning", seed_0=0.1, seed_1=0.9).values()
    assert [pick.config.learning_rate for pick in winner.chosen.picks] == [0.03, 0.02]
    assert winner.chosen.grounds == (0.9, 0.7)
    assert winner.chosen.report == [0.9, 0.6]
    assert winner.chosen.contributions().mean(axis=1).tolist() == pytest.approx([0.9, 0.6])
    assert winner.confirmed.config.learning_rate == 0.02


def test_of_one_seed_the_search_chooses(studies: dict[str, Study], library: PromptLibrary) -> None:
    study = studies["t · prompt_tuning"]
    high, low = (replace(config, seeds=(10,)) for config in configs_of(studies, "t · prompt_tuning"))
    put_confirmed(library, high, [0.9], [0.9])
    put_confirmed(library, low, [0.2], [0.4])
    (winner,) = winners(library, [study], {study.key: [found(high, 0.6), found(low, 0.7)]})
    assert (winner.confirmed.config, winner.chosen.report, winner.chosen.grounds) == (low, [0.4], (0.7,))


def test_a_gain_is_paired_with_the_baselines_choice_of_the_same_seeds(
    studies: dict[str, Study], library: PromptLibrary
) -> None:
    baseline, spot = studies["t · prompt_tuning"], studies["t ← s1 · spot"]
    put_confirmed(library, trial(baseline), [0.5, 0.5], [0.5, 0.6])
    put_confirmed(library, trial(spot), [0.5, 0.5], [0.7, 0.9])
    chosen = {study.key: [found(trial(study))] for study in (baseline, spot)}
    first, second = winners(library, [baseline, spot], chosen)
    assert first.gain == NONE
    assert second.gain.mean == pytest.approx(0.25)
    assert second.gain.std == pytest.approx(math.sqrt(0.005))
    assert second.gain.low < 0.25 < second.gain.high
    assert second.gain.n == 2
    assert second.gain == gain(second.chosen.contributions(), first.chosen.contributions())


@pytest.mark.parametrize(("searched", "signal"), [(0.95, True), (0.7, True), (0.55, False), (0.5, False), (0.3, False)])
def test_there_is_signal_where_prompt_tuning_beats_the_best_constant_in_the_search_beyond_doubt(
    studies: dict[str, Study], library: PromptLibrary, searched: float, signal: bool
) -> None:
    """Report scores, which are what is to be reported of targets with signal, say nothing."""
    baseline = studies["t · prompt_tuning"]
    put_confirmed(library, trial(baseline), [0.7, 0.7], [1.0, 1.0] if not signal else [0.5, 0.5])
    (winner,) = winners(library, [baseline], {baseline.key: [found(trial(baseline), searched)]})
    assert winner.signal.mean == pytest.approx(searched - 0.5)
    assert (winner.signal.low > 0) is signal


def test_the_best_of_many_configurations_needs_more_to_be_a_signal(
    studies: dict[str, Study], library: PromptLibrary
) -> None:
    baseline = studies["t · prompt_tuning"]
    put_confirmed(library, trial(baseline), [0.7, 0.7], [0.7, 0.7])
    lows = []
    for tried in (1, 20):
        (winner,) = winners(library, [baseline], {baseline.key: [Candidate(trial(baseline), 0.6, tried)]})
        lows.append(winner.signal.low)
    assert lows == pytest.approx([0.1 - 1.95996 * 0.05 / math.sqrt(2), 0.1 - 3.02334 * 0.05 / math.sqrt(2)], abs=1e-5)


def test_a_study_without_a_confirmed_baseline_or_configuration_has_no_winner(
    studies: dict[str, Study], library: PromptLibrary
) -> None:
    assert chosen_by(library, studies, "t ← s1 · spot") == {}
    chosen = {study.key: [found(trial(study, learning_rate=0.5))] for study in studies.values()}
    assert list(winners(library, list(studies.values()), chosen)) == []


def test_a_winner_has_its_twins_as_soon_as_those_of_all_its_seeds_are_confirmed(
    studies: dict[str, Study], library: PromptLibrary
) -> None:
    names = ("t · prompt_tuning", "t ← s1 · panda")
    there = chosen_by(library, studies, *names)
    assert there["t ← s1 · panda"].twins == (there["t · prompt_tuning"].confirmed,) * 2
    alone = trial(studies["t ← s2 · panda"], learning_rate=0.04)
    put_confirmed(library, alone, [0.9, 0.9], [0.5, 0.5])
    baseline = studies["t · prompt_tuning"]
    chosen = {
        studies["t ← s2 · panda"].key: [found(alone)],
        baseline.key: [found(trial(baseline, learning_rate=0.02))],
    }
    assert [w.twins for w in winners(library, [baseline, studies["t ← s2 · panda"]], chosen)] == [(), ()]
    assert twins_needed(library, chosen) == [twin(alone)]


def test_the_twins_of_all_that_are_chosen_for_a_seed_are_needed(
    studies: dict[str, Study], library: PromptLibrary
) -> None:
    name = "t ← s1 · panda"
    chosen_by(library, studies, name, seed_0=0.1, seed_1=0.9)
    chosen = {studies[name].key: [found(config) for config in configs_of(studies, name)]}
    assert {config.learning_rate for config in twins_needed(library, chosen)} == {0.02, 0.03}


def test_candidates_are_the_best_of_the_search_with_fresh_seeds(planned: Planned) -> None:
    plan = planned(confirm={"top": 2, "seeds": [20, 21, 22]})
    study = studies_of(plan)["t ← s1 · panda"]
    journal = study_path(plan.experiment, study, "journal")
    seen: dict[float, float] = {}

    def score(config: dict, step: int) -> float:
        seen[config["knobs"]["learning_rate"]] = -abs(config["knobs"]["learning_rate"] - 0.02)
        return seen[config["knobs"]["learning_rate"]]

    searched = StudyHandle(study.key, journal, study.space, 6, study.base.steps)
    play([searched], SearchPolicy(sampler="random", scheduler="none", eval_every=2), score=score)
    (best,) = candidates(plan.experiment, [study]).values()
    assert [one.searched for one in best] == sorted(seen.values(), reverse=True)[:2]
    assert {one.tried for one in best} == {6}
    configs = [one.config for one in best]
    assert [config.learning_rate for config in configs] == sorted(seen, key=seen.__getitem__, reverse=True)[:2]
    assert {config.seeds for config in configs} == {(20, 21, 22)}
    assert {config.method for config in configs} == {"panda"}


def test_the_source_prompts_of_fresh_seeds_are_asked_for_once(studies: dict[str, Study]) -> None:
    configs = [trial(studies[f"t ← {source} · {method}"]) for source in ("s1", "s2") for method in ("spot", "panda")]
    jobs = jobs_of([*configs, trial(studies["t · prompt_tuning"])])
    assert sorted(job.lineage.task.name for job in jobs) == ["s1", "s2"]
    assert {(job.seeds, job.lineage.steps, job.reads) for job in jobs} == {((10, 11), 8, ())}
    assert isinstance(configs[0].sources[0], Source)


def test_a_gain_is_over_the_baseline_of_the_same_repeat(planned: Planned, library: PromptLibrary) -> None:
    """Each search has a baseline of its own: else the luck of one baseline would be in all gains."""
    studies = studies_of(planned(methods=["spot"], sources=["s1"], search={"trials": 2, "repeats": 2}))
    scores = {"": (0.7, 0.8), " · repeat 1": (0.6, 0.9)}
    chosen = {}
    for place, (behind, reports) in enumerate(scores.items()):
        for name, report in zip(("t · prompt_tuning", "t ← s1 · spot"), reports, strict=True):
            config = trial(studies[name + behind], learning_rate=0.01 * (place + 1))
            put_confirmed(library, config, [0.9, 0.9], [report, report])
            chosen[studies[name + behind].key] = [found(config)]
    ended = {winner.study.name: winner for winner in winners(library, list(studies.values()), chosen)}
    assert ended["t ← s1 · spot"].gain.mean == pytest.approx(0.1)
    assert ended["t ← s1 · spot · repeat 1"].gain.mean == pytest.approx(0.3)
    assert ended["t ← s1 · spot · repeat 1"].baseline_study == studies["t · prompt_tuning · repeat 1"].key
