"""What an earlier process has written: which files are done, and where to go on."""

import csv
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from emotion_jax import files
from emotion_jax.errors import UserError

Row = dict[str, Any]
BOX = ("x", "y", "width", "height")
BEFORE = ("path", "frame", "time", *BOX, "det_score", "label", "score")  # CSV: before the classes
AFTER = ("abstained", "track", "faces", "error")  # and behind them
KNOWN = frozenset((*BEFORE, *AFTER, "box", "probs", "landmarks"))
FAILED = {"path", "error"}  # all keys of a row that says why a file could not be read
SEEN = {"path", "frame", "time", "faces"}  # keys of every other row
JSON_START = b'{"path": '
MEMORY = 60.0  # seconds of a video whose rows are kept, for its tracks


@dataclass
class Written:
    """The rows of an output.

    Attributes:
      done: file -> whether it could be read; the last one may be a video that is not finished.
      failed: files whose last row is an error.
      last: rows of the last file, of a video those of its last minute.
      next_track: one more than the highest track of the last file.
      start: where the rows of the last file begin, bytes.
      end: where the last image or frame ends that is there with all of its faces, bytes.
    """

    done: dict[str, bool] = field(default_factory=dict)
    failed: set[str] = field(default_factory=set)
    last: list[Row] = field(default_factory=list)
    next_track: int = 0
    start: int = 0
    end: int = 0

    def add(self, group: list[Row], size: int) -> None:
        """Take in the rows of an image or frame, so many bytes long."""
        name = group[0]["path"]
        if not self.last or self.last[0]["path"] != name:
            self.last, self.next_track, self.start = [], 0, self.end
        readable = group[0].get("error") is None
        self.done[name] = self.done.get(name, False) or readable
        if not readable:
            self.failed.add(name)
        now = group[0].get("time") or 0.0
        while self.last and (self.last[0].get("time") or 0.0) < now - MEMORY:
            del self.last[0]
        self.last += group
        tracks = (row["track"] for row in group if row.get("track") is not None)
        self.next_track = max(self.next_track, *(track + 1 for track in tracks), 0)
        self.end += size


def read(path: Path, classes: Sequence[str], is_begun: bool = False) -> Written:
    """Read an output of scripts/predict.py; what a killed process has half written is not in it.

    Args:
      path: of the output.
      classes: in the order of the probabilities.
      is_begun: it is known that this program has begun it. Else half a line alone is another's: a
        user's own file of one line that has no end may begin as ours do.

    Raises:
      UserError: it is something else, or of other classes.
    """
    result = Written()
    group: list[Row] = []
    size = 0
    parse: Callable[[str], Row] = _from_json
    start = JSON_START
    with path.open("rb") as file:
        if path.suffix.lower() == ".csv":
            names = [*BEFORE, *classes, *AFTER]
            start = files.csv_text([names]).encode()
            header = file.readline()
            is_half = start.startswith(header) and (is_begun or not header)
            if not (is_half or _cells(header) == names):
                raise _foreign(path, 1)
            if header.endswith(b"\n"):
                result.end = result.start = len(header)
            parse, start = _csv_parser(names, classes), b""
        for number, line in enumerate(file, 1):
            if not line.endswith(b"\n"):
                # Half a row of a killed process is to be cut, and nothing else.
                is_half = line.startswith(start) or start.startswith(line)
                if not (is_half and (is_begun or result.end or group)):
                    raise _foreign(path, number)
                break
            try:
                row = parse(line.decode())
                if "probs" in row and list(row["probs"]) != list(classes):
                    raise ValueError
                wanted = max(1, row.get("faces") or 1)
            except (ValueError, KeyError, TypeError, StopIteration, RecursionError, csv.Error):
                raise _foreign(path, number) from None
            if group and _place(row) != _place(group[0]):
                raise UserError(
                    f"{path} (line {number}): rows of {group[0]['path']} are missing before it; "
                    "take out the rest of them as well, or choose another --out."
                )
            group.append(row)
            size += len(line)
            if len(group) == wanted:
                result.add(group, size)
                group, size = [], 0
    return result


def _place(row: Row) -> tuple[str, int | None]:
    """Of an image or frame."""
    return row["path"], row.get("frame")


def _cells(line: bytes) -> list[str]:
    try:
        return next(csv.reader([line.decode("utf-8", "replace")]), [])
    except csv.Error:
        return []


def _foreign(path: Path, line: int) -> UserError:
    return UserError(
        f"{path} (line {line}) is not an output of scripts/predict.py for this checkpoint's "
        "classes; choose another --out."
    )


def _from_json(line: str) -> Row:
    row: Row = json.loads(line)
    is_ours = isinstance(row["path"], str) and (
        isinstance(row["error"], str) and row.keys() == FAILED
        if "error" in row
        else SEEN <= row.keys() <= KNOWN and _is_seen(row)
    )
    if not is_ours:
        raise ValueError
    return row


def _is_seen(row: Row) -> bool:
    """Whether the values are of the kinds that ``rows.rows_of`` writes."""
    whole = [row["faces"], *(row[name] for name in ("frame", "track") if row.get(name) is not None)]
    if not all(type(value) is int and value >= 0 for value in whole):
        return False
    if row["time"] is not None and not _is_number(row["time"]):
        return False
    if not row["faces"]:
        return True
    box, probs = row["box"], row["probs"]
    numbers = [*box, *probs.values()] if isinstance(probs, dict) and len(box) == 4 else [None]
    return all(map(_is_number, numbers))


def _is_number(value: Any) -> bool:
    return type(value) in (int, float)


def _csv_parser(names: Sequence[str], classes: Sequence[str]) -> Callable[[str], Row]:
    """From a line to what ``rows.rows_of`` has made, landmarks apart."""

    def parse(line: str) -> Row:
        cells = next(csv.reader([line]))
        plain = dict(zip(names[: len(BEFORE)], cells[: len(BEFORE)], strict=True))
        plain |= dict(zip(AFTER, cells[-len(AFTER) :], strict=True))
        if len(cells) != len(names):
            raise ValueError
        row: Row = {"path": plain["path"], "error": plain["error"] or None}
        numbers = (("frame", int), ("time", float), ("track", int), ("faces", int))
        row |= {name: kind(plain[name]) if plain[name] else None for name, kind in numbers}
        if plain["label"]:
            probs = (float(cell) for cell in cells[len(BEFORE) : -len(AFTER)])
            row["probs"] = dict(zip(classes, probs, strict=True))
            row["box"] = [float(plain[name]) for name in BOX]
        return row

    return parse
