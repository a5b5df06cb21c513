"""Compiles the training step for TPUs that are not there; in a process of its own.

libtpu wants its environment before jax starts, writes to stderr as it likes, and once loaded stays.
``python -m emotion_jax.benchmark.topology RESULT.json`` reads a request from stdin (see
``ahead.compile_for``) and needs JAX_PLATFORMS=cpu.
"""

import json
import math
import sys
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import topologies
from jax.sharding import AxisType, Mesh, NamedSharding

from emotion_jax import config as config_lib
from emotion_jax import models
from emotion_jax.config import Config
from emotion_jax.errors import UserError
from emotion_jax.training import feed, optimizer, step
from emotion_jax.training import mesh as mesh_lib
from emotion_jax.training import state as state_lib

MEAN, STD = 0.5, 0.25  # of the images; they are constants of the program and change no cost


def mesh_of(target: str) -> Mesh:
    """The devices of a slice such as "v5e:2x4", in a row as in ``training.mesh.make``.

    Raises:
      UserError: libtpu knows no such slice, or cannot start.
    """
    # libtpu takes a host of v5e or v6e to have four or eight chips unless told.
    sides = target.partition(":")[2].split("x")
    alone = {"chips_per_host_bounds": (1, 1, 1)} if set(sides) == {"1"} else {}
    try:
        slice_ = topologies.get_topology_desc(platform="tpu", topology_name=target, **alone)
    except (RuntimeError, ValueError, NotImplementedError) as error:
        reason = str(error).partition("\n")[0]
        raise UserError(f"--compile-for: libtpu gives no devices for {target}: {reason}") from None
    return Mesh(np.array(slice_.devices), ("data",), axis_types=(AxisType.Auto,))


def lower(config: Config, mesh: Mesh, images: int, classes: int) -> tuple[Any, int]:
    """The resident pipeline's training step for a mesh whose devices need not exist.

    Args:
      config: of the run.
      mesh: what it is lowered for.
      images: in the resident data set.
      classes: of it.

    Returns:
      ``jax.stages.Lowered`` and the number of the network's parameters.
    """
    size, channels = config.data.image_size, config.data.channels
    mean, std = (MEAN,) * channels, (STD,) * channels
    module = models.build(config.model, classes, size, mean, std)
    batch_size = config.training.batch_size
    rate = optimizer.schedule(config.training, max(images // batch_size, 1))
    tx = optimizer.optimizer(config.training, rate)

    prepare = feed.resident_prepare(config)
    weights = np.ones(classes, np.float32)
    train_step: Any = step.make_train_step(module, tx, config.training, weights, prepare, mesh)

    here = mesh_lib.make()  # of real devices, for a trace that allocates nothing on them
    seed, shape = config.training.seed, (size, size, channels)
    state, key = jax.eval_shape(
        lambda: (
            state_lib.create(module, tx, shape, classes, seed, here),
            state_lib.make_key(seed, here),
        )
    )
    everywhere = mesh_lib.replicated(mesh)
    arguments = (
        _abstract(state, everywhere),
        (
            (
                jax.ShapeDtypeStruct((images, *shape), jnp.uint8, sharding=everywhere),
                jax.ShapeDtypeStruct((images,), jnp.int32, sharding=everywhere),
            ),
            jax.ShapeDtypeStruct((batch_size,), jnp.int32, sharding=mesh_lib.by_batch(mesh)),
        ),
        _abstract(key, everywhere),
    )
    parameters = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(state.params))
    return train_step.lower(*arguments), parameters


def _abstract(tree: Any, sharding: NamedSharding) -> Any:
    return jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), tree
    )


def facts(compiled: Any) -> dict[str, Any]:
    """What XLA says of a compiled program, of one device: plain numbers and the HLO's text."""
    cost, memory = compiled.cost_analysis(), compiled.memory_analysis()
    return {
        "flops": cost["flops"],
        "bytes": cost["bytes accessed"],
        "optimal_seconds": cost.get("optimal_seconds"),
        "memory": {
            name: getattr(memory, f"{name}_size_in_bytes")
            for name in ("argument", "output", "temp", "alias", "generated_code")
        },
        "hlo": compiled.as_text(),
    }


def main(result: Path) -> None:
    """Answer one request: programs (target and config), and images and classes for all.

    Writes a list with ``facts`` of each, or that ends with one sentence, {"error"}.
    """
    request = json.load(sys.stdin)
    answers: list[dict[str, Any]] = []
    try:
        for asked in request["programs"]:
            config = config_lib.from_mapping(asked["config"], "--compile-for")
            began = time.monotonic()
            mesh = mesh_of(asked["target"])
            lowered, parameters = lower(config, mesh, request["images"], request["classes"])
            compiled = lowered.compile()
            seconds = time.monotonic() - began
            about = {"parameters": parameters, "compile_seconds": seconds}
            answers.append(about | facts(compiled))
    except UserError as error:
        answers.append({"error": str(error)})
    result.write_text(json.dumps(answers), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
