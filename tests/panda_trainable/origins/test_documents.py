"""Texts that are a file each, and the windows into which they are cut for language modelling."""

import gzip
from pathlib import Path

import pytest

from panda_trainable.config.origin import Unlocated
from panda_trainable.config.task import TaskSpec
from panda_trainable.config.task_section import TaskSection
from panda_trainable.data.locate import located
from panda_trainable.data.rows import Findings, examples
from panda_trainable.origins.documents import Windows, windows
from panda_trainable.origins.folder import FolderFiles


def modelled(folder: Path, window: int = 4, text: str = "text", **more: object) -> TaskSpec:
    return located(TaskSection(kind="generation", text=(text,), window=window, **more).spec("texts"), folder)  # type: ignore[arg-type]


def pairs(task: TaskSpec, split: str = "train") -> list[tuple[str, str]]:
    return [(example.texts[0][0], example.label[0]) for example in examples(task, split, Findings())]


def texts(folder: Path, *found: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for number, text in enumerate(found):
        (folder / f"{number}.txt").write_text(text, encoding="utf-8")
    return folder


def words(count: int, name: str = "w") -> str:
    return " ".join(f"{name}{i}" for i in range(count))


@pytest.mark.parametrize(
    ("text", "size", "expected"),
    [
        ("a b c d e f g h", 4, [("a b", "c d"), ("e f", "g h")]),
        ("a b c d e f", 4, [("a b", "c d"), ("e", "f")]),  # half a window is left
        ("a b c d e", 4, [("a b", "c d")]),  # less than half of one is left out
        ("a b c", 4, [("a b", "c")]),  # a short text is one row
        ("a  b\n\nc\td", 4, [("a b", "c d")]),
        ("a b c d e", 5, [("a b c", "d e")]),
        ("a", 4, []),
        ("", 4, []),
    ],
)
def test_windows_by_hand(text: str, size: int, expected: list[tuple[str, str]]) -> None:
    assert list(windows(text, size)) == expected


def test_a_folder_of_texts_is_a_task_of_which_a_fifth_of_the_windows_validates(tmp_path: Path) -> None:
    texts(tmp_path / "texts", words(40, "a"), words(12, "b"))
    texts(tmp_path / "texts" / "more", words(8, "c"))
    task = modelled(tmp_path)
    train, validation = pairs(task), pairs(task, "validation")
    assert len(train) == 12
    assert len(validation) == 3
    assert sorted(train + validation) == sorted(
        (f"{n}{i} {n}{i + 1}", f"{n}{i + 2} {n}{i + 3}") for n, count in (("a", 40), ("b", 12), ("c", 8)) for i in range(0, count, 4)
    )  # fmt: skip


def test_splits_are_files_or_folders_and_may_be_compressed(tmp_path: Path) -> None:
    texts(tmp_path / "texts" / "train", words(8, "a"), words(4, "b"))
    with gzip.open(tmp_path / "texts" / "validation.txt.gz", "wt") as file:
        file.write(words(4, "v"))
    task = modelled(tmp_path)
    assert pairs(task) == [("a0 a1", "a2 a3"), ("a4 a5", "a6 a7"), ("b0 b1", "b2 b3")]
    assert pairs(task, "validation") == [("v0 v1", "v2 v3")]


def test_texts_of_a_table_are_cut_as_well(tmp_path: Path) -> None:
    (tmp_path / "texts").mkdir()
    for split, name in (("train", "a"), ("test", "b")):
        (tmp_path / "texts" / f"{split}.jsonl").write_text(f'{{"id": 1, "body": "{words(8, name)}", "label": "x"}}\n')
    task = modelled(tmp_path, text="body")
    assert pairs(task) == [("a0 a1", "a2 a3"), ("a4 a5", "a6 a7")]
    assert pairs(task, "test") == [("b0 b1", "b2 b3"), ("b4 b5", "b6 b7")]


def test_a_text_may_lie_inside_of_another_field(tmp_path: Path) -> None:
    (tmp_path / "texts").mkdir()
    for split in ("train", "validation"):
        (tmp_path / "texts" / f"{split}.jsonl").write_text('{"page": {"body": "a b c d"}}\n')
    assert pairs(modelled(tmp_path, text="page.body")) == [("a b", "c d")]


def test_the_size_of_windows_is_part_of_the_datas_identity_and_places_name_them(tmp_path: Path) -> None:
    texts(tmp_path / "texts", *(words(16, name) for name in "abcd"))
    assert modelled(tmp_path).fingerprints != modelled(tmp_path, 8).fingerprints
    origin = Windows(FolderFiles(tmp_path / "texts", Unlocated().reading), "text", "label", 4)
    assert origin.place() == str(tmp_path / "texts")
    assert "0.txt" in origin.contents()


def test_a_folder_without_texts_and_a_table_without_the_field_are_refused(tmp_path: Path) -> None:
    (tmp_path / "texts").mkdir()
    with pytest.raises(ValueError, match="train and validation or test not found in"):
        modelled(tmp_path)
    (tmp_path / "texts" / "train.jsonl").write_text('{"body": "a b c d"}\n')
    with pytest.raises(ValueError, match="needs the field text"):
        modelled(tmp_path)


def test_a_text_that_is_not_utf8_is_refused_with_its_place(tmp_path: Path) -> None:
    texts(tmp_path / "texts", words(40))
    (tmp_path / "texts" / "z.txt").write_bytes(b"a b \xff d")
    with pytest.raises(ValueError, match=r"z.txt: must be UTF-8, got byte 0xff at 5"):
        modelled(tmp_path)


@pytest.mark.parametrize(
    ("values", "rule"),
    [
        ({"window": 3}, "window must be 0 or at least 4 words, got 3"),
        ({"window": 8, "kind": "classification"}, "window cuts the one text of a generation"),
        ({"window": 8, "text": ("a", "b")}, "window cuts the one text of a generation"),
        ({"window": 8, "text": ("{a} b",)}, "window cuts the one text of a generation"),
    ],
)
def test_windows_of_what_is_no_text_are_refused(values: dict[str, object], rule: str) -> None:
    with pytest.raises(ValueError, match=rule):
        TaskSection(**{"kind": "generation", "text": ("text",), **values}).spec("texts")  # type: ignore[arg-type]
