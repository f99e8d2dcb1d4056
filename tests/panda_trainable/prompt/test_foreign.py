"""Prompts made elsewhere: every format gives the numbers that were written, and nothing in a file is ever run."""

import json
import os
import pickle
import zipfile
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from panda_trainable.prompt.adapters import write_adapter
from panda_trainable.prompt.foreign import fitted, read_foreign

PROMPT = torch.arange(12.0).reshape(3, 4)


def of_numpy(path: Path) -> None:
    with path.open("wb") as file:
        np.save(file, PROMPT.double().numpy())


def of_npz(path: Path) -> None:
    with path.open("wb") as file:
        np.savez(file, prompt=PROMPT.numpy(), steps=np.arange(2))


WRITERS: dict[str, Any] = {
    "safetensors": lambda path: save_file({"prompt": PROMPT, "weight": torch.zeros(2, 4)}, path),
    "safetensors of one tensor": lambda path: save_file({"anything": PROMPT}, path),
    "npy": of_numpy,
    "npz": of_npz,
    "torch": lambda path: torch.save(PROMPT, path),
    "torch of before": lambda path: torch.save(PROMPT, path, _use_new_zipfile_serialization=False),
    "torch with names": lambda path: torch.save({"step": 3, "model": {"prompt": PROMPT.half()}}, path),
    "torch parameter": lambda path: torch.save(torch.nn.Parameter(PROMPT[None]), path),
}


@pytest.mark.parametrize("how", WRITERS)
def test_every_format_gives_the_numbers_whatever_the_file_is_called(tmp_path: Path, how: str) -> None:
    path = tmp_path / "task_prompt"
    WRITERS[how](path)
    assert torch.equal(read_foreign(path), PROMPT)
    assert torch.equal(read_foreign(path, declared=(3, 4)), PROMPT)


@pytest.mark.parametrize("shape", [(3, 4), (2, 2, 1, 3, 4)])
def test_an_adapter_gives_the_prompt_that_it_was_written_of(tmp_path: Path, shape: tuple[int, ...]) -> None:
    prompt = torch.randn(shape)
    write_adapter(tmp_path, prompt, "SEQ_CLS", "somewhere")
    assert torch.equal(read_foreign(tmp_path), prompt)


def test_a_declared_shape_arranges_a_flat_tensor_and_no_other(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    np.save(path, np.arange(12.0, dtype=np.float32))
    assert torch.equal(read_foreign(path, declared=(3, 4)), PROMPT)
    np.save(path, PROMPT.numpy())
    with pytest.raises(ValueError, match=r"holds a tensor of shape \[3, 4\], declared was \[4, 3\]"):
        read_foreign(path, declared=(4, 3))


def test_a_tensor_is_found_by_its_name_and_told_where_nobody_names_it(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    torch.save({"model": {"a": PROMPT, "b": PROMPT + 1}}, path)
    assert torch.equal(read_foreign(path, "model.b"), PROMPT + 1)
    with pytest.raises(ValueError, match=r"several tensors, none of them `prompt`; it holds model.a \[3, 4\]"):
        read_foreign(path)
    with pytest.raises(ValueError, match=r"no tensor 'c'"):
        read_foreign(path, "c")


class Dangerous:
    def __reduce__(self) -> Any:
        return (Path.touch, (Path("was-run"),))


def bad_adapter(folder: Path, config: Any = None, weights: bytes | None = None) -> Path:
    folder.mkdir()
    write_adapter(folder, PROMPT, "CAUSAL_LM", "x")
    if config is not None:
        (folder / "adapter_config.json").write_text(config if isinstance(config, str) else json.dumps(config))
    if weights is not None:
        (folder / "adapter_model.safetensors").write_bytes(weights)
    return folder


def written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def objects(path: Path) -> Path:
    np.save(path, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    return path


def link(path: Path, to: str) -> Path:
    path.symlink_to(to)
    return path


def pipe(path: Path) -> Path:
    os.mkfifo(path)
    return path


def header_alone(path: Path, shape: tuple[int, ...]) -> Path:
    """An array that says it has a shape, and has eight bytes."""
    held = BytesIO()
    np.lib.format.write_array_header_1_0(held, {"descr": "<f4", "fortran_order": False, "shape": shape})
    return written(path, held.getvalue() + bytes(8))


def zipped(path: Path, name: str, content: bytes) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, content)
    return path


def bomb(path: Path) -> Path:
    """3 MB that would become 3 GiB."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        archive.writestr("a.npy", b"x")
    content = bytearray(path.read_bytes())
    place = content.index(b"PK\x01\x02") + 24  # the declared size in the directory
    content[place : place + 4] = (3 * 2**30).to_bytes(4, "little")
    path.write_bytes(content)
    return path


def within_itself() -> bytes:
    held: dict[str, Any] = {}
    held["a"] = held
    return _torch(held)


def without_weights(folder: Path) -> Path:
    (bad_adapter(folder) / "adapter_model.safetensors").unlink()
    (folder / "adapter_model.bin").write_bytes(b"\x80")
    return folder


BAD: dict[str, tuple[Any, str]] = {
    "code in a pickle": (lambda p: written(p / "a.pt", pickle.dumps(Dangerous())), "a pickle of more than tensors, which may run code"),
    "code in an array": (lambda p: objects(p / "a.npy"), "holds Python objects, which may run code"),
    "nothing known": (lambda p: written(p / "a.txt", b"hello, this is a text"), "is neither safetensors nor NumPy nor a file of torch"),
    "not there": (lambda p: p / "nowhere", "cannot be read"),
    "cut safetensors": (lambda p: written(p / "a", b'\x10\x00\x00\x00\x00\x00\x00\x00{"a":'), "is damaged: it cannot be read as safetensors"),
    "cut array": (lambda p: written(p / "a", b"\x93NUMPY\x01\x00"), "is damaged"),
    "a pipe": (lambda p: pipe(p / "a"), "no file that ends"),
    "a device": (lambda p: link(p / "a", "/dev/zero"), "no file that ends"),
    "an array of a petabyte": (lambda p: header_alone(p / "a.npy", (10**9, 10**6)), "declares shape [1000000000, 1000000], and has"),
    "an array of a petabyte in an archive": (lambda p: zipped(p / "a.npz", "a.npy", header_alone(p / "x", (10**15,)).read_bytes()), "declares shape"),
    "an archive of gigabytes": (lambda p: bomb(p / "a.npz"), "unpacks to 3072 MiB, more than any prompt"),
    "one number a billion times": (lambda p: written(p / "a", _torch(torch.zeros(1).expand(10**6, 10**6))), "a prompt has at most"),
    "a file that holds itself": (lambda p: written(p / "a", within_itself()), "holds no tensor"),
    "an adapter without end": (lambda p: bad_adapter(p / "a", "[" * 100_000), "adapter_config.json cannot be read"),
    "infinite": (lambda p: written(p / "a", _torch(PROMPT / 0)), "numbers that are not finite"),
    "words": (lambda p: written(p / "a", _torch({"steps": 3})), "holds no tensor"),
    "a folder": (lambda p: p, "it is no PEFT adapter"),
    "adapter of weights": (lambda p: bad_adapter(p / "a", {"peft_type": "LORA"}), "an adapter of type LORA, which is no prompt"),
    "adapter without a type": (lambda p: bad_adapter(p / "a", "[]"), "adapter_config.json cannot be read"),
    "adapter in another shape": (lambda p: bad_adapter(p / "a", {"peft_type": "PROMPT_TUNING", "num_virtual_tokens": 5, "token_dim": 4}), "is damaged, or not of its adapter_config.json"),
    "damaged adapter": (lambda p: bad_adapter(p / "a", weights=b"xx"), "is damaged, or not of its adapter_config.json"),
    "pickled adapter": (lambda p: without_weights(p / "a"), "pickled weights are not loaded"),
    "prefix of a decoder": (lambda p: bad_adapter(p / "a", {"peft_type": "PREFIX_TUNING", "num_virtual_tokens": 3, "token_dim": 4, "num_layers": 1, "num_attention_heads": 1, "num_transformer_submodules": 2}), "encoder-decoder's decoder"),
}  # fmt: skip


def _torch(value: Any) -> bytes:
    from io import BytesIO

    torch.save(value, made := BytesIO())
    return made.getvalue()


@pytest.mark.parametrize("how", BAD)
def test_what_is_no_prompt_is_refused_by_name_and_nothing_is_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    monkeypatch.chdir(tmp_path)
    make, said = BAD[how]
    path = make(tmp_path)
    with pytest.raises(ValueError) as refused:
        read_foreign(path)
    assert said in str(refused.value) and str(path) in str(refused.value)
    assert not (tmp_path / "was-run").exists()


SHAPES: dict[str, Any] = {"input": lambda p: (p, 4), "prefix": lambda p: (2, 2, 1, p, 3)}


def test_a_flat_prefix_is_arranged_as_p_tuning_v2_has_it() -> None:
    flat = torch.arange(36.0).reshape(3, 12)  # [P, L·2·heads·d]
    prompt = fitted(flat, SHAPES)
    assert prompt.shape == (2, 2, 1, 3, 3)
    assert prompt[1, 0, 0, 2].tolist() == [30.0, 31.0, 32.0]  # of token 2: 24 + layer 1's keys, from 6 on
    assert torch.equal(fitted(PROMPT, SHAPES), PROMPT)
    assert torch.equal(fitted(prompt, SHAPES), prompt)


@pytest.mark.parametrize("shape", [(3, 5), (4,), (2, 2, 1, 3, 4), (3, 4, 1)])
def test_a_prompt_of_another_plm_is_refused_with_the_shapes_that_would_be(shape: tuple[int, ...]) -> None:
    with pytest.raises(
        ValueError, match=r"has shape input \['P', 4\] or prefix \[2, 2, 1, 'P', 3\] with P tokens, got"
    ):
        fitted(torch.zeros(shape), SHAPES)
