"""Confirmation: fresh seeds, winners by selection score, twins without distillation, nothing lost on disk."""

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis.statistics.gains import NONE, Gain, paired_gain
from panda_trainable.config.trial import Source, TrialConfig
from panda_trainable.library import PromptLibrary
from panda_trainable.training.metrics import METRICS
from tests.kits.by_hand import play
from tests.kits.small import put_confirmed, studies_of
from tuning.engine.journal import StudyHandle
from tuning.engine.searcher import SearchPolicy
from tuning.planning.partners import study_path
from tuning.planning.plan import Plan, Study
from tuning.planning.results import GAIN_FILE, LOGITS, ROWS, Winner, confirm_key, read_confirmed, twin
from tuning.run.confirm import _logits_frame, candidates, confirm_trial, gain_over, jobs_of, winners

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
        confirm_trial(str(library.root), config)
    a, b = read_confirmed(library, off), read_confirmed(library, twin(off))
    assert (a.selection, a.report) == (b.selection, b.report)
    assert np.array_equal(a.rows(), b.rows())
    assert pd.read_parquet(a.folder / LOGITS).equals(pd.read_parquet(b.folder / LOGITS))


def test_every_report_row_is_kept_with_its_logits_and_its_part_of_the_score_and_gives_the_scores_again(
    studies: dict[str, Study], library: PromptLibrary
) -> None:
    config = trial(studies["t ← s2 · panda"])
    confirm_trial(str(library.root), config)
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


def test_the_reference_says_the_most_frequent_class_of_the_train_rows_to_every_report_row(
    studies: dict[str, Study], library: PromptLibrary
) -> None:
    config = trial(studies["t · prompt_tuning"])
    confirm_trial(str(library.root), config)
    confirmed = read_confirmed(library, config)
    assert confirmed.majority == 0.5
    assert confirmed.reference().shape == confirmed.rows().shape == (2, 24, 3)  # class, prediction, classes
    assert set(confirmed.reference()[..., 1].flat) == {0.0}
    assert confirmed.truncated == {"train": 0.0, "report": 0.0}


def test_what_was_cut_is_kept_beside_the_scores(planned: Planned, library: PromptLibrary) -> None:
    train = {"steps": 4, "batch_size": 4, "max_length": 9, "seeds": [0, 1]}
    plan = planned(train=train, methods=[], sources=[])
    config = trial(studies_of(plan)["t · prompt_tuning"])
    confirm_trial(str(library.root), config)
    # Texts have 4 to 8 words and two of their own, and [CLS] and [SEP] stand around them: 9 hold 7 words.
    cut = {}
    for name, split in (("train", "train"), ("report", "validation")):
        texts = [json.loads(line)["a"] for line in Path(config.target.origin.place(split)).read_text().splitlines()]
        cut[name] = float(np.mean([len(text.split()) > 7 for text in texts]))
    assert read_confirmed(library, config).truncated == pytest.approx(cut)
    assert 0 < cut["train"] < 1


def test_what_is_confirmed_is_not_trained_again(studies: dict[str, Study], library: PromptLibrary) -> None:
    config = trial(studies["t · prompt_tuning"])
    confirm_trial(str(library.root), config)
    before = {path: path.stat().st_mtime_ns for path in library.path("confirmed", confirm_key(config)).iterdir()}
    confirm_trial(str(library.root), config)
    assert before == {path: path.stat().st_mtime_ns for path in before}


@pytest.mark.parametrize("steps", [8, 1])
def test_a_configuration_that_diverges_even_at_its_last_step_is_refused_and_leaves_nothing(
    planned: Planned, library: PromptLibrary, steps: int
) -> None:
    train = {"steps": steps, "batch_size": 4, "max_length": 16, "seeds": [0, 1]}
    config = trial(studies_of(planned(train=train))["t · prompt_tuning"], learning_rate=1e38)
    with pytest.raises(ValueError, match=r"seed of \[10, 11\] is not finite"):
        confirm_trial(str(library.root), config)
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


def chosen_by(library: PromptLibrary, studies: dict[str, Study], *names: str) -> dict[str, Winner]:
    """The winners of studies with two configurations each: 0.02 is better on selection rows, 0.03 on report rows."""
    chosen = {}
    for name in names:
        chosen[studies[name].key] = [trial(studies[name], learning_rate=rate) for rate in (0.03, 0.02)]
        put_confirmed(library, chosen[studies[name].key][0], [0.6, 0.7], [0.9, 0.95])
        put_confirmed(library, chosen[studies[name].key][1], [0.7, 0.8], [0.5, 0.6])
    found = winners(library, [studies[name] for name in names], chosen)
    return {winner.study.pair.name: winner for winner in found}


def test_winners_are_chosen_by_selection_score_and_not_by_report_score(
    studies: dict[str, Study], library: PromptLibrary
) -> None:
    names = ("t · prompt_tuning", "t ← s1 · spot", "t ← s1 · panda")
    for winner in chosen_by(library, studies, *names).values():
        assert winner.confirmed.config.learning_rate == 0.02
        assert [other.config.learning_rate for other in winner.others] == [0.03]
        assert winner.baseline.config == trial(studies["t · prompt_tuning"], learning_rate=0.02)


def test_a_gain_is_paired_with_the_baselines_winner_of_the_same_seeds(
    studies: dict[str, Study], library: PromptLibrary
) -> None:
    baseline, spot = studies["t · prompt_tuning"], studies["t ← s1 · spot"]
    put_confirmed(library, trial(baseline), [0.5, 0.5], [0.5, 0.6])
    put_confirmed(library, trial(spot), [0.5, 0.5], [0.7, 0.9])
    chosen = {study.key: [trial(study)] for study in (baseline, spot)}
    first, second = winners(library, [baseline, spot], chosen)
    assert first.gain == NONE
    assert second.gain.mean == pytest.approx(0.25)
    assert second.gain.std == pytest.approx(math.sqrt(0.005))
    assert second.gain.low < 0.25 < second.gain.high
    assert second.gain.n == 2
    assert second.gain.p < 0.1
    assert second.gain == paired_gain(second.confirmed.rows(), first.confirmed.rows(), METRICS["accuracy"].score)


def test_a_gain_is_bootstrapped_once_and_then_read(studies: dict[str, Study], library: PromptLibrary) -> None:
    plain, spot = trial(studies["t · prompt_tuning"]), trial(studies["t ← s1 · spot"])
    ours = put_confirmed(library, spot, [0.5, 0.5], [0.7, 0.9])
    theirs = put_confirmed(library, plain, [0.5, 0.5], [0.5, 0.6])
    found = gain_over(library, ours, theirs)
    (card,) = (card for card in library.cards() if card["kind"] == "gains")
    for folder in (ours.folder, theirs.folder):  # what it was made of is not looked at again
        (folder / ROWS).unlink()
    assert gain_over(library, ours, theirs) == found
    assert (card["target"], card["method"]) == ("t", "spot")
    assert gain_over(library, ours, ours) == NONE
    path = library.path("gains", card["key"]) / GAIN_FILE
    assert Gain(**json.loads(path.read_text())) == found


@pytest.mark.parametrize(
    ("report", "signal"), [([0.9, 0.95], True), ([0.5, 0.5], False), ([0.3, 0.4], False), ([0.6, 0.4], False)]
)
def test_there_is_signal_where_the_baseline_beats_the_majority_class_beyond_doubt(
    studies: dict[str, Study], library: PromptLibrary, report: list[float], signal: bool
) -> None:
    baseline = studies["t · prompt_tuning"]
    confirmed = put_confirmed(library, trial(baseline), [0.5, 0.5], report)
    (winner,) = winners(library, [baseline], {baseline.key: [trial(baseline)]})
    assert winner.signal == paired_gain(confirmed.rows(), confirmed.reference(), METRICS["accuracy"].score)
    assert winner.signal.mean == pytest.approx(np.mean(report) - 0.5)
    assert (winner.signal.low > 0) is signal


def test_a_study_without_a_confirmed_baseline_or_configuration_has_no_winner(
    studies: dict[str, Study], library: PromptLibrary
) -> None:
    assert chosen_by(library, studies, "t ← s1 · spot") == {}
    chosen = {study.key: [trial(study, learning_rate=0.5)] for study in studies.values()}
    assert list(winners(library, list(studies.values()), chosen)) == []


def test_a_winner_has_its_twin_as_soon_as_that_is_confirmed(studies: dict[str, Study], library: PromptLibrary) -> None:
    names = ("t · prompt_tuning", "t ← s1 · panda")
    with_baselines_rate = chosen_by(library, studies, *names)
    assert with_baselines_rate["t ← s1 · panda"].twin == with_baselines_rate["t · prompt_tuning"].confirmed
    alone = trial(studies["t ← s2 · panda"], learning_rate=0.04)
    put_confirmed(library, alone, [0.9, 0.9], [0.5, 0.5])
    baseline = studies["t · prompt_tuning"]
    chosen = {studies["t ← s2 · panda"].key: [alone], baseline.key: [trial(baseline, learning_rate=0.02)]}
    assert [w.twin for w in winners(library, [baseline, studies["t ← s2 · panda"]], chosen)] == [None, None]


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
    (found,) = candidates(plan.experiment, [study]).values()
    assert [config.learning_rate for config in found] == sorted(seen, key=seen.__getitem__, reverse=True)[:2]
    assert {config.seeds for config in found} == {(20, 21, 22)}
    assert {config.method for config in found} == {"panda"}


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
            chosen[studies[name + behind].key] = [config]
    found = {winner.study.name: winner for winner in winners(library, list(studies.values()), chosen)}
    assert found["t ← s1 · spot"].gain.mean == pytest.approx(0.1)
    assert found["t ← s1 · spot · repeat 1"].gain.mean == pytest.approx(0.3)
    assert found["t ← s1 · spot · repeat 1"].baseline_study == studies["t · prompt_tuning · repeat 1"].key
