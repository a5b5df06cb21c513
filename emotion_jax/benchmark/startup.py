"""From the command to its first finished step."""

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax

from emotion_jax.errors import UserError

MARK = "emotion_jax: the first step is done"
# Of the process that is timed; {program} is what the command runs.
CODE = "from emotion_jax.benchmark import startup; startup.stop_after_first_step(); {program}"


def stop_after_first_step() -> None:
    """Have this process say ``MARK`` and end when its first training step is done."""
    from emotion_jax.training import step

    make: Callable[..., Any] = step.make_train_step

    def make_train_step(*args: Any, **kwargs: Any) -> Callable[..., Any]:
        train_step = make(*args, **kwargs)

        def first(*inputs: Any) -> None:
            jax.block_until_ready(train_step(*inputs))
            print(f"\n{MARK}", flush=True)
            os._exit(0)

        return first

    step.make_train_step = make_train_step


def measure(program: str, arguments: Sequence[str], warm: int = 1) -> dict[str, float]:
    """Seconds to the first step with an empty compilation cache, and again with what it has left.

    Args:
      program: Python that trains by ``sys.argv``.
      arguments: of the command, but for the workdir.
      warm: how many times again; the fastest counts.

    Returns:
      ``cold`` and ``warm``.

    Raises:
      UserError: it ended before its first step.
    """
    with tempfile.TemporaryDirectory() as name:
        runs = [_seconds(program, arguments, Path(name), i) for i in range(1 + warm)]
    return {"cold": runs[0], "warm": min(runs[1:])}


def _seconds(program: str, arguments: Sequence[str], folder: Path, run: int) -> float:
    command = [sys.executable, "-c", CODE.format(program=program), *arguments]
    environment = {**os.environ, "JAX_COMPILATION_CACHE_DIR": str(folder / "xla")}
    with (folder / "errors").open("w+") as errors:
        began = time.monotonic()
        with subprocess.Popen(
            [*command, "--workdir", str(folder / f"run{run}")],
            stdout=subprocess.PIPE,
            stderr=errors,
            env=environment,
            text=True,
            start_new_session=True,
        ) as process:
            try:
                pipe: Any = process.stdout
                for line in pipe:
                    if line.strip() == MARK:
                        return time.monotonic() - began
            finally:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
        errors.seek(0)
        last = (errors.read().strip().splitlines() or ["it said nothing"])[-1]
    raise UserError(f"The training command ended before its first step: {last}")
