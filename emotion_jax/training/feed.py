"""What the step is fed with, by either pipeline, and what it makes of it on the device."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from emotion_jax.config import Config
from emotion_jax.data import resident, stream, tfdata
from emotion_jax.data.dataset import Split
from emotion_jax.training import mesh as mesh_lib
from emotion_jax.training.step import Batch, Prepare


@dataclass(frozen=True)
class Feed:
    """Batches of one run.

    Attributes:
      steps_per_epoch: the last partial batch is dropped.
      prepare: runs inside the step.
      fed: from (first step, one past the last) to what ``prepare`` takes, a step at a time; a pure
        function of the seed and the step.
    """

    steps_per_epoch: int
    prepare: Prepare
    fed: Callable[[int, int], Iterator[Any]]


def make(config: Config, train: Split, mesh: Mesh) -> Feed:
    """The feed of ``config.data.pipeline``.

    Raises:
      UserError: TensorFlow is missing, the data does not fit the devices, or a batch is larger
        than the split.
    """
    batch_size = config.training.batch_size
    mesh_lib.check_batch(mesh, batch_size)
    steps = stream.steps_per_epoch(len(train), batch_size)
    make_feed = {"tfdata": _tfdata, "resident": _resident}[config.data.pipeline]
    return Feed(steps, *make_feed(config, train, mesh))


def _tfdata(
    config: Config, train: Split, mesh: Mesh
) -> tuple[Prepare, Callable[[int, int], Iterator[Any]]]:
    sharding = mesh_lib.by_batch(mesh)
    size, channels = config.data.image_size, config.data.channels

    def fed(start: int, stop: int) -> Iterator[Any]:
        batches = tfdata.batches(
            train,
            config.data,
            seed=config.training.seed,
            batch_size=config.training.batch_size,
            start=start,
            stop=stop,
            rows=mesh_lib.local_rows(config.training.batch_size),
            image_shape=(size, size, channels),
        )
        for batch in batches:
            yield tuple(jax.make_array_from_process_local_data(sharding, a) for a in batch)

    def prepare(fed: Any, key: jax.Array) -> Batch:
        del key  # augmented on the host
        return fed

    tfdata.require()
    return prepare, fed


def _resident(
    config: Config, train: Split, mesh: Mesh
) -> tuple[Prepare, Callable[[int, int], Iterator[Any]]]:
    seed, batch_size = config.training.seed, config.training.batch_size
    data = resident.put(train, mesh_lib.replicated(mesh))
    sharding = mesh_lib.by_batch(mesh)
    rows = mesh_lib.local_rows(batch_size)

    def fed(start: int, stop: int) -> Iterator[Any]:
        for step in range(start, stop):
            indices = stream.batch_indices(seed, step, len(train), batch_size)[rows]
            # The data set goes along as an argument: closed over, it would be a constant of the
            # compiled program.
            yield data, jax.make_array_from_process_local_data(sharding, np.asarray(indices))

    def prepare(fed: Any, key: jax.Array) -> Batch:
        data, indices = fed
        return resident.make_batch(data, indices, key, config.data.augment)

    return prepare, fed
