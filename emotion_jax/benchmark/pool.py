"""The contenders' processes, as their parent sees them."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from emotion_jax.benchmark.worker import OURS, PEERS, TUNED, threads
from emotion_jax.errors import UserError, listed

# By name in --peers: its contenders, and the modules that they import.
FAMILIES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "torch": (("torch eager", "torch channels_last", "torch compile"), ("torch",)),
    "keras": (("keras", "keras no_jit"), ("keras", "tensorflow")),
    "onnxruntime": (("onnxruntime",), ("onnx", "onnxruntime")),
}
INFERENCE_ONLY = ("onnxruntime", f"onnxruntime{TUNED}")


class Failed(Exception):
    """A contender could not do what it was asked to; the message is the first line of why."""


def parse_peers(text: str) -> tuple[str, ...]:
    """Names out of "torch,keras+allocator"; none out of "".

    Raises:
      UserError: one is unknown, or it is not installed.
    """
    names = tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    for name in names:
        family = name.removesuffix(TUNED)
        if family not in FAMILIES:
            raise UserError(
                f"--peers: {name!r} is not one of {listed(FAMILIES)}, alone or with {TUNED}."
            )
        missing = [module for module in FAMILIES[family][1] if find_spec(module) is None]
        if missing:
            raise UserError(
                f"--peers: {name} needs {listed(missing)}, which is not installed; "
                'use pip install "emotion-jax[bench]" or leave it out.'
            )
    return names


def contenders(peers: tuple[str, ...]) -> tuple[str, ...]:
    """Ours and those of the peers, in order."""
    return (OURS, *(name for peer in peers for name in members(peer)))


def members(peer: str) -> tuple[str, ...]:
    """The contenders of one peer, of which the fastest counts."""
    family = peer.removesuffix(TUNED)
    return tuple(name + peer.removeprefix(family) for name in FAMILIES[family][0])


class Worker:
    """One contender's process; a context manager that ends it, and all it has started.

    Args:
      name: ``OURS`` or a key of ``PEERS``.
      folder: where the network is, or where ours writes it.

    Raises:
      Failed: it could not be built.
      UserError: it could not, and says why in a sentence; or it died.
    """

    def __init__(self, name: str, folder: Path) -> None:
        if name != OURS and name.removesuffix(TUNED) not in PEERS:
            raise ValueError(f"there is no contender {name}")
        self.name = name
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 (closed with the process)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "emotion_jax.benchmark.worker", name, str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env=environment(),
            text=True,
            start_new_session=True,  # Ctrl-C comes to the parent alone, which ends the group
        )
        try:
            self._answer()
        except BaseException:
            self.close()
            raise

    def ask(self, task: str, **arguments: Any) -> Any:
        """The answer to a request.

        Raises:
          Failed, UserError: as for the class.
        """
        pipe: Any = self._process.stdin
        with contextlib.suppress(BrokenPipeError):  # it is dead; no answer will say so
            pipe.write(json.dumps({"task": task, **arguments}) + "\n")
            pipe.flush()
        return self._answer()

    def _answer(self) -> Any:
        pipe: Any = self._process.stdout
        line = pipe.readline()
        if not line:
            raise UserError(self._obituary())
        answer = json.loads(line)
        if answer.get("user"):
            raise UserError(answer["error"])
        if "error" in answer:
            raise Failed(answer["error"])
        return answer["answer"]

    def _obituary(self) -> str:
        status = self._process.wait()
        how = f"was killed by {signal.Signals(-status).name}" if status < 0 else f"ended ({status})"
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").strip().splitlines()
        last = f": {lines[-1].strip()}" if lines else ""
        return f"The process of {self.name} {how}{last}; run again, or leave it out of --peers."

    def close(self) -> None:
        """End the process and its children."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout, self._errors):
            with contextlib.suppress(BrokenPipeError):
                pipe.close()  # type: ignore[union-attr]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def environment() -> Mapping[str, str]:
    """Of a contender: the same number of threads for everyone, and room for others on a GPU."""
    n = str(threads())
    return {
        "OMP_NUM_THREADS": n,  # XLA takes the same number, the machine's cores, by itself
        "TF_NUM_INTRAOP_THREADS": n,
        "TF_FORCE_GPU_ALLOW_GROWTH": "true",
        "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
        "TORCHINDUCTOR_COMPILE_THREADS": "1",  # no processes of its own
        **os.environ,
    }
