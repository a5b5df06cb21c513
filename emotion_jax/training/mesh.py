"""One axis of devices, "data": batches are split over it, everything else is on each device."""

from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec, Sharding

from emotion_jax.errors import UserError


def make() -> Mesh:
    """All devices of all processes, in a row."""
    if jax.process_count() > 1:  # in the order in which the processes share the rows of a batch
        devices = sorted(jax.devices(), key=lambda device: (device.process_index, device.id))
        return Mesh(np.array(devices), ("data",), axis_types=(AxisType.Auto,))
    return jax.make_mesh((jax.device_count(),), ("data",), axis_types=(AxisType.Auto,))


def replicated(mesh: Mesh) -> NamedSharding:
    """The whole array on every device."""
    return NamedSharding(mesh, PartitionSpec())


def by_batch(mesh: Mesh, axis: int = 0) -> NamedSharding:
    """One axis, the first or the one of that number, split over the devices."""
    return NamedSharding(mesh, PartitionSpec(*[None] * axis, "data"))


def put(tree: Any, sharding: Sharding) -> Any:
    """Lay out arrays that every process holds whole; nothing is sent between processes."""

    def put_leaf(leaf: Any) -> jax.Array:
        array = np.asarray(leaf)
        return jax.make_array_from_callback(array.shape, sharding, lambda index: array[index])

    return jax.tree.map(put_leaf, tree)


def check_batch(mesh: Mesh, batch_size: int) -> None:
    """Refuse a batch that the devices cannot share equally.

    Raises:
      UserError: ``batch_size`` is no multiple of the number of devices.
    """
    if batch_size % mesh.size:
        raise UserError(
            f"training.batch_size: {batch_size} images do not divide by {mesh.size} devices; "
            f"use a multiple of {mesh.size}."
        )


def local_rows(batch_size: int) -> slice:
    """The rows of the global batch that this process feeds."""
    share = batch_size // jax.process_count()
    return slice(share * jax.process_index(), share * (jax.process_index() + 1))
