"""What is read off all records of an experiment at once."""

from analysis.records.names import SOURCE_ONLY
from panda_trainable.similarity.similarities import SIMILARITIES
from tests.kits.worlds import World, evidence


def test_the_trivial_baselines_are_those_similarities_that_know_nothing_of_the_target() -> None:
    assert tuple(name for name, row in SIMILARITIES.items() if row.source_only) == SOURCE_ONLY


def test_trivial_baselines_are_read_apart_from_similarities() -> None:
    found = evidence(World(trials=1, similarities=("label_entropy", "c_mean", "source_size", "logme")))
    assert found.similarities == ["c_mean", "logme"]
    assert found.source_only == ["source_size", "label_entropy"]
    assert all(pair.similarities.keys() >= set(SOURCE_ONLY) for pair in found.pairs)
    assert evidence(World(trials=1)).source_only == []
