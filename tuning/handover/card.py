"""The model card of an adapter: what it is, how good it was, and how it is loaded."""

import json
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType

from analysis.statistics.means import mean_of
from panda_trainable.prediction.winner import Score, Winner
from tuning.handover.plain import Plain, reads

ANSWERS: Mapping[str, Sequence[str]] = MappingProxyType(
    {
        "first": ("states[:, 0]",),
        "last": ("states[:, -1]",),
        "mean": ("states.mean(1)",),
        "tokens": ("states",),
    }
)
"""What a trained head reads of one unpadded text's states -> its code."""


SLOTS: Mapping[str, str] = MappingProxyType(
    {
        "mask": "in place of the mask token, which stands where the template has `{answer}`",
        "last": "behind the template up to `{answer}`, without the space in front of it and without a token that ends a text",
        "decoder": "at the decoder's first step, where the encoder has read the template up to `{answer}`",
    }
)
"""Where a language model's own head answers -> the same in words."""


def model_card(winner: Winner, plain: Plain, seed: int, task_type: str) -> str:
    """The README of one seed's adapter.

    Args:
        winner: of all seeds.
        plain: the model that it stands in front of.
        seed: of this adapter.
        task_type: PEFT's.
    """
    return "\n".join(
        [
            *_front_matter(plain), f"# {winner.task.name}: {winner.method}", "", _what(winner, plain, seed), "",
            "## How to load it", *_loading(winner, plain, task_type), "", "## How it was trained", *_training(winner), "",
            "## Scores", *_scores(winner), "", "## Data and licence", *_data(winner),
        ]
    ) + "\n"  # fmt: skip


def _front_matter(plain: Plain) -> Iterator[str]:
    base = json.dumps(plain.base) if plain.on_hub else "# to be filled in"
    yield from ("---", f"base_model: {base}", "library_name: peft", "tags: [soft-prompt, panda-tune]")
    yield from ("license: # to be filled in", "datasets: # to be filled in", "language: # to be filled in", "---")


def _what(winner: Winner, plain: Plain, seed: int) -> str:
    form = "prefix (keys and values in every layer)" if winner.form == "prefix" else "prompt before the embeddings"
    made = f" (dequantised from {winner.plm.source})" if winner.plm.folder else ""
    return (
        f"A soft {form} of {winner.length} tokens for the {winner.task.kind.replace('_', ' ')} {winner.task.name}, on the frozen "
        f"{plain.name}{made}, whose files have the hash {winner.plm.files}. Replica of seed {seed} of {len(winner.seeds)}; "
        "nothing of the model was changed."
    )


def _loading(winner: Winner, plain: Plain, task_type: str) -> Iterator[str]:
    options = "".join(f", {name}={value}" for name, value in plain.settings.items())
    body = f"{plain.loader}.from_pretrained(base{options})" + (".get_encoder()" if plain.encodes else "")
    answers, own = reads(winner), winner.plm.has_own_head
    yield from (
        "```python",
        "from peft import PeftModel",
        *([] if own else ["from safetensors.torch import load_file"]),
    )
    yield from (f"from transformers import AutoTokenizer, {plain.loader}", "")
    yield f"base = {plain.base!r}" + ("" if plain.on_hub else "  # where it was exported: put your own place here")
    yield f"model = PeftModel.from_pretrained({body}, 'this folder').eval()"
    yield f"row = AutoTokenizer.from_pretrained(base)({_text(winner)}, return_tensors='pt')"
    if own:
        given = ", decoder_input_ids=start" if answers == "decoder" else ""
        yield f"logits = model(**row{given}).logits"
    else:
        yield "states = model(**row).last_hidden_state[:, -row['input_ids'].shape[1]:]  # of the text, without prompt"
        yield "head = load_file('this folder/head.safetensors')"
        yield f"logits = {ANSWERS[answers][0]} @ head['weight'].T + head['bias']"
    yield "```"
    yield _answer(winner, answers, task_type)


def _text(winner: Winner) -> str:
    task = winner.task
    if task.asked is not None:
        return repr(task.asked.template)
    return ", ".join(repr(text) for text in (*task.text, *task.choices[:1]))


def _answer(winner: Winner, answers: str, task_type: str) -> str:
    """What is made of the logits, in words."""
    task, sentences = winner.task, [f"PEFT's task type is {task_type}. `readout.json` has the classes in their order."]
    if task.readout in ("verbaliser", "values"):
        sentences.append(
            f"A class is as likely as its words together, whose tokens `readout.json` has, {SLOTS[answers]}: the sum of the "
            "log-probabilities of a word's tokens."
        )
        if task.readout == "values":
            sentences.append("The value is the mean of `numbers`, each as likely as its words.")
    elif task.readout == "choices":
        sentences.append("A choice is as likely as its text, read as the answer behind the template.")
    elif task.readout == "generation":
        sentences.append("The answer is written greedily behind the text: `model.generate(**row)`.")
    elif task.kind == "regression":
        sentences.append("The value is `logits * head['label_scale'][1] + head['label_scale'][0]`.")
    elif task.kind == "multiple_choice":
        sentences.append("Each choice is a row of its own, with one logit; the largest wins.")
    elif task.kind == "extractive_qa":
        sentences.append("The two logits of each token are those of the answer's first and last.")
    if answers in ("mean", "last"):
        sentences.append("Of padded rows, the padding must be left out of what the head reads.")
    sentences.append(f"Rows were cut at {winner.max_length} tokens, the prompt not counted.")
    return " ".join(sentences)


def _training(winner: Winner) -> Iterator[str]:
    yield f"- method: {winner.method}, {winner.steps} steps"
    for source in winner.sources:
        yield f"- source: {source.task} (similarity {source.similarity:.3f})"
    for name, value in winner.knobs.items():
        yield f"- {'λ' if name == 'lambda' else name}: {f'{value:.4g}' if isinstance(value, float) else value}"
    yield f"- seeds: {', '.join(map(str, winner.seeds))}; the adapter in the folder itself is that of {winner.best_seed}, the best in selection"
    if winner.precision != "float32":
        yield f"- trained in {winner.precision}; the adapter was compared in float32"


def _scores(winner: Winner) -> Iterator[str]:
    yield from ("| rows | metric | mean | 95 % interval over seeds | seeds |", "|---|---|---|---|---|")
    for split, of in winner.scores.items():
        for metric, score in of.items():
            mean = "–" if score.mean is None else f"{score.mean:.4f}"
            yield f"| {split} | {metric} | {mean} | {_interval(score)} | {score.n} |"
    yield from ("", "Selection rows chose the configuration; report rows were scored once.")


def _interval(score: Score) -> str:
    known = [value for value in score.by_seed if value is not None]
    found = mean_of(known).interval if known else None
    return f"{found[0]:.4f} to {found[1]:.4f}" if found else "–"


def _data(winner: Winner) -> Iterator[str]:
    task = winner.task
    place = f" ({task.hub.path})" if task.hub else ""
    yield f"- target: {task.name}{place}; hashes of its rows: {', '.join(f'{split} {digest}' for split, digest in task.fingerprints)}"
    yield "- licence of this adapter, of the model and of the data: to be filled in above"
