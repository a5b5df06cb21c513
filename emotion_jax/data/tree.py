"""Walk a class-per-folder tree by its names; nothing is opened and nothing stops the walk."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from emotion_jax.data.preprocess import FORMATS
from emotion_jax.errors import UserError
from emotion_jax.files import is_litter


class Problem(NamedTuple):
    """A path below the root that cannot be used, and the reason."""

    path: str
    reason: str


def ignored(name: str) -> bool:
    """Whether a file or folder of this name is none of ours: hidden, or a system's litter."""
    return name.startswith(".") or is_litter(name)


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
    """Image files in ``folder`` and below, as posix paths; a folder is listed once."""
    stack, seen = [folder], {folder.resolve()}
    while stack:
        current = stack.pop()
        try:
            entries = list(_entries(root, current, problems))
        except OSError as error:
            problems.append(Problem(_name(root, current), _unreadable(error)))
            continue
        prefix = _name(root, current)  # once: to make a Path of every image takes most of the time
        for entry in entries:
            if entry.is_dir():
                path = Path(entry.path)
                real = path.resolve()
                # Only links lead to a folder twice, and links in a circle would do so for ever.
                again = entry.is_symlink() and real.is_relative_to(folder.resolve())
                if again or real in seen:
                    problems.append(Problem(_name(root, entry), "a folder that is listed already"))
                else:
                    seen.add(real)
                    stack.append(path)
            elif os.path.splitext(entry.name)[1].lower() in FORMATS:
                yield f"{prefix}/{entry.name}"
            else:
                suffix = Path(entry.name).suffix or "no extension"
                problems.append(Problem(_name(root, entry), f"not an image file ({suffix})"))


def _entries(root: Path, folder: Path, problems: list[Problem]) -> Iterator["os.DirEntry[str]"]:
    """What is in a folder and can be used: nothing hidden, no link out of the tree."""
    with os.scandir(folder) as scan:
        entries = sorted(scan, key=lambda entry: os.fsencode(entry.name))
    for entry in entries:
        if ignored(entry.name):
            continue
        try:
            reason = _obstacle(root, entry)
        except OSError as error:
            reason = _unreadable(error)
        if reason is None:
            yield entry
        else:
            problems.append(Problem(_name(root, entry), reason))


def _obstacle(root: Path, entry: "os.DirEntry[str]") -> str | None:
    """Why an entry cannot be used, by its name and kind."""
    if not _is_utf8(entry.name):
        return "its name is not valid UTF-8"
    if entry.is_symlink():
        link = Path(entry.path)
        if not os.path.exists(link):
            return "a symlink to nothing"
        target = link.resolve()
        if not target.is_relative_to(root.resolve()):
            return "a symlink out of the tree"
        if link.parent.resolve().is_relative_to(target):
            return "a symlink to a folder above it"
    if not (entry.is_dir() or entry.is_file()):
        return "neither a file nor a folder"
    return None


def _unreadable(error: OSError) -> str:
    return f"unreadable ({error.strerror or error})"


def _is_utf8(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _name(root: Path, entry: "os.DirEntry[str] | Path") -> str:
    relative = Path(entry).relative_to(root).as_posix()
    return relative.encode("utf-8", "backslashreplace").decode()
