"""GGUF files: dequantised once, known by what they hold, and refused with the reason."""

import sys
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from panda_trainable.config.setting import Plm
from panda_trainable.library import PromptLibrary
from panda_trainable.pretrained.files import checked_folder, load_model, load_tokenizer, plm_files, plm_place
from panda_trainable.pretrained.gguf import dequantised
from panda_trainable.pretrained.kinds import kind_in
from tests.kits.gguf_files import write_gguf

IDS = torch.tensor([[1, 3, 4, 5, 31]])


@pytest.fixture
def library(tmp_path: Path) -> PromptLibrary:
    return PromptLibrary(tmp_path / "library")


def test_a_dequantised_model_answers_as_what_was_quantised(tmp_path: Path, library: PromptLibrary) -> None:
    own = write_gguf(tmp_path / "tiny.gguf")
    folder = dequantised(plm_place(str(tmp_path / "tiny.gguf")), library)
    assert kind_in(folder) == "causal_lm"
    assert not list(folder.glob("*.bin"))
    plm = Plm("tiny.gguf", plm_files(folder), folder=str(folder), kind="causal_lm", pooling="answer")
    assert plm.label == "tiny.gguf"
    with torch.no_grad():
        wanted = own(IDS).logits
        assert wanted.abs().max() > 0.1
        torch.testing.assert_close(load_model(plm)(IDS).logits, wanted, atol=1e-6, rtol=0)
        plain = AutoModelForCausalLM.from_pretrained(folder).eval()
        torch.testing.assert_close(plain(IDS).logits, wanted, atol=1e-6, rtol=0)
    assert load_tokenizer(plm)("ab a")["input_ids"] == [31, 30]


def test_a_file_is_dequantised_once_and_known_by_what_it_holds(tmp_path: Path, library: PromptLibrary) -> None:
    write_gguf(tmp_path / "one.gguf")
    folder = dequantised(tmp_path / "one.gguf", library)
    made = (folder / "model.safetensors").stat().st_mtime_ns
    (tmp_path / "two.gguf").write_bytes((tmp_path / "one.gguf").read_bytes())
    assert dequantised(tmp_path / "two.gguf", library) == folder
    assert (folder / "model.safetensors").stat().st_mtime_ns == made
    elsewhere = dequantised(tmp_path / "one.gguf", PromptLibrary(tmp_path / "elsewhere"))
    assert elsewhere != folder
    assert plm_files(elsewhere) == plm_files(folder)


def test_files_that_changed_since_the_plan_are_refused(tmp_path: Path, library: PromptLibrary) -> None:
    write_gguf(tmp_path / "one.gguf")
    folder = dequantised(tmp_path / "one.gguf", library)
    plm = Plm("one.gguf", "other files", folder=str(folder), kind="causal_lm")
    with pytest.raises(ValueError, match="are not those the plan was made with"):
        checked_folder(plm)


def _unknown(path: Path) -> None:
    write_gguf(path, "nobodys")


def _halved(path: Path) -> None:
    write_gguf(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


BROKEN = {
    "of an unknown architecture": (_unknown, "nobodys"),
    "cut in half": (_halved, ""),
    "no GGUF at all": (lambda path: path.write_bytes(b"PK\x03\x04" + bytes(400)), ""),
    "empty": (lambda path: path.write_bytes(b""), ""),
}


@pytest.mark.parametrize("what", BROKEN)
def test_a_file_that_cannot_be_read_is_refused_and_leaves_nothing(
    what: str, tmp_path: Path, library: PromptLibrary
) -> None:
    write, named = BROKEN[what]
    write(tmp_path / "x.gguf")
    with pytest.raises(
        ValueError, match=rf"PLM 'x.gguf': cannot be read as GGUF \(.*{named}.*it must be whole, and of an "
    ):
        dequantised(tmp_path / "x.gguf", library)
    assert not [path for path in library.root.rglob("*") if path.is_file() and path.suffix != ".lock"]


def test_without_what_reads_it_the_extra_is_told(
    tmp_path: Path, library: PromptLibrary, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_gguf(tmp_path / "x.gguf")
    monkeypatch.setitem(sys.modules, "gguf", None)
    with pytest.raises(ValueError, match=r"and gguf is not installed; pip install 'panda-tune\[gguf\]'"):
        dequantised(tmp_path / "x.gguf", library)


def test_a_gguf_file_is_found_inside_an_installed_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "brings_one").mkdir()
    (tmp_path / "brings_one/__init__.py").touch()
    write_gguf(tmp_path / "brings_one/tiny.gguf")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert plm_place("package:brings_one/tiny.gguf") == (tmp_path / "brings_one/tiny.gguf").resolve()
