"""The networks that a run comes from, as its teachers or its beginning: what they have seen."""

from collections.abc import Iterable

import numpy as np

from emotion_jax.config import Config
from emotion_jax.data.split import Dataset, Split
from emotion_jax.training.trained import Trained

CUT = ("validation_fraction", "split_seed")


def comparable(models: Iterable[Trained], image_size: int) -> bool:
    """Whether all that they have seen can be found among images of this size.

    Hashes are of decoded images at the size that a network sees.
    """
    return all(
        model.description["image_size"] == image_size
        and model.description.get("seen_complete", True)
        for model in models
    )


def seen(model: Trained, split: Split) -> int:
    """How many images of the split the network has learnt from or was chosen by."""
    return int(np.isin(split.hashes, model.train_hashes).sum())


def doubt(setting: str, model: Trained, data: Dataset, config: Config) -> str | None:
    """What to say where a network may have learnt from what is held out for validation now.

    Of the images that it has seen the checkpoint does not tell which were its own validation
    split; they are the same where both were cut alike.
    """
    theirs, ours = model.config.data, config.data
    # Votes are part of the fingerprint, but not of the cut.
    same_images = model.description["fingerprint"] == data.fingerprint
    same_images |= (theirs.votes is None) != (ours.votes is None)
    alike = same_images and all(getattr(theirs, name) == getattr(ours, name) for name in CUT)
    count = seen(model, data.validation)
    if alike or not count:
        return None
    return (
        f"{setting}: {model.path.name} has learnt from, or was chosen by, {count:,} of the "
        f"{len(data.validation):,} images that are held out for validation, which will look better "
        "than it is; it held out its own by "
        + " ".join(f"--data.{name} {getattr(theirs, name)}" for name in CUT)
        + "."
    )
