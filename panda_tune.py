"""The console script: it starts with our own four packages, whatever else on the path is called as they are."""

import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from typing import Any, NoReturn

PACKAGES = ("panda_trainable", "search_spaces", "analysis", "tuning")
ROOT = Path(__file__).resolve().parent


class OwnPackages:
    """Finds our packages beside this file before the path is looked through; everything else is found as ever."""

    def find_spec(self, name: str, path: Sequence[str] | None = None, target: Any = None) -> ModuleSpec | None:
        """The spec of one of our packages; None for all other modules."""
        return PathFinder.find_spec(name, [str(ROOT)]) if name in PACKAGES else None


def shadows() -> dict[str, str]:
    """Name -> file of modules that were imported under a name of ours before the command began."""
    files = {name: str(getattr(sys.modules[name], "__file__", None)) for name in PACKAGES if name in sys.modules}
    return {name: file for name, file in files.items() if ROOT / name not in Path(file).resolve().parents}


def main() -> NoReturn:
    """Runs the command, or says what stands in its way."""
    sys.meta_path.insert(0, OwnPackages())
    found = shadows()
    for name, file in found.items():
        rule = f"python has imported {file} as `{name}`, which is a package of panda-tune"
        print(f"{rule}; rename that file, or take its folder off PYTHONPATH", file=sys.stderr)  # noqa: T201  # nothing else is loaded yet
    if found:
        sys.exit(2)
    from tuning.commands.hiding import hide_secrets

    hide_secrets()
    from tuning.cli import main as command

    command()


if __name__ == "__main__":
    main()
