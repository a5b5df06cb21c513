"""From images to the expressions of the faces in them."""

import itertools
import math
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from emotion_jax.data.preprocess import BadImage, Preprocess
from emotion_jax.data.threads import in_order
from emotion_jax.errors import UserError
from emotion_jax.inference import faces as faces_lib
from emotion_jax.inference import framing, images
from emotion_jax.inference.face import Box, Face, plain
from emotion_jax.inference.faces import Detection, Detector, WholeImage
from emotion_jax.inference.network import Network
from emotion_jax.training import trained as trained_lib
from emotion_jax.training.trained import Trained

# Photographs of phones have 50 million pixels; Pillow warns of bombs from 89 million.
PIXEL_CAP = 80_000_000
PHOTOGRAPHS = 32  # gathered for the network at most: to find their faces takes far longer
WORKERS = 4  # threads that read images and look for faces


@dataclass(frozen=True)
class Result:
    """What became of one image.

    Attributes:
      faces: largest first; none where there is no face, or where the image could not be read.
      error: why it could not be read, in a few words; None if it was.
    """

    faces: tuple[Face, ...] = ()
    error: str | None = None


@dataclass(frozen=True)
class _Found:
    """An image, seen by the detector. crops: uint8 [S, S, C] of each face."""

    detections: Sequence[Detection] = ()
    crops: Sequence[np.ndarray] = ()
    error: str | None = None


class Recognizer:
    """A checkpoint in use. Any number of threads may call one at once."""

    def __init__(
        self,
        trained: Trained,
        detector: str | Detector = "mtcnn",
        abstain_below: float = 0.0,
        pixel_cap: int = PIXEL_CAP,
        min_face: int = faces_lib.MIN_FACE,
    ) -> None:
        """See ``load``."""
        if not 0.0 <= abstain_below <= 1.0:
            raise UserError(f"abstain_below is {abstain_below}; it is a probability, 0 to 1.")
        if isinstance(detector, str):
            detector = faces_lib.make_detector(detector, min_face)
        about = trained.description
        self.trained = trained
        self.abstain_below = abstain_below
        self._detector = detector
        self._framing = framing.of_convention(about["crop"])
        self.preprocess = Preprocess(about["image_size"], about["channels"], pixel_cap)
        self._network = Network(trained)

    @classmethod
    def load(
        cls,
        checkpoint: str | Path,
        detector: str | Detector = "mtcnn",
        abstain_below: float = 0.0,
        pixel_cap: int = PIXEL_CAP,
        without: Collection[str] = (),
        min_face: int = faces_lib.MIN_FACE,
    ) -> "Recognizer":
        """Build the network of a checkpoint.

        Args:
          checkpoint: a workdir of scripts/train.py (its best step), one step's directory, or the
            name of shipped weights.
          detector: what finds the faces: "mtcnn", "haar", "none" (the images are faces already,
            treated as those of training) or your own.
          abstain_below: faces whose best class is less probable are marked ``abstained``.
          pixel_cap: images with more pixels are refused.
          without: classes to leave out (of "ferplus" contempt, for the usual seven); the others
            share their probability in proportion.
          min_face: smallest face that is looked for by name, pixels (see ``make_detector``).

        Raises:
          UserError: there is no such checkpoint, it is damaged or of another version, it has no
            such class, or what the detector needs is not installed.
        """
        trained = trained_lib.load(trained_lib.resolve(Path(checkpoint)))
        trained = trained_lib.without(trained, without) if without else trained
        return cls(trained, detector, abstain_below, pixel_cap, min_face)

    @property
    def classes(self) -> tuple[str, ...]:
        """In the order of the probabilities."""
        return self.trained.classes

    def predict(self, source: Any) -> Any:
        """Find the faces and name their expressions.

        Args:
          source: an image (a path, the bytes of a file, a uint8 array RGB [H, W, 3] or grey
            [H, W], or a Pillow image), or a list or an iterator of them, mixed as you like.

        Returns:
          For one image a list of ``Face``, largest first, empty where there is none; for a list a
          list of such lists; for an iterator an iterator, which reads ahead of what it has given.

        Raises:
          UserError: an image cannot be read (``results`` goes on instead), or is none.
        """
        if images.is_single(source):
            (faces,) = self._faces([source])
            return faces
        if isinstance(source, Sequence | np.ndarray):
            return list(self._faces(source))
        if isinstance(source, Iterable):
            return self._faces(source)
        raise images.refusal(source)

    def results(
        self, sources: Iterable[Any], chunk: int | None = None, workers: int = WORKERS
    ) -> Iterator[Result]:
        """As ``predict`` for an iterator, but what cannot be read is a result with its reason.

        Args:
          sources: images; taken ahead of the results, by 4 * workers + 2 * chunk at most.
          chunk: images that are gathered for the network at a time, at most; None: what it takes
            where each image is one face, or else PHOTOGRAPHS.
          workers: threads that read images and look for faces.
        """
        if chunk is None:
            whole = isinstance(self._detector, WholeImage)
            chunk = self._network.batch_size if whole else PHOTOGRAPHS
        begun: deque[tuple[list[_Found], Callable[[], np.ndarray]]] = deque()
        for batch in self._batches(in_order(self._find, sources, workers), chunk):
            crops = self._stacked([crop for one in batch for crop in one.crops])
            begun.append((batch, self._network.begin(crops)))
            if len(begun) > 1:  # while the devices are at work on this one
                yield from self._named(*begun.popleft())
        for last in begun:
            yield from self._named(*last)

    def predict_boxes(self, source: Any, boxes: Sequence[Box]) -> list[Face]:
        """Name the expressions of faces that were found by someone else.

        Args:
          source: one image, as for ``predict``.
          boxes: x, y, width and height of each face, pixels of the upright image, tight about it.

        Returns:
          A ``Face`` a box, in their order.

        Raises:
          UserError: the image cannot be read, or a box holds nothing of it.
        """
        image = self.open(source)
        for number, box in enumerate(boxes):
            _check_box(box, number, *image.size)
        found = self._seen(image, lambda _: [Detection(box, 1.0) for box in boxes])
        rows = self._network.probabilities(self._stacked(found.crops))
        return [self.face(*one[:3], row) for one, row in zip(found.detections, rows, strict=True)]

    def open(self, source: Any) -> Image.Image:
        """One image, as for ``predict``, upright.

        Raises:
          UserError: it cannot be read.
        """
        try:
            return images.open_image(source, self.preprocess)
        except BadImage as error:
            raise UserError(f"Cannot use {images.name_of(source)}: {error}.") from None

    def probabilities(self, faces: np.ndarray) -> np.ndarray:
        """The network alone.

        Args:
          faces: uint8 [N, S, S, C], S and C as the checkpoint says, cut out as in training.

        Returns:
          float32 [N, K], rows sum to 1, in the order of ``classes``; those of scripts/evaluate.py.

        Raises:
          UserError: the faces have another shape or type.
        """
        size, channels = self.preprocess.image_size, self.preprocess.channels
        if faces.dtype != np.uint8 or faces.shape[1:] != (size, size, channels):
            raise UserError(
                f"Faces are uint8 [N, {size}, {size}, {channels}] for this checkpoint, "
                f"not {faces.dtype} {list(faces.shape)}."
            )
        return self._network.probabilities(faces).astype(np.float32)

    def _faces(self, sources: Iterable[Any]) -> Iterator[list[Face]]:
        ours, theirs = itertools.tee(sources)
        workers = 1 if isinstance(sources, list) and len(sources) == 1 else WORKERS
        for source, result in zip(theirs, self.results(ours, workers=workers), strict=True):
            if result.error is not None:
                raise UserError(f"Cannot use {images.name_of(source)}: {result.error}.")
            yield list(result.faces)

    def _find(self, source: Any) -> _Found:
        return self._seen(source, lambda image: faces_lib.find(self._detector, image))

    def _seen(self, source: Any, find: Callable[[Image.Image], Sequence[Detection]]) -> _Found:
        """Read an image and cut out its faces; the image itself is not kept."""
        try:
            image = images.open_image(source, self.preprocess)
        except BadImage as error:
            return _Found(error=str(error))
        found = find(image)
        views = (framing.cut(image, detection, self._framing) for detection in found)
        return _Found(found, [self.preprocess.convert(view) for view in views])

    def _batches(self, found: Iterable[_Found], chunk: int) -> Iterator[list[_Found]]:
        """Images in a row, until there are ``chunk`` of them or as many faces as are taken."""
        batch: list[_Found] = []
        faces = 0
        for one in found:
            batch.append(one)
            faces += len(one.crops)
            if len(batch) >= chunk or faces >= self._network.batch_size:
                yield batch
                batch, faces = [], 0
        if batch:
            yield batch

    def _stacked(self, crops: Sequence[np.ndarray]) -> np.ndarray:
        """What the network takes, of any number of faces: uint8 [n, S, S, C]."""
        size, channels = self.preprocess.image_size, self.preprocess.channels
        return np.array(crops, np.uint8).reshape(-1, size, size, channels)

    def _named(self, batch: list[_Found], end: Callable[[], np.ndarray]) -> Iterator[Result]:
        """The images of a batch that the network has begun with."""
        probs = iter(end())
        for one in batch:
            said = zip(one.detections, probs, strict=False)  # those of this image, no more
            yield Result(tuple(self.face(*found[:3], row) for found, row in said), one.error)

    def face(
        self, box: Box, det_score: float, landmarks: np.ndarray | None, probs: np.ndarray
    ) -> Face:
        """A detection and the probabilities of its expression, [K], as a ``Face``."""
        best = int(probs.argmax())
        return Face(
            box=box,
            det_score=det_score,
            landmarks=landmarks,
            label=self.classes[best],
            score=plain(probs[best]),
            probs=dict(zip(self.classes, plain(probs), strict=True)),
            abstained=bool(probs[best] < self.abstain_below),
        )


def _check_box(box: Box, number: int, image_width: int, image_height: int) -> None:
    x, y, width, height = box
    is_within = width > 0 and height > 0 and -width < x < image_width and -height < y < image_height
    if not (all(map(math.isfinite, box)) and is_within):
        raise UserError(
            f"Box {number} is {list(box)}; it has to be x, y, width and height of a part of the "
            f"image, which has {image_width} x {image_height} pixels."
        )
