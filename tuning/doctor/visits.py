"""Visits to every node: what is seen there, whether it is reached, and how far its clock is off."""

import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

from tuning.cluster.resources import nodes
from tuning.doctor.visitor import clock, facts, mark

REACHED_WITHIN_S = 90.0
"""Seconds in which a node must have started a worker and said what it sees."""
SEEN_WITHIN_S = 5.0
"""Seconds in which what a node wrote must be seen here: network file systems remember folders for some."""
LOADED_WITHIN_S = 600.0
"""Seconds in which a node must have loaded PLMs and tasks."""


@dataclass(frozen=True)
class Visit:
    """What was seen on a node.

    Attributes:
        node: as Ray describes it.
        name: `host/id`, as trials say it.
        missed: why the node was not reached; empty: it was.
        facts: what it saw.
        skew: seconds that its clock is off at least.
        writes_here: whether what it wrote into the storage was seen by the driver.
    """

    node: Mapping[str, Any]
    name: str
    missed: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)
    skew: float = 0.0
    writes_here: bool = False

    def asked(self, function: Callable[..., Any], *arguments: Any, within_s: float) -> Any:
        """What a function gives there; it takes no CPU, so that it fits beside a search. Raises Ray's errors."""
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        there = NodeAffinitySchedulingStrategy(self.node["NodeID"], soft=False)
        options: dict[str, Any] = {"num_cpus": 0, "max_retries": 0, "scheduling_strategy": there}
        return ray.get(ray.remote(**options)(function).remote(*arguments), timeout=within_s)


@contextmanager
def visited(storage: Path) -> Iterator[list[Visit]]:
    """Visits to all nodes that are alive; what they leave in the storage goes with the block."""
    storage.mkdir(parents=True, exist_ok=True)
    sign = uuid4().hex
    found = [Visit(node, f"{node['NodeManagerHostname']}/{node['NodeID'][:8]}") for node in nodes()]
    try:
        mark(storage, sign).write_text(sign, encoding="utf-8")
        with ThreadPoolExecutor(max(1, len(found))) as pool:
            yield list(pool.map(lambda visit: _seen(visit, storage, sign), found))
    finally:
        for left in storage.glob(f"{mark(storage, sign).name}*"):
            left.unlink(missing_ok=True)


def _seen(visit: Visit, storage: Path, sign: str) -> Visit:
    import ray

    own = f"{sign}-{visit.node['NodeID'][:12]}"
    try:
        seen = visit.asked(facts, str(storage), sign, own, within_s=REACHED_WITHIN_S)
        skew = _skew(visit)
    except ray.exceptions.RayError as error:
        return Visit(visit.node, visit.name, missed=reason(error))
    return Visit(visit.node, visit.name, "", seen, skew, _appears(mark(storage, own)))


def _skew(visit: Visit) -> float:
    """Seconds by which a node's clock lies outside of the time in which it was asked, here."""
    began = time.time()
    there = visit.asked(clock, within_s=REACHED_WITHIN_S)
    return float(max(began - there, there - time.time(), 0.0))


def _appears(file: Path) -> bool:
    until = time.monotonic() + SEEN_WITHIN_S
    while not file.exists() and time.monotonic() < until:
        time.sleep(0.1)
    return file.exists()


def reason(error: Exception) -> str:
    """One line of why a call did not come back."""
    cause = getattr(error, "cause", None) or error
    text = " ".join(str(cause).split())
    return f"{type(cause).__name__}: {text[:200]}" if text else type(cause).__name__
