"""Scores without training on the target: LogME against the marginal likelihood itself, LEEP and the baselines by hand."""

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from panda_trainable.config.kinds import KINDS
from panda_trainable.config.setting import Setting
from panda_trainable.config.task import Mixture, TaskSpec
from panda_trainable.data.splits import replica_rows
from panda_trainable.data.tokens import token_table
from panda_trainable.library import PromptLibrary
from panda_trainable.similarity import target_rows as module
from panda_trainable.similarity.readings import mean_similarities, seed_similarities, undefined
from panda_trainable.similarity.scores import label_entropy, leep, logme, source_size
from panda_trainable.similarity.source_rows import source_rows
from panda_trainable.similarity.target_rows import scored, scores_key, target_rows
from panda_trainable.transfer.lineage import Lineage, tuned_prompts
from panda_trainable.worker import load_encoder

Task = Callable[..., TaskSpec]
Floats = NDArray[np.float64]


@pytest.fixture
def pair(setting: Setting, task: Task) -> tuple[Lineage, Lineage]:
    """Two tasks; the source was tuned for three steps."""
    first, second = (Lineage(setting, task(name, seed=seed), 3, 0.05) for seed, name in enumerate("ab"))
    return first, second


def marginal(features: Floats, column: Floats, alpha: float, beta: float) -> float:
    """Nats per row of N(0, I / β + F Fᵀ / α), with its covariance written out."""
    n = len(column)
    covariance = np.eye(n) / beta + features @ features.T / alpha
    if np.linalg.cond(covariance) > 1e14:
        return -math.inf
    determinant = np.linalg.slogdet(covariance)[1]
    return float(-0.5 * (n * math.log(2 * math.pi) + determinant + column @ np.linalg.solve(covariance, column)) / n)


def searched(features: Floats, column: Floats) -> float:
    """The largest marginal likelihood on grids over log α and log β, each finer than the last around the best."""
    (low_a, low_b), (high_a, high_b), best = (-12.0, -6.0), (12.0, 12.0), (-math.inf, 0.0, 0.0)
    for _ in range(7):
        grid = ((a, b) for a in np.linspace(low_a, high_a, 25) for b in np.linspace(low_b, high_b, 25))
        best = max((marginal(features, column, math.exp(a), math.exp(b)), a, b) for a, b in grid)
        wide_a, wide_b = (high_a - low_a) / 8, (high_b - low_b) / 8
        low_a, high_a, low_b, high_b = best[1] - wide_a, best[1] + wide_a, best[2] - wide_b, best[2] + wide_b
    return best[0]


COLUMNS: dict[str, Callable[[np.random.Generator, Floats], Floats]] = {
    "linear": lambda g, f: f @ g.normal(size=f.shape[1]) + g.normal(size=len(f)) / 2,
    "noise": lambda g, f: g.normal(size=len(f)) + 1,
    "halves": lambda g, f: (f[:, 0] > np.median(f[:, 0])).astype(float),
}


@pytest.mark.parametrize("column", COLUMNS)
@pytest.mark.parametrize(("n", "width", "spread"), [(30, 4, 0), (12, 20, 0), (16, 16, 1)])
def test_logme_is_the_largest_marginal_likelihood(n: int, width: int, spread: float, column: str) -> None:
    generator = np.random.default_rng([n, width])
    features = (generator.normal(size=(n, width)) + 0.5) * 10.0 ** (spread * generator.normal(size=width))
    labels = COLUMNS[column](generator, features)
    assert logme(torch.from_numpy(features), torch.from_numpy(labels)) == pytest.approx(
        searched(features, labels), abs=1e-4
    )


def test_logme_by_hand() -> None:
    # One feature of ones, y = (1, 1): nothing is left over, and with s = 2 / α + 1 / β ever larger than 1 / β, the
    # evidence -½ (log 2π / β + log 2π s + 2 / s) grows without end as β does; not so for y = (1, -1), which the feature
    # cannot tell: α goes to infinity, 1 / β is the mean square 1.
    ones = torch.ones(2, 1)
    assert logme(ones, torch.tensor([1.0, -1.0])) == pytest.approx(-0.5 * (math.log(2 * math.pi) + 1))
    assert logme(ones, torch.tensor([1.0, 1.0])) > 5


def test_logme_of_classes_is_the_mean_over_a_column_each_and_classes_without_a_row_have_none() -> None:
    features = torch.randn(20, 3, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(20) % 3
    columns = [logme(features, (labels == c).double()) for c in range(3)]
    assert logme(features, labels) == pytest.approx(np.mean(columns))
    assert logme(features, labels * 2) == pytest.approx(np.mean(columns))


def test_logme_prefers_features_that_tell_the_labels_and_keeps_to_the_invariances_of_linear_models() -> None:
    generator = torch.Generator().manual_seed(1)
    labels = torch.arange(60) % 2
    noise = torch.randn(60, 8, generator=generator)
    told = torch.cat((noise[:, 1:], labels[:, None] + 0.1 * noise[:, :1]), 1)
    assert logme(told, labels) > logme(noise, labels) + 0.3
    turned = noise @ torch.linalg.qr(torch.randn(8, 8, generator=generator))[0]
    assert logme(turned, labels) == pytest.approx(logme(noise, labels), abs=1e-5)
    assert logme(100 * noise, labels) == pytest.approx(logme(noise, labels), abs=1e-5)
    order = torch.randperm(60, generator=generator)
    assert logme(noise[order], labels[order]) == pytest.approx(logme(noise, labels), abs=1e-9)
    values = torch.randn(60, generator=generator)
    assert logme(noise, 10 * values) == pytest.approx(logme(noise, values) - math.log(10), abs=1e-6)  # its unit


@pytest.mark.parametrize("features", [torch.zeros(10, 3), torch.ones(10, 40), torch.full((10, 3), 1e-20)])
def test_logme_of_features_that_say_nothing_is_a_number(features: Tensor) -> None:
    assert math.isfinite(logme(features, torch.arange(10) % 2))
    with pytest.raises(ValueError, match="needs labels other than zero"):
        logme(features, torch.zeros(10))


def test_leep_by_hand() -> None:
    half = torch.tensor(0.5)
    answers = torch.tensor([[0.8, 0.2], [0.4, 0.6]])
    # P(y, z): (.4, .1) and (.2, .3); P(y | z): (2/3, 1/4) and (1/3, 3/4)
    first, second = 0.8 * 2 / 3 + 0.2 / 4, 0.4 / 3 + 0.6 * 3 / 4
    assert leep(answers.log(), torch.tensor([0, 1])) == pytest.approx((math.log(first) + math.log(second)) / 2)
    assert leep(torch.zeros(4, 3), torch.tensor([0, 1, 0, 1])) == pytest.approx(math.log(half))  # answers say nothing
    sure = 1000 * torch.eye(3)[torch.tensor([0, 1, 0, 1])]  # and one output that is never given
    assert leep(sure, torch.tensor([1, 0, 1, 0])) == 0
    assert leep(sure, torch.tensor([0, 0, 1, 1])) == pytest.approx(math.log(half))


def test_the_baselines_by_hand() -> None:
    assert source_size(torch.tensor([30.0, 70.0])) == pytest.approx(math.log(100))
    assert source_size(torch.tensor([1.0])) == 0
    assert label_entropy(torch.tensor([[30.0, 10.0]])) == pytest.approx(math.log(4) - 0.75 * math.log(3))
    assert label_entropy(torch.tensor([[40.0, 0.0]])) == 0
    both = torch.tensor([[30.0, 30.0, 0.0], [40.0, 0.0, 0.0]])  # two classes alike, and one alone
    assert label_entropy(both) == pytest.approx(0.6 * math.log(2))


def test_a_source_is_as_large_as_the_rows_it_is_trained_on(
    library: PromptLibrary, setting: Setting, task: Task
) -> None:
    lineage, few = (
        Lineage(setting, task("a", n=60), 3, 0.05),
        Lineage(replace(setting, shots=4), task("a", n=60), 3, 0.05),
    )
    names = ["source_size", "label_entropy"]
    found = mean_similarities(library, names, lineage, lineage, (0, 1))
    assert found == {
        "source_size": pytest.approx(math.log(48)),
        "label_entropy": pytest.approx(math.log(2)),
    }  # less a fifth
    assert mean_similarities(library, names, few, lineage, (0,))["source_size"] == pytest.approx(math.log(8))
    mixture = Lineage(setting, Mixture("m", (task("a", n=60), task("c", classes=3, n=30, seed=1)), cap=40), 3, 0.05)
    read = source_rows(library, mixture, 0)
    assert read is not None
    assert read.sizes.tolist() == [40, 24]
    assert read.labels.tolist() == [[20, 20, 0], [8, 8, 8]]


def test_tags_are_counted_by_word_and_other_kinds_have_no_entropy(
    library: PromptLibrary, setting: Setting, kind_task: Task, task: Task
) -> None:
    tagged = Lineage(setting, kind_task("tagging"), 3, 0.05)
    table = token_table(library, setting, tagged.task, "train")
    rows = replica_rows(library, setting, tagged.task, 0).train
    words = [tag for row in rows for tag in table.labels[row].tolist() if tag >= 0]
    shares = np.bincount(words) / len(words)
    expected = -sum(share * math.log(share) for share in shares if share)
    assert mean_similarities(library, ["label_entropy"], tagged, tagged, (0,)) == {
        "label_entropy": pytest.approx(expected)
    }
    numbers = Lineage(setting, task("r", kind="regression"), 3, 0.05)
    assert list(mean_similarities(library, ["label_entropy", "source_size"], numbers, tagged, (0,))) == ["source_size"]


def by_row(lineage: Lineage, table_of: Lineage, library: PromptLibrary, rows: NDArray[np.int64], seed: int) -> Tensor:
    """[n, H] a target's rows behind a source's prompt, one after the other."""
    encoder, prompt = load_encoder(lineage.setting.plm), tuned_prompts(library, lineage, [seed])[0].prompt
    table = token_table(library, table_of.setting, table_of.task, "train")
    made = [
        encoder.encode(
            table.ids[i, None, : table.lengths[i]].long(), table.types[i, None, : table.lengths[i]].long(),
            table.lengths[i, None], prompt[None], torch.tensor([0]),
        )
        for i in rows
    ]  # fmt: skip
    return torch.cat(made)


def test_the_targets_train_rows_alone_are_read_behind_the_sources_prompt(
    library: PromptLibrary, pair: tuple[Lineage, Lineage]
) -> None:
    source, target = pair
    for seed in (0, 1):
        rows = replica_rows(library, target.setting, target.task, seed).train
        assert len(rows) == 48
        labels = token_table(library, target.setting, target.task, "train").labels[torch.from_numpy(rows)]
        features = by_row(source, target, library, rows, seed)
        head = tuned_prompts(library, source, [seed])[0]
        found = seed_similarities(library, ["logme", "leep"], source, target, (seed,))
        assert found["logme"] == [pytest.approx(logme(features, labels), abs=1e-4)]
        assert found["leep"] == [pytest.approx(leep(features @ head.weight.T + head.bias, labels), abs=1e-4)]


def test_of_many_rows_a_part_is_read(
    library: PromptLibrary, pair: tuple[Lineage, Lineage], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "READ_ROWS", 10)
    read = target_rows(library, *pair, 0)
    assert read.features.shape == (10, 16)
    assert read.logits.shape == (10, 2)
    assert read.labels.shape == (10,)


def test_scores_of_a_regression_are_those_of_its_values(library: PromptLibrary, setting: Setting, task: Task) -> None:
    source, target = Lineage(setting, task("a"), 3, 0.05), Lineage(setting, task("r", kind="regression"), 3, 0.05)
    read = target_rows(library, source, target, 0)
    assert read.labels.is_floating_point()
    assert mean_similarities(library, ["logme", "leep"], source, target, (0,)) == {
        "logme": pytest.approx(logme(read.features, read.labels))
    }


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_not_defined_for_a_kind_says_so(setting: Setting, kind_task: Task, task: Task, kind: str) -> None:
    plain, other = Lineage(setting, task("a"), 3, 0.05), Lineage(setting, kind_task(kind, name="other"), 3, 0.05)
    defined = {
        "logme": kind in ("classification", "regression"), "leep": kind == "classification", "source_size": True,
        "label_entropy": True,
    }  # fmt: skip
    for name, holds in defined.items():
        why = undefined(name, plain, other)
        assert why.endswith(f"and other is a {kind}") != holds
        assert (why == "") == holds
    assert (undefined("label_entropy", other, plain) == "") == (kind in ("classification", "tagging"))
    assert (undefined("leep", other, plain) == "") == (kind == "classification")
    assert undefined("logme", other, plain) == ""


def test_a_mixture_has_logme_and_no_leep(library: PromptLibrary, setting: Setting, task: Task) -> None:
    mixture = Lineage(setting, Mixture("m", (task("a"), task("c", classes=3, seed=1))), 3, 0.05)
    target = Lineage(setting, task("t", seed=2), 3, 0.05)
    assert scored(mixture, target) == ("logme",)
    assert undefined("leep", mixture, target) == "it reads the head of one source task, and m has 2"
    assert list(mean_similarities(library, ["logme", "leep"], mixture, target, (0,))) == ["logme"]


@pytest.mark.own_library
def test_a_pair_is_scored_once_however_its_target_is_tuned(
    library: PromptLibrary, pair: tuple[Lineage, Lineage]
) -> None:
    source, target = pair
    mean_similarities(library, ["logme"], source, target, (0, 1))
    mean_similarities(library, ["leep"], source, replace(target, steps=9, learning_rate=1.0), (0, 1))
    made = {path.name for path in library.root.glob("scores/*")}
    assert made == {scores_key(source, target, seed) for seed in (0, 1)}
    keys = {scores_key(source, target, 0), scores_key(source.at(4), target, 0), scores_key(target, source, 0)}
    assert len(keys | {scores_key(source, replace(target, setting=replace(target.setting, shots=4)), 0)}) == 4
