"""One program on several processes: how they meet, what they agree on, how they end.

Every process runs the same code on the same settings and data; ``mesh`` is over the devices of all.
Process 0 alone writes and speaks. What differs from process to process (a signal, the clock, what
is on disk) is agreed on before anything is decided by it.
"""

import atexit
import contextlib
import hashlib
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import NoReturn

import jax
import numpy as np

from emotion_jax.errors import UserError
from emotion_jax.training import mesh as mesh_lib
from emotion_jax.training import relay

# For processes started by hand. JAX itself reads the first; a cluster that it knows needs none.
ADDRESS, COUNT, INDEX = "JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID"
TIMEOUT = "EMOTION_JAX_MEET_SECONDS"

MEET_SECONDS = 120  # until all processes have come
HEARTBEAT_SECONDS = 30  # a process that is silent for longer is lost
LEAVE_SECONDS = 5  # that a process which fails waits for others that fail for the same reason

LOST = (
    "error: Another process of this run has ended or cannot be reached (its own output says why); "
    "the same command on every process goes on from the last checkpoint."
)
MISSING = (
    f"error: --multihost: the processes did not meet at {{}} within {{}} seconds; start all of "
    f"them, with the same {ADDRESS}, or raise {TIMEOUT}."
)
# In the messages of what JAX raises when a collective's other end is gone.
_LOSS = re.compile("Gloo|NCCL|coordination|heartbeat|Socket closed|UNAVAILABLE|DEADLINE_EXCEEDED")


def is_main() -> bool:
    """Whether this process is the one that writes and speaks; does not start the devices."""
    return not jax.distributed.is_initialized() or jax.process_index() == 0


@contextlib.contextmanager
def joined() -> Iterator[None]:
    """Within the block this process is one of several; before any other use of JAX.

    When another process is lost this one ends, within about ``HEARTBEAT_SECONDS``, with ``LOST``.

    Raises:
      UserError: the processes cannot meet, or have different numbers of devices.
    """
    timeout = _integer(TIMEOUT) or MEET_SECONDS
    _relay_words(MISSING.format(os.environ.get(ADDRESS, "the coordinator"), timeout))
    met = False
    try:
        _meet(timeout)
        met = True
        if not is_main():
            sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 - until the end
        yield
        jax.distributed.shutdown()
    except BaseException as error:
        if isinstance(error, RuntimeError | ValueError) and _LOSS.search(str(error)):
            os.write(2, relay.LOST)
            _end(1)
        os.write(2, relay.TOLD)
        if met:
            _leave()
        # Python's own way out would wait for all processes, of which one may be gone.
        atexit.register(_end, getattr(error, "exit_code", 1))
        raise


def decide(signum: int, save: bool, now: bool) -> tuple[int, bool]:
    """Whether all processes stop, by which signal, and whether they save.

    Args:
      signum: that came to this process, or 0.
      save: whether it is time to; process 0's clock counts.
      now: the same in all processes. Where it is false several processes go on without a word
        between them; one process decides at every step.
    """
    if jax.process_count() == 1:
        return signum, save
    if not now:
        return 0, False
    signum, asked = _largest(signum, save and is_main())
    return int(signum), bool(asked)


def step_of_main(directory: Path, find: Callable[[], Path | None]) -> Path | None:
    """The step in ``directory`` that ``find`` gives process 0.

    Raises:
      UserError: what ``find`` raises, or this process does not see that step.
    """
    if jax.process_count() == 1:
        return find()
    found = find() if is_main() else None
    (number,) = _largest(-1 if found is None else int(found.name))
    if number < 0:
        return None
    step = directory / str(number)
    if not step.is_dir():
        raise UserError(
            f"--workdir: process {jax.process_index()} does not see {step}, which process 0 does; "
            "give all processes a folder that they share."
        )
    return step


def check_same(what: str, text: str) -> None:
    """Refuse to go on where ``text`` differs between the processes.

    Raises:
      UserError: it does; names ``what``.
    """
    if jax.process_count() == 1:
        return
    digest = np.frombuffer(hashlib.sha256(text.encode()).digest(), np.uint32) >> 1
    words = [int(word) for word in digest]
    if _largest(*words, *(-word for word in words)) != (*words, *(-word for word in words)):
        raise UserError(
            f"--multihost: the processes were started with different {what}; "
            "give all of them the same."
        )


def _largest(*values: int) -> tuple[int, ...]:
    """Of each value, the largest that a process has."""
    mesh = mesh_lib.make()
    rows = np.tile(np.asarray(values, np.int32), (jax.local_device_count(), 1))
    # A collective of all devices, like the step's own: Gloo gives a new group of devices but 30 s
    # to come together, and this one has met.
    fed = jax.make_array_from_process_local_data(mesh_lib.by_batch(mesh), rows)
    largest = jax.jit(_maximum, out_shardings=mesh_lib.replicated(mesh))(fed)
    return tuple(np.asarray(largest).tolist())


def _maximum(rows: jax.Array) -> jax.Array:
    return rows.max(0)


def _meet(timeout: int) -> None:
    address, count, index = os.environ.get(ADDRESS), _integer(COUNT), _integer(INDEX)
    if address is not None and not re.fullmatch(r".+:\d+", address):
        raise UserError(f"{ADDRESS}: {address!r} is not of the form HOST:PORT.")
    by_hand = None not in (address, count, index)
    ours = signal.getsignal(signal.SIGTERM)
    initialize = partial(
        jax.distributed.initialize,
        coordinator_address=address,
        num_processes=count,
        process_id=index,
        cluster_detection_method="deactivate" if by_hand else None,
        initialization_timeout=timeout,
        heartbeat_timeout_seconds=HEARTBEAT_SECONDS,
    )
    try:
        _in_thread(initialize)
    except (RuntimeError, ValueError, OSError) as error:
        reason = str(error).partition("\n")[0].rstrip(".")
        raise UserError(
            f"--multihost: {reason}; away from a cluster that JAX knows, start each process with "
            f"{ADDRESS}=HOST:PORT (of process 0), {COUNT}=N and {INDEX}=0 to N-1."
        ) from None
    signal.signal(signal.SIGTERM, ours)  # JAX has put its own in that place
    if jax.local_device_count() * jax.process_count() != jax.device_count():
        raise UserError(
            f"--multihost: process {jax.process_index()} has {jax.local_device_count()} of the "
            f"{jax.device_count()} devices; all {jax.process_count()} processes need equally many."
        )
    _largest(0)  # at once, see there


def _in_thread(work: Callable[[], None]) -> None:
    """Do ``work`` where it keeps no signal from the main thread, as a call into C++ does there."""
    failed: list[Exception] = []

    def run() -> None:
        try:
            work()
        except Exception as error:
            failed.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join()
    if failed:
        raise failed[0]


def _leave() -> None:
    """Wait for the other processes to leave as well, but not for long."""

    def shutdown() -> None:
        with contextlib.suppress(RuntimeError):  # one of them is gone
            jax.distributed.shutdown()

    thread = threading.Thread(target=shutdown, daemon=True)
    thread.start()
    thread.join(LEAVE_SECONDS)


def _integer(name: str) -> int | None:
    text = os.environ.get(name)
    if text is None:
        return None
    if not text.isdecimal():
        raise UserError(f"{name}: {text!r} is not a whole number.")
    return int(text)


def _relay_words(missing: str) -> None:
    """Have relay.py read what C++ writes from now on; Python's own output goes where it went."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        stream.flush()
        copy = os.fdopen(
            os.dup(stream.fileno()),
            "w",
            buffering=1,
            encoding=stream.encoding,
            errors=stream.errors,
        )
        setattr(sys, name, copy)
    reader = subprocess.Popen(  # outlives this process
        [sys.executable, "-I", "-S", relay.__file__, LOST, missing],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=sys.stderr.fileno(),
        start_new_session=True,  # Ctrl-C is not for it
    )
    assert reader.stdin is not None
    with reader.stdin as pipe:
        os.dup2(pipe.fileno(), 1)
        os.dup2(pipe.fileno(), 2)


def _end(status: int) -> NoReturn:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
