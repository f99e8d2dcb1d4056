"""Texts for people: what spreadsheets would run is guarded."""

from typing import Any

import pytest

from analysis.wording import guarded


@pytest.mark.parametrize("text", ["=1+1", "+x", "-x", "@x", "\tx", "\r=1", "\n=1", "-3.2x", "+1-cmd", "--3"])
def test_a_text_that_a_spreadsheet_would_run_begins_with_an_apostrophe(text: str) -> None:
    assert guarded(text) == f"'{text}"


@pytest.mark.parametrize("value", [-3.2, 7, None, "", "-3.2", "+4", "-1e-05", "x=1", "3-4", "’=", True])
def test_numbers_and_plain_texts_stay(value: Any) -> None:
    assert guarded(value) is value
