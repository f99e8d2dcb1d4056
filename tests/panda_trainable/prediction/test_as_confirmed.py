"""The rows that a configuration was confirmed on give the numbers that confirmation wrote: every kind, form and readout."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from panda_trainable.config.methods import TRAITS
from panda_trainable.config.setting import Plm, Setting
from panda_trainable.config.trial import TrialConfig
from panda_trainable.config.wording import Wording
from panda_trainable.library import PromptLibrary
from panda_trainable.prediction.predictor import Predictor
from tests.kits.language_models import lm_plm, save_lm, with_digits
from tests.kits.tasks import HEADED, task_of_kind
from tests.kits.trials import asked_trial, short_trial, small_setting
from tuning.planning.results import LOGITS, SCORES, confirm_key
from tuning.run.confirm import confirm_trial

CLOSE = {"rtol": 0, "atol": 1e-6}
METHODS = ("linear_probe", "attempt", "mpt", "spot")
"""Methods of which something else is kept than a prompt and a head, on a classification."""


def confirmed(library: PromptLibrary, config: TrialConfig) -> Path:
    confirm_trial(library, config)
    return library.get("confirmed", confirm_key(config))


def rows_of(config: TrialConfig, split: str = "validation") -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(config.target.origin.place(split)).read_text().splitlines()]


def check_predicts_as_confirmed(library: PromptLibrary, config: TrialConfig) -> None:
    folder = confirmed(library, config)
    predictor, rows = Predictor.load(folder), rows_of(config)
    frame, scores = pd.read_parquet(folder / LOGITS), json.loads((folder / SCORES).read_text())
    for seed, said in zip(config.seeds, predictor.logits(rows, batch=7), strict=True):
        kept = frame[frame["seed"] == seed].drop(columns=["seed", "row"]).to_numpy()
        if said.dtype.kind == "U":
            assert said.tolist() == kept[:, 0].tolist()
        else:
            np.testing.assert_allclose(said.reshape(len(rows), -1), kept.astype(np.float32), **CLOSE)
    each = [
        predictor.predict_file(Path(config.target.origin.place("validation")), replica=s, batch=9) for s in config.seeds
    ]
    assert {found.labelled for found in each} == {len(rows)}
    for name in config.target.metrics:
        np.testing.assert_allclose([found.scores[name] for found in each], scores["report"][name], **CLOSE)
        assert [found.by_seed[seed][name] for seed, found in zip(config.seeds, each, strict=True)] == [
            found.scores[name] for found in each
        ]


@pytest.mark.parametrize("form", ["prefix", "input"])
@pytest.mark.parametrize("kind", HEADED)
def test_a_trained_head_predicts_as_it_was_confirmed(
    library: PromptLibrary, setting: Setting, wide_plm: Plm, tmp_path: Path, kind: str, form: str
) -> None:
    setting = replace(setting, prompt=replace(setting.prompt, form=form))
    target = task_of_kind(tmp_path / "kinds", kind)
    check_predicts_as_confirmed(library, short_trial(tmp_path, setting, wide_plm, target=target))


@pytest.mark.parametrize("method", METHODS)
def test_whatever_a_method_keeps_predicts_as_it_was_confirmed(
    library: PromptLibrary, trial: Callable[..., TrialConfig], method: str
) -> None:
    check_predicts_as_confirmed(library, trial(method, sources=2 if TRAITS[method].sources == "all" else 1))


@pytest.mark.parametrize(
    ("name", "form", "method"),
    [
        ("bert", "input", "prompt_tuning"), ("bert", "prefix", "plain_template"), ("llama", "prefix", "prompt_tuning"),
        ("llama", "input", "attempt"), ("t5", "input", "prompt_tuning"), ("t5", "prefix", "prompt_tuning"),
    ],
)  # fmt: skip
def test_label_words_predict_as_they_were_confirmed(
    library: PromptLibrary, lms: Callable[[str], Plm], wide_plm: Plm, tmp_path: Path, name: str, form: str, method: str
) -> None:
    check_predicts_as_confirmed(library, asked_trial(tmp_path, lms(name), wide_plm, method, form))


@pytest.mark.parametrize("form", ["prefix", "input"])
@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("llama", "generation"),
        ("t5", "generation"),
        ("t5", "extractive_qa"),
        ("llama", "multiple_choice"),
        ("t5", "multiple_choice"),
    ],
)
def test_what_is_written_or_chosen_by_its_text_is_what_was_confirmed(
    library: PromptLibrary, lms: Callable[[str], Plm], wide_plm: Plm, tmp_path: Path, name: str, kind: str, form: str
) -> None:
    plm = lms(name)
    setting = small_setting(Path(plm.source))
    setting = replace(setting, plm=plm, prompt=replace(setting.prompt, form=form))
    wording = {"multiple_choice": Wording("{a} so {answer}")}.get(kind)
    target = task_of_kind(tmp_path / "kinds", kind, wording=wording).on(plm)
    check_predicts_as_confirmed(library, short_trial(tmp_path, setting, wide_plm, target=target))


def test_the_mean_of_numbers_is_what_was_confirmed(library: PromptLibrary, wide_plm: Plm, tmp_path: Path) -> None:
    plm = lm_plm(with_digits(save_lm(tmp_path / "lm", "llama")), "lm")
    setting = replace(small_setting(Path(plm.source)), plm=plm)
    wording = Wording("{a} It is {answer}", (("0",), ("1",), ("2.5",)))
    target = task_of_kind(tmp_path / "kinds", "regression", wording=wording).on(plm)
    config = short_trial(tmp_path, setting, wide_plm, target=target)
    check_predicts_as_confirmed(library, config)
    predictor, rows = Predictor.load(confirmed(library, config)), rows_of(config)
    values = [row["prediction"] for row in predictor.predict(rows, replica=1).rows()]
    np.testing.assert_allclose(values, predictor.logits(rows)[1][:, 0], **CLOSE)


def test_wordings_are_kept(lms: Callable[[str], Plm], library: PromptLibrary, wide_plm: Plm, tmp_path: Path) -> None:
    folder = confirmed(library, asked_trial(tmp_path, lms("t5"), wide_plm))
    asked = Predictor.load(folder).winner.task.asked
    assert asked == Wording("{a} It was {answer}.", (("terrible",), ("great",)))
