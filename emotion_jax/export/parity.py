"""How far two runtimes are apart, and how fast each is."""

import time
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from tqdm.auto import tqdm

from emotion_jax.data.dataset import Split
from emotion_jax.export.function import Runner
from emotion_jax.training import mesh as mesh_lib
from emotion_jax.training import predict as predict_lib
from emotion_jax.training.trained import Trained

BATCH = 64  # images at a time
TIMED = (1, BATCH)  # batch sizes whose speed is measured
ROUNDS = 7


@dataclass(frozen=True)
class Difference:
    """Of two arrays of probabilities.

    Attributes:
      n: images.
      largest: absolute difference of two probabilities.
      agree: images that both give the same label.
    """

    n: int
    largest: float
    agree: int


def difference(found: np.ndarray, expected: np.ndarray) -> Difference:
    """Between probabilities float [n, K] and [n, K]."""
    return Difference(
        n=len(found),
        largest=float(np.abs(found.astype(np.float64) - expected).max()),
        agree=int((found.argmax(axis=1) == expected.argmax(axis=1)).sum()),
    )


def of_jax(trained: Trained, split: Split, progress: bool = False) -> np.ndarray:
    """Probabilities float32 [n, K], as evaluation computes them."""
    mesh = mesh_lib.make()
    predict_fn = predict_lib.make_predict(trained.module, mesh, temperature=trained.temperature)
    variables = mesh_lib.put(trained.variables, mesh_lib.replicated(mesh))
    title = "JAX" if progress else ""
    logs, _ = predict_lib.predict(predict_fn, variables, split, BATCH, mesh, title)
    return np.exp(logs)


def over(run: Runner, split: Split, progress: str = "") -> np.ndarray:
    """Probabilities float32 [n, K] of every image; the last batch is filled with its last image."""
    found = []
    starts = range(0, len(split), BATCH)
    for start in tqdm(starts, desc=progress, unit="batch", disable=not progress, leave=False):
        numbers = np.minimum(np.arange(start, start + BATCH), len(split) - 1)
        found.append(run(split.images(numbers)))
    return np.concatenate(found)[: len(split)]


def rates(runners: Mapping[str, Runner], split: Split) -> dict[int, dict[str, float]]:
    """Images a second of each, by batch size: the median of rounds in which they take turns."""
    found = {}
    for batch in TIMED:
        images = split.images(np.arange(batch) % len(split))
        seconds: dict[str, list[float]] = {name: [] for name in runners}
        for turn in range(ROUNDS + 1):
            for name, run in runners.items():
                began = time.perf_counter()
                run(images)
                if turn:  # the first one compiles
                    seconds[name].append(time.perf_counter() - began)
        found[batch] = {name: batch / float(np.median(times)) for name, times in seconds.items()}
    return found
