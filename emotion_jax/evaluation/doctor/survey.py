"""Read every image of a tree once and keep of it a kilobyte: what the findings are made from."""

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image
from tqdm.auto import tqdm

from emotion_jax.data.preprocess import FORMATS, BadImage, Preprocess
from emotion_jax.data.threads import in_order
from emotion_jax.data.tree import Problem, class_folders, folders_in
from emotion_jax.errors import UserError, listed

THUMB = 32  # side of the thumbnails, pixels: what perceptual hashes are made from
BAND = 2**18  # pixels: of an image at a time, for its hash


class Item(NamedTuple):
    """An image by name: posix path below the root, place of its split and of its class."""

    path: str
    split: int
    label: int


@dataclass(frozen=True)
class Tree:
    """A tree by its names.

    Attributes:
      splits: train first, the others by name; one nameless split where the class folders lie
        directly in the root.
      classes: of any split, sorted.
      items: by split, then by path.
      problems: what cannot be an image, with the reason.
      sizes: int [splits, classes], image files by name; -1 where there is no such folder.
    """

    root: Path
    splits: tuple[str, ...]
    classes: tuple[str, ...]
    items: tuple[Item, ...]
    problems: tuple[Problem, ...]
    sizes: np.ndarray


@dataclass(frozen=True)
class Survey:
    """The images that could be read; all arrays are in the order of ``tree.items``.

    Attributes:
      tree: the names, also of what could not be read.
      problems: those of the tree, and files that could not be decoded.
      paths: [n].
      split, label: int32 [n], places in ``tree.splits`` and ``tree.classes``.
      size: int32 [n, 2], width and height in pixels, upright.
      mean, std: float32 [n], of the grey values (0 to 255).
      hashes: uint64 [n], of the pixels as RGB and of the size: equal images, equal hashes.
      thumbs: uint8 [n, 32, 32], grey.
    """

    tree: Tree
    problems: tuple[Problem, ...]
    paths: tuple[str, ...]
    split: np.ndarray
    label: np.ndarray
    size: np.ndarray
    mean: np.ndarray
    std: np.ndarray
    hashes: np.ndarray
    thumbs: np.ndarray

    def __len__(self) -> int:
        return len(self.paths)


class _Seen(NamedTuple):
    size: tuple[int, int]
    mean: float
    std: float
    digest: int
    thumb: np.ndarray


def list_tree(root: Path) -> Tree:
    """List ``root/<split>/<class>/**``, or ``root/<class>/**`` as one nameless split.

    Root holds splits if one of its folders is called train, or if none of them has images
    directly in it. Any number of classes and splits will do.

    Raises:
      UserError: root is missing, no folder, or holds no image files.
    """
    problems: list[Problem] = []
    folders = sorted(folders_in(root, root, problems))
    if "train" in folders or not any(_has_images(root / name) for name in folders):
        splits = tuple(sorted(folders, key=lambda name: (name != "train", name)))
        found = [_split(root, name, problems) for name in splits]
    else:
        splits, found = ("",), [class_folders(root, root, problems)]
    classes = tuple(sorted({name for files in found for name in files}))
    sizes = np.full((len(splits), len(classes)), -1)
    items = []
    for split, files in enumerate(found):
        for name, paths in files.items():
            sizes[split, classes.index(name)] = len(paths)
            items += [Item(path, split, classes.index(name)) for path in paths]
    if not items:
        reasons = listed([f"{path}: {reason}" for path, reason in problems], 5)
        raise UserError(
            f"{root} holds no image files ({', '.join(sorted(FORMATS))}) in class folders; "
            f"it has {listed(folders) or 'no folders'}{f' ({reasons})' if reasons else ''}."
        )
    items.sort(key=lambda item: (item.split, item.path))
    return Tree(root, splits, classes, tuple(items), tuple(sorted(set(problems))), sizes)


def survey(tree: Tree, workers: int = 0, progress: bool = False) -> Survey:
    """Open every image, in parallel; a bounded number of them is in memory at a time.

    Raises:
      UserError: not one of them can be read.
    """
    preprocess = Preprocess(channels=3)
    items: list[Item] = []
    seen: list[_Seen] = []
    problems = list(tree.problems)
    thumbs = np.empty((len(tree.items), THUMB, THUMB), np.uint8)
    results = in_order(lambda item: _look(tree.root, item, preprocess), tree.items, workers)
    bar = tqdm(
        zip(tree.items, results, strict=True),
        total=len(tree.items),
        desc="reading images",
        unit="img",
        disable=not progress,
    )
    for item, result in bar:
        if isinstance(result, Problem):
            problems.append(result)
            continue
        thumbs[len(items)] = result.thumb
        items.append(item)
        seen.append(result._replace(thumb=thumbs[:0]))
    if not items:
        raise UserError(
            f"None of the {len(tree.items)} images in {tree.root} can be read "
            f"({problems[0].path}: {problems[0].reason})."
        )
    return _survey(tree, problems, items, seen, thumbs[: len(items)])


def _survey(
    tree: Tree,
    problems: Sequence[Problem],
    items: Sequence[Item],
    seen: Sequence[_Seen],
    thumbs: np.ndarray,
) -> Survey:
    paths, split, label = zip(*items, strict=True)
    size, mean, std, digest, _ = zip(*seen, strict=True)
    return Survey(
        tree=tree,
        problems=tuple(sorted(problems)),
        paths=paths,
        split=np.array(split, np.int32),
        label=np.array(label, np.int32),
        size=np.array(size, np.int32),
        mean=np.array(mean, np.float32),
        std=np.array(std, np.float32),
        hashes=np.array(digest, np.uint64),
        thumbs=thumbs,
    )


def _look(root: Path, item: Item, preprocess: Preprocess) -> _Seen | Problem:
    try:
        image = preprocess.open((root / item.path).read_bytes(), item.path).convert("RGB")
    except BadImage as error:
        return Problem(item.path, str(error))
    except OSError as error:
        return Problem(item.path, f"unreadable ({error.strerror or error})")
    digest = _digest(image)
    grey = image.convert("L")
    counts = np.array(grey.histogram(), np.float64)  # moments of it: no float copy of the pixels
    values = np.arange(256.0)
    mean = counts @ values / counts.sum()
    std = np.sqrt(counts @ (values - mean) ** 2 / counts.sum())
    thumb = grey.resize((THUMB, THUMB), Image.Resampling.BILINEAR)
    return _Seen(image.size, mean, std, digest, np.asarray(thumb))


def _digest(image: Image.Image) -> int:
    """The first 64 bits of the SHA-256 of size and pixels, taken band by band: without a copy."""
    width, height = image.size
    digest = hashlib.sha256(np.array(image.size, ">u4").tobytes())
    rows = max(1, BAND // width)
    for top in range(0, height, rows):
        band = image.crop((0, top, width, min(top + rows, height)))
        digest.update(band.tobytes())
    return int.from_bytes(digest.digest()[:8], "big")


def _split(root: Path, name: str, problems: list[Problem]) -> dict[str, list[str]]:
    try:
        return class_folders(root, root / name, problems)
    except UserError as error:  # a folder that cannot be read
        problems.append(Problem(name, str(error)))
        return {}


def _has_images(folder: Path) -> bool:
    try:
        with os.scandir(folder) as entries:
            return any(os.path.splitext(entry.name)[1].lower() in FORMATS for entry in entries)
    except OSError:
        return False
