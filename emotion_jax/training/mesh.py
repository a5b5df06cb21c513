"""One axis of devices, "data": batches are split over it, everything else is on each device."""

import jax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from emotion_jax.errors import UserError


def make() -> Mesh:
    """All devices of all processes, in a row."""
    return jax.make_mesh((jax.device_count(),), ("data",), axis_types=(AxisType.Auto,))


def replicated(mesh: Mesh) -> NamedSharding:
    """The whole array on every device."""
    return NamedSharding(mesh, PartitionSpec())


def by_batch(mesh: Mesh) -> NamedSharding:
    """The first axis split over the devices."""
    return NamedSharding(mesh, PartitionSpec("data"))


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
