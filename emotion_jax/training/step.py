"""One optimisation step: (state, batch, key) -> (state, metrics), pure, jitted once."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn
from jax.sharding import Mesh

from emotion_jax.config import TrainingSettings
from emotion_jax.training import dispatch
from emotion_jax.training import mesh as mesh_lib
from emotion_jax.training.metrics import Sums
from emotion_jax.training.state import TrainState

Batch = tuple[jax.Array, jax.Array]
Metrics = dict[str, jax.Array]
# Turns what the host feeds (arrays split over the devices) into images [N, H, W, C] and labels [N].
Prepare = Callable[[Any, jax.Array], Batch]
Take = Callable[[Any, jax.Array], Any]
NO_METRICS = {"loss": np.float32(0), "accuracy": np.float32(0), "bad_step": np.int32(0)}


def make_train_step(
    module: nn.Module,
    tx: optax.GradientTransformation,
    settings: TrainingSettings,
    class_weights: np.ndarray,
    prepare: Prepare,
    mesh: Mesh,
    take: Take | None = None,
) -> Callable[[TrainState, Any, jax.Array], tuple[TrainState, Metrics]]:
    """Compile the step for a mesh.

    Args:
      module: images and ``train=True`` to logits [N, K].
      tx: gradients to updates.
      class_weights: float32 [K], of an image's loss by its class.
      prepare: applied to the fed arrays inside the step, with a key for its augmentation.
      mesh: the state is replicated over it; what is fed comes as it is laid out.
      take: where several steps are fed at once, what one of them gets (see ``dispatch.repeated``).

    Returns:
      A function of (state, fed, key) whose state argument is donated. The key is the run's; the
      step folds its own number in. Metrics: float32 scalars ``loss`` and ``accuracy`` of the batch
      and int32 ``bad_step`` (see TrainState).
    """

    def train_step(state: TrainState, fed: Any, key: jax.Array) -> tuple[TrainState, Metrics]:
        augment_key, dropout_key = jax.random.split(jax.random.fold_in(key, state.step))
        images, labels = prepare(fed, augment_key)

        def loss_fn(params: Any) -> tuple[jax.Array, Any]:
            logits, updated = module.apply(
                {"params": params, "batch_stats": state.batch_stats},
                images,
                train=True,
                mutable=["batch_stats"],
                rngs={"dropout": dropout_key},
            )
            weights = jnp.asarray(class_weights, jnp.float32)[labels]
            losses = weights * cross_entropy(logits, labels, settings.label_smoothing)
            return losses.mean(), (logits, losses, updated)

        (loss, (logits, losses, updated)), grads = jax.value_and_grad(loss_fn, has_aux=True)(
            state.params
        )
        updates, opt_state = tx.update(grads, state.opt_state, state.params)
        finite = jnp.isfinite(loss) & jnp.isfinite(optax.tree.norm(grads))
        sums = Sums.of(logits, labels, losses, jnp.ones(labels.shape, bool))
        state = state.replace(
            step=state.step + 1,
            params=optax.apply_updates(state.params, updates),
            batch_stats=updated.get("batch_stats", {}),
            opt_state=opt_state,
            sums=state.sums + sums,
            bad_step=jnp.where(finite | (state.bad_step > 0), state.bad_step, state.step + 1),
        )
        accuracy = jnp.trace(sums.confusion) / labels.shape[0]
        return state, {"loss": loss, "accuracy": accuracy, "bad_step": state.bad_step}

    everywhere = mesh_lib.replicated(mesh)
    one_or_more = dispatch.repeated(train_step, take, NO_METRICS) if take else train_step
    return jax.jit(one_or_more, donate_argnums=0, out_shardings=(everywhere, everywhere))


def cross_entropy(logits: jax.Array, labels: jax.Array, smoothing: float = 0.0) -> jax.Array:
    """Cross-entropy of each example, nats: float32 [N].

    Args:
      logits: float32 [N, K].
      labels: int32 [N].
      smoothing: mass that is spread evenly over the classes (Szegedy et al. 2016).
    """
    targets = jax.nn.one_hot(labels, logits.shape[-1], dtype=logits.dtype)
    if smoothing:
        targets = optax.smooth_labels(targets, smoothing)
    return optax.softmax_cross_entropy(logits, targets)


def class_weights(settings: TrainingSettings, labels: np.ndarray, classes: int) -> np.ndarray:
    """Weight of each class in the loss: ones, or n / (K * n_k) if balanced; float32 [K]."""
    if settings.class_weights == "none":
        return np.ones(classes, np.float32)
    counts = np.maximum(np.bincount(labels, minlength=classes), 1)
    return (len(labels) / (classes * counts)).astype(np.float32)
