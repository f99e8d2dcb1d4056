"""The table of checks: what is looked at, and what to do where it does not hold."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from tuning.doctor import driver_checks, node_checks
from tuning.doctor.driver_checks import Patient
from tuning.doctor.visits import Visit


@dataclass(frozen=True)
class DriverCheck:
    """A row of what is looked at on the driver.

    Attributes:
        find: says what it found, or raises Failed or Misuse.
        remedy: what to do where it fails; empty: the refusal says it.
    """

    find: Callable[[Patient], str]
    remedy: str = ""


@dataclass(frozen=True)
class NodeCheck:
    """A row of what is looked at on every node.

    Attributes:
        find: says what it found, or raises Failed.
        remedy: what to do where it fails.
        in_search: what `search` does where it fails: it ends, tells it, or does not look.
    """

    find: Callable[[Visit], str]
    remedy: str
    in_search: Literal["ends", "tells", "does not look"]


BEFORE: Mapping[str, DriverCheck] = MappingProxyType(
    {
        "tasks and PLMs": DriverCheck(driver_checks.file_holds),
        "MLflow": DriverCheck(
            driver_checks.tracking_takes_writes, "start the server, or correct tracking.uri and its password"
        ),
        "disk": DriverCheck(driver_checks.disk_suffices, "make room, or put `storage` elsewhere"),
    }
)
"""Before Ray is asked."""

CONNECTED: Mapping[str, DriverCheck] = MappingProxyType({"resources": DriverCheck(driver_checks.resources_fit)})
"""Of the cluster as a whole."""

REACHED = "reached"
ON_NODES: Mapping[str, NodeCheck] = MappingProxyType(
    {
        REACHED: NodeCheck(
            node_checks.reached, "look at /tmp/ray/session_latest/logs there; stop the node and start it again", "ends"
        ),
        "versions": NodeCheck(
            node_checks.same_versions, "install the driver's versions there (constraints.txt, or one image)", "tells"
        ),
        "project": NodeCheck(
            node_checks.same_project, "uninstall panda-tune there, or install the driver's version", "ends"
        ),
        "clock": NodeCheck(node_checks.clock_agrees, "synchronise clocks (chrony, NTP)", "tells"),
        "storage": NodeCheck(
            node_checks.same_storage, "mount the same folder at this path on every node, or change `storage`", "ends"
        ),
        "scratch": NodeCheck(node_checks.scratch_left, "clear the temporary folder there", "does not look"),
        "GPUs": NodeCheck(
            node_checks.gpus_free,
            "end what runs on them, or start Ray there with the right --num-gpus",
            "does not look",
        ),
    }
)
"""Of what a visitor saw on each."""

LOADS, TRAINS = "PLM and tasks", "trial"
REMEDY_OF_WORK: Mapping[str, str] = MappingProxyType(
    {
        LOADS: "put PLM and data where every node sees them, or fill the hub's cache there (HF_HOME)",
        TRAINS: "mend what it says; panda-tune train on that node shows more",
    }
)
"""What takes longer: PLMs and tasks on every node, one trial on one of them."""
