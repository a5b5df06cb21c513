"""Fine-tuning: a run that begins with the weights of another."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import optax

from emotion_jax.errors import UserError
from emotion_jax.models import last_layer
from emotion_jax.training import mesh as mesh_lib
from emotion_jax.training import trained
from emotion_jax.training.state import TrainState
from emotion_jax.training.trained import Trained


def source(name: str, classes: tuple[str, ...]) -> tuple[Trained, bool]:
    """The trained model that ``training.init_from`` names, and whether its last layer fits.

    Raises:
      UserError: there is none.
    """
    model = trained.load(trained.resolve(Path(name)))
    return model, model.classes == classes


def initial(state: TrainState, model: Trained, same_classes: bool) -> TrainState:
    """``state`` with the weights and statistics of ``model``; the last layer only if it fits.

    Raises:
      UserError: it is another network.
    """
    layer = last_layer(state.params)
    given, fresh = model.variables, jax.device_get(state.trained)
    params = dict(given["params"])
    if not same_classes:
        params[layer] = fresh["params"][layer]
    begun = {"params": params, "batch_stats": given["batch_stats"]}
    if shapes(begun) != shapes(fresh):
        raise UserError(
            f"training.init_from: {model.path} is of another network than the settings of model, "
            "data.channels and data.image_size say; use the same as in its config.toml."
        )
    everywhere = state.step.sharding
    average = mesh_lib.put(begun if state.average else {}, everywhere)
    return state.replace(average=average, **mesh_lib.put(begun, everywhere))


def shapes(tree: Any) -> dict[str, tuple[int, ...]]:
    """Shape of each array by its name."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path): leaf.shape for path, leaf in leaves}


def freeze(steps: int) -> optax.GradientTransformation:
    """Updates of the first ``steps`` steps reach the last layer alone."""

    def update(updates: Any, count: jax.Array, params: Any = None) -> tuple[Any, jax.Array]:
        del params
        layer = last_layer(updates)
        kept = {
            name: part if name == layer else jax.tree.map(lambda u: u * (count >= steps), part)
            for name, part in updates.items()
        }
        return kept, count + 1

    return optax.GradientTransformation(lambda params: jnp.zeros((), jnp.int32), update)
