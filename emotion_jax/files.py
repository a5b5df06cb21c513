"""Files that are whole or not there."""

import contextlib
import csv
import errno
import fcntl
import io
import os
import re
import secrets
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from emotion_jax.errors import UserError

NO_LOCKS = {errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS}  # some network file systems
_LITTER = re.compile(
    r"\.DS_Store|\._.*|Icon\r|\.directory|desktop\.ini|Thumbs\.db|__MACOSX", re.IGNORECASE
)


def is_litter(path: str) -> bool:
    """Whether file managers, archivers and network drives leave such a name where they look."""
    return _LITTER.fullmatch(os.path.basename(path)) is not None


def write_bytes_atomic(path: Path, data: bytes) -> None:
    """Write ``path`` by a synced temporary file and a rename.

    Raises:
      OSError: the disk is full, read-only or gone; what was at ``path`` is untouched.
    """
    # Not tempfile: its files are private (0600) whatever the umask says.
    temporary = path.with_name(f".{secrets.token_hex(8)}.tmp")
    try:
        with temporary.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def locked(path: Path, busy: str) -> BinaryIO | None:
    """The lock that the file ``path`` is, until it is closed; None where there are no locks.

    Args:
      path: made where it is not there.
      busy: the sentence where another process holds it.

    Raises:
      UserError: another process holds it.
      OSError: it cannot be made.
    """
    file = path.open("ab")
    try:
        is_locked = _flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        raise UserError(busy) from None
    except BaseException:
        file.close()
        raise
    with contextlib.suppress(FileNotFoundError):
        if is_locked and os.path.samestat(os.fstat(file.fileno()), path.stat()):
            return file
    file.close()
    # Who held it may have deleted it between the two; the next who comes would make another.
    return locked(path, busy) if is_locked else None


@contextlib.contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """Hold the lock that the file ``path`` is, waiting for it; none where there are no locks.

    Args:
      path: made where it is not there.

    Raises:
      OSError: it cannot be made.
    """
    with path.open("ab") as file:
        _flock(file, fcntl.LOCK_EX)
        yield  # closing the file gives the lock back


def _flock(file: BinaryIO, how: int) -> bool:
    """Whether the lock was taken; else its file system has none.

    Not filelock's FileLock: on such file systems some of its releases wait without an end.
    """
    try:
        fcntl.flock(file, how)
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        return False
    return True


def remove_temporary(folder: Path) -> None:
    """Delete what killed processes have left of their atomic writes; no other may be writing."""
    for path in folder.glob("." + "[0-9a-f]" * 16 + ".tmp"):
        if path.is_file():
            path.unlink(missing_ok=True)


def write_text_atomic(path: Path, text: str) -> None:
    """``write_bytes_atomic`` of UTF-8 text; undecodable bytes of file names come out as they were.

    Raises:
      OSError: as there.
    """
    write_bytes_atomic(path, text.encode("utf-8", "surrogateescape"))


def csv_text(rows: Iterable[Iterable[object]]) -> str:
    """A CSV table with LF line ends; a cell with a line end of any system in it is quoted."""
    lines = []
    for row in rows:
        line = io.StringIO()
        # Python before 3.13 quotes a carriage return only where the lines themselves end with one.
        csv.writer(line, lineterminator="\r\n").writerow(row)
        lines.append(line.getvalue().removesuffix("\r\n") + "\n")
    return "".join(lines)


def sync(path: Path) -> None:
    """Have what was written to a file, or the names in a folder, reach the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def check_room(folder: Path, size: int) -> None:
    """Take ``size`` bytes of the folder's disk and give them back.

    Raises:
      OSError: the disk, or what the user may have of it, is full.
    """
    if size and hasattr(os, "posix_fallocate"):
        path = folder / f".{secrets.token_hex(8)}.tmp"
        try:
            with path.open("xb") as file:
                os.posix_fallocate(file.fileno(), 0, size)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
                raise
            # Not every file system can; then it is the writing that tells.
        finally:
            path.unlink(missing_ok=True)


@contextlib.contextmanager
def reported(path: Path) -> Iterator[None]:
    """Turn an OSError of the block into a sentence about ``path``.

    Raises:
      UserError: the disk is full, read-only or gone.
    """
    try:
        yield
    except OSError as error:
        raise UserError(
            f"Cannot write to {path}: {error.strerror or error}; what was there is untouched."
        ) from None


def utf8(path: Path) -> Path:
    """``path``, of which a library that takes no other names will be told.

    Raises:
      UserError: its name, or that of a folder that it lies in, is not UTF-8.
    """
    try:
        str(path.absolute()).encode()
    except UnicodeEncodeError:
        raise UserError(
            f"{path.absolute()}: a name that is not valid UTF-8; choose another place."
        ) from None
    return path


def named(paths: Sequence[Path]) -> list[tuple[str, Path]]:
    """Names that tell them apart: a path's last part, or where two share it the whole path.

    Bytes that are no UTF-8 are spelt out (``caf\\xe9``): every name can be sent and written.
    """
    names = [_spelt(path.resolve().name) for path in paths]
    return [
        (name if names.count(name) == 1 else _spelt(str(path)), path)
        for name, path in zip(names, paths, strict=True)
    ]


def _spelt(name: str) -> str:
    return os.fsencode(name).decode("utf-8", "backslashreplace")
