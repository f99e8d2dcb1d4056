"""Journals whose lines carry checksums: what was changed or lost is noticed, set aside, and its trials run again."""

import json
import os
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from optuna.storages.journal import BaseJournalBackend

from panda_trainable.library import set_aside
from panda_trainable.origins.lines import listed
from panda_trainable.result import TrialResult

CHECK, PLACE = "check", "place"
"""Fields that a line has more than Optuna's, which does not read them: its checksum, and which of its trial it is."""

CREATE_STUDY, CREATE_TRIAL, SET_SCORE, SET_RESULT, LAST_OPERATION = 0, 4, 7, 8, 10
"""Optuna's codes of what a line does."""

RESULT = "result/"
"""How a trial's attributes begin that hold whole results."""

Log = dict[str, Any]


class SealedBackend(BaseJournalBackend):
    """A journal file with a seal on each line, of the one process that holds the search: it takes no lock.

    What Optuna has not read yet is kept beside the file, which is read once, when the journal is opened.

    Args:
        path: of the file, absolute, which nobody else writes.
        logs: what it holds.
    """

    def __init__(self, path: Path, logs: Sequence[Log]):
        self._path, self._unread, self._read = path, list(logs), 0
        self._held: list[Log] | None = None
        self._counts = _Counts()
        for log in logs:
            self._counts.place(log)

    @contextmanager
    def together(self) -> Iterator[None]:
        """Lines of a block are appended at its end, at once; nobody reads them before."""
        held: list[Log] = []
        self._held = held
        try:
            yield
        finally:
            self._held = None
        self.append_logs(held)

    def read_logs(self, log_number_from: int) -> Iterator[Log]:
        """The lines from a number on, each to be read once."""
        unread = self._unread[log_number_from - self._read :]
        self._read, self._unread = log_number_from + len(unread), []
        return iter(unread)

    def append_logs(self, logs: list[Log]) -> None:
        """Appends lines, each with its place and checksum.

        The disk is waited for as trials begin and end. Results of one that runs are written without: where the machine
        loses its power, the trial runs again from its beginning.
        """
        if self._held is not None:
            self._held += logs
            return
        lines = [_written(sealed(log, self._counts.place(log))) for log in logs]
        with self._path.open("ab") as file:
            file.write("".join(f"{line}\n" for line in lines).encode())
            if any(log["op_code"] not in (SET_SCORE, SET_RESULT) for log in logs):
                file.flush()
                os.fsync(file.fileno())
        self._unread += map(json.loads, lines)


class _Counts:
    """How many lines each trial has so far, and how many trials there are."""

    def __init__(self) -> None:
        self.trials = 0
        self.lines: Counter[int] = Counter()

    def place(self, log: Mapping[str, Any]) -> int:
        """The next line's place: of a trial's first its number, of its others from 1; else 0."""
        if log["op_code"] == CREATE_TRIAL:
            self.trials += 1
            return self.trials - 1
        if "trial_id" in log:
            self.lines[log["trial_id"]] += 1
            return self.lines[log["trial_id"]]
        return 0


def sealed(log: Mapping[str, Any], place: int) -> Log:
    """A line with its place and the checksum of all of it."""
    placed = {**log, PLACE: place}
    return {**placed, CHECK: f"{zlib.crc32(_written(placed).encode()):08x}"}


def _written(log: Log) -> str:
    """A line as Optuna writes it."""
    return json.dumps(log, separators=(",", ":"))


def opened(line: bytes, key: str, *, must_be_sealed: bool) -> Log | None:
    """What a line says; None where it is damaged.

    Args:
        line: of the file.
        key: name of the study.
        must_be_sealed: whether a line before it was: older versions wrote none that are.
    """
    try:
        log: Log = dict(json.loads(line))
        is_sound = _is_sealed(log, line) if CHECK in log else not must_be_sealed and _is_sensible(log, key)
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return log if is_sound else None


def _is_sealed(log: Log, line: bytes) -> bool:
    """Whether a line is byte for byte as it was written."""
    end = f',"{CHECK}":"{log[CHECK]}"}}'.encode()
    return line.endswith(end) and log[CHECK] == f"{zlib.crc32(line[: -len(end)] + b'}'):08x}"


def _is_sensible(log: Log, key: str) -> bool:
    """Whether a line without a checksum could be one of a study's."""
    for name, value in log.get("user_attr", {}).items():
        if name.startswith(RESULT):
            TrialResult.from_json(value)
    return log["op_code"] in range(LAST_OPERATION + 1) and log.get("study_name", key) == key


@dataclass(frozen=True)
class Mended:
    """What is left of a journal with damaged lines.

    Attributes:
        logs: that hold.
        damaged: numbers of the lines that do not, from 1.
        again: numbers of the trials that lost a line, and begin anew with their parameters.
        cut: whether nothing behind the first damaged line is left, since it cannot be told whose it was.
    """

    logs: tuple[Log, ...]
    damaged: tuple[int, ...] = ()
    again: tuple[int, ...] = ()
    cut: bool = False

    def __str__(self) -> str:
        changed = f"line {listed(self.damaged)} changed since it was written"
        if self.cut:
            return f"{changed}; the trials behind it run again"
        return f"{changed}; {f'trial {listed(self.again)}' if self.again else 'its trial'} runs again"


def mended(lines: Sequence[bytes], key: str) -> Mended:
    """What a journal's lines say, without what was damaged.

    Args:
        lines: whole ones.
        key: name of the study.
    """
    logs = list(_opened(lines, key))
    damaged = [number for number, log in enumerate(logs) if log is None]
    known = [log for log in logs if log is not None]
    if not damaged:
        return Mended(tuple(known))
    numbers = tuple(number + 1 for number in damaged)
    in_front, behind = known[: damaged[0]], known[damaged[0] :]
    if not (all(CHECK in log for log in behind) and _numbered(known)):
        return Mended(tuple(in_front), numbers, cut=True)
    again = tuple(sorted(_incomplete(known)))
    kept = [log for log in known if log.get("trial_id") not in again]
    return Mended((*_study(key, kept), *kept), numbers, again)


def _opened(lines: Sequence[bytes], key: str) -> Iterator[Log | None]:
    must_be_sealed = False
    for line in lines:
        log = opened(line, key, must_be_sealed=must_be_sealed)
        must_be_sealed = must_be_sealed or (log is not None and CHECK in log)
        yield log


def _numbered(logs: Sequence[Log]) -> bool:
    """Whether no trial's first line was lost, so that each line has the trial that it was written for."""
    counts = _Counts()
    for log in logs:
        if log["op_code"] == CREATE_TRIAL and log.get(PLACE, counts.trials) != counts.trials:
            return False
        counts.place(log)
    return all(trial < counts.trials for trial in counts.lines)


def _incomplete(logs: Sequence[Log]) -> set[int]:
    """Trials of which lines in between were lost; one without its last line is running, and runs again anyhow."""
    counts = _Counts()
    return {
        log["trial_id"]
        for log in logs
        if (place := counts.place(log)) != log.get(PLACE, place) and log["op_code"] != CREATE_TRIAL and place
    }


def _study(key: str, logs: Sequence[Log]) -> list[Log]:
    """The line that makes the study, where it was lost."""
    if any(log["op_code"] == CREATE_STUDY for log in logs):
        return []
    return [{"op_code": CREATE_STUDY, "worker_id": "", "study_name": key, "directions": [2]}]  # 2: maximise


def write_mended(path: Path, logs: Sequence[Log]) -> Path:
    """Puts a journal of lines that hold in the place of a damaged one, which is kept beside it.

    Returns:
        Where the damaged one is.
    """
    counts = _Counts()
    plain = ({name: value for name, value in log.items() if name not in (CHECK, PLACE)} for log in logs)
    text = "".join(f"{_written(sealed(log, counts.place(log)))}\n" for log in plain)
    draft = path.with_name(f".{path.name}.draft")
    draft.write_text(text, encoding="utf-8")
    kept = set_aside(path)
    draft.replace(path)
    return kept
