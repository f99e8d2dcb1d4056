"""What must hold on every node, of what was seen there: each a function that says what it found, or raises Failed."""

from tuning.doctor.findings import Failed, Skipped
from tuning.doctor.visitor import project, versions
from tuning.doctor.visits import Visit

MOST_SKEW_S = 2.0
"""Seconds that clocks may differ."""
LEAST_SCRATCH = 2**30
"""Bytes that a node's temporary folder must have left."""
USED_SHARE = 0.1
"""Share of a GPU's memory from which somebody else is at work on it."""


def reached(visit: Visit) -> str:
    """A worker started there and answered."""
    if visit.missed:
        raise Failed(visit.missed)
    return str(visit.node["NodeManagerAddress"])


def same_versions(visit: Visit) -> str:
    """Python and packages are those of the driver."""
    here, there = versions(), visit.facts["versions"]
    other = [f"{name} {there[name]}, here {here[name]}" for name in here if there[name] != here[name]]
    if other:
        raise Failed("; ".join(other))
    return ", ".join(f"{name} {there[name]}" for name in ("python", "torch", "transformers"))


def same_project(visit: Visit) -> str:
    """Our packages are those of the driver."""
    if visit.facts["project"] != project():
        raise Failed(f"{visit.facts['project']}, here {project()}")
    return str(visit.facts["project"])


def clock_agrees(visit: Visit) -> str:
    """The clock is the driver's."""
    if visit.skew > MOST_SKEW_S:
        raise Failed(f"{visit.skew:.1f} s off")
    return f"within {MOST_SKEW_S:g} s"


def same_storage(visit: Visit) -> str:
    """The storage is there, writable, and the driver's."""
    if visit.facts["storage"]:
        raise Failed(visit.facts["storage"])
    if not visit.writes_here:
        raise Failed("what is written there is not seen by the driver")
    return "the same, writable"


def gpus_free(visit: Visit) -> str:
    """The GPUs that Ray gives to trials are there, and nobody else uses them."""
    given, seen = visit.node["Resources"].get("GPU", 0), visit.facts["gpus"]
    if not given and not seen:
        raise Skipped("no GPU")
    if given != len(seen):
        raise Failed(f"Ray has {given:g}, nvidia-smi shows {len(seen)}")
    used = [f"{name}: {used:.0f} of {whole:.0f} MiB used" for name, used, whole in seen if used > USED_SHARE * whole]
    if used:
        raise Failed("; ".join(used))
    return f"{len(seen)} × {seen[0][0]}, unused"


def scratch_left(visit: Visit) -> str:
    """The temporary folder has room for what Ray keeps there."""
    left = visit.facts["scratch"]
    if left < LEAST_SCRATCH:
        raise Failed(f"{left / 2**30:.1f} GiB left in the temporary folder")
    return f"{left / 2**30:.0f} GiB"
