"""One contender in a process of its own: ``python -m emotion_jax.benchmark.worker NAME FOLDER``.

It reads a request a line on stdin, ``{"task": "train", "batch": 64, "steps": 3}``, and writes an
answer a line, ``{"answer": ...}`` or ``{"error": "..."}``. In between it waits on the pipe, so that
others have the machine to themselves.

A contender has ``describe() -> dict``, ``logits(images) -> array``, and ``train(batch, steps)`` and
``evaluate(batch, steps)``, which give seconds; its input is on the device beforehand.
"""

import importlib
import json
import os
import sys
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, TextIO

from emotion_jax import allocator, xla
from emotion_jax.errors import UserError

OURS = "emotion_jax"
# By name: the module in emotion_jax.benchmark.peers and the variant.
PEERS = {
    "torch eager": ("pytorch", "eager"),
    "torch channels_last": ("pytorch", "channels_last"),
    "torch compile": ("pytorch", "compile"),
    "keras": ("tensorflow_keras", "default"),
    "keras no_jit": ("tensorflow_keras", "no_jit"),
    "onnxruntime": ("onnx_runtime", "default"),
}
# After a peer's name: with the allocator's settings that our commands make for themselves.
TUNED = "+allocator"
TASKS = (
    "describe",
    "flops_per_image",
    "train",
    "evaluate",
    "matmul",
    "program",
    "memory",
    "end_to_end",
)


def threads() -> int:
    """The cores that this process may use, which is how many threads every contender gets."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def main() -> None:
    """Build the contender, say so with a first answer, then answer requests until stdin ends."""
    name, folder = sys.argv[1], Path(sys.argv[2])
    if name == OURS:
        xla.set_flags()
    if name == OURS or name.endswith(TUNED):
        allocator.keep_freed_memory()
    # Libraries print what they like: only answers may go where the parent reads.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    contender: Any = None

    def make() -> None:
        nonlocal contender
        contender = _make(name, folder)

    _answer(make, answers)
    for line in sys.stdin if contender else ():
        _answer(partial(do, contender, folder, json.loads(line)), answers)


def _make(name: str, folder: Path) -> Any:
    if name == OURS:
        return importlib.import_module("emotion_jax.benchmark.ours").Contender(folder)
    # Not at the top: it imports JAX, which no peer needs, and before the allocator was set.
    from emotion_jax.benchmark import network

    module, variant = PEERS[name.removesuffix(TUNED)]
    peer = importlib.import_module(f"emotion_jax.benchmark.peers.{module}")
    return peer.Contender(network.load(folder), variant, threads())


def do(contender: Any, folder: Path, request: dict[str, Any]) -> Any:
    """What the contender answers to a request.

    Raises:
      ValueError: there is no such task.
    """
    arguments = {key: value for key, value in request.items() if key != "task"}
    if request["task"] == "logits":
        from emotion_jax.benchmark import network

        images, _ = network.load(folder).sample(network.SAMPLE)
        return contender.logits(images).tolist()
    if request["task"] not in TASKS:
        raise ValueError(f"there is no task {request['task']}")
    return getattr(contender, request["task"])(**arguments)


def _answer(work: Callable[[], Any], answers: TextIO) -> None:
    """Write what ``work`` returns, or the first line of why it failed; its stderr has the rest."""
    try:
        answer = {"answer": work()}
    except UserError as error:
        answer = {"error": str(error), "user": True}
    except Exception as error:
        traceback.print_exc()
        reason = (str(error).strip().splitlines() or [""])[0]
        answer = {"error": f"{type(error).__name__}: {reason}"}
    print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
