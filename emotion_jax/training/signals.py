"""Ctrl-C and SIGTERM: at once, or at the next safe place."""

import contextlib
import signal
from collections.abc import Callable, Iterator
from types import FrameType

from emotion_jax.errors import Interrupted

SIGNALS = (signal.SIGINT, signal.SIGTERM)


def install() -> None:
    """From now on a signal raises Interrupted in the main thread."""
    for signum in SIGNALS:
        signal.signal(signum, _raise)


@contextlib.contextmanager
def deferred() -> Iterator[Callable[[], int]]:
    """Within the block the first signal is only noted; a second one raises Interrupted.

    Yields:
      A function that gives the number of the noted signal, or 0.
    """
    noted: list[int] = []

    def note(signum: int, frame: FrameType | None) -> None:
        if noted:
            _raise(signum, frame)
        noted.append(signum)

    before = {signum: signal.signal(signum, note) for signum in SIGNALS}
    try:
        yield lambda: noted[0] if noted else 0
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)


def _raise(signum: int, frame: FrameType | None) -> None:
    del frame
    raise Interrupted(signum)
