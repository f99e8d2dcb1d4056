"""Anyone's results from CSV files: what they say, and every refusal with its file and line."""

import csv
import json
import math
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from scipy import stats

from analysis.external.csv_rows import Unreadable
from analysis.external.results import BOUNDS, read_scores, read_similarities
from analysis.external.scores import correlate, correlations
from panda_trainable.similarity.similarities import SIMILARITIES
from tests.kits.command import panda_tune
from tuning.correlation_tables import notes

SOURCES, TARGETS = ("a", "b", "c", "d", "e"), ("a", "t", "u")
GENERATOR = np.random.default_rng(0)
SCORE = {
    (s, t): round(float(v), 3) for s in SOURCES for t, v in zip(TARGETS, GENERATOR.uniform(0.2, 0.9, 3), strict=True)
}
SIMILAR = {pair: round(float(v), 3) for pair, v in zip(SCORE, GENERATOR.uniform(-0.5, 1, len(SCORE)), strict=True)}
SCORES_TEXT = "source,target,score\n" + "".join(f"{s},{t},{v}\n" for (s, t), v in SCORE.items())
SIMILARITIES_TEXT = "source,target,metric,similarity\n" + "".join(
    f"{s},{t},c_mean,{v}\n" for (s, t), v in SIMILAR.items()
)


@pytest.fixture
def files(tmp_path: Path) -> Any:
    """Both files with the given texts."""

    def written(scores: str | bytes = SCORES_TEXT, similarities: str | bytes = SIMILARITIES_TEXT) -> tuple[Path, Path]:
        paths = tmp_path / "scores.csv", tmp_path / "similarities.csv"
        for path, text in zip(paths, (scores, similarities), strict=True):
            path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return paths

    return written


@pytest.fixture
def refused(files: Any, tmp_path: Path) -> Any:
    """What a wrong file is told, without the folder's name."""

    def told(scores: str | bytes = SCORES_TEXT, similarities: str | bytes = SIMILARITIES_TEXT, **how: Any) -> str:
        with pytest.raises(Unreadable) as caught:
            correlate(*files(scores, similarities), **how)
        return str(caught.value).replace(f"{tmp_path}/", "")

    return told


# Answers


def test_the_answer_has_the_shape_that_is_promised(files: Any) -> None:
    found = correlate(*files())
    assert list(found) == ["c_mean"]
    assert set(found["c_mean"]) == {"per_target", "pooled", "pair", "source_only"}
    assert set(found["c_mean"]["per_target"]) == {"spearman_mean", "pearson_mean", "targets"}
    assert list(found["c_mean"]["per_target"]["targets"]) == list(TARGETS)
    names = {"spearman", "spearman_p", "pearson", "pearson_p", "n"}
    assert all(set(one) == names for one in found["c_mean"]["per_target"]["targets"].values())
    pooled = {"spearman", "pearson", "n", "p_permutation", "p_adjusted", "spearman_interval"}
    assert set(found["c_mean"]["pooled"]) == pooled
    assert set(found["c_mean"]["pair"]) == {"coefficient", "p", "chance"}
    json.dumps(found, allow_nan=False)


def test_coefficients_are_those_of_the_files(files: Any) -> None:
    found = correlate(*files())["c_mean"]
    x, y = ([table[s, "t"] for s in SOURCES] for table in (SIMILAR, SCORE))
    spearman, pearson = stats.spearmanr(x, y), stats.pearsonr(x, y)
    assert found["per_target"]["targets"]["t"] == {
        "spearman": pytest.approx(spearman[0]), "spearman_p": pytest.approx(spearman[1]),
        "pearson": pytest.approx(pearson[0]), "pearson_p": pytest.approx(pearson[1]), "n": 5,
    }  # fmt: skip
    raw = correlate(*files(), relative_to="none")["c_mean"]["pooled"]
    everything = list(SIMILAR.values()), list(SCORE.values())
    assert raw["spearman"] == pytest.approx(stats.spearmanr(*everything)[0])
    assert raw["pearson"] == pytest.approx(stats.pearsonr(*everything)[0])
    assert raw["n"] == found["pooled"]["n"] == 15


def test_pooled_are_ranks_within_targets_unless_told_otherwise(files: Any) -> None:
    found = correlate(*files())["c_mean"]["pooled"]
    sides = [
        np.concatenate([stats.rankdata([table[s, t] for s in SOURCES]) for t in TARGETS]) for table in (SIMILAR, SCORE)
    ]
    assert found["spearman"] == pytest.approx(stats.spearmanr(*sides)[0])
    assert 0 < found["p_permutation"] <= found["p_adjusted"] <= 1


def pooled_over(references: dict[str, float]) -> float:
    """Spearman's coefficient of all pairs, scores divided by their target's reference."""
    return stats.spearmanr(list(SIMILAR.values()), [v / references[t] for (_, t), v in SCORE.items()])[0]


def test_scores_can_be_relative_to_the_targets_own_prompt(files: Any) -> None:
    own = "".join(f"{t},{t},{r}\n" for t, r in (("t", 0.5), ("u", 0.25)))
    references = {"a": SCORE["a", "a"], "t": 0.5, "u": 0.25}
    found = correlate(*files(SCORES_TEXT + own), relative_to="self")["c_mean"]
    assert found["pooled"]["spearman"] == pytest.approx(pooled_over(references))
    assert found["per_target"] == correlate(*files())["c_mean"]["per_target"]  # dividing changes no target's ranks


def test_scores_can_be_relative_to_the_baseline(files: Any) -> None:
    baseline = "".join(f",{t},{r}\n" for t, r in (("a", 0.3), ("t", 0.5), ("u", 0.25)))
    found = correlate(*files(SCORES_TEXT + baseline), relative_to="baseline")["c_mean"]["pooled"]
    assert found["spearman"] == pytest.approx(pooled_over({"a": 0.3, "t": 0.5, "u": 0.25}))
    assert found["n"] == 15


def test_a_target_whose_baseline_is_zero_stays_out_of_pooled_figures_and_it_says_so(files: Any) -> None:
    (found,) = correlations(*files(SCORES_TEXT + ",a,0\n,t,0.5\n,u,0.25\n"), relative_to="baseline")
    assert (found.pooled.n, found.pooled.note) == (10, "a is left out: values cannot be relative to 0")


def test_self_pairs_can_be_left_out(files: Any) -> None:
    whole, others = (correlate(*files(), exclude_self=out)["c_mean"] for out in (False, True))
    assert (whole["pooled"]["n"], others["pooled"]["n"]) == (15, 14)
    assert others["per_target"]["targets"]["a"]["n"] == 4


def test_seeds_are_averaged_and_give_the_ceiling(files: Any) -> None:
    noise = {pair: 0.01 * i for i, pair in enumerate(SCORE)}
    rows = [
        f"{s},{t},{v + sign * noise[s, t]},{seed}\n" for (s, t), v in SCORE.items() for seed, sign in ((7, 1), (9, -1))
    ]
    (found,) = correlations(*files("source,target,score,seed\n" + "".join(rows)))
    (plain,) = correlations(*files())
    assert found.spearman_mean == pytest.approx(plain.spearman_mean)
    assert 0 <= found.ceiling <= 1
    assert plain.ceiling is None


def test_the_method_is_chosen_where_there_are_several(files: Any) -> None:
    text = "source,target,score,method\n" + "".join(
        f"{s},{t},{v},spot\n{s},{t},{1 - v},panda\n" for (s, t), v in SCORE.items()
    )
    spot, panda = (
        correlate(*files(text), method=name)["c_mean"]["per_target"]["spearman_mean"] for name in ("spot", "panda")
    )
    assert spot == pytest.approx(correlate(*files())["c_mean"]["per_target"]["spearman_mean"])
    assert panda == pytest.approx(-spot)


def test_a_baseline_serves_all_methods_but_those_with_their_own(files: Any) -> None:
    rows = "x,t,0.5,spot\nx,t,0.5,panda\n,t,0.4,prompt_tuning\n,t,0.3,panda\n"
    file, _ = files("source,target,score,method\n" + rows.replace(",t,0.3,panda\n", ""))
    assert [read_scores(file, m).baselines for m in ("spot", "panda")] == [{"t": 0.4}, {"t": 0.4}]
    file, _ = files("source,target,score,method\n" + rows)
    assert read_scores(file, "panda").baselines == {"t": 0.3}
    with pytest.raises(Unreadable, match=r"t has several baselines \(panda, prompt_tuning\), none of them of spot"):
        read_scores(file, "spot")


def test_missing_pairs_are_counted_where_source_and_target_have_scores(files: Any) -> None:
    scores = SCORES_TEXT.replace(f"e,u,{SCORE['e', 'u']}\n", "")
    similarities = (
        SIMILARITIES_TEXT.replace(f"a,t,c_mean,{SIMILAR['a', 't']}\n", "") + "z,t,c_mean,0.5\na,z,c_mean,0.5\n"
    )
    (found,) = correlations(*files(scores, similarities))
    assert (found.missing, found.pooled.n, found.self_pairs) == (2, 13, 1)


def test_a_metric_without_a_common_pair_is_there_with_its_reason(files: Any) -> None:
    found = correlations(*files(similarities=SIMILARITIES_TEXT + "z,t,on,0.5\n"))
    assert [one.similarity for one in found] == ["c_mean", "on"]
    assert (found[1].pooled.spearman, found[1].pooled.note) == (None, "0 sources: at least 4 are needed")
    assert found[0].pooled.p_adjusted == found[0].pooled.p_permutation


def test_p_is_adjusted_over_the_metrics_of_the_file(files: Any) -> None:
    other = SIMILARITIES_TEXT.splitlines()[1:]
    found = correlations(
        *files(similarities=SIMILARITIES_TEXT + "".join(f"{r.replace('c_mean', 'mine')}\n" for r in other))
    )
    assert found[0].pooled.p_permutation == found[1].pooled.p_permutation == found[0].pooled.p_adjusted


def test_the_seed_moves_the_interval_and_drawn_permutations_alone(files: Any) -> None:
    one, same, other = (correlate(*files(), seed=seed)["c_mean"] for seed in (1, 1, 2))
    assert one == same
    assert one["pooled"].pop("spearman_interval") != other["pooled"].pop("spearman_interval")
    assert one["pair"].pop("coefficient") == other["pair"].pop("coefficient")
    assert one.pop("pair")["p"] == pytest.approx(other.pop("pair")["p"], abs=0.03)
    assert one == other


@pytest.mark.parametrize(
    "written",
    [
        "\ufeff" + SCORES_TEXT, SCORES_TEXT.replace("\n", "\r\n"), SCORES_TEXT.replace(",", " , "), f"\n{SCORES_TEXT}\n\n",
        SCORES_TEXT.replace("a,t", '"a","t"'), SCORES_TEXT.replace("\n", ",\n").replace("score,", "score,remark"),
        SCORES_TEXT.removesuffix("\n"),
    ],
    ids=["bom", "windows", "spaces", "empty lines", "quotes", "another column", "no last newline"],
)  # fmt: skip
def test_harmless_differences_of_files_change_nothing(files: Any, written: str) -> None:
    assert correlate(*files(written)) == correlate(*files())


# Refusals


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "scores.csv:1: is empty; its first line must name the columns source, target, score"),
        ("\n \n", "scores.csv:1: is empty; its first line must name the columns source, target, score"),
        ("source,target,score\n", "scores.csv: has no row with a source"),
        ("source,target,score\n,t,0.5\n", "scores.csv: has no row with a source"),
        ("sorce,target,f1\n", ("scores.csv:1: has no column source (did you mean sorce?); it has 'sorce', 'target', 'f1'\n"
                              "scores.csv:1: has no column score; it has 'sorce', 'target', 'f1'")),
        ("Source,target,score\n", "scores.csv:1: has no column source (did you mean Source?); it has 'Source', 'target', 'score'"),
        ("source,target,score,score\n", "scores.csv:1: has several columns 'score'"),
        ("source;target;score\na;t;0,5\n", "scores.csv:1: columns are divided by semicolons; divide them by commas"),
        ("source\ttarget\tscore\n", "scores.csv:1: columns are divided by tabs; divide them by commas"),
        ("source,target,score\na,t\nb,t,0.5\nc,t,0.5,7\n", ("scores.csv:2: has 2 cells, but the header has 3\n"
                                                           "scores.csv:4: has 4 cells, but the header has 3")),
        ("source,target,score\na,t,good\n", "scores.csv:2: score must be a finite number, got 'good'"),
        ('source,target,score\n\na,t,"0,5"\n', "scores.csv:3: score must be a finite number, got '0,5'; write a decimal point"),
        ("source,target,score\na,t,50%\n", "scores.csv:2: score must be a finite number, got '50%'; write it without the sign"),
        ("source,target,score\na,t,nan\n", "scores.csv:2: score must be a finite number, got 'nan'; leave the row out where there is none: the pair is counted as missing"),
        ("source,target,score\na,t,\n", "scores.csv:2: score must be a finite number, got ''; leave the row out where there is none: the pair is counted as missing"),
        ("source,target,score\na,t,inf\na,u,1_0\n", "scores.csv:2: score must be a finite number, got 'inf'\nscores.csv:3: score must be a finite number, got '1_0'"),
        ("source,target,score\na,,1\n", "scores.csv:2: target is empty"),
        ("source,target,score\na,t,1\nb,t,1\na,t,1\n", "scores.csv:4: t ← a stands in line 2 already; columns `method` and `seed` tell rows apart"),
        ("source,target,score\n,t,1\n,t,1\n", "scores.csv:3: the baseline of t stands in line 2 already; columns `method` and `seed` tell rows apart"),
        ("source,target,score,seed\na,t,1,1\na,t,2,1\n", "scores.csv:3: t ← a stands in line 2 already; columns `method` and `seed` tell rows apart"),
        ("source,target,score,method\na,t,1,spot\na,t,2,panda\n", "scores.csv: has scores of several methods (panda, spot); choose one with --method"),
        ('source,target,score\n"a\nb",t,1\nc,t,x\n', "scores.csv:4: score must be a finite number, got 'x'"),
        ('source,target,score\n"a,t,1\n', "scores.csv:2: is not CSV: unexpected end of data"),
        (b"source,target,score\na,t,1\n\xff\xfe,t,1\n", "scores.csv:3: is not UTF-8; save it as CSV in UTF-8"),
        (b"source,target,score\na,t,1\n\0\0\n", "scores.csv:3: holds bytes that no text has; save it as CSV in UTF-8"),
        ("source,target,score\n".encode("utf-16"), "scores.csv:1: is UTF-16; save it as CSV in UTF-8"),
    ],
)  # fmt: skip
def test_scores_that_are_wrong_are_refused_with_file_and_line(refused: Any, text: str | bytes, told: str) -> None:
    assert refused(text) == told


HEAD = "source,target,metric,similarity\n"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("source,target,similarity\na,t,0.5\n", "similarities.csv:1: has no column metric; it has 'source', 'target', 'similarity'"),
        (HEAD, "similarities.csv: has no similarity"),
        (HEAD + "a,t,on,high\n", "similarities.csv:2: similarity must be a finite number, got 'high'"),
        (HEAD + ",t,on,0.5\n,u,,0.5\n", "similarities.csv:2: source is empty\nsimilarities.csv:3: metric is empty\nsimilarities.csv:3: source is empty"),
        (HEAD + "a,t,on,0.5\na,t,c_mean,0.5\na,t,on,0.5\n", "similarities.csv:4: t ← a stands in line 2 already under on"),
        (HEAD + "a,t,c_mean,1.2\n", "similarities.csv:2: similarity c_mean lies in [-1, 1], got 1.2"),
        (HEAD + "a,t,task_embedding,-1.01\n", "similarities.csv:2: similarity task_embedding lies in [-1, 1], got -1.01"),
        (HEAD + "a,t,on,-0.1\n", "similarities.csv:2: similarity on lies in [0, 1], got -0.1"),
        (HEAD + "a,t,e_avg,0\n", "similarities.csv:2: similarity e_avg lies in (0, 1], got 0"),
        (HEAD + "t,a,c_mean,0.5\nx,y,c_mean,0.5\n", "similarities.csv: no pair of it is in scores.csv, whose pairs are as 't' ← 'a', here as 'a' ← 't'; with source and target exchanged 1 would be"),
        (HEAD + "A,T,c_mean,0.5\n", "similarities.csv: no pair of it is in scores.csv, whose pairs are as 't' ← 'a', here as 'T' ← 'A'; names are matched letter by letter"),
    ],
)  # fmt: skip
def test_similarities_that_are_wrong_are_refused_with_file_and_line(refused: Any, text: str, told: str) -> None:
    scores = "source,target,score\n" + "".join(f"{s},t,{v}\n" for (s, t), v in SCORE.items() if t == "t")
    assert refused(scores, text) == told


def test_rounding_over_a_bound_is_no_mistake_and_unknown_metrics_have_no_bounds(files: Any) -> None:
    _, file = files(similarities=HEAD + "a,t,on,1.0000002\na,t,c_mean,-1.0000002\na,t,mine,37\n")
    assert read_similarities(file)["mine"] == {("a", "t"): 37}


@pytest.mark.parametrize("name", SIMILARITIES)
def test_bounds_are_those_of_our_similarities(name: str) -> None:
    assert BOUNDS[name] == (SIMILARITIES[name].low, SIMILARITIES[name].high)
    assert set(BOUNDS) == set(SIMILARITIES)


def test_relative_to_self_needs_every_targets_own_prompt(refused: Any) -> None:
    assert refused(relative_to="self") == (
        "scores.csv: --relative-to self needs a row with the target as its own source for every target; missing for t, u"
    )


def test_relative_to_baseline_needs_every_targets_baseline(refused: Any) -> None:
    assert refused(SCORES_TEXT + ",t,0.5\n", relative_to="baseline") == (
        "scores.csv: --relative-to baseline needs a row without source for every target; missing for a, u"
    )


def test_relative_to_something_else_is_refused(files: Any) -> None:
    with pytest.raises(ValueError, match="scores are relative to ranks, self, baseline, none, got 'source'"):
        correlate(*files(), relative_to="source")


def test_an_unknown_method_is_refused_with_what_there_is(refused: Any) -> None:
    text = SCORES_TEXT.replace("\n", ",spot\n").replace("score,spot", "score,method")
    assert (
        refused(text, method="sport")
        == "scores.csv: has no scores of the method sport (did you mean spot?); it has spot"
    )
    assert refused(method="spot") == "scores.csv: has no scores of the method spot; it has (none)"


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Unreadable, match="no.csv: no such file or directory"):
        correlate(tmp_path / "no.csv", tmp_path / "no.csv")
    with pytest.raises(Unreadable, match=": is a directory"):
        correlate(tmp_path, tmp_path)


def test_many_mistakes_are_told_up_to_a_number(refused: Any) -> None:
    told = refused("source,target,score\n" + "".join(f"s{i},t,x\n" for i in range(50))).splitlines()
    assert len(told) == 21
    assert told[-1] == "… and 30 more"


CELLS = st.sampled_from(
    ["a", "t", "0.5", "-1", "1e400", "nan", "", '"', "'", ";", "é", "\0", "c_mean", "on", "\r", "9" * 30]
)
LINES = st.lists(st.lists(CELLS, max_size=5).map(",".join), max_size=6).map("\n".join)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.one_of(LINES.map(lambda t: f"source,target,score\n{t}".encode()), LINES.map(str.encode), st.binary(max_size=60)),
    st.one_of(LINES.map(lambda t: f"{HEAD}{t}".encode()), st.binary(max_size=60)),
)
@example(
    b"source,target,score\na,t,1e308\nb,t,-1e308\nc,t,1e-320\nd,t,0\n",
    f"{HEAD}a,t,m,1e308\nb,t,m,1\nc,t,m,2\nd,t,m,-1e308\n".encode(),
)
def test_no_file_breaks_it(files: Any, scores: bytes, similarities: bytes) -> None:
    paths = files(scores, similarities)
    try:
        json.dumps(correlate(*paths), allow_nan=False)
    except Unreadable as told:
        assert all(line.startswith((*map(str, paths), "…")) for line in str(told).splitlines())


# The command


def test_the_command_refuses_a_wrong_file_with_exit_code_2(files: Any) -> None:
    scores, similarities = files("source,target,score\na,t,good\n")
    done = panda_tune("correlate", scores, similarities, code=2)
    assert (done.stdout, done.stderr) == ("", f"{scores}:2: score must be a finite number, got 'good'\n")


def test_the_command_prints_a_table_with_what_is_missing(files: Any) -> None:
    paths = files(SCORES_TEXT + "a,v,0.5\n")
    table = panda_tune("correlate", *paths).stdout
    (found,) = correlations(*paths)
    assert f"{found.spearman_mean:+.2f}" in table
    assert f"{found.pooled.spearman:+.2f}" in table
    assert "no coefficient of v: 0 sources: at least 4 are needed" in table
    assert "missing: 1 pair without score or similarity" in table
    assert "nan" not in table


def test_the_command_prints_csv_with_everything_that_is_known(files: Any) -> None:
    paths = files()
    rows = list(csv.DictReader(StringIO(panda_tune("correlate", *paths, "--format", "csv", "--seed", 3).stdout)))
    (found,) = correlations(*paths, seed=3)
    assert [(row["scope"], row["target"]) for row in rows] == [
        *(("target", t) for t in TARGETS),
        ("mean", ""),
        ("pooled", ""),
    ]
    assert float(rows[-1]["p_permutation"]) == found.pooled.p_permutation
    assert (float(rows[-1]["low"]), float(rows[-1]["high"])) == found.pooled.spearman_interval
    assert (float(rows[-2]["low"]), float(rows[-2]["high"])) == found.mean_interval
    assert (rows[-1]["missing"], rows[-1]["self_pairs"], rows[0]["n"]) == ("0", "1", "5")
    assert math.isclose(float(rows[1]["spearman"]), found.targets["t"].spearman)


def test_the_command_says_beside_its_json_why_there_is_no_number(files: Any) -> None:
    few = "source,target,score\na,t,1\nb,t,2\n"
    done = panda_tune("correlate", *files(few), "--format", "json")
    assert json.loads(done.stdout)["c_mean"]["per_target"]["spearman_mean"] is None
    assert "no coefficient of t: 2 sources: at least 4 are needed" in done.stderr


def test_pairs_compare_on_the_seeds_that_all_of_their_target_have(tmp_path: Path) -> None:
    """Seed 2 does far better: who alone lacks it must not look worse for it."""
    scores, similarities = tmp_path / "scores.csv", tmp_path / "similarities.csv"
    values = {"a": 0.1, "b": 0.2, "c": 0.3, "d": 0.4}
    lines = [f"{s},t,{v + 0.5 * seed},{seed}" for s, v in values.items() for seed in (0, 1, 2) if (s, seed) != ("d", 2)]
    scores.write_text("source,target,score,seed\n" + "\n".join(lines) + "\n", encoding="utf-8")
    said = "\n".join(f"{s},t,c_mean,{v}" for s, v in values.items())
    similarities.write_text(f"source,target,metric,similarity\n{said}\n", encoding="utf-8")
    (found,) = correlations(scores, similarities)
    assert found.spearman_mean == pytest.approx(1.0)
    assert found.note == "pairs have different seeds; averaged are those that all of a target have: t (0, 1)"
    assert any(note.startswith("seeds: pairs have different seeds") for note in notes([found]))
