"""Copies of a run elsewhere (Google Drive), from which a machine that has lost it goes on.

    BACKUP_TO/<workdir>-<run>-<step>-<SHA-256>.tar  config.toml, checkpoints/<newest and best>

A network drive bears few large files, not thousands of small ones. An archive gets its name, with
16 digits of its SHA-256, when it has been read back and found equal; of each run the two newest are
kept. Runs whose workdirs are called alike are told apart by their images and settings.
"""

import contextlib
import hashlib
import io
import os
import re
import secrets
import shutil
import sys
import tarfile
import time
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any

from emotion_jax import files
from emotion_jax.errors import UserError
from emotion_jax.training import saved

KEPT = 2


class Backup:
    """Archives of one workdir.

    Attributes:
      workdir: of the run.
      run: eight hexadecimal digits that stand for its images and settings.
      former: what stood for them in earlier versions.
      target: the folder that archives go to; made when the first one is.
      minutes: between archives; the last state is archived in any case (``finish``).
    """

    def __init__(
        self, workdir: Path, run: str, target: Path, minutes: float, former: str = ""
    ) -> None:
        self.workdir, self.run, self.target, self.minutes = workdir, run, target, minutes
        self.former = former or run
        self._checkpoints = workdir / "checkpoints"
        self._at = -float("inf")
        self._is_new = False  # a step was saved, and is in no archive yet
        self._why = ""

    def due(self) -> None:
        """A step was saved: archive it and the best one, if the last time is ``minutes`` ago.

        That it fails is said on stderr, once for each reason; the run goes on.
        """
        self._is_new = True
        if time.monotonic() - self._at >= 60 * self.minutes:
            self._at = time.monotonic()
            self.finish()

    def finish(self) -> None:
        """Archive the newest and the best checkpoint, if no archive holds them."""
        steps = saved.steps(self._checkpoints)
        if not steps:
            return
        try:
            # To archive a step once more would push out the archive before it.
            if self._is_new or not self._holds(steps[-1].name):
                self._write({steps[-1], *saved.ranked(steps)[:1]}, steps[-1].name)
            self._is_new, self._why = False, ""
        except OSError as error:
            why = error.strerror or str(error)
            if why != self._why:
                print(f"No backup in {self.target}: {why}; the run goes on.", file=sys.stderr)
            self._why = why

    def restore(self) -> None:
        """Unpack the newest whole archive into a workdir that has no checkpoint, and say so.

        Raises:
          UserError: there are archives but none is whole, or the workdir cannot be written.
        """
        for left in self.workdir.glob(".restoring-*"):
            shutil.rmtree(left, ignore_errors=True)
        if saved.steps(self._checkpoints):
            return
        found = self.archives()
        for archive in reversed(found):
            fault = self._unpack(archive)
            if fault is None:
                print(f"Going on from the backup {archive}.", file=sys.stderr)
                return
            print(f"{archive} is not whole ({fault}); trying the one before.", file=sys.stderr)
        if found:
            raise UserError(
                f"No archive in {self.target} is whole; nothing was deleted: move them away to "
                "begin anew."
            )
        if self._named("[0-9a-f]{8}"):
            print(
                f"The archives of {self.workdir.name} in {self.target} are of runs with other "
                "settings or images; this one begins anew.",
                file=sys.stderr,
            )

    def archives(self) -> list[Path]:
        """Those of this run, by step."""
        return self._named(f"(?:{self.run}|{self.former})")

    def _named(self, run: str, ending: str = "tar") -> list[Path]:
        name = re.compile(rf"{re.escape(self.workdir.name)}-{run}-(\d+)-[0-9a-f]{{16}}\.{ending}")
        steps = {
            path: int(match[1])
            for path in self.target.glob(f"*.{ending}")
            if (match := name.fullmatch(path.name))
        }
        return sorted(steps, key=lambda path: (steps[path], path.stat().st_mtime))

    def _holds(self, step: str) -> bool:
        return any(path.stem.split("-")[-2] == step for path in self.archives())

    def _write(self, steps: set[Path], newest: str) -> None:
        self.target.mkdir(parents=True, exist_ok=True)
        for left in self._named(self.run, "partial"):  # by a process that was killed
            left.unlink(missing_ok=True)
        name = f"{self.workdir.name}-{self.run}-{newest}"
        partial = self.target / f"{name}-{secrets.token_hex(8)}.partial"
        try:
            with partial.open("xb") as file:
                written = _Hashed(file)
                with tarfile.open(fileobj=written, mode="w|") as tar:
                    tar.add(self.workdir / "config.toml", "config.toml")
                    for step in sorted(steps):
                        tar.add(step, f"checkpoints/{step.name}", filter=_ours(step))
                file.flush()
                os.fsync(file.fileno())
            if saved.sha256(partial) != written.digest():
                raise OSError(f"{partial.name} reads back differently")
            partial.replace(self.target / f"{name}-{written.digest()[:16]}.tar")
        finally:
            partial.unlink(missing_ok=True)
        for old in self.archives()[:-KEPT]:
            old.unlink(missing_ok=True)

    def _unpack(self, archive: Path) -> str | None:
        """What is wrong with it, if anything; the workdir gets all of its steps or none.

        Raises:
          UserError: the workdir cannot be written.
        """
        try:
            digest = saved.sha256(archive)
        except OSError as error:
            return f"it cannot be read: {error.strerror or error}"
        if not archive.stem.endswith(digest[:16]):
            return "its SHA-256 is not the one in its name"
        inside = self.workdir / f".restoring-{secrets.token_hex(4)}"
        try:
            with files.reported(self._checkpoints):
                with tarfile.open(archive) as tar:
                    members = tar.getmembers()
                    if strange := next(filter(_is_strange, members), None):
                        return f"it holds {strange.name!r}, which no archive of ours does"
                    # Python has it from 3.11.4.
                    tar.extraction_filter = getattr(tarfile, "data_filter", None)
                    tar.extractall(inside, members)
                steps = saved.steps(inside / "checkpoints")
                faults = (saved.verify(step) for step in steps)
                fault = next((f for f in faults if f), None if steps else "it has no checkpoint")
                if fault is None:
                    # One rename: from half of the steps the run would go on as if it were all.
                    with contextlib.suppress(FileNotFoundError):
                        self._checkpoints.rmdir()
                    os.replace(inside / "checkpoints", self._checkpoints)
            return fault
        finally:
            shutil.rmtree(inside, ignore_errors=True)


def _ours(step: Path) -> Callable[[tarfile.TarInfo], tarfile.TarInfo | None]:
    """Leaves out of an archive what ``saved.verify`` does not look at."""
    try:
        known = set(saved.manifest(step))
    except (OSError, ValueError, TypeError):
        known = set()  # who reads the archive will find the step damaged

    def ours(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
        name = member.name.removeprefix(f"checkpoints/{step.name}/")
        return None if files.is_litter(name) and name not in known else member

    return ours


def _is_strange(member: tarfile.TarInfo) -> bool:
    """Whether unpacking it would make more than a file or a folder below the place for it."""
    path = PurePosixPath(member.name)
    is_plain = member.isreg() or member.isdir()
    return not is_plain or path.is_absolute() or ".." in path.parts


class _Hashed(io.RawIOBase):
    """A file that knows the SHA-256 of what was written to it."""

    def __init__(self, file: io.BufferedWriter) -> None:
        self._file, self._sha = file, hashlib.sha256()

    def write(self, data: Any) -> int:
        """Pass ``data`` on."""
        self._sha.update(data)
        return self._file.write(data)

    def digest(self) -> str:
        """Of all that was written, hex."""
        return self._sha.hexdigest()
