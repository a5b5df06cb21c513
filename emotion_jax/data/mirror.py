"""A verified copy of a tree or a file that a second call brings up to date.

A file gets its name when it has been read back and found equal, and a list of what is ours is
written before any of them: a process killed at any moment leaves whole files that the next knows.
"""

import contextlib
import hashlib
import json
import os
import secrets
import shutil
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from tqdm.auto import tqdm

from emotion_jax import files
from emotion_jax.data.contents import THREADS, Contents, contents, one_file
from emotion_jax.data.threads import in_order
from emotion_jax.errors import UserError, listed

CHUNK = 1 << 20


@dataclass(frozen=True)
class _Job:
    """Where files come from and go to: ``from_root / path`` to ``to_root / path``."""

    from_root: Path
    to_root: Path
    state: Path
    wanted: Contents

    @property
    def partial(self) -> Path:
        return self.state / "partial"


def mirror(source: Path, target: Path, progress: bool = False) -> list[str]:
    """Make ``target`` a copy of the folder or file ``source``, copying what is new or changed.

    Symlinks are copied as such and never followed. Modification times are kept. What the source no
    longer has is removed, but not what lies where the source cannot be listed: a line on stderr
    says that it is kept.

    Returns:
      Paths in the source that could not be read, or that the target cannot hold.

    Raises:
      UserError: the target is not ours or holds what is not, the disk has no room, the source
        changes meanwhile, nothing in it can be read, or a copy differs from what was read.
      OSError: the target cannot be written.
    """
    is_folder = source.is_dir()
    state = target / ".staging" if is_folder else target.parent / f".{target.name}.staging"
    if target.is_symlink() or (os.path.lexists(target) and not state.is_dir()):
        empty = target.is_dir() and not target.is_symlink() and not any(target.iterdir())
        if not (is_folder and empty):
            raise UserError(
                f"{target} is not a copy that this program made; "
                "move it away, or choose another folder for data.stage_to."
            )
    state.mkdir(parents=True, exist_ok=True)
    with files.exclusive(state / "lock"):
        if is_folder:
            job = _Job(source, target, state, contents(source))
            present = contents(target)
        else:
            job = _Job(source.parent, target.parent, state, one_file(source))
            present = one_file(target)
        wanted = job.wanted.files
        if not wanted:  # a drive that is gone for a moment: what was copied of it stays
            raise UserError(f"There is nothing in {source} that can be read.")
        _make_place(job, present, str(source))
        todo = [path for path, entry in wanted.items() if not entry.same(present.files.get(path))]
        skipped = _copy_all(job, todo, progress) if todo else []
        if len(skipped) == len(wanted):
            raise UserError(f"There is nothing in {source} that can be read.")
        for path in skipped:  # what an earlier run copied is out of date
            (job.to_root / path).unlink(missing_ok=True)
        return [*job.wanted.unreadable, *skipped]


def _make_place(job: _Job, present: Contents, source: str) -> None:
    """Check and note what is ours, remove what the source no longer has, make the folders."""
    record = job.state / "record.json"
    known = json.loads(record.read_text(encoding="utf-8")) if record.is_file() else {}
    if known.get("source", source) != source:
        raise UserError(
            f"{job.to_root} holds a copy of {known['source']}; "
            "choose another folder for data.stage_to, or delete it."
        )
    strangers = present.files.keys() - known.get("files", [])
    if strangers:
        raise UserError(
            f"{job.to_root} holds files that this program did not put there "
            f"({listed(sorted(strangers), 3)}); move them away."
        )
    wanted = job.wanted
    ours = {"source": source, "files": sorted(wanted.files.keys() | present.files.keys())}
    files.write_text_atomic(record, json.dumps(ours))
    gone, kept = _gone(present.files.keys() - wanted.files.keys(), wanted)
    for path in gone:
        (job.to_root / path).unlink()
    for path in sorted(_gone(set(present.folders) - set(wanted.folders), wanted)[0], reverse=True):
        with contextlib.suppress(OSError):  # hidden files of someone else's may be in it
            (job.to_root / path).rmdir()
    if kept:
        print(
            f"{len(kept)} files in {job.to_root} are kept from an earlier copy, since {source} "
            f"cannot be listed where they come from; the first is {kept[0]}.",
            file=sys.stderr,
        )
    for path in wanted.folders:
        (job.to_root / path).mkdir(parents=True, exist_ok=True)
    shutil.rmtree(job.partial, ignore_errors=True)  # its owner is dead: the lock is ours
    job.partial.mkdir()


def _gone(missing: set[str], wanted: Contents) -> tuple[list[str], list[str]]:
    """Of paths that the source does not show, those that it has no more, and those it may have."""
    unknown = set(wanted.unreadable)
    kept = [
        path
        for path in missing
        if (path in unknown and path not in wanted.folders)
        or any(str(folder) in unknown for folder in PurePosixPath(path).parents)
    ]
    return sorted(missing.difference(kept)), sorted(kept)


def _copy_all(job: _Job, todo: list[str], progress: bool) -> list[str]:
    """Copy files in threads; those that cannot be read are returned."""
    needed = sum(job.wanted.files[path].size for path in todo)
    free = shutil.disk_usage(job.state).free
    if needed > free:
        raise UserError(
            f"{job.to_root} needs {needed / 1e9:.2f} GB and its disk has {free / 1e9:.2f} GB left; "
            "make room, or choose another folder for data.stage_to."
        )
    stop, lock = threading.Event(), threading.Lock()
    with tqdm(total=needed, desc="staging", unit="B", unit_scale=True, disable=not progress) as bar:

        def advance(count: int) -> None:
            if stop.is_set():
                raise InterruptedError("the copying was stopped")
            with lock:
                bar.update(count)

        try:
            copied = in_order(lambda path: (path, _copy(job, path, advance)), todo, THREADS, stop)
            return [path for path, is_copied in copied if not is_copied]
        finally:
            shutil.rmtree(job.partial, ignore_errors=True)


def _copy(job: _Job, path: str, advance: Callable[[int], None]) -> bool:
    """Copy, verify, then name one file; False where that cannot be done here."""
    source, target, entry = job.from_root / path, job.to_root / path, job.wanted.files[path]
    temporary = job.partial / secrets.token_hex(8)
    if entry.link:
        try:
            os.symlink(entry.link, temporary)
        except OSError:  # not every file system has links
            return False
        os.replace(temporary, target)
        return True
    digest, size = hashlib.sha256(), 0
    with temporary.open("xb") as copy:
        for chunk in _chunks(source):
            if chunk is None:
                return False
            digest.update(chunk)
            copy.write(chunk)
            size += len(chunk)
            advance(len(chunk))
        copy.flush()
        os.fsync(copy.fileno())
        if hasattr(os, "posix_fadvise"):  # so that it is the disk that is read back
            os.posix_fadvise(copy.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    if size != entry.size:
        raise UserError(f"{source} changed while it was copied; run again when it is at rest.")
    if _sha256(temporary) != digest.digest():
        raise UserError(f"The copy of {source} is not what was read: check the disk of {target}.")
    os.utime(temporary, ns=(entry.mtime_ns, entry.mtime_ns))
    os.replace(temporary, target)
    return True


def _chunks(path: Path) -> Iterator[bytes | None]:
    """A file's bytes; None, and no more, where it cannot be read."""
    try:
        with path.open("rb", buffering=0) as file:
            while chunk := file.read(CHUNK):
                yield chunk
    except OSError:
        yield None


def _sha256(path: Path) -> bytes:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()
