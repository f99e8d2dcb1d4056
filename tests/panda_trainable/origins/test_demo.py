"""The demonstration tasks: balanced, the same everywhere, and without a row in both splits."""

import hashlib
import json
import os
import subprocess
import sys
from collections import Counter

import pytest

from panda_trainable.origins.demo import DEMO, rows

FINGERPRINT = """
import hashlib, json, sys
from panda_trainable.origins.demo import rows
print(hashlib.sha256(json.dumps(rows(*sys.argv[1:])).encode()).hexdigest())
"""


@pytest.mark.parametrize("name", DEMO)
@pytest.mark.parametrize("split", ["train", "validation"])
def test_every_class_has_its_share_of_the_stated_rows(name: str, split: str) -> None:
    counts = Counter(row["label"] for row in rows(name, split))
    classes = len(DEMO[name].labels)
    assert counts == dict.fromkeys(range(classes), DEMO[name].sizes[split] // classes)
    assert counts.total() == DEMO[name].sizes[split]


def test_a_source_has_many_rows_and_a_target_few() -> None:
    assert {name: len(rows(name, "train")) for name in DEMO} == {
        "demo_reviews": 2000,
        "demo_meals": 96,
        "demo_questions": 2000,
        "demo_requests": 96,
    }
    assert {len(rows(name, "validation")) for name in DEMO} == {300}


@pytest.mark.parametrize("name", DEMO)
def test_no_sentence_comes_twice_within_a_task(name: str) -> None:
    both = [row["sentence"] for split in DEMO[name].sizes for row in rows(name, split)]
    assert len(set(both)) == len(both)


@pytest.mark.parametrize("name", DEMO)
def test_no_sentence_shows_its_grammar(name: str) -> None:
    sentences = [str(row["sentence"]) for row in rows(name, "train")]
    assert not [each for each in sentences if set(each) & set("{}|") or "  " in each]


@pytest.mark.parametrize("name", DEMO)
@pytest.mark.parametrize("hash_seed", ["1", "2"])
def test_another_process_draws_the_same_rows(name: str, hash_seed: str) -> None:
    there = subprocess.run(
        [sys.executable, "-c", FINGERPRINT, name, "train"],
        env=os.environ | {"PYTHONHASHSEED": hash_seed},
        capture_output=True,
        text=True,
        check=True,
    )
    here = hashlib.sha256(json.dumps(rows(name, "train")).encode()).hexdigest()
    assert there.stdout.strip() == here


def test_a_caller_who_changes_a_row_changes_no_later_row() -> None:
    rows("demo_meals", "train")[0]["label"] = -1
    assert rows("demo_meals", "train")[0]["label"] in {0, 1}


def test_an_unknown_name_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"must be one of \['demo_meals', .*\], got 'demo_films'"):
        rows("demo_films", "train")


def test_an_unknown_split_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"must be one of \['train', 'validation'\], got 'test'"):
        rows("demo_meals", "test")
