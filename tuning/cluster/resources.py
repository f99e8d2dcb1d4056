"""What a trial takes of the cluster, and how many fit it at once."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from analysis.wording import counted
from tuning.experiment.experiment import Experiment
from tuning.experiment.problems import Misuse, Problem

MOST_REQUESTED = 1000
"""Trials for which nodes are asked for at most."""

LOOKS_EVERY_S = 1.0
"""Seconds between two looks at the nodes."""


def trial_resources(
    experiment: Experiment, wait_s: float = 0, say: Callable[[str], None] = lambda _: None
) -> dict[str, float]:
    """CPUs and GPUs of one trial: `auto` asks for a GPU where the cluster has some.

    Args:
        experiment: with what it asks for.
        wait_s: seconds to wait for a node that fits; with `auto`, for a node beside the driver's.
        say: told that there is something to wait for, and what came.

    Raises:
        Misuse: if no node could ever run a trial, which Ray would wait for in silence.
    """
    if wait_s:
        _wait(experiment, wait_s, say)
    asked = asked_of(experiment)
    if not _fits(asked):
        waited = f" after {wait_s:g} s" if wait_s else ""
        remedy = "ask for less" if wait_s else "ask for less, or wait for nodes to come with --wait-for-nodes 600"
        raise Misuse(*(Problem(place, f"{rule}{waited}", remedy=remedy) for place, rule in _short_of(asked)))
    return asked


def asked_of(experiment: Experiment) -> dict[str, float]:
    """CPUs and GPUs that a trial asks for, whether or not they are there."""
    import ray

    if experiment.resources == "auto":
        return {"cpu": 1.0, "gpu": 1.0 if ray.cluster_resources().get("GPU", 0) >= 1 else 0.0}
    return {"cpu": experiment.resources.cpu, "gpu": experiment.resources.gpu}


def nodes() -> list[dict[str, Any]]:
    """The nodes that are alive, as Ray describes them."""
    import ray

    return [node for node in ray.nodes() if node["Alive"]]


def _has(node: Mapping[str, Any], name: str) -> float:
    return float(node["Resources"].get(name.upper(), 0.0))


def _fits(asked: Mapping[str, float]) -> bool:
    """Whether some node could run a trial when nothing else runs there."""
    return any(all(amount <= _has(node, name) for name, amount in asked.items()) for node in nodes())


def _short_of(asked: Mapping[str, float]) -> list[tuple[str, str]]:
    """The keys of what is asked that no node has, each with what is wrong; all of them where each alone is there."""
    largest = {name: max((_has(node, name) for node in nodes()), default=0.0) for name in asked}
    lacking = [
        (f"resources.{name}", f"a trial asks for {amount:g}, but the largest node has {largest[name]:g}")
        for name, amount in asked.items()
        if amount > largest[name]
    ]
    together = " and ".join(f"{amount:g} {name}" for name, amount in asked.items())
    return lacking or [("resources", f"a trial asks for {together}, which no single node has")]


def _wait(experiment: Experiment, wait_s: float, say: Callable[[str], None]) -> None:
    """Waits until a node fits a trial; a cluster that grows is asked for one."""
    is_auto = experiment.resources == "auto"
    asked = asked_of(experiment)

    def is_there() -> bool:
        return len(nodes()) > 1 if is_auto else _fits(asked)

    if is_there():
        return
    wanted = "a second node" if is_auto else "a node that fits a trial"
    say(f"waiting up to {wait_s:g} s for {wanted}")
    until = time.monotonic() + wait_s
    with _demanded({} if is_auto else asked):
        while not is_there() and time.monotonic() < until:
            time.sleep(LOOKS_EVERY_S)
    say(f"{counted(len(nodes()), 'node')} there" if is_there() else f"{wanted} did not come")


@contextmanager
def _demanded(asked: Mapping[str, float]) -> Iterator[None]:
    """A cluster that grows is told what is wanted for the time of a block; others take no notice."""
    request(asked, 1)
    try:
        yield
    finally:
        request(asked, 0)


def request(asked: Mapping[str, float], count: int) -> None:
    """Tells a cluster that grows for how many trials at once it should have nodes; others take no notice.

    Ray remembers this until it is told another count, even where this process is killed.
    """
    from ray.autoscaler.sdk import request_resources

    bundle = {name.upper(): amount for name, amount in asked.items() if amount}
    request_resources(bundles=[bundle] * min(count, MOST_REQUESTED) if bundle else [])


def slots(asked: Mapping[str, float]) -> int:
    """Trials that fit the nodes there are at once; at least one, which waits for a node."""
    amounts = {name: amount for name, amount in asked.items() if amount > 0}
    fit = (min(_has(node, name) / amount for name, amount in amounts.items()) for node in nodes())
    return max(1, sum(int(count + 1e-9) for count in fit))  # 0.6 / 0.2 is a little below 3
