"""Which images and videos the paths of a command line stand for."""

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

from emotion_jax.data.preprocess import FORMATS
from emotion_jax.data.tree import ignored

# fmt: off
VIDEOS = frozenset((
    ".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".mts", ".m2ts", ".wmv",
    ".flv", ".ogv", ".3gp", ".gif",
))
# fmt: on


@dataclass(frozen=True)
class Input:
    """A file to look at.

    Attributes:
      name: how it is called in the output; valid UTF-8 in one line.
      path: of the file.
      relative: below the folder that was given, for what is written about it.
      is_video: by its extension.
    """

    name: str
    path: Path
    relative: PurePath
    is_video: bool


def collect(paths: Sequence[Path], without: Iterable[Path] = ()) -> list[Input]:
    """The images and videos in folders and below, sorted, and the files that are named, as given.

    In folders only known extensions count, hidden files do not, and links to folders are not
    followed; a file that is named is taken whatever it is called. A file that is reached twice is
    there once.

    Args:
      paths: files and folders.
      without: folders to leave out.
    """
    leave_out = {os.path.realpath(folder) for folder in without}
    found: dict[str, Input] = {}
    for path in paths:
        files = _inside(path, leave_out) if path.is_dir() else [path]
        for file in files:
            name = os.fsencode(file).decode("utf-8", "backslashreplace")
            name = name.replace("\n", "\\n").replace("\r", "\\r")
            relative = file.relative_to(path) if file != path else PurePath(file.name)
            is_video = file.suffix.lower() in VIDEOS
            found.setdefault(name, Input(name, file, relative, is_video))
    return list(found.values())


def _inside(folder: Path, leave_out: set[str]) -> Iterator[Path]:
    for where, folders, names in os.walk(folder):
        folders[:] = sorted(
            name
            for name in folders
            if not ignored(name) and os.path.realpath(os.path.join(where, name)) not in leave_out
        )
        for name in sorted(names):
            known = os.path.splitext(name)[1].lower() in FORMATS.keys() | VIDEOS
            if known and not ignored(name):
                yield Path(where, name)
