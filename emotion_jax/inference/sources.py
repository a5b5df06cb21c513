"""Which images and videos the paths of a command line stand for."""

import os
import stat
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
      error: why it is not opened, where that is known already.
    """

    name: str
    path: Path
    relative: PurePath
    is_video: bool
    error: str | None = None


def collect(paths: Sequence[Path], without: Iterable[Path] = ()) -> list[Input]:
    """The images and videos in folders and below, sorted, and the files that are named, as given.

    In folders only known extensions count, hidden files do not, and links to folders are not
    followed; a file that is named is taken whatever it is called. A file that is reached twice is
    there once. A folder that cannot be read is there itself, with the reason as its ``error``, and
    so is what is in one and no regular file, such as a pipe.

    Args:
      paths: files and folders.
      without: folders to leave out.
    """
    leave_out = {os.path.realpath(folder) for folder in without}
    found: dict[str, Input] = {}
    for path in paths:
        # Not Path's is_dir, which raises below a folder that may not be searched.
        files = _inside(path, leave_out) if os.path.isdir(path) else [(path, None)]
        for file, error in files:
            name = os.fsencode(file).decode("utf-8", "backslashreplace")
            name = name.replace("\n", "\\n").replace("\r", "\\r")
            relative = file.relative_to(path) if file != path else PurePath(file.name)
            is_video = error is None and file.suffix.lower() in VIDEOS
            found.setdefault(name, Input(name, file, relative, is_video, error))
    return list(found.values())


def _inside(folder: Path, leave_out: set[str]) -> Iterator[tuple[Path, str | None]]:
    """What is found, and why it is not to be opened, if so."""
    failures: list[OSError] = []
    for where, folders, names in os.walk(folder, onerror=failures.append):
        folders[:] = sorted(
            name
            for name in folders
            if not ignored(name) and os.path.realpath(os.path.join(where, name)) not in leave_out
        )
        for name in sorted(names):
            known = os.path.splitext(name)[1].lower() in FORMATS.keys() | VIDEOS
            if known and not ignored(name):
                file = Path(where, name)
                yield file, _obstacle(file)
    for error in failures:
        yield Path(error.filename), f"unreadable ({error.strerror or error})"


def _obstacle(file: Path) -> str | None:
    """Why a file is not to be opened: to read a pipe may never end."""
    try:
        mode = os.stat(file).st_mode
    except OSError:
        return None  # to open it says why
    return None if stat.S_ISREG(mode) else "not a regular file"
