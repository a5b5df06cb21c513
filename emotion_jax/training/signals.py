"""Ctrl-C and SIGTERM: at once, or at the next safe place."""

import contextlib
import signal
from collections.abc import Callable, Iterator
from types import FrameType

from emotion_jax.errors import Interrupted

SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextlib.contextmanager
def raised() -> Iterator[None]:
    """Within the block a signal raises Interrupted in the main thread."""
    with _handled_by(_raise):
        yield


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

    with _handled_by(note):
        yield lambda: noted[0] if noted else 0


@contextlib.contextmanager
def _handled_by(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    before = {signum: signal.signal(signum, handler) for signum in SIGNALS}
    try:
        yield
    finally:
        for signum, old in before.items():
            signal.signal(signum, old)


def _raise(signum: int, frame: FrameType | None) -> None:
    del frame
    raise Interrupted(signum)
