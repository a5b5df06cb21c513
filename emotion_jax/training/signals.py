"""Ctrl-C and SIGTERM: at once, or at the next safe place; a second one ends the process."""

import _thread
import contextlib
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

from emotion_jax.errors import Interrupted

SIGNALS = (signal.SIGINT, signal.SIGTERM)
# coreutils' timeout sends its signal twice, to the process and to its group: that is one.
APART = 0.2  # seconds
LATER = 0.01


@contextlib.contextmanager
def raised() -> Iterator[None]:
    """Within the block a signal raises Interrupted in the main thread, a second ends the process.

    What an interrupted library makes of it, another exception or none, comes out as Interrupted.
    It ends the process, so after it any signal does, without a word.
    """
    noted: list[int] = []
    due: list[int] = []  # noted, but to be raised once more
    resent: list[int] = []

    def note(signum: int, frame: FrameType | None) -> None:
        del frame
        if not noted or due:  # what the first has begun to clean up is not to be disturbed
            due.clear()
            noted.append(signum)
            raise Interrupted(signum)

    def again(signum: signal.Signals) -> None:
        due.append(signum)
        resent.append(signum)
        _thread.interrupt_main(signum)

    with _watched(resent), _unswallowed(again), _handled_by(note) as before:
        try:
            yield
            if noted:
                raise Interrupted(noted[0])
        except BaseException as error:
            if not noted and not isinstance(error, Interrupted):
                raise
            before.update(dict.fromkeys(SIGNALS, signal.SIG_DFL))
            if isinstance(error, Interrupted):
                raise
            raise Interrupted(noted[0]) from None


@contextlib.contextmanager
def deferred() -> Iterator[Callable[[], int]]:
    """Within the block the first signal is only noted; a second one raises Interrupted.

    Yields:
      A function that gives the number of the noted signal, or 0.
    """
    noted: list[tuple[int, float]] = []

    def note(signum: int, frame: FrameType | None) -> None:
        del frame
        now = time.monotonic()
        if noted and now - noted[0][1] > APART:
            raise Interrupted(signum)
        noted.append((signum, now))

    with _handled_by(note):
        yield lambda: noted[0][0] if noted else 0


@contextlib.contextmanager
def _handled_by(
    handler: Callable[[int, FrameType | None], None],
) -> Iterator[dict[signal.Signals, Any]]:
    """Yields the handlers that are put back in the end."""
    before: dict[signal.Signals, Any] = {}
    for signum in SIGNALS:
        before[signum] = signal.signal(signum, handler)
    try:
        yield before
    finally:
        for signum, old in before.items():
            signal.signal(signum, old)


@contextlib.contextmanager
def _unswallowed(again: Callable[[signal.Signals], None]) -> Iterator[None]:
    """Call ``again`` with the signal when Interrupted was raised where Python drops exceptions.

    Callbacks of weak references and of the garbage collector are such places, and JAX has many.
    """
    before = sys.unraisablehook

    def hook(unraisable: Any) -> None:
        if isinstance(unraisable.exc_value, Interrupted):
            signum = signal.Signals(unraisable.exc_value.exit_code - 128)
            # Here it would be dropped, too.
            threading.Timer(LATER, again, (signum,)).start()
        else:
            before(unraisable)

    sys.unraisablehook = hook
    try:
        yield
    finally:
        sys.unraisablehook = before


@contextlib.contextmanager
def _watched(resent: list[int]) -> Iterator[None]:
    """Have a thread end the process at the second signal; those in ``resent`` do not count.

    A handler in Python has to wait until a call into XLA or TensorFlow returns; the number of the
    signal is in the socket at once.
    """
    read, write = socket.socketpair()
    write.setblocking(False)
    before = signal.set_wakeup_fd(write.fileno(), warn_on_full_buffer=False)
    watcher = threading.Thread(target=_watch, args=(read, resent), name="signals", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        write.close()
        watcher.join()
        read.close()


def _watch(read: socket.socket, resent: list[int]) -> None:
    first = 0.0
    while byte := read.recv(1):
        if byte[0] in resent:
            resent.remove(byte[0])
            continue
        if byte[0] not in SIGNALS:
            continue
        now = time.monotonic()
        if first and now - first > APART:
            try:
                name = signal.Signals(byte[0]).name
                os.write(2, f"Ended at once by a second signal, {name}.\n".encode())
            finally:
                os._exit(128 + byte[0])
        first = first or now
