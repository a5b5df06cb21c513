"""The device-resident pipeline: the data set in device memory, augmented inside the step."""

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Sharding

from emotion_jax.config import AugmentSettings
from emotion_jax.data import augment
from emotion_jax.data.stream import Examples
from emotion_jax.errors import UserError

Resident = tuple[jax.Array, jax.Array]
SHARE = 0.6  # of a device's free memory that the data may take; the model needs the rest
CHUNK = 4096


def check_fits(n_bytes: int, devices: list[jax.Device]) -> None:
    """Refuse a data set that the devices have no room for.

    A backend that does not tell its memory (the CPU) is taken at its word when it allocates.

    Raises:
      UserError: with both sizes.
    """
    for device in devices:
        stats = device.memory_stats() or {}
        if "bytes_limit" not in stats:
            continue
        free = stats["bytes_limit"] - stats.get("bytes_in_use", 0)
        if n_bytes > SHARE * free:
            raise UserError(
                f"data.pipeline: the data set takes {n_bytes / 2**30:.2f} GiB and {device} has "
                f"{free / 2**30:.2f} GiB free (at most {SHARE:.0%} of it is used for data); "
                "use --data.pipeline tfdata."
            )


def put(examples: Examples, sharding: Sharding) -> Resident:
    """Copy all examples to every device: uint8 [n, H, W, C] and the targets.

    Raises:
      UserError: they do not fit.
    """
    n = len(examples)
    first = examples.images(np.arange(1))
    check_fits(n * first.nbytes, sorted(sharding.addressable_devices, key=lambda d: d.id))
    whole = np.empty((n, *first.shape[1:]), first.dtype)
    for start in range(0, n, CHUNK):  # in place: joining chunks would take the memory twice
        rows = np.arange(start, min(start + CHUNK, n))
        whole[rows[0] : rows[-1] + 1] = examples.images(rows)
    host = (whole, examples.targets)
    images, targets = (
        jax.make_array_from_callback(array.shape, sharding, array.__getitem__) for array in host
    )
    return images, targets


def make_batch(
    data: Resident, indices: jax.Array, key: jax.Array, settings: AugmentSettings
) -> tuple[jax.Array, jax.Array]:
    """Gather and augment, to be traced into the step.

    Args:
      data: from ``put``.
      indices: int32 [b], split over the devices.
      key: of this step's augmentation.
      settings: its ranges.

    Returns:
      float32 [b, H, W, C] in [0, 255] and the targets, int32 [b] or float32 [b, K].
    """
    images, targets = data
    taken = jnp.take(images, indices, axis=0, mode="clip")
    return augment.augment(taken, key, settings), jnp.take(targets, indices, axis=0, mode="clip")
