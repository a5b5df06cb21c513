"""What a step changes."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn
from flax import struct
from jax.sharding import Mesh

from emotion_jax.training import mesh as mesh_lib
from emotion_jax.training.metrics import Sums


class TrainState(struct.PyTreeNode):
    """All that is carried from step to step, and saved.

    Attributes:
      step: int32, optimisation steps taken.
      params: float32.
      batch_stats: float32, BatchNorm's running mean and variance.
      opt_state: of the Optax transformation.
      average: moving averages of ``params`` and ``batch_stats``; empty if none is kept.
      sums: over the current epoch's training batches.
      bad_step: int32, the first step whose loss or gradient was not finite; 0: none.
    """

    step: jax.Array
    params: Any
    batch_stats: Any
    opt_state: Any
    average: Any
    sums: Sums
    bad_step: jax.Array

    @property
    def variables(self) -> dict[str, Any]:
        """What the module is measured and used with."""
        return self.average or self.trained

    @property
    def trained(self) -> dict[str, Any]:
        """What the next step begins with."""
        return {"params": self.params, "batch_stats": self.batch_stats}


def without_sums(state: TrainState) -> TrainState:
    """The state with the sums of a new epoch, laid out as before (or the step would recompile)."""
    zeros = jax.tree.map(lambda a: np.zeros(a.shape, a.dtype), state.sums)
    return state.replace(sums=mesh_lib.put(zeros, state.step.sharding))


def make_key(seed: int, mesh: Mesh) -> jax.Array:
    """The run's key, on every device of ``mesh``: one that all processes can give to a program."""
    return jax.jit(lambda: jax.random.key(seed), out_shardings=mesh_lib.replicated(mesh))()


def create(
    module: nn.Module,
    tx: optax.GradientTransformation,
    image_shape: tuple[int, int, int],
    classes: int,
    seed: int,
    mesh: Mesh,
    averaged: bool = False,
) -> TrainState:
    """The state before the first step, on every device of ``mesh``.

    Args:
      module: the network.
      tx: gradients to updates.
      image_shape: (S, S, C).
      classes: K.
      seed: of the parameters.
      mesh: the devices.
      averaged: whether moving averages are kept.
    """

    def init(key: jax.Array) -> TrainState:
        variables = module.init(key, jnp.zeros((1, *image_shape), jnp.uint8))
        state = TrainState(
            step=jnp.zeros((), jnp.int32),
            params=variables["params"],
            batch_stats=variables.get("batch_stats", {}),
            opt_state=tx.init(variables["params"]),
            average={},
            sums=Sums.zeros(classes),
            bad_step=jnp.zeros((), jnp.int32),
        )
        return state.replace(average=state.trained) if averaged else state

    return jax.jit(init, out_shardings=mesh_lib.replicated(mesh))(make_key(seed, mesh))
