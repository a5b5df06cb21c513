"""The output of scripts/predict.py: a row a face, as JSON lines or CSV."""

import contextlib
import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

from emotion_jax import files
from emotion_jax.errors import UserError
from emotion_jax.inference import settings, written
from emotion_jax.inference.face import Face
from emotion_jax.inference.written import AFTER, BEFORE, BOX, Row


def rows_of(
    path: str,
    faces: Sequence[Face],
    frame: int | None = None,
    time: float | None = None,
    tracks: Sequence[int] = (),
) -> list[Row]:
    """A row a face; one that says so where there is none.

    Args:
      path: name of the file.
      faces: of an image, or of a frame of a video.
      frame: of a video: its number.
      time: of a video: its presentation time, seconds.
      tracks: of a video: the number of each face's track.
    """
    where: Row = {"path": path, "frame": frame, "time": time}
    if not faces:
        return [{**where, "faces": 0}]
    rows = []
    for i, face in enumerate(faces):
        said = face.to_dict()
        row = {name: said[name] for name in ("box", "det_score", "label", "score", "probs")}
        row |= {"landmarks": said["landmarks"], "abstained": face.abstained}
        if tracks:
            row["track"] = tracks[i]
        rows.append({**where, **row, "faces": len(faces)})
    return rows


def error_row(path: str, error: str) -> list[Row]:
    """The row of a file that could not be read, and why, in one line."""
    return [{"path": path, "error": " ".join(error.split())}]


class Output:
    """Where the rows go: a file that is gone on with, or standard output.

    Attributes:
      before: what an earlier process has written there.
      unfinished: the video that it was stopped within, where that is known.
      is_noted: it is known whether there is such a video.
    """

    def __init__(
        self,
        path: Path | None,
        classes: Sequence[str],
        settings_now: Mapping[str, Any] | None = None,
    ) -> None:
        """Open ``path``, read what is there and cut what was not written to its end.

        Args:
          path: FILE.jsonl or FILE.csv; None: standard output.
          classes: in the order of the probabilities.
          settings_now: what the rows are made with; kept beside ``path`` and compared with what
            those there were made with.

        Raises:
          UserError: it is no such output, or one of other classes or settings, its extension is
            unknown, or another process writes to it.
          OSError: it cannot be written.
        """
        self._classes = tuple(classes)
        self._path = path
        self._is_csv = path is not None and path.suffix.lower() == ".csv"
        self._file: TextIO = sys.stdout
        self.before = written.Written()
        self.unfinished: str | None = None
        self.is_noted = False
        self._settings: Mapping[str, Any] | None = None
        if path is None:
            return
        if path.suffix.lower() not in (".csv", ".jsonl"):
            raise UserError(f"--out is {path}; its name must end with .jsonl or .csv.")
        path.parent.mkdir(parents=True, exist_ok=True)
        # Two processes would both write what is missing in it.
        busy = f"Another process writes to {path}; wait for it or choose another --out."
        self._lock = files.locked(path.with_name(f".{path.name}.lock"), busy)
        try:
            self._open(path, settings_now)
        except BaseException:
            self._unlock()
            raise

    def _open(self, path: Path, settings_now: Mapping[str, Any] | None) -> None:
        if path.exists():
            self.before = written.read(path, self._classes, settings.is_beside(path))
        if settings_now is not None:
            self._keep(path, settings_now)
        if path.exists() and path.stat().st_size > self.before.end:
            os.truncate(path, self.before.end)
        self._file = path.open("a", encoding="utf-8", newline="")
        if self._is_csv and not self.before.end:
            self._write(files.csv_text([[*BEFORE, *self._classes, *AFTER]]))

    def _keep(self, path: Path, settings_now: Mapping[str, Any]) -> None:
        if not self.before.done:
            settings.write(path, settings_now)
            self._settings = settings_now
        elif settings.check(path, settings_now):
            self._settings = settings_now
            self.is_noted, self.unfinished = settings.unfinished(path)
        else:
            print(
                f"{path} does not say what its rows were made with; those that follow may have "
                "other settings.",
                file=sys.stderr,
            )

    def write(self, rows: Sequence[Row]) -> None:
        """Add the rows of one image or frame; they reach the file together."""
        self._write("".join(self._text(row) for row in rows))

    def note_video(self, name: str | None) -> None:
        """Say that the rows of a video begin, or with None that they are all there."""
        if self._path is not None and self._settings is not None:
            settings.write(self._path, {**self._settings, settings.UNFINISHED: name})

    def forget_last(self) -> None:
        """Cut all rows of the last file, which is to be done again."""
        if self._path is not None:
            os.truncate(self._path, self.before.start)

    def close(self) -> None:
        """Close the file, if it is one."""
        if self._path is not None:
            try:
                self._file.close()
            finally:
                self._unlock()

    def _unlock(self) -> None:
        if self._lock is None or self._lock.closed:
            return
        # Deleted while it is held: afterwards it may be another's.
        with contextlib.suppress(OSError):
            os.unlink(self._lock.name)
        self._lock.close()

    def _write(self, text: str) -> None:
        self._file.write(text)
        self._file.flush()

    def _text(self, row: Row) -> str:
        if not self._is_csv:
            # A terminal or pipe may have any encoding; our files are UTF-8.
            is_ascii = self._path is None
            return json.dumps(row, ensure_ascii=is_ascii, allow_nan=False) + "\n"
        values = {**row, **dict(zip(BOX, row.get("box", ()), strict=False))}
        probs = row.get("probs", {})
        cells = [values.get(name) for name in BEFORE]
        cells += [probs.get(name) for name in self._classes]
        return files.csv_text([cells + [values.get(name) for name in AFTER]])
