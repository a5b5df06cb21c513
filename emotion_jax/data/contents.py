"""What is in a folder, to compare two of them by."""

import contextlib
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from emotion_jax.data.threads import in_order
from emotion_jax.data.tree import ignored

THREADS = 32  # for the latency of a network disk; they wait more than they work


class Entry(NamedTuple):
    """A file, or a symlink and its text."""

    size: int
    mtime_ns: int
    link: str = ""

    def same(self, other: "Entry | None") -> bool:
        """Whether nothing tells the two apart."""
        # Microseconds: not every file system keeps the nanoseconds that it is given.
        return other is not None and (self.size, self.mtime_ns // 1000, self.link) == (
            other.size,
            other.mtime_ns // 1000,
            other.link,
        )


@dataclass(frozen=True)
class Contents:
    """What is below a folder, hidden names left out; posix paths relative to it."""

    files: dict[str, Entry] = field(default_factory=dict)
    folders: list[str] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)


def contents(root: Path) -> Contents:
    """List a folder and all below it; no symlink is followed, nothing stops the walk."""
    found = Contents()
    names, stack = [], [""]
    while stack:
        folder = stack.pop()
        try:
            with os.scandir(root / folder) as scan:
                entries = [entry for entry in scan if not ignored(entry.name)]
        except OSError:
            found.unreadable.append(folder or ".")
            continue
        for entry in entries:
            path = f"{folder}/{entry.name}" if folder else entry.name
            try:
                if entry.is_symlink() or entry.is_file(follow_symlinks=False):
                    names.append(path)
                elif entry.is_dir(follow_symlinks=False):
                    found.folders.append(path)
                    stack.append(path)
                else:
                    found.unreadable.append(path)
            except OSError:
                found.unreadable.append(path)
    for path, entry_or_none in in_order(lambda path: (path, _entry(root, path)), names, THREADS):
        if entry_or_none is None:
            found.unreadable.append(path)
        else:
            found.files[path] = entry_or_none
    return found


def one_file(path: Path) -> Contents:
    """A file as contents of its folder; empty where there is none."""
    entry = _entry(path.parent, path.name)
    return Contents({path.name: entry}) if entry else Contents()


def _entry(root: Path, path: str) -> Entry | None:
    place = root / path
    try:
        stat = place.lstat()
        if not place.is_symlink():
            return Entry(stat.st_size, stat.st_mtime_ns)
        text = os.readlink(place)
    except OSError:
        return None
    with contextlib.suppress(OSError, RuntimeError):  # a loop of links leads nowhere
        target = place.resolve()
        if target.is_relative_to(root):  # also an absolute link stays inside its own tree
            text = os.path.relpath(target, place.parent)
    return Entry(0, 0, text)
