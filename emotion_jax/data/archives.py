"""Unpack the images of a .zip or .tar archive, trusting nothing that it says.

Only folders and plain files are ever made, so a link in an archive leads nowhere.
"""

import contextlib
import gzip
import lzma
import posixpath
import stat
import struct
import tarfile
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import IO, NamedTuple, cast

from tqdm.auto import tqdm

from emotion_jax.data.budget import Budget, Counted, Readable
from emotion_jax.data.preprocess import FORMATS
from emotion_jax.data.tree import ignored
from emotion_jax.errors import UserError

EXTENSIONS = (".zip", ".tar", ".tar.gz", ".tgz")
CHUNK = 2**16


class Member(NamedTuple):
    """A folder, a file with its contents to be read at once, or a link or file of no use.

    ``position`` is how much of the archive has been read.
    """

    name: str
    kind: str
    position: int
    file: Readable | None = None


def unpack(archive: Path, folder: Path, progress: bool = False) -> list[str]:
    """Write the images and .csv files of an archive below ``folder``; hidden ones are ignored.

    Returns:
      What was left out and may be missed, a sentence each.

    Raises:
      UserError: the archive is damaged, encrypted or of another kind, a name leads out of it, it
        unpacks to more than the limits of
        ``budget``, or holds nothing of use.
      OSError: ``folder`` cannot be written.
    """
    budget = Budget(archive)
    is_zip = archive.name.lower().endswith(".zip")
    counts: Counter[str] = Counter()
    with (
        _damage(archive),
        tqdm(
            total=budget.packed, desc="unpacking", unit="B", unit_scale=True, disable=not progress
        ) as bar,
    ):
        for member in (_zip_members if is_zip else _tar_members)(archive, budget):
            bar.update(member.position - bar.n)
            target = folder / member.name
            counts[member.kind] += 1
            if member.kind == "folder":
                target.mkdir(parents=True, exist_ok=True)
            elif member.file is not None:
                target.parent.mkdir(parents=True, exist_ok=True)
                with target.open("wb") as out:
                    while chunk := member.file.read(CHUNK):
                        out.write(chunk)
        bar.update(budget.packed - bar.n)
    if not counts["file"]:
        raise UserError(f"{archive} holds no images ({', '.join(FORMATS)}) and no .csv file.")
    notes = []
    if counts["link"]:
        notes.append(f"{counts['link']} links were not unpacked; pack the files themselves.")
    if counts["other"]:
        notes.append(f"{counts['other']} files that are no images were not unpacked.")
    return notes


def _zip_members(archive: Path, budget: Budget) -> Iterator[Member]:
    with zipfile.ZipFile(archive) as opened:
        for info in opened.infolist():
            budget.member()
            position = info.header_offset + info.compress_size
            if info.flag_bits & 1:
                raise UserError(f"{archive} is encrypted: unpack it by hand.")
            # Some programs on Windows write their own separator.
            name = _safe(archive, info.filename.replace("\\", "/"))
            is_link = stat.S_ISLNK(info.external_attr >> 16)
            kind = "link" if is_link else "folder" if info.is_dir() else _kind(name)
            if kind == "file":
                with opened.open(info) as file:
                    yield Member(name, kind, position, Counted(file, budget))
            elif not _hidden(name):
                yield Member(name, kind, position)


def _tar_members(archive: Path, budget: Budget) -> Iterator[Member]:
    with archive.open("rb") as raw, contextlib.ExitStack() as stack:
        is_gzip = raw.read(2) == b"\x1f\x8b"
        raw.seek(0)
        stream = stack.enter_context(gzip.GzipFile(fileobj=raw)) if is_gzip else raw
        reader = Counted(stream, budget)
        opened = stack.enter_context(tarfile.TarFile(fileobj=cast(IO[bytes], reader)))
        end = 0
        while (member := opened.next()) is not None:
            budget.member()
            opened.members.clear()  # type: ignore[attr-defined]  # they would pile up
            if opened.offset <= end:
                raise tarfile.ReadError("a member of negative size")
            end = opened.offset
            name = _safe(archive, member.name)
            is_link = member.issym() or member.islnk()
            if is_link:  # a hard link's target is a member's name
                start = PurePosixPath(name).parent if member.issym() else PurePosixPath()
                _check_link(archive, name, start, member.linkname)
            elif not (member.isreg() or member.isdir()):
                raise UserError(f"{archive} is not safe to unpack: {name!r} is a special file.")
            kind = "link" if is_link else "folder" if member.isdir() else _kind(name)
            if member.issparse():
                kind = "other"  # a hole of any size costs an archive nothing
            if kind == "file":
                yield Member(name, kind, raw.tell(), opened.extractfile(member))
            elif not _hidden(name):
                yield Member(name, kind, raw.tell())
        # tarfile takes a damaged header in the middle, or a cut there, for the end.
        if reader.last != bytes(tarfile.BLOCKSIZE):
            raise tarfile.ReadError("no end mark")
        while reader.read(CHUNK):
            pass  # to gzip's checksum


def _safe(archive: Path, name: str) -> str:
    """A member's name as a posix path that stays inside.

    Raises:
      UserError: it does not.
    """
    windows = PureWindowsPath(name)
    if windows.drive or windows.root or ".." in windows.parts or "\0" in name:
        raise UserError(f"{archive} is not safe to unpack: {name!r} leads out of it.")
    return PurePosixPath(name).as_posix()


def _check_link(archive: Path, name: str, start: PurePosixPath, target: str) -> None:
    """Refuse an archive with a link that leads out of it: it was made to do harm.

    Not tarfile.data_filter: Python has it from 3.11.4, and it looks at links on the disk, where
    nothing has been unpacked.

    Raises:
      UserError: ``target``, seen from the folder ``start``, lies outside.
    """
    inside = PurePosixPath(posixpath.normpath(start / target))
    if inside.is_absolute() or inside.parts[:1] == ("..",):
        raise UserError(f"{archive} is not safe to unpack: the link {name!r} leads out of it.")


def _hidden(name: str) -> bool:
    return any(ignored(part) for part in PurePosixPath(name).parts)


def _kind(name: str) -> str:
    wanted = PurePosixPath(name).suffix.lower() in (*FORMATS, ".csv") and not _hidden(name)
    return "file" if wanted else "other"


@contextlib.contextmanager
def _damage(archive: Path) -> Iterator[None]:
    """Turn what the readers raise into a sentence."""
    try:
        yield
    except NotImplementedError as error:
        raise UserError(f"{archive} cannot be read: {error}; unpack it by hand.") from None
    except (
        zipfile.BadZipFile,
        tarfile.TarError,
        gzip.BadGzipFile,
        zlib.error,
        lzma.LZMAError,
        struct.error,
        EOFError,
        ValueError,
    ) as error:
        raise UserError(
            f"{archive} is damaged or no such archive ({error}): fetch it again."
        ) from None
