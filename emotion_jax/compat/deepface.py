"""``from emotion_jax.compat.deepface import DeepFace`` in place of ``from deepface import ...``."""

import base64
import binascii
import functools
from collections.abc import Callable, Mapping, Sequence
from os import PathLike
from typing import Any

import numpy as np

from emotion_jax.compat.fer import rgb
from emotion_jax.errors import UserError
from emotion_jax.inference.face import Face
from emotion_jax.inference.faces import Detector, Haar, Mtcnn, WholeImage
from emotion_jax.inference.recognizer import Recognizer

# Theirs -> ours; their cascade asks for more neighbours than OpenCV and searches the whole image.
BACKENDS: Mapping[str, Callable[[], Detector]] = {
    "opencv": lambda: Haar(min_neighbors=10, side=None),
    "mtcnn": Mtcnn,
    "skip": WholeImage,
}


class DeepFace:
    """The one function of the package ``deepface`` (0.0.9x) that is about expressions."""

    checkpoint = "ferplus"
    """Of which ``Recognizer.load`` is made; set it to your own before the first call."""

    @staticmethod
    def analyze(
        img_path: Any,
        actions: str | Sequence[str] = ("emotion",),
        enforce_detection: bool = True,
        detector_backend: str = "opencv",
        align: bool = True,
        expand_percentage: int = 0,
        silent: bool = False,
        anti_spoofing: bool = False,
    ) -> list[Any]:
        """The expressions of the faces in an image.

        Args:
          img_path: a path, a BGR array as OpenCV reads it, a base64 data URI, an open binary file,
            or a list of them or an array of such arrays. Nothing is fetched from the net.
          actions: "emotion" alone.
          enforce_detection: whether an image without a face is an error, or else taken as a face.
          detector_backend: "opencv" (Haar), "mtcnn" or "skip" (the image is the face).
          align, expand_percentage, silent, anti_spoofing: taken, and without effect here: how a
            face is cut out is the checkpoint's.

        Returns:
          A dictionary a face, the largest first: ``emotion`` (class -> percent),
          ``dominant_emotion``, ``region`` (``x y w h left_eye right_eye``, the eyes as the person
          has them) and ``face_confidence``. For a list of images a list of such lists.

        Raises:
          ValueError: the image cannot be read, no face was found and ``enforce_detection`` is set,
            or an argument is not one of those above, as there.
          UserError: there is no checkpoint, or what the detector needs is not installed.
        """
        del align, expand_percentage, silent, anti_spoofing
        wanted = [actions] if isinstance(actions, str) else list(actions)
        if wanted != ["emotion"]:
            raise ValueError(f"actions is {wanted}; here there is ['emotion'] alone.")
        if detector_backend not in BACKENDS:
            names = ", ".join(BACKENDS)
            raise ValueError(f"detector_backend is {detector_backend!r}; here there are {names}.")
        is_batch = isinstance(img_path, np.ndarray) and img_path.ndim == 4
        if is_batch or isinstance(img_path, list | tuple):
            more = (enforce_detection, detector_backend)
            return [DeepFace.analyze(one, "emotion", *more) for one in img_path]
        recognizer = _recognizer(str(DeepFace.checkpoint), detector_backend)
        try:
            image = recognizer.open(_image(img_path))
        except UserError as error:
            raise ValueError(str(error)) from error
        faces = recognizer.predict(image)
        if not faces and enforce_detection:
            shown = img_path if isinstance(img_path, str) else "the image"
            raise ValueError(
                f"Face could not be detected in {shown}. Please confirm that the picture is a "
                "face photo or consider to set enforce_detection param to False."
            )
        if faces:
            is_found = detector_backend != "skip"
            return [_analysis(face, image.size, is_found) for face in faces]
        whole = _recognizer(str(DeepFace.checkpoint), "skip").predict(image)
        return [_analysis(face, image.size, is_found=False) for face in whole]


def _analysis(face: Face, size: tuple[int, int], is_found: bool) -> dict[str, Any]:
    x, y, w, h = (round(edge) for edge in face.box)
    # Within the image, as there: users cut it out by slices.
    (x, w), (y, h) = (
        (max(start, 0), min(start + side, end) - max(start, 0))
        for start, side, end in ((x, w, size[0]), (y, h, size[1]))
    )
    eyes: list[Any] = [None, None]
    if face.landmarks is not None:
        eyes = [tuple(round(value) for value in place) for place in face.landmarks[1::-1].tolist()]
    return {
        "emotion": {name: 100.0 * p for name, p in face.probs.items()},
        "dominant_emotion": face.label,
        "region": {"x": x, "y": y, "w": w, "h": h, "left_eye": eyes[0], "right_eye": eyes[1]},
        "face_confidence": round(min(max(face.det_score, 0.0), 1.0), 2) if is_found else 0,
    }


def _image(image: Any) -> Any:
    if isinstance(image, np.ndarray):
        return rgb(image)
    if isinstance(image, str) and image.startswith("data:image/"):
        try:
            return base64.b64decode(image.partition(",")[2], validate=True)
        except binascii.Error as error:
            raise ValueError(f"The data URI is not valid base64: {error}.") from None
    if isinstance(image, str | PathLike | bytes):
        return image
    if hasattr(image, "read"):
        return image.read()
    return image


@functools.lru_cache(maxsize=4)
def _recognizer(checkpoint: str, backend: str) -> Recognizer:
    return Recognizer.load(checkpoint, BACKENDS[backend]())
