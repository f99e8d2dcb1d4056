"""The page: whole, escaped, without network, readable by eye, by keyboard and aloud; and it says what is missing."""

import re
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path

import pytest

from analysis.figures.gallery import gallery
from analysis.findings.answer import answer, correlations
from analysis.findings.search_history import search_history
from analysis.records.evidence import Evidence
from analysis.report.page import number
from analysis.report.report import Config, report
from analysis.wording import points
from tests.kits.worlds import SOURCES, World, changed, evidence, unconfirmed, with_studies

WORLD = World(sources=SOURCES[:5], targets=("cb", "cr"), trials=3, similarities=("c_mean",), silent=("cr",))
EMPTY = {"meta", "br", "img", "hr", "link", "input"}


FEW = World(sources=SOURCES[:4], targets=("cb",), trials=1, methods=("spot",), similarities=("c_mean",))


def page_of(known: Evidence, configs: Mapping[str, Config] | None = None) -> str:
    found = correlations(known)
    said, search = answer(known, found), search_history(known)
    shown = gallery(known, said, found, search)
    return report(known, said, found, search.comparisons, shown, configs or {}, datetime(2026, 11, 21, 12, tzinfo=UTC))


@dataclass
class Reader(HTMLParser):
    """What stands on a page; fails where tags do not close one another."""

    open: list[str] = field(default_factory=list)
    tags: list[tuple[str, dict[str, str | None]]] = field(default_factory=list)
    words: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in EMPTY:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag, f"</{tag}> closes another tag"

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in ("script", "style"):
            self.words.append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attrs for name, attrs in self.tags if name == tag]

    @property
    def said(self) -> str:
        return re.sub(r"\s+", " ", " ".join(self.words))


def read(content: str) -> Reader:
    reader = Reader()
    reader.feed(content)
    reader.close()
    assert reader.open == []
    return reader


@pytest.fixture(scope="module")
def known() -> Evidence:
    return evidence(WORLD)


@pytest.fixture(scope="module")
def content(known: Evidence) -> str:
    configs: dict[str, Config] = {
        study.run_id: {"name": f"best of {study.target}", "methods": ["spot"]} for study in known.studies
    }
    return page_of(known, configs)


def test_the_page_is_whole_and_has_one_head_and_its_sections(content: str) -> None:
    reader = read(content)
    assert content.startswith("<!DOCTYPE html>")
    assert len(reader.all("h1")) == 1
    assert [attrs["id"] for attrs in reader.all("section")] == [
        "missing",
        "best",
        "prediction",
        "gains",
        "search",
        "pairs",
        "method",
    ]
    assert reader.all("html")[0]["lang"] == "en"


def test_every_link_leads_to_a_place_on_the_page_and_every_id_is_one(content: str) -> None:
    reader = read(content)
    ids = [attrs["id"] for _, attrs in reader.tags if "id" in attrs]
    assert len(ids) == len(set(ids))
    assert {str(attrs["href"])[1:] for attrs in reader.all("a")} <= set(ids)
    for _, attrs in reader.tags:
        assert {attrs.get("aria-labelledby"), attrs.get("aria-describedby")} - {None} <= set(ids)


def test_nothing_is_loaded_from_anywhere(content: str) -> None:
    reader = read(content)
    assert not re.search(r"(?:https?:)?//[a-z]", re.sub(r"base64,[^\"]*", "", content))
    assert all(str(attrs["src"]).startswith("data:image/svg+xml;base64,") for attrs in reader.all("img"))
    assert not reader.all("link")
    assert all("src" not in attrs for attrs in reader.all("script"))
    assert "default-src 'none'" in content
    assert not re.search(r"@import|url\(", content)


def test_the_answer_stands_before_everything_else(content: str, known: Evidence) -> None:
    said = answer(known, correlations(known))
    reader = read(content)
    start = reader.said.index(said.sentences[0][:20])
    assert start < reader.said.index("Targets")
    assert reader.said.index(said.sentences[1][:20]) < reader.said.index("Targets")


def test_every_picture_has_an_alternative_text_a_title_and_a_caption(content: str) -> None:
    reader = read(content)
    assert len(reader.all("img")) >= 8
    assert all(len(str(attrs["alt"])) > 20 for attrs in reader.all("img"))
    assert len(reader.all("figcaption")) == len(reader.all("figure")) == len(reader.all("img"))


def test_every_table_has_heads_with_a_scope_and_can_be_scrolled_by_keyboard(content: str) -> None:
    reader = read(content)
    assert all(attrs.get("scope") in ("col", "row") for attrs in reader.all("th"))
    regions = [attrs for attrs in reader.all("div") if attrs.get("class") == "scroll"]
    assert len(regions) == len(reader.all("table")) + len(reader.all("img"))
    assert all(attrs["tabindex"] == "0" and attrs["role"] == "region" for attrs in regions)


def test_the_table_of_pairs_has_a_row_for_each_study_and_sorts_by_numbers(content: str, known: Evidence) -> None:
    body = content[content.index('<table id="pairs-table"') :].split("</table>", maxsplit=1)[0]
    assert body.count("<tr>") == 1 + len(known.studies)
    assert 'class="sortable"' in body
    gain = known.pairs[0].gained
    assert f'data-sort="{gain!r}"' in body


def test_targets_without_signal_are_named_at_the_top_and_in_the_table(content: str) -> None:
    said = read(content).said
    assert "No signal on cr: prompt tuning does not beat the best constant answer" in said
    assert "cr (no signal)" in said


def test_a_loss_that_contains_the_similarity_is_marked(content: str) -> None:
    assert "The loss of panda contains a similarity" in read(content).said
    assert ">panda *<" in content


def test_the_best_configuration_of_each_target_can_be_copied(content: str) -> None:
    assert "<code>name: best of cb\nmethods:\n- spot\n</code>" in content
    assert "Save it as cb.yaml; panda-tune train cb.yaml trains it again." in content


def test_a_configuration_that_cannot_be_read_says_why(known: Evidence) -> None:
    said = page_of(
        known, {study.run_id: "config.json of run 1 cannot be read (no such file)" for study in known.studies}
    )
    assert "config.json of run 1 cannot be read (no such file)" in said


def test_failures_are_counted_by_reason_and_unfinished_studies_named(known: Evidence) -> None:
    last = known.studies[-1]
    failed = [replace(trial, state="failed", score=None, failure="out of memory") for trial in known.trials[:2]]
    rest = [trial for trial in known.trials[2:] if trial.state != "failed"]
    short = replace(known, studies=known.studies[:-1], unfinished=(unconfirmed(last),), trials=(*failed, *rest))
    said = read(page_of(short)).said
    assert "1 study without a confirmed winner" in said
    assert f"{last.target}, {last.name} (unconfirmed)" in said
    assert f"2 trials of {len(short.trials)} failed, and count as failed, not as bad scores" in said
    assert "2 × out of memory" in said


def test_nothing_missing_is_said_too(known: Evidence) -> None:
    fine = evidence(FEW)
    whole = replace(fine, trials=tuple(trial for trial in fine.trials if trial.state != "failed"))
    assert "Nothing: every study is confirmed, and every target carries a signal." in read(page_of(whole)).said


def test_an_experiment_without_a_confirmed_study_has_a_page_that_says_what_is_missing(known: Evidence) -> None:
    none = Evidence("young", (), tuple(unconfirmed(study) for study in known.studies), known.trials)
    said = read(page_of(none)).said
    assert "cannot be said: no study is confirmed yet." in said
    assert f"{len(known.studies)} studies without a confirmed winner" in said
    assert "No figure coefficients: no target has a coefficient." in said


def test_pairs_of_a_task_with_itself_have_a_table_of_their_own(known: Evidence) -> None:
    pairs = [replace(s, source="cb") if (s.source, s.target) == ("mnli", "cb") else s for s in known.studies]
    own = replace(known, studies=tuple(pairs))
    found, within = correlations(own), correlations(own, exclude_self=False)
    said, search = answer(own, found), search_history(own)
    now = datetime(2026, 11, 21, 12, tzinfo=UTC)
    content = report(own, said, found, search.comparisons, gallery(own, said, found, search), {}, now, within)
    assert "All correlations including 1 pair of a task with itself" in read(content).said
    assert content.count('<table id="self-pairs-table"') == 1


EVIL = '<script>alert("x")</script>'


def test_names_from_users_are_escaped_everywhere() -> None:
    world = replace(
        WORLD,
        targets=(EVIL, "b'\"&"),
        sources=(*SOURCES[:3], EVIL + "s", "</style>"),
        silent=(EVIL,),
        similarities=("<img src=x>",),
        plms=("<b>", "bert"),
    )
    made = evidence(world, name=EVIL)
    trials = tuple(replace(trial, failure=EVIL) if trial.failure else trial for trial in made.trials)
    content = page_of(replace(made, trials=trials), {study.run_id: {"name": EVIL} for study in made.studies})
    reader = read(content)
    assert len(reader.all("script")) == 1
    assert all(str(attrs.get("src", "")).startswith("data:") for attrs in reader.all("img"))
    assert "&lt;script&gt;alert(&#34;x&#34;)&lt;/script&gt;" in content
    assert EVIL not in content
    assert len(reader.all("style")) == 1


def test_what_is_not_known_sorts_behind_all_numbers() -> None:
    assert (number(None).sort_key, number(-0.5, "−50 %").sort_key) == ("", "-0.5")


def test_the_page_has_styles_for_paper_for_the_dark_and_for_narrow_screens(content: str) -> None:
    assert "@media print" in content
    assert "prefers-color-scheme: dark" in content
    assert "width=device-width" in content


@pytest.mark.skipif(shutil.which("chromium") is None, reason="needs chromium")
def test_in_a_browser_the_heads_of_sortable_tables_become_buttons(content: str, tmp_path: Path) -> None:
    clicked = content.replace("</script>", "\ndocument.querySelectorAll('#pairs-table th button')[5].click();</script>")
    (tmp_path / "page.html").write_text(clicked, encoding="utf-8")
    command = [
        "chromium",
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        f"--user-data-dir={tmp_path}/profile",
        "--dump-dom",
        f"file://{tmp_path}/page.html",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=240)
    table = done.stdout[done.stdout.index('<table id="pairs-table"') :].split("</table>")[0]
    assert '<button type="button">gain</button>' in table
    assert table.count("aria-sort=") == table.count('aria-sort="descending"') == 1
    gains = [row.split("</td>")[4] for row in table.split("<tbody>")[1].split("<tr>")[1:]]
    values = [float(found.group(1)) for gain in gains if (found := re.search(r'data-sort="([-.e\d]+)"', gain))]
    assert values == sorted(values, reverse=True)
    assert len(values) > 5
    assert 'data-sort=""' in gains[-1]  # what is not known stands last


def test_comparisons_of_methods_state_their_minimum_detectable_effect() -> None:
    said = read(page_of(evidence(replace(FEW, targets=("cb", "cr", "rte"), sources=SOURCES[:2])))).said
    assert "Comparison of methods" in said
    assert "Minimum detectable effect: the smallest true difference" in said


def test_searches_with_other_seeds_have_a_table_where_there_are_some() -> None:
    known = evidence(FEW)
    lucky = with_studies(known, lambda s: replace(s, repeats=(changed(replace(s, repeat=1), gain=s.gained + 0.02),)))
    assert "Over searches with other seeds" not in page_of(known)
    page = page_of(lucky)
    assert "Over searches with other seeds" in page
    (pair, *_) = lucky.pairs
    assert f"{points(pair.gained + 0.01)} ± 1.4" in page
