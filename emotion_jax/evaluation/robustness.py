"""How accuracy falls when pictures get worse.

Like Hendrycks and Dietterich 2019 (arXiv:1903.12261), for small faces and with units that mean
something: each corruption at five strengths, from a fixed seed, on the decoded pixels.
"""

import io
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from PIL import Image
from scipy import ndimage
from tqdm.auto import tqdm

from emotion_jax.data.dataset import Split
from emotion_jax.evaluation.metrics import wilson_interval
from emotion_jax.training import mesh as mesh_lib
from emotion_jax.training import predict as predict_lib
from emotion_jax.training.trained import Trained

SEED = 0
MID_GREY = 127.5


@dataclass(frozen=True)
class Corruption:
    """One way in which pictures get worse.

    Attributes:
      unit: of the strengths, with words.
      strengths: five, each worse than the one before.
      apply: (image float [H, W, C] in [0, 255], strength, generator) to the same, unclipped.
    """

    unit: str
    strengths: tuple[float, ...]
    apply: Callable[[np.ndarray, float, np.random.Generator], np.ndarray]


def _blur(x: np.ndarray, sigma: float, rng: np.random.Generator) -> np.ndarray:
    return ndimage.gaussian_filter(x, (sigma, sigma, 0), mode="nearest")


def _noise(x: np.ndarray, sigma: float, rng: np.random.Generator) -> np.ndarray:
    return x + rng.normal(0.0, sigma, x.shape)


def _darkness(x: np.ndarray, gain: float, rng: np.random.Generator) -> np.ndarray:
    return gain * x


def _rotation(x: np.ndarray, degrees: float, rng: np.random.Generator) -> np.ndarray:
    turn = degrees if rng.random() < 0.5 else -degrees
    return ndimage.rotate(x, turn, reshape=False, order=1, mode="nearest")


def _jpeg(x: np.ndarray, quality: float, rng: np.random.Generator) -> np.ndarray:
    buffer = io.BytesIO()
    pixels = np.squeeze(x.round().astype(np.uint8))
    Image.fromarray(pixels).save(buffer, "JPEG", quality=int(quality))
    return np.asarray(Image.open(buffer), np.float64).reshape(x.shape)


def _occlusion(x: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    height, width, _ = x.shape
    side = round(share * min(height, width))
    top, left = rng.integers(0, (height - side + 1, width - side + 1))
    covered = x.copy()
    covered[top : top + side, left : left + side] = MID_GREY
    return covered


def _resolution(x: np.ndarray, side: float, rng: np.random.Generator) -> np.ndarray:
    pixels = np.squeeze(x.round().astype(np.uint8))
    small = Image.fromarray(pixels).resize((int(side),) * 2, Image.Resampling.BILINEAR)
    large = small.resize(x.shape[1::-1], Image.Resampling.BILINEAR)
    return np.asarray(large, np.float64).reshape(x.shape)


CORRUPTIONS = {
    "blur": Corruption("Gaussian, sigma in pixels", (0.5, 1.0, 1.5, 2.0, 3.0), _blur),
    "noise": Corruption("Gaussian, sigma in grey levels", (5, 10, 20, 30, 50), _noise),
    "darkness": Corruption("grey values times", (0.7, 0.5, 0.3, 0.2, 0.1), _darkness),
    "rotation": Corruption("degrees either way", (5, 10, 20, 30, 45), _rotation),
    "jpeg": Corruption("JPEG quality", (80, 50, 30, 15, 5), _jpeg),
    "occlusion": Corruption("side of a grey square, of the image's", (0.1, 0.2, 0.3, 0.4, 0.5),
                            _occlusion),
    "resolution": Corruption("side before enlarging, pixels", (32, 24, 16, 12, 8), _resolution),
}  # fmt: skip


def corrupted(split: Split, name: str, strength: float) -> Split:
    """The split with every picture made worse; the same pictures for the same arguments."""
    apply = CORRUPTIONS[name].apply
    images = split.images(np.arange(len(split)))
    worse = np.empty_like(images)
    for i, image in enumerate(images):
        rng = np.random.default_rng([SEED, i])
        changed = apply(image.astype(np.float64), strength, rng)
        worse[i] = changed.clip(0, 255).round().astype(np.uint8)
    return replace(split, source=worse, rows=np.arange(len(split)))


def compute(trained: Trained, split: Split, progress: bool = False) -> dict[str, Any]:
    """The robustness part of a report, as plain values for JSON.

    Args:
      trained: the model.
      split: labelled by place in ``trained.classes``; all of it is held in memory.
      progress: show a bar.

    Returns:
      ``n clean`` (accuracy) and ``curves``: by corruption its ``unit`` and ``points``, each with
      ``strength accuracy interval`` (95% Wilson).
    """
    mesh = mesh_lib.make()
    predict_fn = predict_lib.make_predict(trained.module, mesh)
    variables = mesh_lib.put(trained.variables, mesh_lib.replicated(mesh))

    def hits(images: Split) -> int:
        logs, _ = predict_lib.predict(predict_fn, variables, images, predict_lib.BATCH_SIZE, mesh)
        return int((logs.argmax(1) == images.labels).sum())

    n, curves = len(split), {}
    total = sum(len(c.strengths) for c in CORRUPTIONS.values())
    with tqdm(total=total, desc="robustness", unit="set", disable=not progress) as bar:
        clean = hits(split) / n
        for name, corruption in CORRUPTIONS.items():
            points = []
            for strength in corruption.strengths:
                right = hits(corrupted(split, name, strength))
                points.append(
                    {
                        "strength": strength,
                        "accuracy": right / n,
                        "interval": list(wilson_interval(right, n)),
                    }
                )
                bar.update()
            curves[name] = {"unit": corruption.unit, "points": points}
    return {"n": n, "clean": clean, "curves": curves}
