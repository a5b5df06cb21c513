"""Near-duplicates: the same photograph, brighter, shifted, stamped, compressed again or mirrored.

Perceptual hashes find candidates; the correlation of the pixels decides, over small shifts, and of
what is left of the pixels without their surroundings' mean. Either alone, or the pixels as they
are, takes strangers for copies: two faces share the places of light and shade, but not the detail.

``data/near.py`` is stricter: it joins what is not to be parted, here a person looks at the finds.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import uniform_filter
from tqdm.auto import tqdm

from emotion_jax.data.near import perceptual_hashes
from emotion_jax.data.threads import in_order

DISTANCE = 10  # bits: candidates
SHIFT = 2  # thumbnail pixels
BLUR = 5  # thumbnail pixels: side of the surroundings
CORRELATION = 0.75
NEAREST = 16  # candidates an image: bounds the work on films, of which all frames are alike
CELLS = 2**18  # of the table of distances at a time: what stays in a core's cache
CHUNK = 512  # pairs


@dataclass(frozen=True)
class Pairs:
    """Pairs of near-duplicates.

    Attributes:
      later, earlier: int64 [m], numbers of images; later > earlier.
      correlation: float32 [m], of the detail, from ``correlations``.
      mirrored: bool [m], whether one is the mirror image of the other.
    """

    later: np.ndarray
    earlier: np.ndarray
    correlation: np.ndarray
    mirrored: np.ndarray

    def __len__(self) -> int:
        return len(self.later)


def near_pairs(thumbs: np.ndarray, progress: bool = False) -> Pairs:
    """All pairs of near-duplicates, of each image at most the 16 nearest by hash, mirrored 16 more.

    Every hash is compared with every other: the time grows with the square of n.

    Args:
      thumbs: uint8 [n, 32, 32], none of them blank.
      progress: show a bar.
    """
    plain, mirrored = (
        perceptual_hashes(some.__getitem__, len(some), progress)
        for some in (thumbs, thumbs[:, :, ::-1])
    )
    found = [(np.zeros((0, 2), np.int64), np.zeros(0, np.float32), False)]
    total = len(thumbs) * (len(thumbs) - 1)  # of each pair both ways round
    with tqdm(
        total=total, desc="comparing images", unit="pair", unit_scale=True, disable=not progress
    ) as bar:
        for flip, queries in enumerate((plain, mirrored)):
            for pairs, compared in _candidates(queries, plain):
                r = correlations(thumbs, pairs, bool(flip))
                near = r >= CORRELATION
                found.append((pairs[near], r[near], bool(flip)))
                bar.update(compared)
    pairs = np.concatenate([p for p, _, _ in found])
    flips = np.concatenate([np.full(len(p), flip) for p, _, flip in found])
    return Pairs(pairs[:, 0], pairs[:, 1], np.concatenate([r for _, r, _ in found]), flips)


def correlations(thumbs: np.ndarray, pairs: np.ndarray, mirrored: bool) -> np.ndarray:
    """The best correlation of two images' detail over all shifts of up to 2 pixels: float32 [m].

    Pearson's, of the pixels less the mean of the 5 x 5 about each.

    Args:
      thumbs: uint8 [n, H, W].
      pairs: int [m, 2].
      mirrored: whether the first of each pair is mirrored.
    """
    chunks = [pairs[start : start + CHUNK] for start in range(0, len(pairs), CHUNK)]
    parts = [
        _correlations(_detail(thumbs[p[:, 0]]), _detail(thumbs[p[:, 1]]), mirrored) for p in chunks
    ]
    return np.concatenate([np.zeros(0, np.float32), *parts])


def _correlations(a: np.ndarray, b: np.ndarray, mirrored: bool) -> np.ndarray:
    height, width = (side - 2 * SHIFT for side in a.shape[1:])
    if mirrored:
        a = a[:, :, ::-1]
    still = a[:, SHIFT : SHIFT + height, SHIFT : SHIFT + width].copy()
    still -= still.mean(axis=(1, 2), keepdims=True)
    still /= np.sqrt(np.einsum("nyx,nyx->n", still, still))[:, None, None] + 1e-6
    best = np.full(len(a), -1, np.float32)
    for y in range(2 * SHIFT + 1):
        for x in range(2 * SHIFT + 1):
            part = np.ascontiguousarray(b[:, y : y + height, x : x + width])
            square = np.einsum("nyx,nyx->n", part, part)
            spread = np.sqrt(np.maximum(square - part.sum((1, 2)) ** 2 / (height * width), 1e-6))
            # The still image has mean 0, so the other's mean drops out of the product.
            np.maximum(best, np.einsum("nyx,nyx->n", still, part) / spread, out=best)
    return best


def _detail(images: np.ndarray) -> np.ndarray:
    pixels = images.astype(np.float32)
    return pixels - uniform_filter(pixels, (0, BLUR, BLUR))


def _candidates(queries: np.ndarray, hashes: np.ndarray) -> Iterator[tuple[np.ndarray, int]]:
    """Pairs (later, earlier) within ``DISTANCE``: int64 [m, 2], and of how many that is.

    ``queries[later]`` is compared with ``hashes[earlier]``.
    """
    n = len(hashes)
    rows = max(1, CELLS // max(n, 1))

    def search(start: int) -> tuple[np.ndarray, int]:
        stop = min(start + rows, n)
        bits = np.bitwise_count(queries[start:stop, None] ^ hashes[None, :stop])
        row, earlier = np.nonzero(bits <= DISTANCE)
        below = earlier < row + start
        row, earlier = row[below], earlier[below]
        order = np.lexsort((earlier, bits[row, earlier], row))
        row, earlier = row[order], earlier[order]
        near = np.arange(len(row)) - np.searchsorted(row, row) < NEAREST
        pairs = np.stack([row[near] + start, earlier[near]], axis=1)
        return pairs, (start + stop - 1) * (stop - start) // 2

    yield from in_order(search, range(0, n, rows), os.cpu_count() or 1)
