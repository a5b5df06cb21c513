"""What the step is fed with, by either pipeline, and what it makes of it on the device."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from emotion_jax.config import Config
from emotion_jax.data import resident, stream, tfdata
from emotion_jax.data.split import Split
from emotion_jax.training import dispatch
from emotion_jax.training import mesh as mesh_lib
from emotion_jax.training.step import Batch, Prepare, Take


@dataclass(frozen=True)
class Feed:
    """Batches of one run.

    Attributes:
      steps_per_epoch: the last partial batch is dropped.
      prepare: runs inside the step.
      fed: from (first step, one past the last) to what the train step takes, a dispatch at a time;
        a pure function of the seed and the steps.
      take: of ``make_train_step``; None where a dispatch is one step.
      most: steps a dispatch.
    """

    steps_per_epoch: int
    prepare: Prepare
    fed: Callable[[int, int], Iterator[Any]]
    take: Take | None = None
    most: int = 1

    def dispatches(self, start: int, stop: int) -> Iterator[tuple[int, Any]]:
        """The step after it and what the train step takes, a dispatch at a time."""
        ends = dispatch.ends(start, stop, self.steps_per_epoch, self.most)
        return zip(ends, self.fed(start, stop), strict=True)


def make(config: Config, train: Split, mesh: Mesh) -> Feed:
    """The feed of ``config.data.pipeline``.

    Raises:
      UserError: TensorFlow is missing, the data does not fit the devices, a batch is larger than
        the split, or the pipeline cannot feed several steps at once.
    """
    batch_size = config.training.batch_size
    most = dispatch.steps_per_dispatch(config)
    mesh_lib.check_batch(mesh, batch_size)
    steps = stream.steps_per_epoch(len(train), batch_size)
    if config.data.pipeline == "tfdata":
        return Feed(steps, *_tfdata(config, train, mesh))
    return _resident(config, train, mesh, steps, most)


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


def _resident(config: Config, train: Split, mesh: Mesh, per_epoch: int, most: int) -> Feed:
    seed, batch_size = config.training.seed, config.training.batch_size
    # The data set goes along as an argument: closed over, it would be a constant of the program.
    data = resident.put(train, mesh_lib.replicated(mesh))
    rows = mesh_lib.local_rows(batch_size)
    longest = min(most, per_epoch)

    def indices(step: int) -> np.ndarray:
        return stream.batch_indices(seed, step, len(train), batch_size)[rows]

    def one(start: int, stop: int) -> Iterator[Any]:
        sharding = mesh_lib.by_batch(mesh)
        for step in range(start, stop):
            yield data, jax.make_array_from_process_local_data(sharding, indices(step))

    def several(start: int, stop: int) -> Iterator[Any]:
        sharding = mesh_lib.by_batch(mesh, axis=1)
        for end in dispatch.ends(start, stop, per_epoch, longest):
            chunk = np.zeros((longest, batch_size // jax.process_count()), np.int32)
            chunk[: end - start] = [indices(step) for step in range(start, end)]
            count = mesh_lib.put(np.int32(end - start), mesh_lib.replicated(mesh))
            start = end
            yield count, (data, jax.make_array_from_process_local_data(sharding, chunk))

    prepare = resident_prepare(config)
    if most == 1:
        return Feed(per_epoch, prepare, one)
    return Feed(per_epoch, prepare, several, lambda fed, i: (fed[0], fed[1][i]), longest)


def resident_prepare(config: Config) -> Prepare:
    """What the resident pipeline makes of (data set, indices) inside the step."""

    def prepare(fed: Any, key: jax.Array) -> Batch:
        data, indices = fed
        return resident.make_batch(data, indices, key, config.data.augment)

    return prepare
