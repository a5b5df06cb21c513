"""Evaluation on the devices: the last batch is padded and masked, so every example counts."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax.sharding import Mesh
from tqdm.auto import tqdm

from emotion_jax.data.stream import Examples
from emotion_jax.training import mesh as mesh_lib
from emotion_jax.training.metrics import Sums

SHIFT = 1 / 16  # of the image's side, in the views that are moved


def _view(down: int, right: int, mirrored: bool) -> Callable[[jax.Array], jax.Array]:
    """Moves images [N, H, W, C] by ``SHIFT`` times these, its border repeated, and mirrors them."""

    def view(images: jax.Array) -> jax.Array:
        _, height, width, _ = images.shape
        y, x = round(SHIFT * height), round(SHIFT * width)
        padded = jnp.pad(images, ((0, 0), (y, y), (x, x), (0, 0)), "edge")
        top, left = y * (1 - down), x * (1 - right)
        moved = padded[:, top : top + height, left : left + width]
        return moved[:, :, ::-1] if mirrored else moved

    return view


_MOVES = {"": (0, 0), "up": (-1, 0), "down": (1, 0), "left": (0, -1), "right": (0, 1)}

# What --tta averages over, where the checkpoint declares it.
VIEWS = {
    f"{name} flip".strip() if mirrored else name or "identity": _view(*move, mirrored)
    for name, move in _MOVES.items()
    for mirrored in (False, True)
}

BATCH_SIZE = 256  # images at a time

PredictFn = Callable[..., tuple[jax.Array, Sums]]


def log_probabilities(logits: jax.Array, temperature: float = 1.0) -> jax.Array:
    """What every probability that leaves the program is the exponential of: float32 [N, K].

    Args:
      logits: float32 [N, K].
      temperature: of the checkpoint, fitted on validation (Guo et al. 2017, arXiv:1706.04599).
    """
    return jax.nn.log_softmax(logits / temperature)


def make_predict(
    module: nn.Module, mesh: Mesh, views: Sequence[str] = ("identity",), temperature: float = 1.0
) -> PredictFn:
    """Compile (variables, images, labels, mask) -> (log-probabilities [N, K], Sums) for a mesh.

    With several views the probabilities are the mean over them.
    """

    def predict_batch(
        variables: Any, images: jax.Array, labels: jax.Array, mask: jax.Array
    ) -> tuple[jax.Array, Sums]:
        logits = (jnp.asarray(module.apply(variables, VIEWS[view](images))) for view in views)
        seen = [log_probabilities(view_logits, temperature) for view_logits in logits]
        logs = seen[0]
        if len(seen) > 1:
            logs = jax.nn.logsumexp(jnp.stack(seen), axis=0) - jnp.log(float(len(seen)))
        losses = -jnp.take_along_axis(logs, labels[:, None], axis=1)[:, 0]
        return logs, Sums.of(logs, labels, losses, mask)

    return jax.jit(predict_batch, out_shardings=mesh_lib.replicated(mesh))


def predict(
    predict_fn: PredictFn,
    variables: Any,
    examples: Examples,
    batch_size: int,
    mesh: Mesh,
    progress: str = "",
) -> tuple[np.ndarray, Sums]:
    """Predict every example, once, in order.

    Args:
      predict_fn: from ``make_predict``.
      variables: of the module, replicated.
      examples: the split.
      batch_size: images at a time over all devices; rounded up to a multiple of them.
      mesh: the devices.
      progress: title of the progress bar; none if empty.

    Returns:
      Log-probabilities float32 [n, K], and the sums over all examples on the host.
    """
    batch_size = -(-batch_size // mesh.size) * mesh.size
    logs: list[Any] = []
    sums: Any = None
    bar = tqdm(total=len(examples), desc=progress, unit="img", disable=not progress, leave=False)
    with bar:
        for fed in _padded(examples, batch_size, mesh):
            batch_logs, batch_sums = predict_fn(variables, *fed)
            logs.append(batch_logs)
            sums = batch_sums if sums is None else sums + batch_sums
            if len(logs) > 1:  # one batch behind, so that the devices do not wait for the host
                logs[-2] = np.asarray(logs[-2])
            bar.update(min(batch_size, len(examples) - bar.n))
        result = np.concatenate([np.asarray(batch) for batch in logs])[: len(examples)]
    return result, jax.device_get(sums)


def _padded(examples: Examples, batch_size: int, mesh: Mesh) -> Iterator[tuple[jax.Array, ...]]:
    """Batches of (images, labels, mask), each process its own rows."""
    rows = mesh_lib.local_rows(batch_size)
    sharding = mesh_lib.by_batch(mesh)
    for start in range(0, len(examples), batch_size):
        numbers = np.arange(start, start + batch_size)[rows]
        mask = numbers < len(examples)
        numbers = np.minimum(numbers, len(examples) - 1)
        local = (examples.images(numbers), examples.labels[numbers], mask)
        yield tuple(jax.make_array_from_process_local_data(sharding, array) for array in local)
