"""Kaggle's fer2013.csv as a tree of 48 x 48 PNG files."""

import csv
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm.auto import tqdm

from emotion_jax.errors import UserError

CLASSES = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")  # by number
SPLITS = {"Training": "train", "PublicTest": "test", "PrivateTest": "private_test"}
COLUMNS = {"emotion", "pixels", "Usage"}
SIZE = 48
MAX_LINE = 2**16  # characters; a row has at most 9,300


def write_tree(table: Path, folder: Path, progress: bool = False) -> list[str]:
    """Write ``folder/<split>/<class>/<row>.png``; a row is numbered from 0, broken ones too.

    Returns:
      A sentence about broken rows, if there are any.

    Raises:
      UserError: the header is another one, or no row can be used.
      OSError: the table cannot be read, or ``folder`` not written.
    """
    broken: list[str] = []
    row = -1
    with (
        table.open(encoding="utf-8-sig", errors="replace", newline="") as file,
        tqdm(
            total=table.stat().st_size,
            desc="fer2013.csv",
            unit="B",
            unit_scale=True,
            disable=not progress,
        ) as bar,
    ):
        header = [name.strip() for name in _cells(file.readline(MAX_LINE))]
        if not set(header) >= COLUMNS:
            raise UserError(
                f"{table} is not Kaggle's fer2013.csv: its first line has to name the columns "
                "emotion, pixels and Usage."
            )
        # Line by line, so that a stray quote spoils one row and no line fills the memory.
        for row, line in enumerate(iter(lambda: file.readline(MAX_LINE), "")):
            bar.update(len(line))
            values = dict(zip(header, _cells(line), strict=False))
            try:
                split, name, image = _parse(values)
            except _BadRow as error:
                broken.append(f"row {row}: {error}")
                continue
            for each in () if (folder / split).exists() else CLASSES:
                (folder / split / each).mkdir(parents=True)
            Image.fromarray(image).save(folder / split / name / f"{row:05d}.png")
    if not broken and row >= 0:
        return []
    if len(broken) == row + 1:
        raise UserError(f"{table} has no row that can be used ({(broken or ['it is empty'])[0]}).")
    return [f"{len(broken)} of {row + 1} rows are broken and were left out ({broken[0]})."]


class _BadRow(Exception):
    """The message is the reason."""


def _cells(line: str) -> list[str]:
    try:
        return next(csv.reader([line]), [])
    except csv.Error:
        return []


def _parse(values: dict[str, str]) -> tuple[str, str, np.ndarray]:
    """A row as split, class and uint8 [48, 48].

    Raises:
      _BadRow: it is none.
    """
    usage, emotion = values.get("Usage", "").strip(), values.get("emotion", "").strip()
    if usage not in SPLITS:
        raise _BadRow(f"no such Usage: {usage[:20]!r}")
    if emotion not in map(str, range(len(CLASSES))):
        raise _BadRow(f"no such emotion: {emotion[:20]!r}")
    try:
        pixels = bytes(map(int, values.get("pixels", "").split()))
    except ValueError:
        raise _BadRow("pixels that are no whole numbers from 0 to 255") from None
    if len(pixels) != SIZE**2:
        raise _BadRow(f"{len(pixels)} pixels instead of {SIZE**2}")
    return SPLITS[usage], CLASSES[int(emotion)], np.frombuffer(pixels, np.uint8).reshape(SIZE, SIZE)
