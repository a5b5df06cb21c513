"""Near-duplicates: the same photograph cropped, scaled, brightened or compressed once more.

Two images are near-duplicates when their perceptual hashes (DCT, 64 bits; Zauner 2010) differ in
few bits and their pixels correlate. Either alone chains strangers together: on FER2013's train
half of the pairs at 8 bits are two people, and drawn faces differ in few bits throughout.
"""

from collections.abc import Callable, Iterator

import imagehash
import numpy as np
from PIL import Image
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from tqdm.auto import tqdm

from emotion_jax.data.stream import Examples

DISTANCE = 6  # bits of 64
CORRELATION = 0.85  # of the pixels, Pearson's
CHUNK = 1024  # images
CELLS = 2**21  # of the table of distances, at a time


def perceptual_hashes(
    images: Callable[[np.ndarray], np.ndarray], n: int, progress: bool = False
) -> np.ndarray:
    """``imagehash.phash`` of every image, its 64 bits as a number: uint64 [n].

    Args:
      images: from their numbers, int64 [m], to the images, uint8 [m, H, W] or [m, H, W, C].
      n: how many there are.
      progress: show a bar.
    """
    hashes = np.zeros(n, np.uint64)
    with tqdm(
        total=n, desc="near-duplicates", unit="img", disable=not progress, leave=False
    ) as bar:
        for start in range(0, n, CHUNK):
            some = images(np.arange(start, min(start + CHUNK, n)))
            bits = [imagehash.phash(Image.fromarray(np.squeeze(image))).hash for image in some]
            packed = np.packbits(np.reshape(bits, (len(bits), 64)), axis=1)
            hashes[start : start + len(bits)] = packed.view(">u8")[:, 0]
            bar.update(len(bits))
    return hashes


def near_pairs(
    examples: Examples,
    distance: int = DISTANCE,
    correlation: float = CORRELATION,
    progress: bool = False,
) -> np.ndarray:
    """All pairs of near-duplicates: int64 [m, 2], the smaller number first, sorted.

    All hashes are compared with all: seconds for 30,000 images, minutes for 200,000.

    Args:
      examples: the images; equal ones are pairs as well, unless they are blank.
      distance: largest number of bits in which the hashes may differ.
      correlation: smallest correlation of the pixels.
      progress: show a bar.
    """
    hashes = perceptual_hashes(examples.images, len(examples), progress)
    found = [np.zeros((0, 2), np.int64)]
    for pairs in _within(hashes, distance):
        for start in range(0, len(pairs), CHUNK):
            some = pairs[start : start + CHUNK]
            a, b = (_centred(examples.images(some[:, side])) for side in (0, 1))
            found.append(some[np.einsum("np,np->n", a, b) >= correlation])
    return np.concatenate(found)


def joined(n: int, pairs: np.ndarray, *labels: np.ndarray) -> np.ndarray:
    """Groups of images that are linked by pairs or by equal labels, over any number of steps.

    Args:
      n: number of images.
      pairs: int [m, 2].
      labels: arrays [n] of anything that can be sorted.

    Returns:
      int64 [n]: group numbers from 0, in order of first appearance.
    """
    edges = [np.asarray(pairs, np.int64).reshape(-1, 2)]
    for label in labels:
        _, first, inverse = np.unique(label, return_index=True, return_inverse=True)
        edges.append(np.stack([np.arange(n), first[inverse.reshape(-1)]], axis=1))
    a, b = np.concatenate(edges).T
    _, group = connected_components(coo_array((np.ones(len(a)), (a, b)), shape=(n, n)), False)
    _, first, inverse = np.unique(group, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[inverse.reshape(-1)]


def _within(hashes: np.ndarray, distance: int) -> Iterator[np.ndarray]:
    """Pairs whose hashes differ in at most ``distance`` bits, piece by piece: int64 [m, 2]."""
    n, start = len(hashes), 0
    while start < n:
        stop = min(n, start + max(1, CELLS // (n - start)))
        rows = hashes[start:stop, None]
        near = np.bitwise_count(rows ^ hashes[None, start:]) <= distance
        i, j = np.nonzero(np.triu(near, 1))
        yield np.stack([i, j], axis=1) + start
        start = stop


def _centred(images: np.ndarray) -> np.ndarray:
    """Pixels with mean 0 and norm 1; zeros for a blank image: float32 [n, H * W * C]."""
    pixels = images.reshape(len(images), -1).astype(np.float32)
    pixels -= pixels.mean(axis=1, keepdims=True)
    norm = np.linalg.norm(pixels, axis=1, keepdims=True)
    return np.divide(pixels, norm, out=np.zeros_like(pixels), where=norm > 0)
