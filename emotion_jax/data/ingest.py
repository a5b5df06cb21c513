"""Write the usable images of a listing to ArrayRecord, once, in a cache keyed by their content.

    CACHE/listings/<key of paths, sizes and times>.json   -> fingerprint of contents
    CACHE/datasets/<fingerprint of contents>/             tfds builder directory + index.json

A dataset appears under its name by one rename, so a process killed half-way leaves nothing that
could be mistaken for a dataset; a lock a listing keeps two processes from doing the work twice.
"""

import contextlib
import errno
import hashlib
import io
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
from filelock import FileLock
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
        with FileLock(cache / "locks" / f"{key}.lock"):
            records = _known(pointer, cache)
            if records is None:
                records = _build(listing, preprocess, recipe, cache, key, workers, progress)
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
        writer = _Writer(listing, preprocess, workers, progress)
        shape = (preprocess.image_size, preprocess.image_size, preprocess.channels)
        with contextlib.redirect_stdout(io.StringIO()):
            tfds.disable_progress_bar()
            builder = _Builder(writer, shape, data_dir=temporary)
            try:
                builder.download_and_prepare()
            except RuntimeError as error:  # ArrayRecord's word for a full disk
                raise OSError(errno.EIO, str(error).partition(";")[0]) from None
        folder.check_usable(listing, writer.written)
        made = Path(builder.data_dir)
        sizes = {path.name: path.stat().st_size for path in made.iterdir()}
        index = {"classes": listing.classes, "splits": writer.index, "sizes": sizes}
        files.write_text_atomic(made / "index.json", json.dumps(index))
        fingerprint = _digest(*sorted(writer.digests), *listing.classes, recipe)
        final = cache / "datasets" / fingerprint
        with FileLock(cache / "locks" / f"{fingerprint}.lock"):  # another listing may hold the same
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
    """Feeds the builder split by split and notes what passes by."""

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

    def examples(self, split: str) -> Iterator[tuple[int, dict[str, np.ndarray]]]:
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
            yield len(index["paths"]) - 1, {"image": result.image}
        if not index:
            raise UserError(
                f"None of the {len(images)} images in the {split} split of {self.listing.root} "
                "can be read."
            )
        self.index[split] = dict(index)
        if split == self.splits[-1]:
            self.bar.close()


class _Info(tfds.core.DatasetInfo):
    def initialize_from_bucket(self) -> None:
        """Faces are not among Google's published data sets: no look-up over the network."""


class _Builder(tfds.core.GeneratorBasedBuilder):
    """The tfds builder of one listing; features.Tensor, so that TensorFlow is not needed."""

    VERSION = tfds.core.Version("1.0.0")
    name = "faces"
    # tfds would look for checksums beside the code, with a package that it does not declare.
    code_path = None

    def __init__(self, writer: _Writer, shape: tuple[int, int, int], data_dir: Path) -> None:
        self._writer, self._shape = writer, shape
        super().__init__(file_format="array_record", data_dir=data_dir)

    def _info(self) -> _Info:
        features = {"image": tfds.features.Tensor(shape=self._shape, dtype=np.uint8)}
        return _Info(
            builder=self,
            description="Decoded face images, in the order of index.json.",
            features=tfds.features.FeaturesDict(features),
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
        del dl_manager
        return {_record_name(s): self._generate_examples(s) for s in self._writer.splits}

    def _generate_examples(self, split: str) -> Iterator[tuple[int, dict[str, np.ndarray]]]:
        return self._writer.examples(split)


def _record_name(split: str) -> str:
    """A split's folder name as a name that tfds takes; unique, since the rest is hashed in."""
    return split if re.fullmatch(r"[a-z_]+", split) else f"split_{_digest(split)[:12]}"


def _digest(*parts: str) -> str:
    return hashlib.sha256("\n".join(parts).encode("utf-8", "surrogateescape")).hexdigest()
