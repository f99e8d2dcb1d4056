"""TrialResult: values by hand, what is refused, and that nothing is lost on the way to a journal or Tune."""

import math
from typing import Any

import pytest

from panda_trainable.result import LOST, TrialResult

RESULT = TrialResult(
    step=4, seconds=1.5, node="host/1", scores={"f1": {3: 0.25, 10: 0.75}, "accuracy": {3: 0.5, 10: 1.0}},
    losses={3: 0.1, 10: 0.4}, evaluation_share=0.25, lambda_effective=-0.5, is_last=True,
)  # fmt: skip


def test_score_and_loss_are_means_over_seeds_of_the_first_metric() -> None:
    assert (RESULT.score, RESULT.loss) == (0.5, pytest.approx(0.25))
    assert RESULT.score_std == pytest.approx(math.sqrt(0.125))
    assert dict(RESULT.by_seed) == {3: 0.25, 10: 0.75}
    one = TrialResult(scores={"f1": {0: 0.5}}, losses={0: 1.0})
    assert (one.score, one.score_std) == (0.5, 0.0)


@pytest.mark.parametrize("result", [RESULT, TrialResult.failed("diverged", 2, 0.5, "host/2")])
def test_nothing_is_lost_on_the_way_to_a_journal_or_tune(result: TrialResult) -> None:
    assert TrialResult.from_json(result.as_json()) == result
    reported = result.as_ray()
    assert TrialResult.from_ray({**reported, "training_iteration": 3, "done": False}) == result
    assert reported["done"]
    assert reported["score"] == result.score or (result.failure and math.isnan(reported["score"]))


def test_what_reported_nothing_lost_its_process() -> None:
    assert TrialResult.from_ray(None) == TrialResult.from_ray({"done": True}) == TrialResult.failed(LOST)


def test_a_long_reason_is_cut() -> None:
    assert TrialResult.failed("x" * 10_000).failure == "x" * 500


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"step": -1}, "step must not be negative, got -1"),
        ({"seconds": math.nan}, "seconds must be finite and not negative, got nan"),
        ({"evaluation_share": 1.5}, r"evaluation_share must be in \[0, 1\], got 1.5"),
        ({"losses": {3: 0.1, 10: math.inf}}, "scores and losses must be finite"),
        ({"losses": {3: 0.1}}, "every metric must have the seeds of the losses"),
        ({"scores": {}}, "a result has scores, or a failure and none"),
        ({"failure": "diverged"}, "a result has scores, or a failure and none"),
    ],
)
def test_an_impossible_result_is_refused(changes: dict[str, Any], rule: str) -> None:
    with pytest.raises(ValueError, match=rule):
        TrialResult(**{**vars(RESULT), **changes})
