"""What tests of training share: random prompts, loss curves, and equality of what was trained."""

from collections.abc import Sequence

import torch

from panda_trainable.config.setting import Setting
from panda_trainable.training.session import Session
from panda_trainable.worker import load_encoder


def random_prompt(shape: Sequence[int], seed: int) -> torch.Tensor:
    """A prompt from N(0, 0.02), as `init: normal` draws it."""
    return torch.empty(tuple(shape)).normal_(0, 0.02, generator=torch.Generator().manual_seed(seed))


def random_starts(setting: Setting, seeds: Sequence[int]) -> torch.Tensor:
    """[K, L, 2, heads, P, d] or [K, P, E] the random prompts of the seeds."""
    shape = load_encoder(setting.plm).prompt_shape(setting.prompt.length, setting.prompt.form)
    return torch.stack([random_prompt(shape, seed) for seed in seeds])


def loss_curve(session: Session, steps: int) -> torch.Tensor:
    """[steps, K] the loss of every step from here."""
    curve = []
    for _ in range(steps):
        session.advance(1)
        curve.append(session.losses())
    return torch.tensor(curve, dtype=torch.float64)


def trained(session: Session) -> dict[str, torch.Tensor]:
    """The trainables as they are now."""
    return {name: tensor.detach().clone() for name, tensor in session.trainables.items()}


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    """Whether two sets of named tensors are one, bit for bit."""
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)
