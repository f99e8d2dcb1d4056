"""Stacked replicas are stepped as torch steps each alone, with clipping and faults kept apart."""

import pytest
import torch

from panda_trainable.training.trainer import adamw, clip_replicas

SHAPES = {"prompt": (2, 3, 4), "weight": (2, 5)}


def stacks(replicas: int, seed: int, scale: float = 1.0) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {name: scale * torch.randn(replicas, *shape, generator=generator) for name, shape in SHAPES.items()}


def by_torch(start: dict[str, torch.Tensor], replica: int, rates: list[float], scale: float) -> dict[str, torch.Tensor]:
    """One replica alone, clipped and stepped by PyTorch."""
    tensors = {name: tensor[replica].clone().requires_grad_() for name, tensor in start.items()}
    optimiser = torch.optim.AdamW(tensors.values(), weight_decay=0.0)
    for step, rate in enumerate(rates):
        for name, gradient in stacks(len(start["prompt"]), 100 + step, scale).items():
            tensors[name].grad = gradient[replica].clone()
        torch.nn.utils.clip_grad_norm_(tensors.values(), 1.0)
        optimiser.param_groups[0]["lr"] = rate
        optimiser.step()
    return tensors


def stacked(start: dict[str, torch.Tensor], rates: list[float], scale: float, broken: int | None = None) -> dict:
    tensors = {name: tensor.clone().requires_grad_() for name, tensor in start.items()}
    optimiser = adamw(tensors.values(), 0.0)
    for step, rate in enumerate(rates):
        for name, gradient in stacks(len(start["prompt"]), 100 + step, scale).items():
            tensors[name].grad = gradient
            if broken is not None:
                tensors[name].grad[broken] = torch.nan
        clip_replicas(list(tensors.values()))
        optimiser.param_groups[0]["lr"] = rate
        optimiser.step()
    return tensors


@pytest.mark.parametrize("scale", [0.01, 3.0], ids=["clip off", "clip on"])
def test_every_replica_steps_as_torch_would_step_it_alone(scale: float) -> None:
    start, rates = stacks(3, 0), [0.1 * (1 - step / 6) for step in range(6)]
    moved = stacked(start, rates, scale)
    for replica in range(3):
        alone = by_torch(start, replica, rates, scale)
        for name in SHAPES:
            torch.testing.assert_close(moved[name][replica], alone[name], rtol=0, atol=1e-6)


def test_a_replica_with_a_broken_gradient_leaves_the_others_bit_for_bit() -> None:
    start, rates = stacks(3, 0), [0.1] * 4
    healthy, faulty = stacked(start, rates, 1.0), stacked(start, rates, 1.0, broken=1)
    for name in SHAPES:
        assert torch.equal(healthy[name][[0, 2]], faulty[name][[0, 2]])
        assert faulty[name][1].isnan().all()
