"""Where in a picture the network looks: Grad-CAM, and what covering a part of it does."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from emotion_jax.data.dataset import Split
from emotion_jax.evaluation import explain_plots
from emotion_jax.training.predict import log_probabilities
from emotion_jax.training.trained import Trained

CHUNK = 64  # images at a time
MID_GREY = 127
PATCH, STRIDE = 1 / 4, 1 / 8  # of the side: the square that is covered, and its steps


def last_map(trained: Trained, image: np.ndarray) -> tuple[str, ...]:
    """The module whose output is the network's last map of features, by its path.

    Args:
      trained: of any backbone.
      image: uint8 [1, S, S, C].
    """
    seen: list[tuple[str, ...]] = []

    def record(module: nn.Module, y: Any) -> Any:
        seen.append(module.path)
        return y

    jax.eval_shape(lambda x: _apply(trained, x, record), image)
    return seen[-1]


def grad_cam(trained: Trained, images: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """Which places of the last map of features speak for a class.

    Selvaraju et al. 2017 (arXiv:1610.02391): the channels, weighted by the mean gradient of the
    class's logit, summed, what is negative dropped.

    Args:
      trained: the model.
      images: uint8 [n, S, S, C].
      classes: int [n], the class that is asked about, of each.

    Returns:
      float32 [n, S, S], the largest value of each 1 (or all 0).
    """
    at = last_map(trained, images[:1])

    def cam(x: jax.Array, label: jax.Array) -> jax.Array:
        def logit(delta: jax.Array) -> jax.Array:
            def shift(module: nn.Module, y: Any) -> Any:
                return y + delta.astype(y.dtype) if module.path == at else y

            logits = _apply(trained, x, shift)
            return jnp.take_along_axis(logits, label[:, None], axis=1).sum()

        features = _map_of(trained, x, at).astype(jnp.float32)
        gradient = jax.grad(logit)(jnp.zeros_like(features))
        weights = gradient.mean((1, 2), keepdims=True)
        found = nn.relu((weights * features).sum(-1))
        found = jax.image.resize(found, (len(x), *x.shape[1:3]), "linear")
        return found / jnp.maximum(found.max((1, 2), keepdims=True), 1e-12)

    return _in_chunks(jax.jit(cam), images, classes)


def occlusion(trained: Trained, images: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """How much a class's probability falls when a square about each place is greyed out.

    Zeiler and Fergus 2014 (arXiv:1311.2901); a place has the mean over the squares that cover it.

    Args:
      trained: the model.
      images: uint8 [n, S, S, C].
      classes: int [n], the class that is asked about, of each.

    Returns:
      float32 [n, S, S] in [-1, 1].
    """
    size = images.shape[1]
    side, step = max(1, round(PATCH * size)), max(1, round(STRIDE * size))
    starts = sorted({*range(0, size - side, step), size - side})

    @jax.jit
    def probability(x: jax.Array, label: jax.Array) -> jax.Array:
        logs = log_probabilities(_apply(trained, x, lambda module, y: y), trained.temperature)
        return jnp.exp(jnp.take_along_axis(logs, label[:, None], axis=1)[:, 0])

    whole = _in_chunks(probability, images, classes)
    falls, covers = np.zeros((2, len(images), size, size), np.float32)
    for top in starts:
        for left in starts:
            place = np.s_[:, top : top + side, left : left + side]
            covered = images.copy()
            covered[place] = MID_GREY
            falls[place] += (whole - _in_chunks(probability, covered, classes))[:, None, None]
            covers[place] += 1
    return falls / covers


def _apply(trained: Trained, x: Any, change: Callable[[nn.Module, Any], Any]) -> jax.Array:
    """Logits, with ``change`` applied to what each module makes that is a map [N, H, W, C]."""

    def intercept(call: Any, args: Any, kwargs: Any, context: Any) -> Any:
        y = call(*args, **kwargs)
        is_map = getattr(y, "ndim", 0) == 4 and context.method_name == "__call__"
        return change(context.module, y) if is_map else y

    with nn.intercept_methods(intercept):
        return jnp.asarray(trained.module.apply(trained.variables, x))


def _map_of(trained: Trained, x: jax.Array, at: tuple[str, ...]) -> jax.Array:
    kept = {}

    def keep(module: nn.Module, y: Any) -> Any:
        if module.path == at:
            kept["map"] = y
        return y

    _apply(trained, x, keep)
    return kept["map"]


def _in_chunks(function: Callable[..., jax.Array], *arrays: np.ndarray) -> np.ndarray:
    parts = range(0, len(arrays[0]), CHUNK)
    return np.concatenate(
        [np.asarray(function(*(a[i : i + CHUNK] for a in arrays))) for i in parts]
    )


def figures(
    trained: Trained, split: Split, probs: np.ndarray, per_class: int = 100, shown: int = 20
) -> dict[str, bytes]:
    """The pictures of a report: ``explain`` (means by class) and ``mistakes`` (the surest).

    Args:
      trained: the model.
      split: what was predicted.
      probs: float [n, K], of its images.
      per_class: images that a mean is taken over, at most; those that come first.
      shown: mistakes.
    """
    classes, size = trained.classes, split.images(np.arange(1)).shape[1]
    faces = np.full((len(classes), size, size), np.nan)
    heats = np.zeros((2, len(classes), size, size))
    for k in range(len(classes)):
        numbers = np.flatnonzero(split.labels == k)[:per_class]
        if not len(numbers):
            continue
        images, asked = split.images(numbers), np.full(len(numbers), k)
        faces[k] = images.mean((0, 3))
        heats[0, k] = grad_cam(trained, images, asked).mean(0)
        heats[1, k] = occlusion(trained, images, asked).mean(0).clip(min=0)
    answers, sure = probs.argmax(1), probs.max(1)
    wrong = np.flatnonzero(answers != split.labels)
    wrong = wrong[np.argsort(-sure[wrong], kind="stable")][:shown]
    drawn = {"explain": explain_plots.by_class(faces, heats, classes)}
    if len(wrong):
        images = split.images(wrong)
        captions = [
            (classes[split.labels[i]], classes[answers[i]], float(sure[i])) for i in wrong.tolist()
        ]
        grey = images.mean(3).round().astype(np.uint8)
        heat = grad_cam(trained, images, answers[wrong])
        drawn["mistakes"] = explain_plots.mistakes(grey, heat, captions)
    return drawn
