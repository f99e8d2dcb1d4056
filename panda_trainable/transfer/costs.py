"""What a trial costs beside its own steps: all that was trained for it, and would have to be without a library."""

from panda_trainable.config.keys import content_key
from panda_trainable.config.trial import TrialConfig
from panda_trainable.transfer.lineage import Lineage
from panda_trainable.transfer.methods import METHODS, needed
from panda_trainable.transfer.projector import projector_key

Runs = dict[str, int]
"""A run's identity -> its steps, of all seeds together."""


def training_runs(config: TrialConfig) -> Runs:
    """The runs that a trial starts from or learns from: source prompts, teachers, models, projectors.

    A run stands once, whatever of it is used: snapshots are steps of one run, and a teacher's run goes on to the
    longest of its study's candidates, which serves all of them. Steps count the same whatever they train, a prompt of
    the PLM or all weights of a larger one. Whether the library had a run already does not matter.

    Args:
        config: the trial.

    Returns:
        Runs that other trials may have in common with this one, by the same identity.
    """
    longest = max((*config.candidates, config.teacher_steps))
    seeds = len(config.seeds)
    lineages = [*needed(config), *METHODS[config.method].within(config)]
    runs = runs_of([lineage.at(longest) if lineage.start else lineage for lineage in lineages], seeds)
    if config.projection:
        runs[f"projectors/{projector_key(config, 0)}"] = config.projection.steps * seeds
    return runs


def runs_of(lineages: list[Lineage], seeds: int) -> Runs:
    """The runs of some lineages; the longest snapshot of a run counts.

    Args:
        lineages: what is tuned.
        seeds: replicas of each.
    """
    runs: Runs = {}
    for lineage in lineages:
        run = f"{lineage.kind}/{content_key(lineage.kind, lineage.at(0))}"
        runs[run] = max(runs.get(run, 0), lineage.steps * seeds)
    return runs
