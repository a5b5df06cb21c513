"""Walk a class-per-folder tree by its names; nothing is opened and nothing stops the walk."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from emotion_jax.data.preprocess import FORMATS
from emotion_jax.errors import UserError

JUNK = {"thumbs.db", "desktop.ini", "__macosx"}


class Problem(NamedTuple):
    """A path below the root that cannot be used, and the reason."""

    path: str
    reason: str


def class_folders(root: Path, folder: Path, problems: list[Problem]) -> dict[str, list[str]]:
    """Class folder in ``folder`` -> its images, as posix paths below ``root``.

    Raises:
      UserError: ``folder`` cannot be read.
    """
    names = folders_in(root, folder, problems)
    return {name: list(_images(root, folder / name, problems)) for name in sorted(names)}


def folders_in(root: Path, folder: Path, problems: list[Problem]) -> list[str]:
    """Names of the folders in ``folder``; files there are problems, unless it is the root itself.

    Raises:
      UserError: ``folder`` is missing, no folder, or cannot be read.
    """
    try:
        entries = list(_entries(root, folder, problems))
    except FileNotFoundError:
        raise UserError(f"There is no folder {folder}.") from None
    except NotADirectoryError:
        raise UserError(f"{folder} is not a folder.") from None
    except OSError as error:
        raise UserError(f"Cannot read the folder {folder}: {error.strerror}.") from None
    loose = [entry for entry in entries if not entry.is_dir()]
    if folder != root:
        problems += [Problem(_name(root, entry), "not in a class folder") for entry in loose]
    return [entry.name for entry in entries if entry.is_dir()]


def _images(root: Path, folder: Path, problems: list[Problem]) -> Iterator[str]:
    """Image files in ``folder`` and below, as posix paths."""
    stack, seen = [folder], {folder.resolve()}
    while stack:
        try:
            entries = list(_entries(root, stack.pop(), problems))
        except OSError as error:
            problems.append(Problem(_name(root, folder), f"unreadable ({error.strerror})"))
            continue
        for entry in entries:
            path = Path(entry.path)
            if entry.is_dir():
                if path.resolve() not in seen:  # a link back to a folder above would never end
                    seen.add(path.resolve())
                    stack.append(path)
            elif path.suffix.lower() in FORMATS:
                yield _name(root, entry)
            else:
                suffix = path.suffix or "no extension"
                problems.append(Problem(_name(root, entry), f"not an image file ({suffix})"))


def _entries(root: Path, folder: Path, problems: list[Problem]) -> Iterator["os.DirEntry[str]"]:
    """What is in a folder and can be spoken of: nothing hidden, no link out of the tree."""
    with os.scandir(folder) as entries:
        for entry in sorted(entries, key=lambda e: os.fsencode(e.name)):
            if entry.name.startswith(".") or entry.name.lower() in JUNK:
                continue
            if not _is_utf8(entry.name):
                problems.append(Problem(_name(root, entry), "its name is not valid UTF-8"))
            elif entry.is_symlink() and not os.path.exists(entry.path):
                problems.append(Problem(_name(root, entry), "a symlink to nothing"))
            elif entry.is_symlink() and not _inside(Path(entry.path), root):
                problems.append(Problem(_name(root, entry), "a symlink out of the tree"))
            elif not (entry.is_dir() or entry.is_file()):
                problems.append(Problem(_name(root, entry), "neither a file nor a folder"))
            else:
                yield entry


def _inside(link: Path, root: Path) -> bool:
    try:
        return link.resolve(strict=True).is_relative_to(root.resolve())
    except (OSError, RuntimeError):
        return False


def _is_utf8(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _name(root: Path, entry: "os.DirEntry[str] | Path") -> str:
    relative = Path(entry).relative_to(root).as_posix()
    return relative.encode("utf-8", "backslashreplace").decode()
