"""Write the usable images of a listing to ArrayRecord, once, in a cache keyed by their content.

    CACHE/listings/<key of paths, sizes and times>.json   -> fingerprint of contents
    CACHE/datasets/<fingerprint of contents>/             what tfds reads, and index.json

A dataset appears under its name by one rename, so a process killed half-way leaves nothing that
could be mistaken for a dataset; a lock a listing keeps two processes from doing the work twice.
"""

import contextlib
import errno
import hashlib
import json
import re
import shutil
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from array_record.python.array_record_module import ArrayRecordWriter
from tqdm.auto import tqdm

from emotion_jax import files
from emotion_jax.data import folder
from emotion_jax.data.preprocess import VERSION, Preprocess
from emotion_jax.errors import UserError


@dataclass(frozen=True)
class Records:
    """A dataset in the cache: ArrayRecord files of images, and the index that says what they are.

    Attributes:
      fingerprint: SHA-256 over the paths and contents of the images and how they were preprocessed.
      classes: in label order.
      problems: what was not usable, with the reason.
      splits: name -> {"paths": [...], "labels": [...], "hashes": [16 hex digits, ...]}.
    """

    directory: Path
    fingerprint: str
    classes: tuple[str, ...]
    problems: tuple[folder.Problem, ...]
    splits: dict[str, dict[str, list[Any]]]

    def source(self, split: str) -> Any:
        """Random-access source of {"image": uint8 [H, W, C]}, in the order of the index."""
        builder = tfds.builder_from_directory(self.directory)
        return builder.as_data_source(_record_name(split))


def image_hash(image: np.ndarray) -> str:
    """64-bit hash of decoded pixels, as 16 hex digits: equal images, equal hashes."""
    return hashlib.sha256(image.tobytes()).hexdigest()[:16]


def ingest(
    listing: folder.Listing,
    preprocess: Preprocess,
    cache: Path,
    workers: int = 0,
    progress: bool = False,
) -> Records:
    """Find the dataset of ``listing`` in the cache, or make it.

    Raises:
      UserError: no usable image is left, fewer than two classes of train have one, or the cache
        cannot be written.
    """
    recipe = json.dumps({"version": VERSION, **asdict(preprocess)}, sort_keys=True)
    # The root is in the key: trees unpacked from archives can agree in names, sizes and times.
    where = (str(listing.root.resolve()), *sorted({file.split for file in listing.images}))
    key = _digest(*where, folder.fingerprint(listing), *listing.classes, recipe)
    pointer = cache / "listings" / f"{key}.json"
    try:
        for name in ("listings", "datasets", "locks", "temporary"):
            (cache / name).mkdir(parents=True, exist_ok=True)
        with files.exclusive(cache / "locks" / f"{key}.lock"):
            records = _known(pointer, cache)
            if records is None:
                records = _build(listing, preprocess, recipe, cache, key, workers, progress)
                # What the disk or a permission kept from us is tried again the next time: neither
                # need change a file's size or time when it is put right.
                if not any(p.reason.startswith(folder.UNREADABLE) for p in records.problems):
                    content = {"dataset": records.fingerprint, "problems": records.problems}
                    files.write_text_atomic(pointer, json.dumps(content))
    except OSError as error:
        raise UserError(
            f"Cannot write the data cache {cache}: {error.strerror or error}; "
            "set EMOTION_JAX_CACHE to a folder on a disk with room."
        ) from None
    # The cache knows what could not be read; what was not even an image file is the listing's.
    return replace(records, problems=tuple(sorted((*listing.problems, *records.problems))))


def _known(pointer: Path, cache: Path) -> Records | None:
    """What an earlier call made of this listing, if it is all there."""
    content = _json(pointer)
    if content is None:
        return None
    fingerprint = content["dataset"]
    directory = cache / "datasets" / fingerprint
    index = _index(directory)
    if index is None:
        return None
    return Records(
        directory=directory,
        fingerprint=fingerprint,
        classes=tuple(index["classes"]),
        problems=tuple(folder.Problem(*problem) for problem in content["problems"]),
        splits=index["splits"],
    )


def _build(
    listing: folder.Listing,
    preprocess: Preprocess,
    recipe: str,
    cache: Path,
    key: str,
    workers: int,
    progress: bool,
) -> Records:
    for stale in (cache / "temporary").glob(f"{key}-*"):
        shutil.rmtree(stale)  # its owner is dead: the lock is ours
    temporary = Path(tempfile.mkdtemp(prefix=f"{key}-", dir=cache / "temporary"))
    try:
        made = temporary / "dataset"  # the temporary folder itself is for its owner alone
        made.mkdir()
        writer = _Writer(listing, preprocess, workers, progress)
        try:
            _write(made, writer, preprocess)
        except RuntimeError as error:  # ArrayRecord's word for a full disk
            raise OSError(errno.EIO, str(error).partition(";")[0]) from None
        folder.check_usable(listing, writer.written)
        sizes = {path.name: path.stat().st_size for path in made.iterdir()}
        index = {"classes": listing.classes, "splits": writer.index, "sizes": sizes}
        files.write_text_atomic(made / "index.json", json.dumps(index))
        fingerprint = _digest(*sorted(writer.digests), *listing.classes, recipe)
        final = cache / "datasets" / fingerprint
        lock = cache / "locks" / f"{fingerprint}.lock"
        with files.exclusive(lock):  # another listing may hold the same
            if _index(final) is None:
                shutil.rmtree(final, ignore_errors=True)
                made.rename(final)
        problems = tuple(writer.problems)
        return Records(final, fingerprint, listing.classes, problems, writer.index)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _index(directory: Path) -> dict[str, Any] | None:
    """The index of a dataset; None if anything of the dataset is missing or cut short."""
    index = _json(directory / "index.json")
    if index is None:
        return None
    whole = all(
        (directory / name).is_file() and (directory / name).stat().st_size == size
        for name, size in index["sizes"].items()
    )
    return index if whole else None


def _json(path: Path) -> Any:
    """What a JSON file says; None where there is none, or a broken one."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None


class _Writer:
    """Reads split by split and notes what passes by."""

    def __init__(
        self, listing: folder.Listing, preprocess: Preprocess, workers: int, progress: bool
    ) -> None:
        self.listing, self.preprocess, self.workers = listing, preprocess, workers
        self.splits = sorted({file.split for file in listing.images})
        self.problems: list[folder.Problem] = []
        self.digests: list[str] = []
        self.written: list[folder.ImageFile] = []
        self.index: dict[str, dict[str, list[Any]]] = {}
        self.bar = tqdm(
            total=len(listing.images), desc="reading images", unit="img", disable=not progress
        )

    def images(self, split: str) -> Iterator[np.ndarray]:
        images = tuple(file for file in self.listing.images if file.split == split)
        part = folder.Listing(self.listing.root, self.listing.classes, images, ())
        index: dict[str, list[Any]] = defaultdict(list)
        for result in folder.read(part, self.preprocess, self.workers):
            self.bar.update()
            if isinstance(result, folder.Problem):
                self.problems.append(result)
                continue
            index["paths"].append(result.file.path)
            index["labels"].append(result.file.label)
            index["hashes"].append(image_hash(result.image))
            self.digests.append(f"{split}\n{result.file.path}\n{result.digest.hex()}")
            self.written.append(result.file)
            yield result.image
        if not index:
            raise UserError(
                f"None of the {len(images)} images in the {split} split of {self.listing.root} "
                "can be read."
            )
        self.index[split] = dict(index)
        if split == self.splits[-1]:
            self.bar.close()


def _write(directory: Path, writer: _Writer, preprocess: Preprocess) -> None:
    """Write the records as a tfds builder would, but one after the other.

    A builder gathers all examples to shuffle them, in memory or by way of TensorFlow, though they
    are to stay in order. With features.Tensor there is no need of TensorFlow.
    """
    shape = (preprocess.image_size, preprocess.image_size, preprocess.channels)
    image = tfds.features.Tensor(shape=shape, dtype=np.uint8)
    features = tfds.features.FeaturesDict({"image": image})
    infos = []
    for split in writer.splits:
        name = _record_name(split)
        path = directory / f"faces-{name}.array_record-00000-of-00001"
        with contextlib.closing(ArrayRecordWriter(str(path), "group_size:1")) as file:
            for pixels in writer.images(split):
                file.write(features.serialize_example({"image": pixels}))
        length, size = len(writer.index[split]["labels"]), path.stat().st_size
        infos.append(tfds.core.SplitInfo(name=name, shard_lengths=[length], num_bytes=size))
    tfds.folder_dataset.write_metadata(
        data_dir=directory,
        features=features,
        split_infos=infos,
        version="1.0.0",
        check_data=False,  # it would ask TensorFlow
        description="Decoded face images, in the order of index.json.",
        disable_shuffling=True,
    )


def _record_name(split: str) -> str:
    """A split's folder name as a name that tfds takes; unique, since the rest is hashed in."""
    return split if re.fullmatch(r"[a-z_]+", split) else f"split_{_digest(split)[:12]}"


def _digest(*parts: str) -> str:
    return hashlib.sha256("\n".join(parts).encode("utf-8", "surrogateescape")).hexdigest()
