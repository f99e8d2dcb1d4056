"""docs/plms.md is what the probe says of the classes that AutoModel knows."""

from pathlib import Path

import pytest
from transformers.models.auto.modeling_auto import MODEL_MAPPING_NAMES

from tests.kits.plm_table import CAUSAL, NO_IDS, line, page, row_of, rows_of

PAGE = Path(__file__).parents[3] / "docs" / "plms.md"
SAMPLE = ("albert", "bart", "cpmant", "deberta-v2", "esm", "esmc", "fnet", "marian", "modernbert", "nystromformer", "t5",
          "clip", "mra")  # fmt: skip
"""Families of each kind: taken, taken in one form, in none, refused."""


@pytest.mark.parametrize("family", SAMPLE)
def test_the_page_tells_what_the_probe_says(family: str) -> None:
    (row,) = rows_of([family])
    assert line(row) in PAGE.read_text(encoding="utf-8")


@pytest.mark.parametrize(("family", "kind"), [("bloom", CAUSAL), ("gptj", CAUSAL), ("gpt2", CAUSAL), ("vit", NO_IDS)])
def test_what_reads_left_to_right_or_takes_no_ids_is_told_apart(family: str, kind: str) -> None:
    assert row_of(family).kind == kind


@pytest.mark.slow
def test_the_page_is_that_of_all_classes() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert text == page(rows_of(MODEL_MAPPING_NAMES)), "run: python -m tests.kits.plm_table docs/plms.md"
