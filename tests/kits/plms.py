"""Random PLMs as files: four families that are cheap to make, and one that is wider than they."""

from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    BertConfig,
    BertModel,
    DistilBertConfig,
    DistilBertModel,
    ElectraConfig,
    ElectraModel,
    PreTrainedTokenizerFast,
    RobertaConfig,
    RobertaModel,
)

from panda_trainable.config.setting import Plm
from panda_trainable.pretrained.files import plm_files
from tests.kits.tasks import WORDS

SMALL = {"vocab_size": 60, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}
FAMILIES = ("bert", "roberta", "electra", "distilbert")


def _model(family: str) -> Any:
    torch.manual_seed(0)
    position = {"max_position_embeddings": 64}
    if family == "bert":
        return BertModel(BertConfig(**SMALL, **position), add_pooling_layer=False)
    if family == "roberta":
        return RobertaModel(RobertaConfig(**SMALL, max_position_embeddings=66, pad_token_id=1), add_pooling_layer=False)
    if family == "electra":
        return ElectraModel(ElectraConfig(**SMALL, **position, embedding_size=12))
    small = {"vocab_size": 60, "dim": 16, "n_layers": 2, "n_heads": 2, "hidden_dim": 24}
    return DistilBertModel(DistilBertConfig(**small, **position))


def save_plm(folder: Path, family: str = "bert") -> Path:
    """A random PLM of a family with a whitespace tokenizer, as files."""
    vocabulary = {word: i for i, word in enumerate(["[PAD]", "<pad>", "[UNK]", "[CLS]", "[SEP]", *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 3), ("[SEP]", 4)]
    )
    pad = "<pad>" if family == "roberta" else "[PAD]"
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]", pad_token=pad
    )
    model = _model(family)
    with torch.no_grad():  # larger weights than the default, so that differences are seen
        for parameter in model.parameters():
            if parameter.dim() == 2:
                parameter.mul_(4)
    model.save_pretrained(folder)
    fast.save_pretrained(folder)
    return folder


def save_wide_plm(folder: Path, parted: bool = False) -> Plm:
    """A random BERT, wider and deeper than the others, that gives all words other numbers.

    Args:
        folder: where its files go.
        parted: whether its tokenizer takes words apart: `w12` is three tokens.
    """
    config = {"vocab_size": 60, "hidden_size": 24, "num_hidden_layers": 3, "num_attention_heads": 3}
    torch.manual_seed(1)
    model = BertModel(BertConfig(**config, intermediate_size=32, max_position_embeddings=64), add_pooling_layer=False)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 2:
                parameter.mul_(4)
    pieces = [*"wxy", *"0123456789"] if parted else WORDS[::-1]
    vocabulary = {word: i for i, word in enumerate(["[PAD]", "[UNK]", *pieces, "[SEP]", "[CLS]"])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    words = pre_tokenizers.Whitespace()
    letters = pre_tokenizers.Sequence([words, pre_tokenizers.Digits(individual_digits=True)])
    tokenizer.pre_tokenizer = letters if parted else words
    ends = [(name, vocabulary[name]) for name in ("[CLS]", "[SEP]")]
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=ends
    )
    model.save_pretrained(folder)
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]", pad_token="[PAD]"
    ).save_pretrained(folder)
    return Plm(str(folder), plm_files(folder))
