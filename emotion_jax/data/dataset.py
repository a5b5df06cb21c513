"""From the data settings to splits that can be indexed."""

from collections.abc import Sequence
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import numpy as np

from emotion_jax import config
from emotion_jax.config import DataSettings
from emotion_jax.data import folder, splits, staging, synthetic, votes
from emotion_jax.data.ingest import Records, ingest
from emotion_jax.data.preprocess import Preprocess
from emotion_jax.data.split import Dataset, Split, in_memory
from emotion_jax.errors import UserError


def load(settings: DataSettings, progress: bool = False) -> Dataset:
    """Stage, scan, ingest and cut the data that ``settings`` name.

    Raises:
      UserError: it is missing or not usable.
    """
    records, root = _records(settings, progress)
    whole = _split(records, "train", settings)
    # By the folders' labels, whatever is learnt: so that a run that begins with another's weights
    # is validated on images that the other had not seen either.
    train, validation = splits.stratified(
        whole.labels, whole.hashes, settings.validation_fraction, settings.split_seed
    )
    if not len(validation):
        raise UserError(
            f"{root}: too few images in train to hold any out for validation; "
            "give each class at least two different ones."
        )
    data = Dataset(
        classes=records.classes,
        fingerprint=records.fingerprint,
        problems=records.problems,
        train=whole.subset("train", train),
        validation=whole.subset("val", validation),
        test=_split(records, "test", settings) if "test" in records.splits else None,
    )
    return _voted(data, settings) if settings.votes else data


def load_whole(settings: DataSettings, progress: bool = False) -> Dataset:
    """As ``load``, but uncut: all of train, no validation, and no test.

    With votes that is every image that can be measured: those without a majority are left out, be
    their distribution learnt or not.

    Raises:
      UserError: the data is missing or not usable.
    """
    records, _ = _records(settings, progress)
    whole = _split(records, "train", settings)
    nothing = whole.subset("val", np.arange(0))
    data = Dataset(records.classes, records.fingerprint, records.problems, whole, nothing, None)
    return _voted(data, settings, measured_alone=True) if settings.votes else data


def relabelled(split: Split, table: votes.Table, classes: Sequence[str], source: str) -> Split:
    """The images of a split that have a majority, labelled by it; ``soft`` stays as it is.

    Raises:
      UserError: there is none; names ``source``, the file of the votes.
    """
    kept, labels, note = votes.majorities(table, split.paths, classes)
    if not len(kept):
        raise UserError(f"The votes {source} give none of the {len(split)} images a known class.")
    return replace(split.subset(split.name, kept), labels=labels, votes=note)


def _voted(data: Dataset, settings: DataSettings, measured_alone: bool = False) -> Dataset:
    """The data with the votes in place of its labels.

    With ``measured_alone`` train, too, has only images with a majority.
    """
    table = votes.read(Path(str(settings.votes)))

    def measured(split: Split) -> Split:
        return relabelled(split, table, votes.CLASSES, str(settings.votes))

    by_majority = settings.vote_protocol == "majority"
    train = measured(data.train) if by_majority or measured_alone else data.train
    return replace(
        data,
        classes=votes.CLASSES,
        fingerprint=sha256(f"{data.fingerprint} {table.digest}".encode()).hexdigest(),
        train=train if by_majority else _distributed(train, table, settings),
        validation=measured(data.validation) if len(data.validation) else data.validation,
        test=data.test and measured(data.test),
    )


def _distributed(split: Split, table: votes.Table, settings: DataSettings) -> Split:
    kept, shares = votes.distributions(table, split.paths)
    if not len(kept):
        raise UserError(f"The votes {settings.votes} tell of none of the {len(split)} images.")
    labels = shares.argmax(1).astype(np.int32)
    return replace(split.subset(split.name, kept), labels=labels, soft=shares)


def load_split(
    settings: DataSettings, name: str, classes: Sequence[str], progress: bool = False
) -> tuple[Split, tuple[folder.Problem, ...]]:
    """One split of the data, labelled by its place in ``classes``, and what was not usable.

    Raises:
      UserError: it is missing, not usable, or holds a class that is not in ``classes``.
    """
    listing = folder.list_split(locate(settings, progress), name, classes)
    records = _ingest(listing, settings, progress)
    return _split(records, listing.images[0].split, settings), records.problems


def locate(settings: DataSettings, progress: bool = False) -> Path:
    """The folder that holds the splits; draws, stages or unpacks it first where need be.

    Raises:
      UserError: there is no such thing, or it cannot be read.
    """
    cache = config.cache_dir()
    if settings.dir is None:
        return synthetic.ensure(cache)
    source = settings.dir
    if settings.stage_to is not None:
        source = staging.stage(source, settings.stage_to, progress)
    return staging.resolve(source, cache, progress)


def _records(settings: DataSettings, progress: bool) -> tuple[Records, Path]:
    """What a run needs, and the folder that it lies in."""
    listing = folder.list_tree(locate(settings, progress))
    # Other folders may lie beside these two; what is wrong in them is nothing to a run.
    images = tuple(file for file in listing.images if file.split in ("train", "test"))
    problems = tuple(p for p in listing.problems if p.path.split("/")[0] in ("train", "test"))
    listing = replace(listing, images=images, problems=problems)
    return _ingest(listing, settings, progress), listing.root


def _ingest(listing: folder.Listing, settings: DataSettings, progress: bool) -> Records:
    preprocess = Preprocess(settings.image_size, settings.channels, settings.pixel_cap)
    return ingest(listing, preprocess, config.cache_dir(), settings.workers, progress)


def _split(records: Records, name: str, settings: DataSettings) -> Split:
    index = records.splits[name]
    source = records.source(name)
    n = len(index["labels"])
    size = n * settings.image_size**2 * settings.channels
    if size <= settings.memory_limit * 2**30:
        source = in_memory(source, n)
    return Split(
        name=name,
        source=source,
        rows=np.arange(n),
        labels=np.asarray(index["labels"], np.int32),
        hashes=np.asarray([int(text, 16) for text in index["hashes"]], np.uint64),
        paths=tuple(index["paths"]),
    )
