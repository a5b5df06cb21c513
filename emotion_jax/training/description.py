"""What a checkpoint says of itself: all that is needed to use it, and how it came about."""

import importlib.metadata
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from emotion_jax import __version__
from emotion_jax.config import Config
from emotion_jax.data.preprocess import CONVENTION
from emotion_jax.data.split import Dataset
from emotion_jax.training.predict import VIEWS
from emotion_jax.training.selection import RULES
from emotion_jax.training.workdir import Row

FORMAT = 1
PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")


def describer(
    config: Config,
    data: Dataset,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    steps_per_epoch: int,
    teachers: Sequence[str] = (),
) -> Callable[..., dict[str, Any]]:
    """The function from (step, rows of the epochs, seconds of training, what ``calibration.fit``
    gave at this step or None, ``Seen.described``) to the description; ``teachers`` are their
    digests.
    """
    fixed = {
        "format": FORMAT,
        "config": config.model_dump(mode="json"),
        "classes": list(data.classes),
        "image_size": config.data.image_size,
        "channels": config.data.channels,
        "mean": list(mean),
        "std": list(std),
        "crop": CONVENTION,
        "tta": list(VIEWS),
        "selection": RULES[config.training.selection],
        "fingerprint": data.fingerprint,
        "teachers": list(teachers),
        "versions": versions(),
    }

    def describe(
        step: int,
        history: Sequence[Row],
        seconds: float,
        fitted: Mapping[str, Any] | None = None,
        seen: Mapping[str, bool] | None = None,
    ) -> dict[str, Any]:
        # Of the epoch that ends at this step; none within an epoch.
        row = history[-1] if history and history[-1]["step"] == step else None
        return {
            **fixed,
            "step": step,
            "epoch": step // steps_per_epoch,
            "seconds": round(seconds, 3),
            "metrics": _metrics(row),
            "temperature": fitted and fitted["temperature"],
            "conformal": fitted and fitted["conformal"],
            **(seen or {}),
            "history": list(history),
        }

    return describe


def versions() -> dict[str, str]:
    """Of this package and those that compute."""
    return {"emotion_jax": __version__} | {p: importlib.metadata.version(p) for p in PACKAGES}


def _metrics(row: Row | None) -> dict[str, Any] | None:
    if row is None:
        return None
    names = ("loss", "accuracy", "precision", "recall")
    return {
        "train": {name: row[name] for name in names},
        "val": {name: row[f"val_{name}"] for name in names},
    }
