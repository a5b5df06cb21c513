"""The networks that a run comes from, as its beginning or its teachers: what they have seen."""

import sys
from collections.abc import Iterator, Sequence

import numpy as np

from emotion_jax.config import Config
from emotion_jax.data.split import Dataset, Split
from emotion_jax.training import multihost
from emotion_jax.training.seen import Seen
from emotion_jax.training.trained import Trained

CUT = ("validation_fraction", "split_seed")


def names(config: Config) -> Iterator[tuple[str, str]]:
    """Of the networks that a run comes from: the setting, and the checkpoint."""
    if config.training.init_from:
        yield "training.init_from", config.training.init_from
    for name in config.training.teachers:
        yield "training.teachers", name


def begin(config: Config, data: Dataset, models: Sequence[tuple[str, Trained]]) -> Seen:
    """What a new run's weights come from; says on stderr where that spoils its validation.

    Args:
      config: of the run.
      data: of the run.
      models: the networks that it comes from, by setting.
    """
    doubts = [doubt(setting, model, data, config) for setting, model in models]
    strange = [not_comparable(setting, model, config) for setting, model in models]
    if multihost.is_main():
        for sentence in filter(None, (*doubts, *strange)):
            print(sentence, file=sys.stderr)
    # Validation chooses the checkpoint, so its images are not new to it either.
    hashes = [data.train.hashes, data.validation.hashes, *(m.train_hashes for _, m in models)]
    return Seen(np.unique(np.concatenate(hashes)), not any(strange), not any((*doubts, *strange)))


def count(model: Trained, split: Split) -> int:
    """How many images of the split the network has learnt from or was chosen by."""
    return int(np.isin(split.hashes, model.train_hashes).sum())


def doubt(setting: str, model: Trained, data: Dataset, config: Config) -> str | None:
    """What to say where a network may have learnt from what is held out for validation now.

    Of the images that it has seen the checkpoint does not tell which were its own validation
    split; they are the same where both were cut alike.
    """
    theirs, ours = model.config.data, config.data
    same_images = model.description["fingerprint"] == data.fingerprint
    cut_alike = all(getattr(theirs, name) == getattr(ours, name) for name in CUT)
    # Votes are part of the fingerprint, but not of the cut.
    alike = same_images or (theirs.votes is None) != (ours.votes is None)
    unseen = model.seen.validation_unseen
    known = count(model, data.validation)
    if not known or (alike and cut_alike and unseen):
        return None
    remedy = " ".join(f"--data.{name} {getattr(theirs, name)}" for name in CUT)
    return (
        f"{setting}: {model.path} has learnt from, or was chosen by, {known:,} of the "
        f"{len(data.validation):,} images that are held out for validation, which may look better "
        "than it is" + (f"; it held out its own by {remedy}." if alike and not cut_alike else ".")
    )


def not_comparable(setting: str, model: Trained, config: Config) -> str | None:
    """What to say where it cannot be told whether a network has seen an image."""
    same_size = model.description["image_size"] == config.data.image_size
    if same_size and model.seen.complete:
        return None
    return (
        f"{setting}: {model.path}, or what it comes from, has seen images of another size, so "
        "whether they are held out now cannot be told."
    )
