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
from dataclasses import dataclass
from types import FrameType
from typing import Any, NoReturn

from emotion_jax.errors import Interrupted

SIGNALS = (signal.SIGINT, signal.SIGTERM)
# coreutils' timeout sends its signal twice, to the process and to its group: that is one.
APART = 0.2  # seconds
LATER = 0.05  # seconds until an exception that could not be raised is tried again
GRACE = 5.0  # seconds from a signal that is raised to the end of the process

Handler = Callable[[int, FrameType | None], None]


def sentence(signum: int) -> str:
    """What is said when a signal ends the process."""
    return f"Stopped by {signal.Signals(signum).name}; the same command goes on from here."


@dataclass
class _Raising:
    """A signal on its way through Python, shared with the thread that watches.

    Attributes:
      noted: its number; 0: none yet.
      postponed: it was not the place to raise an exception.
      again: its handler is to raise once more.
      resent: bytes in the socket that are our own.
    """

    noted: int = 0
    postponed: bool = False
    again: bool = False
    resent: int = 0

    def handle(self, signum: int, frame: FrameType | None) -> None:
        """Raise Interrupted, once: what cleans up after it is not to be disturbed."""
        if self.noted and not self.again:
            return
        self.noted, self.again = self.noted or signum, False
        if _imports(frame):
            self.postponed = True
        else:
            raise Interrupted(self.noted)

    def retry(self) -> None:
        """Have the main thread handle the signal again, where it could not be raised."""
        if self.postponed:
            self.postponed, self.again = False, True
            self.resent += 1
            _thread.interrupt_main(self.noted)  # type: ignore[arg-type]


def _imports(frame: FrameType | None) -> bool:
    # Extension modules that import print what is raised there, and go on or fail with a riddle.
    while frame is not None:
        if frame.f_code.co_filename == "<frozen importlib._bootstrap>":
            return True
        frame = frame.f_back
    return False


@contextlib.contextmanager
def raised() -> Iterator[None]:
    """Within the block a signal raises Interrupted in the main thread, a second ends the process.

    What an interrupted library makes of it, another exception or none, comes out as Interrupted;
    where that takes too long, the process is ended. After the block any signal ends it.
    """
    raising = _Raising()
    with (
        _handled_by(raising.handle) as before,
        _unswallowed(raising),
        _watched(raising),
    ):
        try:
            yield
            if raising.noted:
                raise Interrupted(raising.noted)
        except BaseException as error:
            if not raising.noted and not isinstance(error, Interrupted):
                raise
            before.update(dict.fromkeys(SIGNALS, signal.SIG_DFL))
            if isinstance(error, Interrupted):
                raise
            raise Interrupted(raising.noted) from None


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
def _handled_by(handler: Handler) -> Iterator[dict[signal.Signals, Any]]:
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
def _unswallowed(raising: _Raising) -> Iterator[None]:
    """Try again when Interrupted was raised where Python drops exceptions.

    Callbacks of weak references and of the garbage collector are such places, and JAX has many.
    """
    before = sys.unraisablehook

    def hook(unraisable: Any) -> None:
        if isinstance(unraisable.exc_value, Interrupted):
            raising.postponed = True
        else:
            before(unraisable)

    sys.unraisablehook = hook
    try:
        yield
    finally:
        sys.unraisablehook = before


@contextlib.contextmanager
def _watched(raising: _Raising) -> Iterator[None]:
    """Have a thread look after the signals.

    A handler in Python has to wait until a call into XLA or TensorFlow returns; the number of the
    signal is in the socket at once.
    """
    read, write = socket.socketpair()
    write.setblocking(False)
    before = signal.set_wakeup_fd(write.fileno(), warn_on_full_buffer=False)
    watcher = threading.Thread(target=_watch, args=(read, raising), name="signals", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        write.close()
        watcher.join()
        read.close()


def _watch(read: socket.socket, raising: _Raising) -> None:
    first, deadline = 0.0, float("inf")
    signum = 0
    while True:
        try:
            byte = read.recv(1)
        except TimeoutError:
            if time.monotonic() > deadline:
                _end(signum)
            raising.retry()
            continue
        if not byte:
            return
        if byte[0] not in SIGNALS:
            continue
        if raising.resent:
            raising.resent -= 1
            continue
        now = time.monotonic()
        if first and now - first > APART:
            _end(byte[0])
        if not first:
            first, signum = now, byte[0]
            read.settimeout(LATER)
            if signal.getsignal(signum) == raising.handle:  # not deferred
                deadline = now + GRACE


def _end(signum: int) -> NoReturn:
    try:
        os.write(2, f"{sentence(signum)}\n".encode())
    finally:
        os._exit(128 + signum)
