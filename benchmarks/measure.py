"""Clocks, peaks and counted operations."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode


@dataclass(frozen=True)
class Cost:
    """Seconds of a piece of work: of the CPU's cores, and of the clock on the wall."""

    cpu: float
    wall: float


def timed(work: Callable[[], object], device: str) -> Cost:
    """What a piece of work costs; a GPU is waited for."""

    def settled() -> None:
        if device != "cpu":
            torch.cuda.synchronize()

    settled()
    cpu, wall = time.process_time(), time.perf_counter()
    work()
    settled()
    return Cost(time.process_time() - cpu, time.perf_counter() - wall)


def peak_gflops(device: str, precision: str = "float32", tries: int = 5) -> float:
    """GFLOP/s of the best of some large matrix products, as the wall clock has it."""
    size, dtype = (1536, torch.float32) if device == "cpu" else (8192, torch.float32)
    dtype = torch.bfloat16 if precision == "bf16" else dtype
    a, b = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    a @ b
    return max(2 * size**3 / timed(lambda: a @ b, device).wall for _ in range(tries)) / 1e9


def counted_gflop(work: Callable[[], object]) -> float:
    """GFLOP of matrix products of a piece of work, forward and backward."""
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        work()
    return counter.get_total_flops() / 1e9
