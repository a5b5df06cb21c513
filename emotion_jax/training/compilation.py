"""Compiled programs are kept between runs, in the cache directory."""

import contextlib
import re
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
from jax.experimental.compilation_cache import compilation_cache

UNREADABLE = re.compile(r"Error reading persistent compilation cache entry for '([\w.]+)'")
UNWRITABLE = re.compile(r"Error writing persistent compilation cache entry")


@contextlib.contextmanager
def cached(directory: Path) -> Iterator[None]:
    """Within the block JAX keeps what it compiles in ``directory``, and finds it there again.

    A directory that the user gave to JAX (JAX_COMPILATION_CACHE_DIR) is used instead. An entry
    that cannot be read is deleted, with a line on stderr, and compiled anew.
    """
    settings: dict[str, Any] = {
        "jax_compilation_cache_dir": str(directory),
        # Small programs are many here: most of the time before the first step is theirs.
        "jax_persistent_cache_min_compile_time_secs": 0.0,
        "jax_persistent_cache_min_entry_size_bytes": -1,
    }
    before = {name: getattr(jax.config, name) for name in settings}
    place = Path(before["jax_compilation_cache_dir"] or directory)
    settings["jax_compilation_cache_dir"] = str(place)
    with warnings.catch_warnings():
        warnings.showwarning = _shown_by(place, warnings.showwarning)
        for told in (UNREADABLE, UNWRITABLE):
            warnings.filterwarnings("always", told.pattern)
        try:
            _configure(settings)
            yield
        finally:
            _configure(before)


def _configure(settings: dict[str, Any]) -> None:
    for name, value in settings.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()  # JAX asks for the directory once


def _deleted(directory: Path, program: str) -> bool:
    """Whether there was an entry of it, and none is there any more."""
    entries = list(directory.glob(f"{program}-*"))
    try:
        for entry in entries:
            entry.unlink(missing_ok=True)
    except OSError:
        return False
    return bool(entries)


def _shown_by(directory: Path, other: Any) -> Any:
    told: list[bool] = []

    def show(message: Any, *rest: Any, **more: Any) -> None:
        found = UNREADABLE.match(str(message))
        if found and _deleted(directory, found[1]):
            print(
                f"A compiled program ({found[1]}) in {directory} cannot be read; "
                "it was deleted and is compiled anew.",
                file=sys.stderr,
            )
        elif found or UNWRITABLE.match(str(message)):
            if not told:
                print(
                    f"Compiled programs cannot be kept in {directory}; later starts take longer.",
                    file=sys.stderr,
                )
            told.append(True)
        else:
            other(message, *rest, **more)

    return show
