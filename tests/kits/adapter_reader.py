"""What a user of PEFT does with an exported adapter: run as a script where this project cannot be imported.

Reads cases from standard input (JSON lines: folder, loader, rows of ids, types and slots) and prints the outputs of each.
"""

import json
import sys
from pathlib import Path

OURS = ("panda_trainable", "search_spaces", "analysis", "tuning", "panda_tune")


def outputs(case: dict) -> list:
    """Of each row the outputs of the head, or the log-probabilities of classes."""
    import torch
    import transformers
    from peft import PeftConfig, PeftModel
    from safetensors.torch import load_file

    folder = Path(case["folder"])
    readout = json.loads((folder / "readout.json").read_text())
    base = PeftConfig.from_pretrained(folder).base_model_name_or_path
    model = getattr(transformers, case["loader"]).from_pretrained(base, dtype="float32")
    model = model.get_encoder() if case["encodes"] else model
    model = PeftModel.from_pretrained(model, folder).eval()
    head = load_file(folder / "head.safetensors") if (folder / "head.safetensors").is_file() else {}
    made = []
    for row in case["rows"]:
        ids = torch.tensor([row["ids"]])
        given = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
        if any(row["types"]):
            given["token_type_ids"] = torch.tensor([row["types"]])
        with torch.no_grad():
            if "words" in readout:
                made.append([scored(model, readout, given, of_class, row["slot"]) for of_class in readout["words"]])
                continue
            states = model(**given).last_hidden_state[:, -ids.shape[1] :]
            read = {"first": states[:, 0], "last": states[:, -1], "mean": states.mean(1), "tokens": states}
            made.append((read[readout["reads"]] @ head["weight"].T + head["bias"])[0].tolist())
    return made


def scored(model: object, readout: dict, given: dict, words: list, slot: int) -> float:
    """The log-probability of any of a class's words."""
    import torch

    said = []
    for word in words:
        more, at = dict(given), slot
        if readout["reads"] == "decoder":
            start = readout["decoder_start"]
            more["decoder_input_ids"] = torch.tensor([[*start, *word[:-1]]])
            at = len(start) - 1
        elif readout["reads"] == "last":
            ids = torch.cat((given["input_ids"], torch.tensor([word[:-1]], dtype=torch.long)), 1)
            more |= {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
            at = given["input_ids"].shape[1] - 1
        logits = model(**more).logits[0]
        text = len(more.get("decoder_input_ids", more["input_ids"])[0])
        logits = logits[-text:].log_softmax(-1)
        said.append(sum(logits[at + i, token] for i, token in enumerate(word)))
    return float(torch.stack(said).logsumexp(0))


if __name__ == "__main__":
    sys.modules.update(dict.fromkeys(OURS))
    for line in sys.stdin:
        print(json.dumps(outputs(json.loads(line))))
