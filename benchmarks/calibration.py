"""Whether intervals, stars and verdicts keep what they say: the project's own statistics in worlds of known truth.

Each line is a statistic, what it came to over many simulated experiments with its 95 % binomial or normal error, and
what it must be. `--size` multiplies the number of experiments, `--only` chooses lines, `--seed` draws other worlds.
"""

import argparse
import math
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from analysis.findings.answer import points_of, verdict_of
from analysis.findings.best import corrected, winners
from analysis.findings.comparisons import comparisons
from analysis.findings.method_table import BEST, PLAIN, method_table
from analysis.findings.retrieval import retrieval_summaries
from analysis.records.evidence import Evidence
from analysis.statistics.correlation import Correlation, correlations
from analysis.statistics.gains import LEVEL, excess
from analysis.statistics.power import minimum_detectable_effect
from analysis.statistics.reliability import noise_ceiling
from benchmarks.simulation import World, answers, experiment

Generator = np.random.Generator


@dataclass(frozen=True)
class Line:
    """A statistic in a world.

    Attributes:
        what: it is, and in which world.
        found: over all experiments.
        error: half its 95 % interval.
        low: the least it may be.
        high: the most.
        unit: `%`, `points` or empty.
    """

    what: str
    found: float
    error: float
    low: float
    high: float
    unit: str = "%"

    @property
    def holds(self) -> bool:
        """Whether what was found is within what it must be, or not to be told from it."""
        return self.low - self.error <= self.found <= self.high + self.error

    def __str__(self) -> str:
        ends = [
            ("≥ " * math.isinf(self.high) + f"{self.low:g}") * (not math.isinf(self.low)),
            f"{self.high:g}" * (not math.isinf(self.high)),
        ]
        must = "≤ " * math.isinf(self.low) + " to ".join(filter(None, ends))
        value = (
            f"{self.found:.1f} ± {self.error:.1f} {self.unit}" if self.unit else f"{self.found:.2f} ± {self.error:.2f}"
        )
        return f"{self.what:<74} {value:>20}  {must:>12}  {'' if self.holds else 'NOT MET'}"


def _share(what: str, hits: Sequence[bool], low: float = -math.inf, high: float = math.inf) -> Line:
    count = len(hits)
    share = float(np.mean(hits))
    middle = (share * count + 2) / (count + 4)  # Agresti and Coull (1998): its error is not 0 where no hit is
    return Line(what, 100 * share, 196 * math.sqrt(middle * (1 - middle) / (count + 4)), low, high)


def _mean(what: str, values: Sequence[float], low: float, high: float, unit: str = "points") -> Line:
    scale = 100 if unit == "points" else 1
    error = 1.96 * float(np.std(values, ddof=1)) / math.sqrt(len(values))
    return Line(what, scale * float(np.mean(values)), scale * error, low, high, unit)


def _experiments(world: World, count: int, generator: Generator) -> Iterator[Evidence]:
    return (experiment(world, generator)[0] for _ in range(count))


def winner_gain(size: float, generator: Generator) -> Iterator[Line]:
    """The gain of the best of 30 equal studies, whose truth is 0."""
    for seeds in (2, 3):
        for sd in (0.01, 0.02):
            world = World(sources=30, seeds=seeds, seed_sd=sd)
            chosen, naive = [], []
            for evidence in _experiments(world, int(400 * size), generator):
                gain = winners(evidence.studies)[0].confirmed.gain
                chosen += [gain.mean] if gain else []
                naive.append(max(evidence.pairs, key=lambda pair: pair.confirmed.selection.mean).gained)
            where = f"best of 30 equal studies, {seeds} seeds, sd {100 * sd:.0f}"
            yield _mean(f"gain of the {where}", chosen, -0.15, 0.15)
            yield _mean("  the same if the seeds that choose report, for comparison", naive, -9, 9)


def false_star(size: float, generator: Generator) -> Iterator[Line]:
    """A star on any target where no study gains."""
    for seeds, targets in ((2, 4), (3, 4), (1, 24)):
        world = World(sources=30 if targets == 4 else 6, targets=targets, seeds=seeds, seed_sd=0.02)
        stars = [_has_star(e) for e in _experiments(world, int(150 * size), generator)]
        yield _share(
            f"a false star on {targets} targets, {world.sources} equal studies, {seeds} seeds, sd 2", stars, high=5
        )


def _has_star(evidence: Evidence) -> bool:
    return any(p < 1 - LEVEL for p in corrected(winners(evidence.studies)).values())


def coverage(size: float, generator: Generator) -> Iterator[Line]:
    """Intervals of gains that hold the true gain, of a target with 8 studies."""
    for seeds in (2, 3, 5):
        for rows in (50, 200, 1000):
            for sd in (0.0, 0.01, 0.02):
                world = World(sources=8, rows=rows, seeds=seeds, seed_sd=sd)
                held = [
                    [study.gain.low <= 0 <= study.gain.high for study in e.studies if study.gain and study.gain.low is not None and study.gain.high is not None]
                    for e in _experiments(world, int(120 * size), generator)
                ]  # fmt: skip
                share, error = float(np.mean(held)), 1.96 * float(np.std(np.mean(held, axis=1))) / math.sqrt(len(held))
                least, most = (93, 97) if seeds > 2 else (93, 100)
                yield Line(f"coverage of 95 % gain intervals, {seeds} seeds, {rows} rows, sd {100 * sd:.0f}", 100 * share, 100 * error, least, most)  # fmt: skip


def power(size: float, generator: Generator) -> Iterator[Line]:
    """Intervals that lie above 0 where the true gain is 3 points."""
    world = World(sources=8, rows=500, seeds=3, seed_sd=0.01, gain=0.03)
    seen = [study.gain.low > 0 for e in _experiments(world, int(100 * size), generator) for study in e.studies if study.gain and study.gain.low is not None]  # fmt: skip
    yield _share("gain of 3 points seen, 3 seeds, 500 rows, sd 1", seen, low=30)


def signal(size: float, generator: Generator) -> Iterator[Line]:
    """Gains, whose truth is 0, of targets that are kept because prompt tuning beats the best constant."""
    for ahead in (0.0, 0.03):
        kept, all_of = [], int(3000 * size)
        for _ in range(all_of):
            gain, is_kept = _signal(ahead, generator)
            kept += [gain] * is_kept
        name = f"gain of targets with signal, prompt tuning {100 * ahead:.0f} points above the constant"
        if len(kept) > 5:
            yield _mean(f"{name} ({100 * len(kept) / all_of:.0f} % kept)", kept, -0.15, 0.15)
        else:
            yield _share(f"{name}: kept", [True] * len(kept) + [False] * (all_of - len(kept)), high=5)


def _signal(ahead: float, generator: Generator) -> tuple[float, bool]:
    """A study's gain and whether its target is kept, of eight equal trials with two search seeds."""
    constant, rows, sd = 0.6, 128, 0.02
    error = math.sqrt(constant * (1 - constant) / rows)
    true = constant + ahead + sd * generator.normal(size=3)
    differences = true + error * generator.normal(size=3) - constant
    searched = ahead + np.hypot(sd, error) * generator.normal(size=(8, 2))
    found = excess(float(searched.mean(axis=1).max()), [error] * 3, differences, 2, 8)
    ours = constant + ahead + sd * generator.normal(size=3)
    report = answers(np.stack([true, ours]), 200, generator).mean(axis=2)
    return float(np.mean(report[1] - report[0])), found.low > 0


def _of_gains(evidence: Evidence) -> list[Correlation]:
    points = {name: points_of(evidence, evidence.pairs, name, "gain") for name in evidence.similarities}
    return correlations(points, measure="gain", method="method0")


def verdicts(size: float, generator: Generator) -> Iterator[Line]:
    """A `yes` where gains and similarities have an effect of the source in common, and nothing of the pair."""
    for sources, targets in ((6, 4), (12, 4), (12, 9), (20, 9)):
        world = World(sources, targets, seed_sd=0.01, source_sd=0.03, similarities=3, of_source=0.8)
        told = []
        for evidence in _experiments(world, int(60 * size), generator):
            found = _of_gains(evidence)
            told.append(any(verdict_of(one, sources) in ("yes", "probably") for one in found))
        yield _share(f"“yes” by effects of sources alone, {sources} × {targets}", told, high=5)
    world = World(12, 6, seed_sd=0.01, pair_sd=0.03, similarities=3, of_pair=0.7)
    told = [any(verdict_of(one, 12) in ("yes", "probably") for one in _of_gains(e)) for e in _experiments(world, int(40 * size), generator)]  # fmt: skip
    yield _share("“yes” where similarities know the pair (correlation 0.7), 12 × 6", told, low=80)


def headline(size: float, generator: Generator) -> Iterator[Line]:
    """The best of seven similarities that know nothing."""
    corrected_, plain, tested = [], [], []
    for evidence in _experiments(World(6, 4, similarities=7, pair_sd=0.02), int(60 * size), generator):
        found = [one for one in _of_gains(evidence) if one.spearman_mean is not None and one.by_chance is not None]
        best = max(found, key=lambda one: one.spearman_mean or 0.0)
        plain.append(best.spearman_mean or 0.0)
        corrected_.append((best.spearman_mean or 0.0) - (best.by_chance or 0.0))
        tested += [(one.pooled.p_adjusted or 1.0) < 1 - LEVEL for one in [min(found, key=lambda one: one.pooled.p_adjusted or 1.0)]]  # fmt: skip
    yield _mean("best of seven similarities that know nothing: mean ρ, for comparison", plain, -1, 1, "")
    yield _mean("the same above what the best has by chance", corrected_, -0.05, 0.05, "")
    yield _share("its corrected p below 0.05", tested, high=5)


def pooled(size: float, generator: Generator) -> Iterator[Line]:
    """P of pooled coefficients where gains have effects of sources, and the similarity has others."""
    world = World(6, 4, source_sd=0.03, of_source=0.0, similarities=1)
    ps = [_of_gains(e)[0].pooled.p_permutation for e in _experiments(world, int(200 * size), generator)]
    yield _share(
        "pooled p below 0.05, nothing known, effects of sources", [p is not None and p < 0.05 for p in ps], high=5
    )


def ceiling(size: float, generator: Generator) -> Iterator[Line]:
    """The noise ceiling where all gains are equal."""
    found = []
    for evidence in _experiments(World(8, 4, seeds=4, seed_sd=0.0), int(60 * size), generator):
        rows = [(s.target, s.confirmed.contributions.values) for s in evidence.pairs if s.confirmed.contributions]
        found.append(noise_ceiling(rows, 4) or 0.0)
    yield _mean("noise ceiling where no gain differs", found, 0.0, 0.15, "")


def retrieval(size: float, generator: Generator) -> Iterator[Line]:
    """What the best source gains more than the most similar one, where all are equal."""
    regrets, oracles, held = [], [], []
    for evidence in _experiments(World(8, 6, seed_sd=0.02), int(150 * size), generator):
        (found,) = retrieval_summaries(evidence)
        assert found.regret is not None
        regrets.append(found.regret.mean)
        oracles.append(found.oracle)
        if found.regret.interval:
            held.append(found.regret.interval[0] <= 0 <= found.regret.interval[1])
    yield _mean("regret where all sources are equal", regrets, -0.15, 0.15)
    yield _mean("gain of the oracle where all sources are equal", oracles, -0.15, 0.15)
    yield _share("interval of the regret holds 0", held, low=93, high=97)


def smallest(size: float, generator: Generator) -> Iterator[Line]:
    """Whether a clear gain can be significant among many targets."""
    del size
    world = World(sources=1, targets=60, rows=1000, seeds=3, gain=0.15)
    ps = list(corrected(winners(experiment(world, generator)[0].studies)).values())
    yield _share("a gain of 15 points has a star among 60 targets", [p < 1 - LEVEL for p in ps], low=95)


def detectable(size: float, generator: Generator) -> Iterator[Line]:
    """Power against a difference of the size that another experiment called detectable."""
    for targets in (3, 5, 8, 12):
        draws = int(2000 * size)
        sizes = [minimum_detectable_effect(generator.normal(size=targets)) for _ in range(draws)]
        if sizes[0] is None:
            yield _share(
                f"detectable difference of {targets} targets is told", [one is not None for one in sizes], high=0
            )
            continue
        values = generator.normal(size=(draws, targets)) + np.array([one.size for one in sizes if one])[:, None]
        t = values.mean(axis=1) / (values.std(axis=1, ddof=1) / math.sqrt(targets))
        from scipy import stats

        yield _share(f"power against the detectable difference of {targets} targets", list(np.abs(t) > stats.t.ppf(0.975, targets - 1)), 78, 82)  # fmt: skip


def methods(size: float, generator: Generator) -> Iterator[Line]:
    """Any clear difference among 13 equal methods: over targets, and within a target's column of the table."""
    clear, marked = [], []
    for evidence in _experiments(World(sources=1, targets=6, methods=13, seed_sd=0.02), int(150 * size), generator):
        clear.append(any(one.is_significant for one in comparisons(evidence) if one.reference == "prompt_tuning"))
        table = method_table(evidence)
        marked += [any(table.cells[m, t].mark == PLAIN for m in table.methods) for t in table.targets]
        assert all(any(table.cells[m, t].mark == BEST for m in table.methods) for t in table.targets)
    yield _share("a false clear one of 13 methods, over 6 targets", clear, high=5)
    yield _share("a false clear difference from the best of 14 in a column of the table", marked, high=5)


def reference(size: float, generator: Generator) -> Iterator[Line]:
    """F1 of the best constant answer, where 44 % are positive and the most frequent one has 0."""
    del size
    from panda_trainable.training.metrics import METRICS

    gold = (generator.random(2000) < 0.44).astype(int)
    scores = [METRICS["f1"](np.eye(2)[np.full(2000, answer)], gold) for answer in (0, 1)]
    yield Line("F1 of the constant “no”, the majority; for comparison", 100 * scores[0], 0.0, 0, 0, "points")
    yield Line("F1 of the best constant", 100 * max(scores), 0.0, 58, 64, "points")


LINES: Mapping[str, Callable[[float, Generator], Iterator[Line]]] = MappingProxyType(
    {
        one.__name__: one
        for one in (
            winner_gain,
            false_star,
            coverage,
            power,
            signal,
            reference,
            verdicts,
            headline,
            pooled,
            ceiling,
            retrieval,
            smallest,
            detectable,
            methods,
        )
    }
)
"""Name -> what simulates it."""


def calibrated(size: float, seed: int, only: Sequence[str] = ()) -> Iterator[Line]:
    """The lines of the table, each from a stream of its own."""
    for place, (name, lines) in enumerate(LINES.items()):
        if not only or name in only:
            yield from lines(size, np.random.default_rng([seed, place]))


def main() -> None:
    """Prints the table; ends with 1 where a line is not met."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=float, default=1.0, help="experiments, as a multiple of the usual number")
    parser.add_argument("--seed", type=int, default=0, help="of the simulated worlds")
    parser.add_argument("--only", nargs="*", default=(), choices=LINES, help="lines to simulate")
    asked = parser.parse_args()
    missed = 0
    for line in calibrated(asked.size, asked.seed, asked.only):
        print(line, flush=True)
        missed += not line.holds
    sys.exit(missed > 0)


if __name__ == "__main__":
    main()
