"""What a trial takes of the cluster, and how many fit it at once."""

from tuning.experiment.experiment import Experiment
from tuning.experiment.problems import Misuse, Problem


def trial_resources(experiment: Experiment) -> dict[str, float]:
    """CPUs and GPUs of one trial: `auto` asks for a GPU where the cluster has some.

    Raises:
        Misuse: if no node could ever run a trial, which Ray would wait for in silence.
    """
    import ray

    total = ray.cluster_resources()
    if experiment.resources == "auto":
        asked = {"cpu": 1.0, "gpu": 1.0 if total.get("GPU", 0) >= 1 else 0.0}
    else:
        asked = {"cpu": experiment.resources.cpu, "gpu": experiment.resources.gpu}
    for name, amount in asked.items():
        largest = max(node["Resources"].get(name.upper(), 0.0) for node in ray.nodes() if node["Alive"])
        if amount > largest:
            rule = f"a trial asks for {amount:g}, but the largest node has {largest:g}"
            raise Misuse(Problem(f"resources.{name}", rule, remedy="ask for less"))
    return asked


def slots(asked: dict[str, float]) -> int:
    """Trials that fit the cluster at once."""
    import ray

    total = ray.cluster_resources()
    return max(1, int(min(total.get(name.upper(), 0) / amount for name, amount in asked.items() if amount > 0)))
