"""Where a soft prompt starts: the INITIALISERS table, for prefixes and input prompts."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from panda_trainable.config.setting import Setting
from panda_trainable.config.task import Mixture, TaskSpec
from panda_trainable.plm.encoder import FrozenEncoder
from panda_trainable.pretrained.files import load_tokenizer

SPARSE_STD = 0.01


@dataclass(frozen=True)
class InitContext:
    """The inputs of an initialiser.

    Attributes:
        encoder: the frozen PLM.
        setting: form, length and the initialiser's own settings.
        task: what is trained; only `labels` looks at it, so all tasks of a seed share the others.
        seed: of the draw.
    """

    encoder: FrozenEncoder
    setting: Setting
    task: TaskSpec | Mixture
    seed: int

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one prompt: prefix [L, 2, heads, P, d] or input prompt [P, E]."""
        return self.encoder.prompt_shape(self.setting.prompt.length, self.setting.prompt.form)

    @property
    def generator(self) -> torch.Generator:
        """A new generator seeded with `seed`."""
        return torch.Generator().manual_seed(self.seed)


def _normal(context: InitContext) -> Tensor:
    """N(0, std), 0.02 by default. Source: P-tuning v2 (the embeddings of its prefix encoder)."""
    return torch.empty(context.shape).normal_(0, context.setting.prompt.init.std, generator=context.generator)


def _uniform(context: InitContext) -> Tensor:
    """U(-scale, scale), 0.5 by default. Source: Lester et al. (arXiv:2104.08691), as the paper describes it."""
    scale = context.setting.prompt.init.scale
    return torch.empty(context.shape).uniform_(-scale, scale, generator=context.generator)


def _uniform_positive(context: InitContext) -> Tensor:
    """U[0, scale), 0.5 by default. Source: Google's prompt-tuning code, whose uniform is not symmetric."""
    return torch.empty(context.shape).uniform_(0, context.setting.prompt.init.scale, generator=context.generator)


def _zeros(context: InitContext) -> Tensor:
    """Zeros. Source: PANDA's comparison of initialisations."""
    return torch.zeros(context.shape)


def _sparse(context: InitContext) -> Tensor:
    """N(0, 0.01) of which a share is zero. Source: PANDA's comparison; torch.nn.init.sparse_."""
    generator = context.generator
    drawn = torch.empty(context.shape).normal_(0, SPARSE_STD, generator=generator)
    return drawn.masked_fill(torch.rand(context.shape, generator=generator) < context.setting.prompt.init.sparsity, 0.0)


def _vocabulary(context: InitContext) -> Tensor:
    """Embeddings of sampled tokens. Source: Lester et al.: of the first ids, without replacement."""
    return _of_embeddings(context, context.encoder.embed(_sampled(context, context.setting.prompt.length)))


def _labels(context: InitContext) -> Tensor:
    """The mean embedding of each class name's tokens, then sampled tokens. Source: Lester et al."""
    tokenizer = load_tokenizer(context.setting.plm)
    names = [name.replace("_", " ") for name in context.task.classes][: context.setting.prompt.length]
    means = [context.encoder.embed(_ids(context, tokenizer, name)).mean(0) for name in names]
    rest = context.encoder.embed(_sampled(context, context.setting.prompt.length - len(means)))
    return _of_embeddings(context, torch.cat((torch.stack(means), rest)))


def _text(context: InitContext) -> Tensor:
    """The embeddings of a text's tokens, then sampled tokens. Source: Lester et al.'s from-string."""
    length = context.setting.prompt.length
    ids = _ids(context, load_tokenizer(context.setting.plm), context.setting.prompt.init.text)[:length]
    return _of_embeddings(context, context.encoder.embed(torch.cat((ids, _sampled(context, length - len(ids))))))


def _file(context: InitContext) -> Tensor:
    """The tensor `prompt` of a safetensors file, of exactly the prompt's shape."""
    return read_prompt(Path(context.setting.prompt.init.file), context.shape)


def read_prompt(path: Path, shape: Sequence[int]) -> Tensor:
    """A prompt from a file.

    Raises:
        ValueError: if the file cannot be read, holds no prompt or one of another shape.
    """
    try:
        tensors = load_file(path)
    except (OSError, SafetensorError) as error:
        raise ValueError(f"prompt.init.file {path}: cannot be read as safetensors ({error})") from error
    if "prompt" not in tensors or tensors["prompt"].shape != torch.Size(shape):
        held = {name: list(tensor.shape) for name, tensor in tensors.items()}
        raise ValueError(f"prompt.init.file {path}: needs a tensor `prompt` of shape {list(shape)}, has {held}")
    return tensors["prompt"].float()


def _ids(context: InitContext, tokenizer: Any, text: str) -> Tensor:
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    return torch.tensor(ids or [tokenizer.unk_token_id or 0], device=context.encoder.device)


def _sampled(context: InitContext, count: int) -> Tensor:
    """[count] ids of the first `population` of the vocabulary, special ones left out."""
    special = set(load_tokenizer(context.setting.plm).all_special_ids)
    size = min(context.setting.prompt.init.population, len(context.encoder.model.get_input_embeddings().weight))
    ids = torch.tensor([i for i in range(size) if i not in special])
    if count > len(ids):
        drawn = torch.randint(len(ids), (count,), generator=context.generator)
    else:
        drawn = torch.randperm(len(ids), generator=context.generator)[:count]
    return ids[drawn].to(context.encoder.device)


def _of_embeddings(context: InitContext, embeddings: Tensor) -> Tensor:
    """The prompt that token embeddings [P, E] make: themselves, or for a prefix their keys and values."""
    made = embeddings if context.setting.prompt.form == "input" else context.encoder.activations(embeddings)
    return made.detach().cpu().clone()


INITIALISERS: Mapping[str, Callable[[InitContext], Tensor]] = MappingProxyType(
    {
        "normal": _normal,
        "uniform": _uniform,
        "uniform_positive": _uniform_positive,
        "zeros": _zeros,
        "sparse": _sparse,
        "vocabulary": _vocabulary,
        "labels": _labels,
        "text": _text,
        "file": _file,
    }
)
"""Name -> the prompt at step 0."""
