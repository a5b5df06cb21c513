"""What is said of a face, and of all faces as a table."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from emotion_jax.errors import UserError

Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Face:
    """A face in a picture and its expression.

    Attributes:
      box: x, y, width and height, pixels of the upright image; may reach over its edges.
      det_score: the detector's confidence; 1 where the image is the face. In [0, 1] but for Haar,
        whose scores have no bounds and may be negative.
      landmarks: float32 [5, 2], x and y of the eye on the left of the picture, the other eye, the
        nose and the corners of the mouth; None where the detector gives none.
      label: the most probable class.
      score: its probability.
      probs: class -> probability, in the order of the checkpoint's classes.
      abstained: whether the score is below the threshold that the recognizer was given.
    """

    box: Box
    det_score: float
    landmarks: np.ndarray | None
    label: str
    score: float
    probs: dict[str, float]
    abstained: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {
            "box": list(self.box),
            "det_score": self.det_score,
            "landmarks": None if self.landmarks is None else plain(self.landmarks),
            "label": self.label,
            "score": self.score,
            "probs": dict(self.probs),
            "abstained": self.abstained,
        }


def plain(values: np.ndarray) -> Any:
    """Nested lists of numbers with eight significant digits, as in evaluate.py's predictions."""
    return _plain(values.tolist())


def _plain(value: Any) -> Any:
    return [_plain(one) for one in value] if isinstance(value, list) else float(f"{value:.8g}")


def to_frame(results: Iterable[Sequence[Face]], paths: Sequence[str] | None = None) -> Any:
    """A pandas DataFrame with a row a face.

    Args:
      results: the faces of each image, as ``Recognizer.predict`` gives them for a list.
      paths: names of the images for the column ``image``; by default their place in ``results``.

    Returns:
      Columns ``image x y width height det_score label score abstained`` and one a class.

    Raises:
      UserError: pandas is not installed.
    """
    try:
        import pandas as pd
    except ImportError:
        raise UserError("to_frame needs pandas; install it: pip install pandas.") from None
    rows = []
    for number, faces in enumerate(results):
        for face in faces:
            box = dict(zip(("x", "y", "width", "height"), face.box, strict=True))
            said = {
                name: getattr(face, name) for name in ("det_score", "label", "score", "abstained")
            }
            image = number if paths is None else paths[number]
            rows.append({"image": image, **box, **said, **face.probs})
    names = ["image", "x", "y", "width", "height", "det_score", "label", "score", "abstained"]
    return pd.DataFrame(rows) if rows else pd.DataFrame(columns=names)
