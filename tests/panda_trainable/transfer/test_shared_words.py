"""Words that are one token for two PLMs, whatever their vocabularies look like."""

from pathlib import Path

from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from panda_trainable.config.setting import Plm
from panda_trainable.pretrained.files import load_tokenizer, plm_files
from panda_trainable.transfer.shared_words import shared_words
from tests.kits.language_models import save_lm
from tests.kits.plms import save_wide_plm


def saved(folder: Path, words: list[str], *, metaspace: bool) -> Plm:
    """A PLM whose tokenizer has some words: plain, or marked as SentencePiece does."""
    vocabulary = {word: i for i, word in enumerate(["[UNK]", *words])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace() if metaspace else pre_tokenizers.Whitespace()
    config = {"vocab_size": 12, "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
    BertModel(BertConfig(**config, intermediate_size=8)).save_pretrained(folder)
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="[UNK]").save_pretrained(folder)
    return Plm(str(folder), plm_files(folder))


def test_words_are_shared_however_their_begin_is_marked(tmp_path: Path) -> None:
    plain = saved(tmp_path / "a", ["great", "movie", "odd"], metaspace=False)
    marked = saved(tmp_path / "b", ["▁movie", "other", "▁great"], metaspace=True)
    assert shared_words(plain, marked) == [(1, 3), (2, 1)]
    assert shared_words(marked, plain) == [(3, 1), (1, 2)]


def test_special_tokens_are_no_words_and_both_ids_are_of_one_word(tmp_path: Path) -> None:
    causal = save_lm(tmp_path / "llama", "llama")
    one, other = Plm(str(causal), plm_files(causal)), save_wide_plm(tmp_path / "wide")
    pairs = shared_words(one, other)
    ours, theirs = load_tokenizer(one), load_tokenizer(other)
    assert len(pairs) > 20
    assert all(ours.convert_ids_to_tokens(a) == theirs.convert_ids_to_tokens(b) for a, b in pairs)
    assert not {a for a, _ in pairs} & set(ours.all_special_ids)


def test_plms_without_a_common_word_share_none(tmp_path: Path) -> None:
    one, other = (saved(tmp_path / word, [word], metaspace=False) for word in ("great", "poor"))
    assert shared_words(one, other) == []
