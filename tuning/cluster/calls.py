"""Functions of ours as Ray tasks, many at once."""

from collections.abc import Callable, Sequence
from typing import Any


def run_all(
    function: Callable[..., Any], calls: Sequence[tuple[Any, ...]], asked: dict[str, float],
    done: Callable[[int, Any], None],
) -> list[tuple[int, str]]:  # fmt: skip
    """Runs a function of ours for each call as Ray tasks, in parallel.

    Args:
        function: of a module of the four packages.
        calls: arguments of each call.
        asked: CPUs and GPUs of a call.
        done: told the number and the result of each call as it ends.

    Returns:
        The number and the reason of each call that failed.
    """
    import ray

    remote = ray.remote(num_cpus=asked["cpu"], num_gpus=asked["gpu"], max_retries=2)(function)
    waiting = {remote.remote(*arguments): number for number, arguments in enumerate(calls)}
    failed = []
    while waiting:
        ready, _ = ray.wait(list(waiting), num_returns=1)
        for reference in ready:
            number = waiting.pop(reference)
            try:
                done(number, ray.get(reference))
            except ray.exceptions.RayError as error:
                cause = getattr(error, "cause", None) or error
                failed.append((number, f"{type(cause).__name__}: {cause}".splitlines()[0]))
    return failed
