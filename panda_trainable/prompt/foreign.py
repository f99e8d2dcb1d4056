"""Prompts made elsewhere, read from what people publish: safetensors, NumPy, tensors of torch, PEFT adapters; never code."""

import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from math import prod
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from panda_trainable.prompt.adapters import CONFIG, TENSOR, read_adapter
from panda_trainable.prompt.soft_prompt import of_tokens

MOST = 2**28
"""Numbers of a prompt at most: a GiB in float32."""
DEEPEST = 8
"""Levels of names inside of others."""

USUAL = ("prompt", TENSOR)
"""Names under which a file of several tensors is taken to hold its prompt."""


def read_foreign(path: Path, name: str = "", declared: Sequence[int] = ()) -> Tensor:
    """A prompt's numbers as a file or an adapter's folder has them, in float32.

    Args:
        path: of the file, or of the folder of a PEFT adapter.
        name: of the tensor, where the file holds several; `a.b` inside of others.
        declared: its shape; leading dimensions of 1 do not count, and a flat tensor takes it. Empty: as the file has it.

    Raises:
        ValueError: if the file cannot be read without running code, holds no such tensor or another shape, or
            numbers that are not finite.
    """
    if path.is_dir():
        tensor = _adapter(path)
    else:
        found = dict(_tensors("", READERS[_format(path)](path)))
        tensor = _chosen(path, found, name)
    if tensor.numel() > MOST:
        raise ValueError(f"{path} holds a tensor of shape {[*tensor.shape]}: a prompt has at most {MOST} numbers")
    shape = [*tensor.shape]
    while len(shape) > 2 and shape[0] == 1:
        shape = shape[1:]
    if declared and not (shape == [*declared] or (len(shape) == 1 and prod(shape) == prod(declared))):
        raise ValueError(f"{path} holds a tensor of shape {shape}, declared was {[*declared]}; declare what it holds")
    made = tensor.reshape([*declared] or shape).float()
    if not made.isfinite().all():
        raise ValueError(f"{path} holds numbers that are not finite")
    return made.contiguous()


def fitted(tensor: Tensor, shapes: Mapping[str, Callable[[int], tuple[int, ...]]]) -> Tensor:
    """A tensor as a prompt of a PLM: an input prompt [P, E], or a prefix [L, 2, heads, P, d], which may be [P, L·2·heads·d].

    Args:
        tensor: of any shape.
        shapes: form -> the shape of a prompt of so many tokens.

    Raises:
        ValueError: if it is no prompt of the PLM, with the shapes that would be.
    """
    length = tensor.shape[-2] if tensor.dim() in (2, 5) else 0
    for shape_of in shapes.values() if length else ():
        shape = shape_of(length)
        if tuple(tensor.shape) == shape:
            return tensor
        if tensor.dim() == 2 and tensor.shape[1] == prod(shape) // length:
            return of_tokens(tensor, shape).contiguous()
    told = " or ".join(f"{form} {['P' if n == 7 else n for n in shape_of(7)]}" for form, shape_of in shapes.items())
    raise ValueError(f"a prompt of this PLM has shape {told} with P tokens, got {[*tensor.shape]}")


def _adapter(folder: Path) -> Tensor:
    if not (folder / CONFIG).is_file():
        raise ValueError(f"{folder} has no {CONFIG}: it is no PEFT adapter; name a file, or an adapter's folder")
    return read_adapter(folder)


def _format(path: Path) -> str:
    """What a file is, by how it begins, whatever it is called.

    Raises:
        ValueError: if it cannot be read, or is nothing that is known.
    """
    if path.exists() and not path.is_file():
        raise ValueError(f"{path} is no file that ends, but a pipe or a device; name a file")
    try:
        with path.open("rb") as file:
            head = file.read(16)
        entries = zipfile.ZipFile(path).infolist() if zipfile.is_zipfile(path) else []
    except (OSError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path} cannot be read ({error})") from error
    inside = [entry.filename for entry in entries]
    if (size := sum(entry.file_size for entry in entries)) > 4 * MOST + path.stat().st_size:
        raise ValueError(f"{path} unpacks to {size / 2**20:.0f} MiB, more than any prompt; save the prompt alone")
    if any(name.endswith("data.pkl") for name in inside):
        return "torch"
    if inside and all(name.endswith(".npy") for name in inside):
        return "npz"
    if head.startswith(b"\x93NUMPY"):
        return "npy"
    if len(head) > 8 and head[8:9] == b"{":
        return "safetensors"
    if head[:1] == b"\x80":  # a pickle, as torch wrote its files before they were archives
        return "torch"
    raise ValueError(f"{path} is neither safetensors nor NumPy nor a file of torch, and no folder of a PEFT adapter")


def _safetensors(path: Path) -> Any:
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path} is damaged: it cannot be read as safetensors ({error})") from error


def _numpy(path: Path) -> Any:
    try:
        _check_declared(path)
        made = np.load(path, allow_pickle=False)
        return torch.from_numpy(made) if isinstance(made, np.ndarray) else {n: torch.from_numpy(made[n]) for n in made}
    except (OSError, EOFError, ValueError, TypeError, MemoryError, OverflowError, zipfile.BadZipFile) as error:
        rule = "holds Python objects, which may run code" if "pickle" in str(error) else f"is damaged ({error})"
        raise ValueError(f"{path} {rule}: only arrays of numbers are read") from error


def _check_declared(path: Path) -> None:
    """Refuses an array that declares more numbers than its file has, before they get memory."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            for entry in archive.infolist():
                with archive.open(entry) as inside:
                    _check_header(inside, entry.file_size)
    else:
        with path.open("rb") as file:
            _check_header(file, path.stat().st_size)


def _check_header(file: Any, size: int) -> None:
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, kind = read(file)
    if not kind.hasobject and prod(shape) * kind.itemsize > size:
        raise ValueError(f"it declares shape {[*shape]}, and has {size} bytes")


def _torch(path: Path) -> Any:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds; for a user there are two
        if type(error).__name__ == "UnpicklingError":
            rule = "is a pickle of more than tensors, which may run code, or damaged, and is not loaded"
            raise ValueError(f"{path} {rule}; save its tensor alone, as safetensors or with torch.save") from error
        raise ValueError(f"{path} is damaged: it cannot be read as a file of torch ({error})") from error


READERS: Mapping[str, Callable[[Path], Any]] = MappingProxyType(
    {"safetensors": _safetensors, "npy": _numpy, "npz": _numpy, "torch": _torch}
)
"""Format -> what reads a file of it: a tensor, or names with tensors."""


def _tensors(name: str, held: Any, depth: int = 0) -> Iterator[tuple[str, Tensor]]:
    """All tensors of what was read, with their names; `a.b` inside of others. Files may hold what holds itself."""
    if isinstance(held, Tensor):
        yield name, held.detach()
    elif isinstance(held, Mapping) and depth < DEEPEST:
        for key, value in held.items():
            yield from _tensors(f"{name}.{key}".lstrip("."), value, depth + 1)


def _chosen(path: Path, found: Mapping[str, Tensor], name: str) -> Tensor:
    """The tensor of a name, or the only one, or the one that is called as prompts are."""
    several = [key for key in USUAL if key in found] if len(found) > 1 else [*found]
    wanted = name or (several[0] if len(several) == 1 else "")
    if wanted not in found or (not name and len(several) != 1):
        held = (
            ", ".join(f"{key or 'a tensor'} {[*tensor.shape]}" for key, tensor in [*found.items()][:5]) or "no tensor"
        )
        which = f"no tensor {name!r}" if name else "several tensors, none of them `prompt`" if found else "no tensor"
        raise ValueError(f"{path} holds {which}; it holds {held}")
    return found[wanted]
