"""Predictor: what a winner answers to new rows, by the same code that trained and confirmed it."""

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError

from panda_trainable.config.origin import Row
from panda_trainable.config.setting import Plm
from panda_trainable.data.tokens import gold_of, table_of
from panda_trainable.library import PromptLibrary
from panda_trainable.origins.folder import file_rows
from panda_trainable.prediction.answers import ANSWERS, Answer, together, widened
from panda_trainable.prediction.new_rows import NewRow, new_rows, questions_of
from panda_trainable.prediction.students import HOLDS, label_scales
from panda_trainable.prediction.winner import ANEW, Winner, read_winner
from panda_trainable.pretrained.files import checked_folder, plm_files, plm_place
from panda_trainable.pretrained.gguf import dequantised
from panda_trainable.training.evaluation import is_finite
from panda_trainable.training.metrics import METRICS

BATCH = 512
"""Rows that are tokenised and answered at a time: what is kept of them in memory."""

Array = NDArray[Any]


@dataclass(frozen=True)
class Predictions:
    """Answers to rows.

    Attributes:
        answers: [N] in the order of the rows.
        seeds: of the replicas that answered: of several, answers are their mean.
        labelled: rows that had a label.
        scores: metric -> score of the answers on those rows; empty where there are none.
        by_seed: seed -> the same of each replica alone.
    """

    answers: tuple[Answer, ...]
    seeds: tuple[int, ...]
    labelled: int
    scores: Mapping[str, float]
    by_seed: Mapping[int, Mapping[str, float]]

    def rows(self) -> list[dict[str, Any]]:
        """[N] the answers as plain data."""
        return [answer.as_dict() for answer in self.answers]


class Predictor:
    """A winner with its PLM loaded.

    Attributes:
        winner: what its folder says.
        student: its K replicas.
    """

    def __init__(self, winner: Winner):
        self.winner = winner
        self.student = HOLDS[winner.holds].student(winner)
        self._scales = label_scales(winner).numpy()  # [K, 2, O]

    @classmethod
    def load(cls, where: Path | str, plm: str | None = None) -> "Predictor":
        """The predictor of a winner's folder.

        Args:
            where: a folder that `panda-tune train` wrote, or a model of MLflow's registry on disk.
            plm: where the PLM's files are, if not where the winner says: a folder, hub id, package or GGUF file.

        Raises:
            ValueError: if it is no such folder or damaged, or its PLM is not there or another one.
        """
        winner = read_winner(Path(where))
        winner = replace(winner, plm=found_plm(winner.plm, plm))
        try:
            return cls(winner)
        except (SafetensorError, KeyError, TypeError, IndexError) as error:
            raise ValueError(f"{where}: its files hold not what its card says ({error!r}); {ANEW}") from error

    def predict(self, rows: Iterable[Mapping[str, Any]], replica: int | None = None, batch: int = BATCH) -> Predictions:
        """Answers to rows, with or without labels.

        Args:
            rows: each with the fields of the task's texts.
            replica: the seed of the one that answers; None: all, their probabilities or values averaged; of texts that
                are written, which have no mean, the one with the best selection score.
            batch: rows that are answered at a time; the answers do not depend on it.

        Raises:
            ValueError: with all that is wrong with the rows; or if there is no such replica.
        """
        return self._predict(((f"rows, row {i}", dict(row)) for i, row in enumerate(rows, 1)), replica, batch)

    def predict_file(self, path: Path, replica: int | None = None, batch: int = BATCH) -> Predictions:
        """Answers to the rows of a file of any format that tasks have; the other arguments are those of `predict`."""
        if not path.exists():
            raise ValueError(
                f"{path}: is not there; give a file of rows (jsonl, json, csv, tsv, parquet, conll, arrow, txt)"
            )
        if path.is_fifo() or path.is_char_device():
            raise ValueError(f"{path}: is a pipe, and rows are read more than once; write them into a file")
        return self._predict(file_rows(path, self.winner.reading), replica, batch)

    def logits(self, rows: Iterable[Mapping[str, Any]], batch: int = BATCH) -> list[Array]:
        """[K] logits [N, …] of rows, or texts [N], as confirmation keeps them; the arguments are those of `predict`."""
        found = new_rows(self.winner.task, ((f"rows, row {i}", dict(row)) for i, row in enumerate(rows, 1)))
        every = tuple(range(len(self.winner.seeds)))
        pieces = [said for said, _ in self._said(found, every, batch)]
        return [widened(self.winner.task.kind, [piece[k] for piece in pieces]) for k in every]

    def _predict(self, rows: Iterable[tuple[str, Row]], replica: int | None, batch: int) -> Predictions:
        task, which = self.winner.task, self._which(replica)
        found = new_rows(task, rows)
        seeds = tuple(self.winner.seeds[k] for k in which)
        answers: list[Answer] = []
        scored = _Scored(task.metrics, len(which))
        done = 0
        for said, gold in self._said(found, which, batch):
            own = found[done : done + len(gold)]
            done += len(gold)
            for seed, made in zip(seeds, said, strict=True):
                if not is_finite(made):
                    raise ValueError(
                        f"replica {seed} of the winner diverged: its logits are not finite; name another by its seed, "
                        f"of {', '.join(map(str, self.winner.seeds))}"
                    )
            whole = said[0] if task.readout == "generation" else together(task.kind, self._in_units(said, which))
            answers += ANSWERS[task.kind](task, whole, own, gold)
            scored.add(said, said[0] if len(said) == 1 else whole, gold, np.array([row.is_labelled for row in own]))
        mean, alone = scored.scores()
        return Predictions(
            tuple(answers), seeds, scored.count, mean, dict(zip(seeds, alone, strict=True)) if mean else {}
        )

    def _which(self, replica: int | None) -> tuple[int, ...]:
        """The replicas that answer."""
        seeds = self.winner.seeds
        if replica is None and self.winner.task.readout == "generation":
            replica = self.winner.best_seed
        if replica is None:
            return tuple(range(len(seeds)))
        if replica not in seeds:
            raise ValueError(f"replica {replica}: the winner has those of seeds {', '.join(map(str, seeds))}; name one")
        return (seeds.index(replica),)

    def _said(self, rows: Sequence[NewRow], which: Sequence[int], batch: int) -> Iterable[tuple[list[Array], Array]]:
        """Of each batch what the replicas say [len(which)] of [n, …], and what metrics compare it with [n]."""
        task, setting, most = self.winner.task, self.winner.setting, self.winner.longest_answer
        questions = questions_of(task, rows)
        for first in range(0, len(rows), batch):
            part = slice(first, first + batch)
            table = table_of(setting, task, [row.example for row in rows[part]], questions[part])
            every = np.arange(len(table))
            asked = [every if k in which else every[:0] for k in range(len(self.winner.seeds))]
            said = self.student.predictions(table, asked, most=most)
            yield [said[k] for k in which], gold_of(table, task, every)

    def _in_units(self, said: Sequence[Array], which: Sequence[int]) -> list[Array]:
        """The logits of a regression's trained head as values; others as they are."""
        if self.winner.task.kind != "regression" or self.winner.task.asked:
            return list(said)
        return [made * self._scales[k][1] + self._scales[k][0] for k, made in zip(which, said, strict=True)]


class _Scored:
    """What labelled rows contribute to scores, of the replicas and of what they say together."""

    def __init__(self, metrics: Sequence[str], replicas: int):
        self.metrics, self.count = metrics, 0
        self.rows: list[dict[str, list[Array]]] = [{name: [] for name in metrics} for _ in range(replicas + 1)]

    def add(self, said: Sequence[Array], whole: Array, gold: Array, labelled: NDArray[np.bool_]) -> None:
        """The rows of a batch."""
        self.count += int(labelled.sum())
        for made, kept in zip((whole, *said), self.rows, strict=True):
            for name in self.metrics if labelled.any() else ():
                kept[name].append(METRICS[name].rows(made[labelled], gold[labelled]))

    def scores(self) -> tuple[dict[str, float], list[dict[str, float]]]:
        """Metric -> score of all together, and of each replica; empty where no row has a label."""
        if not self.count:
            return {}, [{} for _ in self.rows[1:]]
        whole, *alone = [
            {name: METRICS[name].score(np.concatenate(rows)) for name, rows in kept.items()} for kept in self.rows
        ]
        return whole, alone


def found_plm(plm: Plm, source: str | None = None) -> Plm:
    """A winner's PLM where its files are on this machine.

    Args:
        plm: as the winner says it.
        source: where to look instead; None: where the winner says.

    Raises:
        ValueError: if it is not there, or its files are others than the winner's.
    """
    if source is not None or not Path(plm.folder).is_dir():
        plm = replace(plm, source=source or plm.source, folder="")
    place = Path(plm.folder) if plm.folder else plm_place(plm.source)
    if place.is_file():
        place = dequantised(place, PromptLibrary(cache()))
        plm = replace(plm, folder=str(place))
    try:
        checked_folder(plm)
    except ValueError as error:
        raise ValueError(
            f"PLM {plm.source!r}: its files in {place} are not those of the winner, whose hash is {plm.files} and theirs "
            f"{plm_files(place)}; a prompt fits the PLM it was trained on alone: give the place of that one"
        ) from error
    return plm


def cache() -> Path:
    """Where GGUF files are dequantised whose winner's library is not here."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "panda-tune"
