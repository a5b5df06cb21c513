"""How a face that was found is cut out for the network."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from PIL import Image

from emotion_jax.data.preprocess import CONVENTION
from emotion_jax.errors import choose
from emotion_jax.inference.faces import Detection


@dataclass(frozen=True)
class Framing:
    """What the network shall see of a face: a square about the middle of the detector's box.

    Attributes:
      landmarked: side of the square for a box with landmarks, in sides of the box (the geometric
        mean of the two).
      plain: the same for a box without.
    """

    landmarked: float
    plain: float


# The convention in a checkpoint's description -> how the same view is cut out of a photograph.
# Images that are whole faces: FER2013's show what Haar's box holds (it was made with that
# detector), and MTCNN's box, narrow and high, has a 5% shorter side there. docs/predict.md has
# the measurement.
FRAMINGS: Mapping[str, Framing] = {CONVENTION: Framing(landmarked=1.05, plain=1.0)}


# Side of a face's square, pixels, beyond which the image is shrunk before it is turned.
LARGEST = 2048


def of_convention(convention: str) -> Framing:
    """How faces are cut out for a checkpoint.

    Raises:
      UserError: the convention is that of another version.
    """
    return choose(FRAMINGS, convention, "the checkpoint's crop")


def cut(image: Image.Image, detection: Detection, frame: Framing) -> Image.Image:
    """The part of an upright image that the network shall see, the eyes level; black outside.

    Args:
      image: any mode that ``preprocess.flat`` gives.
      detection: in its pixels.
      frame: of the checkpoint.
    """
    if detection.framed:
        return image
    if image.mode not in ("L", "RGB"):
        image = image.convert("RGB")
    x, y, width, height = detection.box
    scale = frame.plain if detection.landmarks is None else frame.landmarked
    half = max(1.0, scale * math.sqrt(width * height)) / 2
    centre = (x + width / 2, y + height / 2)
    factor = math.ceil(2 * half / LARGEST)
    if factor > 1:
        image, half = image.reduce(factor), half / factor
        centre = (centre[0] / factor, centre[1] / factor)
    angle = _tilt(detection.landmarks)
    if angle:
        reach = math.ceil(half * 1.5)  # the square's corners, turned
        left, top = round(centre[0]) - reach, round(centre[1]) - reach
        image = image.crop((left, top, left + 2 * reach, top + 2 * reach))
        centre = (centre[0] - left, centre[1] - top)
        image = image.rotate(angle, Image.Resampling.BILINEAR, center=centre)
    left, top = round(centre[0] - half), round(centre[1] - half)
    side = max(1, round(2 * half))
    return image.crop((left, top, left + side, top + side))


def _tilt(landmarks: np.ndarray | None) -> float:
    """Angle of the line through the eyes, degrees, positive where the right one is lower."""
    if landmarks is None:
        return 0.0
    across, down = (landmarks[1] - landmarks[0]).tolist()
    return math.degrees(math.atan2(down, across))
