"""Scan a class-per-folder tree: what is there, what is broken, and why."""

import hashlib
import os
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from emotion_jax.data.preprocess import BadImage, Preprocess
from emotion_jax.data.threads import in_order
from emotion_jax.data.tree import Problem, class_folders, folders_in
from emotion_jax.errors import UserError, listed

# How the reason of a Problem begins that lies in the disk or in permissions, not in the file.
UNREADABLE = "unreadable"


class ImageFile(NamedTuple):
    """An image by name: posix path below the root, its split, its label."""

    path: str
    split: str
    label: int


class Decoded(NamedTuple):
    """A decoded image: uint8 [H, W, C], and the SHA-256 digest of its file."""

    file: ImageFile
    image: np.ndarray
    digest: bytes


@dataclass(frozen=True)
class Listing:
    """A tree by its names.

    Attributes:
      classes: sorted; a label is a place in it.
      images: sorted by path.
    """

    root: Path
    classes: tuple[str, ...]
    images: tuple[ImageFile, ...]
    problems: tuple[Problem, ...]


def list_tree(root: Path) -> Listing:
    """List ``root/train/<class>/**`` and every other folder of class folders beside train.

    No image is opened. Hidden files are ignored; anything else that cannot be used is a Problem.

    Raises:
      UserError: root is missing or no folder, has no train split, or train has fewer than two
        classes with images.
    """
    problems: list[Problem] = []
    splits = sorted(folders_in(root, root, problems))
    if "train" not in splits:
        found = f"it has {listed(splits)}" if splits else "it has no folders at all"
        found = _obstacle("train", problems) or found
        raise UserError(f"{root} has no train/<class>/ folders ({found}); see README.md, 'Data'.")
    files = {split: _class_folders(root, split, problems) for split in splits}
    classes = tuple(sorted(name for name, paths in files["train"].items() if paths))
    if len(classes) < 2:
        raise UserError(
            f"{root}/train has {len(classes)} class folders with images ({listed(classes)}); "
            "two or more are needed."
        )
    images = []
    for split in splits:
        for name, paths in files[split].items():
            if not paths:
                problems.append(Problem(f"{split}/{name}", "an empty class"))
            elif name in classes:
                images += [ImageFile(path, split, classes.index(name)) for path in paths]
            else:
                problems.append(Problem(f"{split}/{name}", "a class that train lacks"))
    return Listing(root, classes, tuple(sorted(images)), tuple(sorted(problems)))


def list_split(root: Path, split: str, classes: Sequence[str]) -> Listing:
    """List one split, for evaluation: ``root/<split>/<class>/**``, or class folders inside root.

    Args:
      root: the data, or the split itself.
      split: which; taken for granted where root is the split itself.
      classes: of the model, in label order. The tree may have fewer.

    Raises:
      UserError: no such split, a class that is not in ``classes``, or no images.
    """
    problems: list[Problem] = []
    folders = sorted(folders_in(root, root, problems))
    inside = split in folders and split not in classes
    if not inside and not set(folders) & set(classes):
        found = _obstacle(split, problems) or f"it has {listed(folders) or 'no folders'}"
        raise UserError(f"{root} has no split {split!r}; {found}.")
    files = class_folders(root, root / split if inside else root, problems)
    unknown = [name for name, paths in files.items() if paths and name not in classes]
    if unknown:
        raise UserError(
            f"{root}: the model does not know the class {listed(unknown)}; "
            f"it knows {listed(classes, 50)}."
        )
    images = [
        ImageFile(path, split, classes.index(name))
        for name, paths in files.items()
        for path in paths
    ]
    if not images:
        raise UserError(f"{root / split if inside else root} holds no image files.")
    return Listing(root, tuple(classes), tuple(sorted(images)), tuple(sorted(problems)))


def read(listing: Listing, preprocess: Preprocess, workers: int = 0) -> Iterator[Decoded | Problem]:
    """Decode the images in parallel, in the order of the listing, whatever is broken.

    A bounded number is in flight, so memory does not grow with the tree.

    Args:
      listing: from ``list_tree`` or ``list_split``.
      preprocess: how.
      workers: threads; 0 chooses, for disks with latency rather than for cores.
    """
    return in_order(lambda file: _read_one(listing.root, file, preprocess), listing.images, workers)


def check_usable(listing: Listing, images: Collection[ImageFile]) -> None:
    """Refuse a data set of which too little could be read.

    Raises:
      UserError: fewer than two classes of train have an image.
    """
    if any(file.split == "train" for file in listing.images):
        usable = {listing.classes[file.label] for file in images if file.split == "train"}
        if len(usable) < 2:
            raise UserError(
                f"Only {len(usable)} class of {listing.root}/train has readable images "
                f"({listed(usable) or 'none'}); two or more are needed."
            )


def fingerprint(listing: Listing) -> str:
    """SHA-256 hex over path, size and modification time of every listed image."""
    digest = hashlib.sha256()
    for file in listing.images:
        try:
            stat = os.stat(os.path.join(listing.root, file.path))
            entry = f"{file.path}\n{stat.st_size}\n{stat.st_mtime_ns}\n"
        except OSError:
            entry = f"{file.path}\nunreadable\n"
        digest.update(entry.encode())
    return digest.hexdigest()


def describe(problems: Iterable[Problem], limit: int = 5) -> str:
    """A few lines for the user: how many by reason, and the first of them."""
    found = list(problems)
    counts = Counter(problem.reason for problem in found).most_common(limit)
    lines = [f"{len(found)} paths are not usable and were left out:"]
    for reason, count in counts:
        examples = [problem.path for problem in found if problem.reason == reason]
        lines.append(f"  {count} x {reason}: {listed(examples, 3)}")
    return "\n".join(lines)


def _obstacle(name: str, problems: Iterable[Problem]) -> str | None:
    """Why what is called so cannot be used, if it is there."""
    return next((f"{name}: {reason}" for path, reason in problems if path == name), None)


def _class_folders(root: Path, split: str, problems: list[Problem]) -> dict[str, list[str]]:
    """As ``class_folders``; a folder beside train that cannot be read is a problem."""
    try:
        return class_folders(root, root / split, problems)
    except UserError:
        if split == "train":
            raise
        problems.append(Problem(split, UNREADABLE))
        return {}


def _read_one(root: Path, file: ImageFile, preprocess: Preprocess) -> Decoded | Problem:
    try:
        data = (root / file.path).read_bytes()
        image = preprocess.decode(data, file.path)
        return Decoded(file, image, hashlib.sha256(data).digest())
    except BadImage as error:
        return Problem(file.path, str(error))
    except OSError as error:
        return Problem(file.path, f"{UNREADABLE} ({error.strerror or error})")
