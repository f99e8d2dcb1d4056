"""An experiment looked at: all checks one after the other, or the fast ones that a search makes by itself."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from tuning.cluster.connection import connected
from tuning.cluster.resources import nodes
from tuning.doctor.checks import BEFORE, CONNECTED, LOADS, ON_NODES, REACHED, REMEDY_OF_WORK, TRAINS
from tuning.doctor.driver_checks import Patient
from tuning.doctor.findings import Failed, Finding, Skipped
from tuning.doctor.visitor import load_all, train
from tuning.doctor.visits import LOADED_WITHIN_S, Visit, reason, visited
from tuning.experiment.experiment import Experiment
from tuning.experiment.problems import Misuse, Problem

DRIVER = "driver"


def examine(
    experiment: Experiment, address: str | None, wait_s: float = 0, tell: Callable[[str], None] = lambda _: None
) -> list[Finding]:
    """What every check finds, of the driver and of every node.

    Args:
        experiment: its file, checked.
        address: of a running Ray cluster; None starts Ray here.
        wait_s: seconds to wait for nodes.
        tell: told what is being looked at.
    """
    patient = Patient(experiment, wait_s, tell)
    findings: list[Finding] = []
    for name, check in BEFORE.items():
        tell(f"looking at {name}")
        findings += _found(name, DRIVER, partial(check.find, patient), check.remedy)
    tell("looking at the nodes")
    try:
        with connected(address):
            findings += _on_cluster(patient)
    except Misuse as refused:
        findings += [_of_problem("Ray", problem) for problem in refused.problems]
    return findings


def _on_cluster(patient: Patient) -> Iterator[Finding]:
    """What is found of the cluster as a whole, and of each of its nodes."""
    for name, check in CONNECTED.items():
        yield from _found(name, DRIVER, partial(check.find, patient), check.remedy)
    with visited(patient.experiment.storage_path) as visits:
        yield from (finding for visit in visits for finding in on_node(visit))
        here = [visit for visit in visits if not visit.missed]
        with ThreadPoolExecutor(max(1, len(here))) as pool:
            yield from (finding for found in pool.map(lambda visit: _loads(patient, visit), here) for finding in found)
    yield from _found(TRAINS, "one worker", lambda: _trained(patient), REMEDY_OF_WORK[TRAINS])


def on_node(visit: Visit) -> Iterator[Finding]:
    """What the fast checks find of a node; of one that is not reached, that."""
    for name, check in ON_NODES.items():
        if visit.missed and name != REACHED:
            yield Finding(name, visit.name, "skipped", "not reached")
        else:
            yield from _found(name, visit.name, partial(check.find, visit), check.remedy)


def _loads(patient: Patient, visit: Visit) -> list[Finding]:
    """Whether a node loads PLMs and tasks."""

    def load() -> str:
        if not patient.plans:
            raise Skipped("no plan")
        return str(visit.asked(load_all, patient.plans, within_s=LOADED_WITHIN_S))

    return _found(LOADS, visit.name, load, REMEDY_OF_WORK[LOADS])


def _trained(patient: Patient) -> str:
    """A tiny trial, with what a trial takes, wherever Ray runs it."""
    import ray

    if not patient.plans or not patient.asked:
        raise Skipped("no plan" if not patient.plans else "no resources")
    cpu, gpu = patient.asked["cpu"], patient.asked["gpu"]
    trial = ray.remote(num_cpus=cpu, num_gpus=gpu, max_retries=0)(train)
    return str(ray.get(trial.remote(patient.plans[0]), timeout=LOADED_WITHIN_S))


def _found(check: str, node: str, find: Callable[[], str], remedy: str) -> list[Finding]:
    """What a check finds, as a row; of a refusal a row for each of its problems."""
    import ray

    try:
        return [Finding(check, node, "ok", find())]
    except Failed as failed:
        return [Finding(check, node, "failed", str(failed), remedy)]
    except Skipped as skipped:
        return [Finding(check, node, "skipped", str(skipped))]
    except Misuse as refused:
        return [_of_problem(check, problem) for problem in refused.problems]
    except ray.exceptions.RayError as error:
        return [Finding(check, node, "failed", reason(error), remedy)]


def _of_problem(check: str, problem: Problem) -> Finding:
    text = str(Problem(problem.place, problem.rule, problem.value))
    return Finding(check, DRIVER, "failed", text, problem.remedy)


def check_nodes(storage: Path, tell: Callable[[str], None]) -> None:
    """The fast checks of nodes, as a search makes them before it starts on several.

    Args:
        storage: the folder that every node should see.
        tell: told what is not as it should be and does not stop a search.

    Raises:
        Misuse: with each node on which trials would fail.
    """
    if len(nodes()) == 1:
        return  # the driver's own
    with visited(storage) as visits:
        failed = [finding for visit in visits for finding in on_node(visit) if finding.state == "failed"]
    stops = [finding for finding in failed if ON_NODES[finding.check].in_search == "ends"]
    if stops:
        raise Misuse(*map(_problem, stops))
    _tell_all([finding for finding in failed if ON_NODES[finding.check].in_search == "tells"], tell)


def _tell_all(findings: Sequence[Finding], tell: Callable[[str], None]) -> None:
    for finding in findings:
        tell(str(_problem(finding)))


def _problem(finding: Finding) -> Problem:
    return Problem(f"node {finding.node}", f"{finding.check}: {finding.found}", remedy=finding.remedy)
