"""``from emotion_jax.compat.fer import FER`` in place of ``from fer import FER``."""

from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from emotion_jax.inference.face import Face
from emotion_jax.inference.faces import Haar, Mtcnn
from emotion_jax.inference.recognizer import Recognizer


class FER:
    """The class of the package ``fer`` (25.10.3), by a checkpoint of ours.

    Its ``Video`` is scripts/predict.py here.
    """

    def __init__(
        self,
        cascade_file: str | None = None,
        mtcnn: bool = False,
        tfserving: bool = False,
        use_tflite: bool = True,
        scale_factor: float = 1.1,
        min_face_size: int = 50,
        min_neighbors: int = 5,
        offsets: tuple[int, int] = (10, 10),
        checkpoint: str | Path = "ferplus",
    ) -> None:
        """Load a checkpoint.

        Args:
          cascade_file, tfserving, use_tflite, offsets: taken, and without effect here.
          mtcnn: whether MTCNN finds the faces, or else Haar's cascade.
          scale_factor, min_neighbors, min_face_size: of the cascade, which searches the image in
            its own size, as there.
          checkpoint: see ``Recognizer.load``.

        Raises:
          UserError: as ``Recognizer.load``.
        """
        del cascade_file, tfserving, use_tflite, offsets
        haar = (min_face_size, scale_factor, min_neighbors)
        detector = Mtcnn() if mtcnn else Haar(*haar, side=None)
        self.recognizer = Recognizer.load(checkpoint, detector)

    def detect_emotions(
        self,
        img: np.ndarray | str | PathLike[str],
        face_rectangles: Sequence[Sequence[int]] | None = None,
    ) -> list[dict[str, Any]]:
        """The faces of an image.

        Args:
          img: uint8 BGR [H, W, 3] as OpenCV reads it, grey [H, W], or a path.
          face_rectangles: boxes (x, y, width, height) to use in place of the detector's.

        Returns:
          ``{"box": [x, y, width, height], "emotions": {class: probability}}`` a face, whole pixels
          and two decimals; an empty list where there is none.

        Raises:
          UserError: the image cannot be read, or a rectangle holds nothing of it.
        """
        image = rgb(img)
        if face_rectangles is None:
            faces = self.recognizer.predict(image)
        else:
            boxes = [(float(x), float(y), float(w), float(h)) for x, y, w, h in face_rectangles]
            faces = self.recognizer.predict_boxes(image, boxes)
        return [_described(face) for face in faces]

    def batch_detect_emotions(
        self, imgs: Sequence[np.ndarray | str | PathLike[str]]
    ) -> list[list[dict[str, Any]]]:
        """As ``detect_emotions`` for each of the images, which share the network's batches.

        Raises:
          UserError: an image cannot be read.
        """
        results = self.recognizer.predict([rgb(image) for image in imgs])
        return [[_described(face) for face in faces] for faces in results]

    def top_emotion(
        self, img: np.ndarray | str | PathLike[str]
    ) -> tuple[str, float] | tuple[None, None]:
        """Class and probability of the first (here: the largest) face; Nones where there is none.

        Raises:
          UserError: the image cannot be read.
        """
        faces = self.detect_emotions(img)
        if not faces:
            return None, None
        emotions = faces[0]["emotions"]
        top = max(emotions, key=lambda name: emotions[name])
        return top, emotions[top]


def _described(face: Face) -> dict[str, Any]:
    return {
        "box": [round(edge) for edge in face.box],
        "emotions": {name: round(p, 2) for name, p in face.probs.items()},
    }


def rgb(image: Any) -> Any:
    """An array as OpenCV has it (BGR, BGRA or grey) with its channels as we have them."""
    if isinstance(image, np.ndarray) and image.ndim == 3 and image.shape[2] in (3, 4):
        return image[..., [2, 1, 0, 3][: image.shape[2]]]
    return image
