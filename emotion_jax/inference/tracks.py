"""Which faces of one frame are those of the frame before, and their probabilities over time."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment

from emotion_jax.inference.face import Box

OVERLAP = 0.3  # intersection over union from which two boxes are one face
PATIENCE = 1.0  # seconds for which a face may be out of sight


@dataclass
class Track:
    """A face as it was last seen: box, time in seconds, smoothed probabilities float32 [K]."""

    number: int
    box: Box
    time: float
    probs: np.ndarray


class Tracker:
    """Tracks of a video, frame by frame; its memory is that of the faces in sight."""

    def __init__(self, smooth: float = 0.0, patience: float = PATIENCE) -> None:
        """Start without tracks.

        Args:
          smooth: time constant of the exponential smoothing, seconds; 0: none.
          patience: seconds for which a face may be out of sight and keep its number.
        """
        self.smooth, self.patience = smooth, patience
        self.tracks: list[Track] = []
        self._next = 0

    def restore(self, tracks: Sequence[Track], next_number: int) -> None:
        """Go on from tracks that an earlier process has seen."""
        self.tracks, self._next = list(tracks), next_number

    def update(self, time: float, boxes: Sequence[Box], probs: np.ndarray) -> list[Track]:
        """Take in a frame.

        The smoothed probabilities are p + (1 - exp(-dt / smooth)) (q - p), from p, dt seconds
        before, and the frame's own q.

        Args:
          time: of the frame, seconds.
          boxes: of its n faces.
          probs: float32 [n, K].

        Returns:
          The track of each face, in their order.
        """
        self.tracks = [t for t in self.tracks if time - t.time <= self.patience]
        overlaps = iou([t.box for t in self.tracks], boxes)
        pairs = zip(*linear_sum_assignment(-overlaps), strict=True)
        known = {new: self.tracks[old] for old, new in pairs if overlaps[old, new] >= OVERLAP}
        seen = []
        for i, (box, row) in enumerate(zip(boxes, probs, strict=True)):
            track = known.get(i)
            if track is None:
                track = Track(self._next, box, time, row)
                self._next += 1
                self.tracks.append(track)
            else:
                if self.smooth > 0:
                    share = np.float32(-math.expm1(-max(0.0, time - track.time) / self.smooth))
                    row = track.probs + share * (row - track.probs)
                track.box, track.time, track.probs = box, time, row
            seen.append(track)
        return seen


def iou(first: Sequence[Box], second: Sequence[Box]) -> np.ndarray:
    """Intersection over union of boxes (x, y, width, height): float64 [len(first), len(second)]."""
    a = np.reshape(np.asarray(first, np.float64), (-1, 1, 4))
    b = np.reshape(np.asarray(second, np.float64), (1, -1, 4))
    low = np.maximum(a[..., :2], b[..., :2])
    high = np.minimum(a[..., :2] + a[..., 2:], b[..., :2] + b[..., 2:])
    common = np.maximum(high - low, 0.0).prod(axis=-1)
    union = a[..., 2:].prod(axis=-1) + b[..., 2:].prod(axis=-1) - common
    return common / np.maximum(union, np.finfo(np.float64).tiny)
