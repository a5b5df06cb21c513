"""Bring the data near: a verified local copy of it, and archives unpacked once.

STAGE_TO/<name>/...       the copy of a folder; .staging/ in it says that it is ours
STAGE_TO/<name>           the copy of a file; .<name>.staging/ beside it says the same
CACHE/unpacked/<key>/     an archive or fer2013.csv as a tree; key of path, size and time
"""

import hashlib
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from emotion_jax import files
from emotion_jax.data import archives, fer2013, mirror
from emotion_jax.data.preprocess import FORMATS
from emotion_jax.data.tree import ignored
from emotion_jax.errors import UserError

VERSION = 1  # part of the cache's names: raise it when what is unpacked changes
NOTES = ".notes.json"
CSV = "fer2013.csv"


def stage(source: Path, stage_to: Path, progress: bool) -> Path:
    """Copy a tree, an archive or a CSV file to the local folder ``stage_to``, and verify the copy.

    What is there already and has not changed is not copied again; what the source no longer has
    is removed. Files that cannot be read are left out, and what was copied of folders that cannot
    be listed now is kept, each with a line on stderr.

    Returns:
      ``stage_to/<name of the source>``.

    Raises:
      UserError: there is no source or nothing in it can be read, the place is taken by something
        else, the disk is full, or a copy differs from what was read.
    """
    try:
        real, place = source.resolve(strict=True), stage_to.resolve()
    except (OSError, RuntimeError):
        raise UserError(f"There is no {source}, or it cannot be reached.") from None
    target = place / real.name
    if target.is_relative_to(real) or real.is_relative_to(target):
        raise UserError(
            f"data.stage_to: {stage_to} and the data {source} lie in each other; "
            "choose a folder elsewhere."
        )
    try:
        left_out = mirror.mirror(real, target, progress)
    except OSError as error:
        raise UserError(
            f"Cannot copy {source} to {target}: {error.strerror or error}; "
            "make room, or choose another folder for data.stage_to."
        ) from None
    if left_out:
        print(
            f"{len(left_out)} paths of {source} cannot be read or copied and were left out; "
            f"the first is {min(left_out)}.",
            file=sys.stderr,
        )
    return target


def resolve(source: Path, cache: Path, progress: bool) -> Path:
    """The folder that holds the splits.

    Args:
      source: a folder, a .zip, .tar, .tar.gz or .tgz archive of one, or Kaggle's fer2013.csv. In a
        folder without train/ and without images of its own it is the one sub-folder with train/, as
        archives often have, or fer2013.csv unpacked; else the folder itself, which may be a split.
      cache: where archives are unpacked, once.
      progress: show a bar.

    Raises:
      UserError: there is no such thing, it is of another kind, damaged or not safe to unpack, or
        the cache cannot be written.
    """
    if os.path.isdir(source):
        return _holder(source, cache, progress)
    if not os.path.isfile(source):
        raise UserError(f"There is no {source}, or it cannot be reached.")
    name = source.name.lower()
    if name.endswith(".csv"):
        return _made_once(source, cache, fer2013.write_tree, progress)
    if name.endswith(archives.EXTENSIONS):
        return _holder(_made_once(source, cache, archives.unpack, progress), cache, progress)
    raise UserError(
        f"{source} is neither a folder, nor an archive ({', '.join(archives.EXTENSIONS)}), "
        f"nor {CSV}."
    )


def _holder(folder: Path, cache: Path, progress: bool) -> Path:
    if os.path.isdir(folder / "train"):
        return folder
    inside = [path for path, is_folder in _entries(folder) if is_folder]
    near = [path for path in inside if not path.is_symlink()]
    holders = [path for path in near if os.path.isdir(path / "train")]
    tables = [path / CSV for path in (folder, *near) if os.path.isfile(path / CSV)]
    if len(holders or tables) != 1:
        return folder
    # It may be that the folder itself holds splits or classes, an old copy or a table among them.
    for path in inside:
        if _has_images(path / "train", 0) if path in holders else _has_images(path, 1):
            return folder
    return holders[0] if holders else resolve(tables[0], cache, progress)


def _has_images(folder: Path, below: int) -> bool:
    """Whether images lie in a folder, or up to ``below`` folders further down.

    Raises:
      UserError: one of them cannot be read.
    """
    folders = []
    for path, is_folder in _entries(folder):
        if is_folder:
            folders.append(path)
        elif path.suffix.lower() in FORMATS:
            return True  # and no further: a class of thousands takes a network disk a while
    return below > 0 and any(_has_images(path, below - 1) for path in folders)


def _entries(folder: Path) -> Iterator[tuple[Path, bool]]:
    """What is in a folder and not to be ignored, and whether it is a folder."""
    try:
        with os.scandir(folder) as scan:
            for entry in scan:
                if not ignored(entry.name):
                    is_link = entry.is_symlink()
                    is_folder = os.path.isdir(entry) if is_link else entry.is_dir()
                    yield Path(entry.path), is_folder
    except OSError as error:
        raise UserError(
            f"Cannot read the folder {folder}: {error.strerror or error}; "
            "make it readable, or name the folder that holds train/."
        ) from None


def _made_once(
    source: Path, cache: Path, make: Callable[[Path, Path, bool], list[str]], progress: bool
) -> Path:
    """``make(source, folder, progress)`` in the cache; what it has to say is said every time."""
    try:
        stat = source.stat()
        known = f"{VERSION}\n{source.resolve()}\n{stat.st_size}\n{stat.st_mtime_ns}"
        key = hashlib.sha256(os.fsencode(known)).hexdigest()[:32]
        final = cache / "unpacked" / key
        final.parent.mkdir(parents=True, exist_ok=True)
        with files.exclusive(final.with_suffix(".lock")):
            if not final.is_dir():
                _make(source, final, make, progress)
        for note in json.loads((final / NOTES).read_text(encoding="utf-8")):
            print(f"{source}: {note}", file=sys.stderr)
        return final
    except OSError as error:
        raise UserError(
            f"Cannot unpack {source} into the cache {cache}: {error.strerror or error}; "
            "make room, or set EMOTION_JAX_CACHE to a folder on another disk."
        ) from None


def _make(
    source: Path, final: Path, make: Callable[[Path, Path, bool], list[str]], progress: bool
) -> None:
    for stale in final.parent.glob(f"{final.name}-*"):
        shutil.rmtree(stale)  # its owner is dead: the lock is ours
    temporary = Path(tempfile.mkdtemp(prefix=f"{final.name}-", dir=final.parent))
    try:
        notes = make(source, temporary, progress)
        (temporary / NOTES).write_text(json.dumps(notes), encoding="utf-8")
        temporary.rename(final)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
