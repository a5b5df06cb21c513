"""Where the faces in an image are."""

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

import numpy as np
from PIL import Image

from emotion_jax.errors import UserError, choose
from emotion_jax.inference.face import Box
from emotion_jax.inference.mtcnn import Cascade

T = TypeVar("T")
SIDE = 1280  # pixels: larger images are searched at this longest side
MIN_FACE = 20  # pixels at that size: smaller faces are not looked for


class Detection(NamedTuple):
    """A face that was found.

    Attributes:
      box: x, y, width, height, pixels.
      score: the detector's confidence.
      landmarks: float32 [5, 2] (see ``Face``) or None.
      framed: the box is what the network shall see, as it is.
    """

    box: Box
    score: float
    landmarks: np.ndarray | None = None
    framed: bool = False


class Detector(Protocol):
    """Finds faces; usable by many threads at once.

    It may have an attribute ``side``: larger images are searched at this longest side, or with None
    as they are; without it at SIDE.
    """

    def detect(self, images: Sequence[np.ndarray]) -> list[list[Detection]]:
        """The faces in each of the uint8 RGB images [H, W, 3], largest first."""


class WholeImage:
    """The image is the face."""

    def detect(self, images: Sequence[np.ndarray]) -> list[list[Detection]]:
        """One face an image."""
        return [self.find(image.shape[1], image.shape[0]) for image in images]

    def find(self, width: int, height: int) -> list[Detection]:
        """The face of an image of this size."""
        return [Detection((0.0, 0.0, float(width), float(height)), 1.0, None, True)]


class Mtcnn:
    """MTCNN with five landmarks: slower than Haar, finds turned and small faces too.

    Raises:
      UserError: OpenCV or the weights are not installed.
    """

    def __init__(self, min_face: int = MIN_FACE) -> None:
        opencv()
        self._pool = _Pool(lambda: Cascade(min_face))
        with self._pool.borrowed():  # tells at once if something is not installed
            pass

    def detect(self, images: Sequence[np.ndarray]) -> list[list[Detection]]:
        """See ``Detector``."""
        with self._pool.borrowed() as cascade:
            return [self._faces(*cascade(image)) for image in images]

    @staticmethod
    def _faces(boxes: np.ndarray, scores: np.ndarray, landmarks: np.ndarray) -> list[Detection]:
        found = []
        for box, score, places in zip(boxes, scores, landmarks, strict=True):
            left, top, right, bottom = (float(edge) for edge in box)
            size = (left, top, right - left, bottom - top)
            found.append(Detection(size, float(score), places))
        return _largest_first(found)


class Haar:
    """OpenCV's cascade for frontal faces (Viola and Jones 2001): quick, upright faces only.

    Args:
      min_face: shortest side of a face that is looked for, pixels of what is searched.
      scale_factor, min_neighbors: of OpenCV's ``detectMultiScale``.
      side: see ``Detector``.

    Raises:
      UserError: OpenCV is not installed.
    """

    def __init__(
        self,
        min_face: int = MIN_FACE,
        scale_factor: float = 1.1,
        min_neighbors: int = 5,
        side: int | None = SIDE,
    ) -> None:
        self.side = side
        self._cv2 = cv2 = opencv()
        path = f"{cv2.data.haarcascades}haarcascade_frontalface_default.xml"
        self._pool = _Pool(lambda: cv2.CascadeClassifier(path))
        self._settings = {
            "scaleFactor": scale_factor,
            "minNeighbors": min_neighbors,
            "minSize": (min_face, min_face),
        }

    def detect(self, images: Sequence[np.ndarray]) -> list[list[Detection]]:
        """See ``Detector``; the score is the cascade's last stage's, not a probability."""
        with self._pool.borrowed() as cascade:
            return [self._faces(cascade, image) for image in images]

    def _faces(self, cascade: Any, image: np.ndarray) -> list[Detection]:
        grey = self._cv2.cvtColor(image, self._cv2.COLOR_RGB2GRAY)
        boxes, _, weights = cascade.detectMultiScale3(
            grey, outputRejectLevels=True, **self._settings
        )
        found = zip(np.reshape(boxes, (-1, 4)).tolist(), np.ravel(weights).tolist(), strict=True)
        return _largest_first(
            [Detection((float(x), float(y), float(w), float(h)), s) for (x, y, w, h), s in found]
        )


# Name -> from the smallest face that is looked for, pixels.
DETECTORS: Mapping[str, Callable[[int], Detector]] = {
    "mtcnn": Mtcnn,
    "haar": Haar,
    "none": lambda _: WholeImage(),
}


def make_detector(name: str, min_face: int = MIN_FACE) -> Detector:
    """The detector of a name.

    Args:
      name: "mtcnn", "haar" or "none".
      min_face: faces with a shorter side are not looked for, pixels, where the image's longest
        side is SIDE at most; the larger, the faster.

    Raises:
      UserError: there is no such detector, what it needs is not installed, or ``min_face`` is out
        of range.
    """
    if not MIN_FACE <= min_face <= SIDE:
        raise UserError(f"The smallest face is {min_face} pixels; use {MIN_FACE} to {SIDE}.")
    return choose(DETECTORS, name, "the detector")(min_face)


def find(detector: Detector, image: Image.Image) -> list[Detection]:
    """The faces in an upright image of any mode and size, in its pixels, largest first."""
    if isinstance(detector, WholeImage):  # needs no pixels
        return detector.find(*image.size)
    side: int | None = getattr(detector, "side", SIDE)
    shrink = 1.0 if side is None else max(1.0, max(image.size) / side)
    small = image.convert("RGB")
    if shrink > 1.0:
        size = (max(1, round(image.width / shrink)), max(1, round(image.height / shrink)))
        small = small.resize(size, Image.Resampling.BILINEAR, reducing_gap=2.0)
    found = detector.detect([np.asarray(small)])[0]
    if shrink == 1.0:
        return found
    return [_enlarged(detection, shrink) for detection in found]


def _enlarged(detection: Detection, factor: float) -> Detection:
    x, y, width, height = (value * factor for value in detection.box)
    landmarks = None if detection.landmarks is None else detection.landmarks * np.float32(factor)
    return detection._replace(box=(x, y, width, height), landmarks=landmarks)


def _largest_first(found: list[Detection]) -> list[Detection]:
    return sorted(found, key=lambda detection: -detection.box[2] * detection.box[3])


def opencv() -> Any:
    """The module ``cv2``.

    Raises:
      UserError: it is not installed.
    """
    try:
        import cv2
    except ImportError:
        raise UserError(
            'Finding faces needs OpenCV; install it: pip install "emotion-jax[video]", '
            'or use the detector "none" for images that are faces already.'
        ) from None
    return cv2


class _Pool(Generic[T]):
    """Things for one thread at a time, made as they are needed and used again."""

    def __init__(self, make: Callable[[], T]) -> None:
        self._make, self._free, self._lock = make, list[T](), threading.Lock()

    @contextmanager
    def borrowed(self) -> Iterator[T]:
        with self._lock:
            thing = self._free.pop() if self._free else None
        thing = self._make() if thing is None else thing
        try:
            yield thing
        finally:
            with self._lock:
                self._free.append(thing)
