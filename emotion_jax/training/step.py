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
from emotion_jax.training import dispatch, mixing
from emotion_jax.training import mesh as mesh_lib
from emotion_jax.training.metrics import Sums
from emotion_jax.training.state import TrainState

Batch = tuple[jax.Array, jax.Array]
Metrics = dict[str, jax.Array]
# Turns what the host feeds (arrays split over the devices) into images [N, H, W, C] and targets,
# int32 [N] or float32 [N, K].
Prepare = Callable[[Any, jax.Array], Batch]
Degrade = Callable[[jax.Array, jax.Array], jax.Array]
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
    side: int | None = None,
    teach: Callable[[jax.Array], jax.Array] | None = None,
    degrade: Degrade | None = None,
) -> Callable[[TrainState, Any, jax.Array], tuple[TrainState, Metrics]]:
    """Compile the step for a mesh.

    Args:
      module: images and ``train=True`` to logits [N, K].
      tx: gradients to updates.
      class_weights: float32 [K], of an image's loss by its class.
      prepare: applied to the fed arrays inside the step, with a key for its augmentation.
      mesh: the state is replicated over it; what is fed comes as it is laid out.
      take: where several steps are fed at once, what one of them gets (see ``dispatch.repeated``).
      side: of the images that the module sees, pixels; None: as they are prepared.
      teach: images to probabilities [N, K] that are learnt as well (``teacher.load``).
      degrade: images and a key to worse images, which the module sees and ``teach`` does not.

    Returns:
      A function of (state, fed, key) whose state argument is donated. The key is the run's; the
      step folds its own number in. Metrics: float32 scalars ``loss`` and ``accuracy`` of the batch
      and int32 ``bad_step`` (see TrainState).
    """

    def train_step(state: TrainState, fed: Any, key: jax.Array) -> tuple[TrainState, Metrics]:
        step_key = jax.random.fold_in(key, state.step)
        augment_key, dropout_key = jax.random.split(step_key)
        images, targets = prepare(fed, augment_key)
        targets = probabilities(targets, len(class_weights))
        images, labels = mixing.mixed(images, targets, jax.random.fold_in(step_key, 1), settings)
        targets = labels
        if teach:
            share = settings.distillation
            targets = (1.0 - share) * targets + share * teach(images)
        if degrade:
            images = degrade(images, jax.random.fold_in(step_key, 2))
        images = images if side is None else resized(images, side)

        def loss_fn(params: Any) -> tuple[jax.Array, Any]:
            logits, updated = module.apply(
                {"params": params, "batch_stats": state.batch_stats},
                images,
                train=True,
                mutable=["batch_stats"],
                rngs={"dropout": dropout_key},
            )
            weights = labels @ jnp.asarray(class_weights, jnp.float32)
            losses = weights * cross_entropy(logits, targets, settings.label_smoothing)
            return losses.mean(), (logits, losses, updated)

        (loss, (logits, losses, updated)), grads = jax.value_and_grad(loss_fn, has_aux=True)(
            state.params
        )
        updates, opt_state = tx.update(grads, state.opt_state, state.params)
        finite = jnp.isfinite(loss) & jnp.isfinite(optax.tree.norm(grads))
        sums = Sums.of(logits, labels.argmax(-1), losses, jnp.ones(len(labels), bool))
        moved = state.replace(
            step=state.step + 1,
            params=optax.apply_updates(state.params, updates),
            batch_stats=updated.get("batch_stats", {}),
            opt_state=opt_state,
        )
        state = moved.replace(
            average=averaged(moved, settings.average),
            sums=state.sums + sums,
            bad_step=jnp.where(finite | (state.bad_step > 0), state.bad_step, moved.step),
        )
        accuracy = jnp.trace(sums.confusion) / len(targets)
        return state, {"loss": loss, "accuracy": accuracy, "bad_step": state.bad_step}

    everywhere = mesh_lib.replicated(mesh)
    one_or_more = dispatch.repeated(train_step, take, NO_METRICS) if take else train_step
    return jax.jit(one_or_more, donate_argnums=0, out_shardings=(everywhere, everywhere))


def resized(images: jax.Array, side: int) -> jax.Array:
    """Images of another size, antialiased: float32 [N, side, side, C]."""
    shape = (len(images), side, side, images.shape[-1])
    return jax.image.resize(images.astype(jnp.float32), shape, "linear")


def probabilities(targets: jax.Array, classes: int) -> jax.Array:
    """Labels, int32 [N], as float32 [N, K]; what is float32 [N, K] stays."""
    return targets if targets.ndim == 2 else jax.nn.one_hot(targets, classes, dtype=jnp.float32)


def averaged(state: TrainState, decay: float) -> Any:
    """The moving averages after ``state.step`` steps, the last of which is not in them yet.

    At first the decay is smaller, as in TensorFlow's ExponentialMovingAverage, or the average would
    be of the initial weights for long.
    """
    keep = jnp.minimum(decay, (1.0 + state.step) / (10.0 + state.step))
    pairs = (state.average, state.trained if state.average else {})
    return jax.tree.map(lambda mean, new: keep * mean + (1.0 - keep) * new, *pairs)


def cross_entropy(logits: jax.Array, targets: jax.Array, smoothing: float = 0.0) -> jax.Array:
    """Cross-entropy of each example, nats: float32 [N].

    Args:
      logits: float32 [N, K].
      targets: float32 [N, K], probabilities of the classes.
      smoothing: mass that is spread evenly over the classes (Szegedy et al. 2016).
    """
    if smoothing:
        targets = optax.smooth_labels(targets, smoothing)
    return optax.softmax_cross_entropy(logits, targets)


def class_weights(settings: TrainingSettings, targets: np.ndarray, classes: int) -> np.ndarray:
    """Weight of each class in the loss: ones, or n / (K * n_k) if balanced; float32 [K].

    Args:
      settings: of the run.
      targets: int [n], labels; or float [n, K], probabilities, which count for n_k as they are.
      classes: K.
    """
    if settings.class_weights == "none":
        return np.ones(classes, np.float32)
    soft = targets.ndim == 2
    counts = targets.sum(0) if soft else np.bincount(targets, minlength=classes)
    return (len(targets) / (classes * np.maximum(counts, 1))).astype(np.float32)
