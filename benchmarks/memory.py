"""The peak of a process that trains, as replicas and rows grow: the PLM once, little for each replica."""

import json
import multiprocessing
import resource
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from benchmarks.cases import Case, arguments, case_of, staged
from panda_trainable.config.trial import TrialConfig
from panda_trainable.library import PromptLibrary

STEPS = 3


def peak(case: Case, replicas: int, folder: str) -> tuple[float, float]:
    """MiB at their highest of this process: before the PLM is loaded, and after some steps and an evaluation."""
    from panda_trainable.transfer.methods import open_trainer  # in the child alone

    torch.set_num_threads(1)
    before = highest()
    setting, _, target = staged(case, Path(folder))
    config = TrialConfig(setting, target, "prompt_tuning", tuple(range(replicas)), STEPS, 1e-2)
    trainer = open_trainer(PromptLibrary(Path(folder) / "library"), config)
    trainer.advance(STEPS)
    trainer.select()
    return before, highest()


def highest() -> float:
    """MiB of this process at their highest."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10


def measured(case: Case, replicas: list[int]) -> dict[str, dict[str, float]]:
    """Replicas, and then four times the rows -> MiB; each in a process of its own."""
    cases = [(case, count) for count in replicas] + [(replace(case, rows=4 * case.rows), replicas[-1])]
    found = {}
    with TemporaryDirectory() as folder:
        staged_apart(case, folder)
        for each, count in cases:
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                before, after = pool.apply(peak, (each, count, folder))
            found[f"K={count}, {each.rows} rows"] = {"imports_mib": before, "peak_mib": after}
    return found


def staged_apart(case: Case, folder: str) -> None:
    """Makes the PLM's files in a process that is then gone: a random PLM takes more to make than to load."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        pool.apply(staged, (case, Path(folder)))


def main() -> None:
    """The command."""
    parser = arguments(__doc__ or "")
    parser.add_argument("--replicas", type=int, nargs="+", default=[1, 3, 8, 16], help="K, one process each")
    asked = parser.parse_args()
    found = measured(case_of(asked), asked.replicas)
    if asked.json:
        print(json.dumps({"shape": asked.shape, "lengths": asked.lengths, "peaks": found}))
        return
    for name, mib in found.items():
        print(
            f"{asked.shape}, {asked.lengths}, {name}: {mib['peak_mib']:.0f} MiB, before the PLM {mib['imports_mib']:.0f}"
        )


if __name__ == "__main__":
    main()
