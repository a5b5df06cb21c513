"""Near-duplicates: the same photograph, brighter, shifted, stamped, compressed again or mirrored.

Perceptual hashes find candidates; the correlation of the pixels decides, over small shifts, and of
what is left of the pixels without their surroundings' mean. Either alone, or the pixels as they
are, takes strangers for copies: two faces share the places of light and shade, but not the detail.

``data/near.py`` is stricter: it joins what is not to be parted, here a person looks at the finds.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

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


class _Block(NamedTuple):
    """Candidates: int64 [m, 2], later and earlier.

    Attributes:
      nearest: of each later image.
      others: the further ones, all of them across splits.
      compared: pairs of hashes that were compared for them.
    """

    nearest: np.ndarray
    others: np.ndarray
    compared: int


def near_pairs(thumbs: np.ndarray, split: np.ndarray, progress: bool = False) -> Pairs:
    """Pairs of near-duplicates, among them of every image that another split has one like.

    Of each image at most the 16 nearest by hash in its split and the 16 nearest in others, mirrored
    16 more of each. Across splits there is no such limit on what is compared, or a film in both
    would hide its leaks behind each other: an image that has one like it among the earlier of other
    splits is the later of at least one pair; that has one among the later, the earlier of one.

    Every hash is compared with every other: the time grows with the square of n. There are no more
    than some tens of pairs an image, however many are alike.

    Args:
      thumbs: uint8 [n, 32, 32], none of them blank.
      split: int [n].
      progress: show a bar.
    """
    plain, mirrored = (
        perceptual_hashes(some.__getitem__, len(some), progress)
        for some in (thumbs, thumbs[:, :, ::-1])
    )
    found = [(np.zeros((0, 2), np.int64), np.zeros(0, np.float32), False)]
    paired = np.zeros((2, len(thumbs)), bool)  # across splits, as the later and as the earlier
    total = len(thumbs) * (len(thumbs) - 1)  # of each pair both ways round
    with tqdm(
        total=total, desc="comparing images", unit="pair", unit_scale=True, disable=not progress
    ) as bar:
        for flip, queries in enumerate((plain, mirrored)):
            for block in _candidates(queries, plain, split):
                pairs, r = _alike(thumbs, block.nearest, bool(flip))
                found.append((pairs, r, bool(flip)))
                across = split[pairs[:, 0]] != split[pairs[:, 1]]
                paired[0, pairs[across, 0]] = paired[1, pairs[across, 1]] = True
                for pairs, r in _further(thumbs, block.others, bool(flip), paired):
                    found.append((pairs, r, bool(flip)))
                bar.update(block.compared)
    pairs = np.concatenate([p for p, _, _ in found])
    flips = np.concatenate([np.full(len(p), flip) for p, _, flip in found])
    return Pairs(pairs[:, 0], pairs[:, 1], np.concatenate([r for _, r, _ in found]), flips)


def _alike(thumbs: np.ndarray, pairs: np.ndarray, mirrored: bool) -> tuple[np.ndarray, np.ndarray]:
    """Those of the pairs that are near-duplicates, and their correlations."""
    r = correlations(thumbs, pairs, mirrored)
    return pairs[r >= CORRELATION], r[r >= CORRELATION]


def _further(
    thumbs: np.ndarray, pairs: np.ndarray, mirrored: bool, paired: np.ndarray
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Of pairs across splits those that are alike and of an image that has no such pair yet.

    A film has as many pairs as the product of its frames here and there: once each frame is in one
    they tell nothing new. ``paired``, bool [2, n], is what is known, and brought up to date.
    """
    for start in range(0, len(pairs), CHUNK):
        some = pairs[start : start + CHUNK]
        some, r = _alike(thumbs, some[~_known(paired, some).all(axis=1)], mirrored)
        best = np.argsort(-r, kind="stable")
        some, r = some[best], r[best]
        is_first = np.zeros((len(some), 2), bool)
        for column in (0, 1):
            is_first[np.unique(some[:, column], return_index=True)[1], column] = True
        kept = (is_first & ~_known(paired, some)).any(axis=1)
        paired[0, some[:, 0]] = paired[1, some[:, 1]] = True
        yield some[kept], r[kept]


def _known(paired: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    return np.stack([paired[0, pairs[:, 0]], paired[1, pairs[:, 1]]], axis=1)


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


def _candidates(queries: np.ndarray, hashes: np.ndarray, split: np.ndarray) -> Iterator[_Block]:
    """Pairs (later, earlier) within ``DISTANCE``: ``queries[later]`` and ``hashes[earlier]``."""
    n = len(hashes)
    rows = max(1, CELLS // max(n, 1))

    def search(start: int) -> _Block:
        stop = min(start + rows, n)
        bits = np.bitwise_count(queries[start:stop, None] ^ hashes[None, :stop])
        row, earlier = np.nonzero(bits <= DISTANCE)
        below = earlier < row + start
        row, earlier = row[below], earlier[below]
        across = split[row + start] != split[earlier]
        order = np.lexsort((earlier, bits[row, earlier], across, row))
        row, earlier, across = row[order], earlier[order], across[order]
        group = 2 * row + across
        near = np.arange(len(row)) - np.searchsorted(group, group) < NEAREST
        pairs = np.stack([row + start, earlier], axis=1)
        compared = (start + stop - 1) * (stop - start) // 2
        return _Block(pairs[near], pairs[~near & across], compared)

    yield from in_order(search, range(0, n, rows), os.cpu_count() or 1)
