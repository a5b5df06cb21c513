"""Drawn faces: the embedded default data set.

Expressions follow the action units of Ekman & Friesen's Facial Action Coding System (1978): happy
6+12, sad 1+4+15, surprise 1+2+5+26, fear 1+2+4+5+20+26, anger 4+5+7+23, disgust 9+10+16. Weak
expressions shade into neutral and into each other, so a perfect score is out of reach.
"""

import math
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from emotion_jax import files
from emotion_jax.errors import UserError

VERSION = 1  # part of the cache's name: raise it when the pictures change
SIZE = 48
SCALE = 3  # drawn this much larger, then reduced: antialiasing
CLASSES = ("angry", "disgust", "fear", "happy", "neutral", "sad", "surprise")


@dataclass(frozen=True)
class Expression:
    """A face's muscles, in units of the half width of the head; 0 is at rest.

    Attributes:
      brow_inner, brow_outer: height of the brow's ends (up is positive).
      eye: opening, added to 1.
      curve: height of the mouth's corners above its middle.
      gape: opening of the mouth.
      width: of the mouth, added to 1.
      lip: raised upper lip and wrinkled nose.
      teeth: 1 shows them.
    """

    brow_inner: float = 0.0
    brow_outer: float = 0.0
    eye: float = 0.0
    curve: float = 0.0
    gape: float = 0.0
    width: float = 0.0
    lip: float = 0.0
    teeth: float = 0.0


FULL = {
    "angry": Expression(-0.20, 0.12, -0.25, -0.06, 0.02, -0.25, 0.0, 0.0),
    "disgust": Expression(-0.14, -0.05, -0.50, -0.10, 0.10, -0.05, 1.0, 1.0),
    "fear": Expression(0.18, 0.02, 0.55, -0.10, 0.16, 0.25, 0.0, 1.0),
    "happy": Expression(0.02, 0.02, -0.30, 0.24, 0.14, 0.30, 0.0, 1.0),
    "neutral": Expression(),
    "sad": Expression(0.18, -0.14, -0.35, -0.20, 0.0, -0.15, 0.0, 0.0),
    "surprise": Expression(0.20, 0.22, 0.60, 0.0, 0.36, -0.35, 0.0, 0.0),
}


def draw(label: int, rng: np.random.Generator) -> np.ndarray:
    """Draw one face of class ``CLASSES[label]``: uint8 [48, 48]."""
    strength = rng.beta(4.0, 1.6)  # mostly clear, some hardly there
    full = FULL[CLASSES[label]]
    face = Expression(**{k: strength * v * rng.uniform(0.75, 1.25) for k, v in vars(full).items()})
    side = SIZE * SCALE
    background, skin = rng.uniform(20, 220), rng.uniform(95, 225)
    image = Image.new("L", (side, side), int(background))
    _draw_face(_Pen(image, rng), face, skin, rng)
    array = np.asarray(_occlude(image, rng), np.float32)
    return _light(array.reshape(SIZE, SCALE, SIZE, SCALE).mean((1, 3)), rng)


class _Pen:
    """Draws in half head widths: x right, y down, (0, 0) between the eyes."""

    def __init__(self, image: Image.Image, rng: np.random.Generator) -> None:
        side = image.width
        self.draw = ImageDraw.Draw(image)
        self.unit = side * rng.uniform(0.32, 0.41)
        self.centre = (side * rng.uniform(0.43, 0.57), side * rng.uniform(0.37, 0.47))
        angle = math.radians(rng.normal(0.0, 7.0))
        self.cos, self.sin = math.cos(angle), math.sin(angle)
        self.yaw = rng.normal(0.0, 0.07)  # features slide over the head as it turns

    def at(self, x: float, y: float, depth: float = 1.0) -> tuple[float, float]:
        """Image coordinates of a point; depth 0 stays with the outline of the head."""
        x += self.yaw * depth
        return (
            self.centre[0] + self.unit * (x * self.cos - y * self.sin),
            self.centre[1] + self.unit * (x * self.sin + y * self.cos),
        )

    def blob(
        self, x: float, y: float, rx: float, ry: float, grey: float, depth: float = 1.0
    ) -> None:
        """A filled ellipse."""
        turn = np.linspace(0, 2 * math.pi, 24, endpoint=False)
        points = [self.at(x + rx * math.cos(t), y + ry * math.sin(t), depth) for t in turn]
        self.draw.polygon(points, fill=int(grey))

    def area(self, points: list[tuple[float, float]], grey: float) -> None:
        """A filled polygon."""
        self.draw.polygon([self.at(*p) for p in points], fill=int(grey))

    def line(self, points: list[tuple[float, float]], width: float, grey: float) -> None:
        """A thick curve through points."""
        thickness = max(1, round(width * self.unit))
        self.draw.line([self.at(*p) for p in points], int(grey), thickness, joint="curve")


def _draw_face(pen: _Pen, face: Expression, skin: float, rng: np.random.Generator) -> None:
    dark = skin * rng.uniform(0.15, 0.45)
    hair = rng.uniform(10, 200)
    long = rng.uniform(1.15, 1.35)  # of the head
    if rng.random() < 0.85:
        pen.blob(0, -0.05, 1.12, long * rng.uniform(1.05, 1.2), hair, 0)
    pen.blob(0, 0.25, 1.0, long, skin, 0)
    apart = rng.uniform(0.38, 0.46)
    for sign in (-1, 1):
        _draw_eye(pen, face, sign * apart, skin, dark, rng)
    nose = rng.uniform(0.38, 0.5) - 0.06 * face.lip
    pen.line([(-0.02, 0.1), (-0.08, nose), (0.08, nose)], 0.05, skin * 0.7)
    for sign in (-1, 1):  # nasolabial folds: deep in disgust and laughter
        depth = 1 - 0.35 * max(face.lip, 2.0 * max(face.curve, 0.0)) - 0.05
        pen.line([(sign * 0.16, nose), (sign * 0.38, nose + 0.25)], 0.04, skin * depth)
    _draw_mouth(pen, face, nose + rng.uniform(0.28, 0.36), skin, dark, rng)


def _draw_eye(
    pen: _Pen, face: Expression, x: float, skin: float, dark: float, rng: np.random.Generator
) -> None:
    sign = math.copysign(1.0, x)
    opening = max(0.015, 0.105 * (1 + face.eye) * rng.uniform(0.88, 1.12))
    pen.blob(x, 0, 0.19, opening + 0.035, skin * 0.72)
    pen.blob(x, 0, 0.165, opening, min(250.0, skin + 70))
    iris = min(0.085, opening + 0.02)
    pen.blob(x + rng.normal(0, 0.025), 0, 0.075, iris, dark * 0.5)
    lift = rng.normal(-0.27, 0.02)
    inner = (x - sign * 0.2, lift - face.brow_inner)
    outer = (x + sign * 0.22, lift + 0.05 - face.brow_outer)
    arch = (x, lift - 0.05 - 0.5 * (face.brow_inner + face.brow_outer))
    pen.line([inner, arch, outer], rng.uniform(0.07, 0.11), dark)


def _draw_mouth(
    pen: _Pen, face: Expression, y: float, skin: float, dark: float, rng: np.random.Generator
) -> None:
    half = 0.36 * (1 + face.width) * rng.uniform(0.92, 1.08)
    gape = max(0.0, face.gape) * rng.uniform(0.85, 1.15)
    skew = rng.normal(0, 0.015)
    x = np.linspace(-1, 1, 13)
    corner = -face.curve * x**2 + skew * x  # y points down
    bow = np.sqrt(np.clip(1 - x**2, 0, 1))
    middle = y + face.curve * 0.5
    lip = 0.14 * face.lip * bow
    upper = middle + corner - 0.45 * gape * bow - lip
    lower = middle + corner + 0.75 * gape * bow
    top = [(float(half * a), float(b)) for a, b in zip(x, upper, strict=True)]
    bottom = [(float(half * a), float(b)) for a, b in zip(x, lower, strict=True)]
    if gape + face.lip > 0.03:
        pen.area(top + bottom[::-1], dark * 0.45)
        if face.teeth > 0.25:
            share = rng.uniform(0.45, 0.65)
            edge = upper + share * (lower - upper)
            teeth = [(float(half * a), float(b)) for a, b in zip(x, edge, strict=True)]
            pen.area(top + teeth[::-1], min(245.0, skin + 60))
    for curve in (top, bottom):
        pen.line(curve, 0.055, dark)


def _occlude(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Now and then a bar or a hand over part of the face, and a soft lens."""
    if rng.random() < 0.15:
        side = image.width
        x, y = rng.uniform(0, side, 2)
        w, h = rng.uniform(0.1, 0.3, 2) * side
        grey = int(rng.uniform(0, 255))
        ImageDraw.Draw(image).ellipse((x - w / 2, y - h / 2, x + w / 2, y + h / 2), fill=grey)
    return image.filter(ImageFilter.GaussianBlur(SCALE * rng.uniform(0.0, 0.9)))


def _light(array: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A lamp to one side, gamma, gain, and the sensor's noise."""
    y, x = np.mgrid[-1 : 1 : SIZE * 1j, -1 : 1 : SIZE * 1j]
    angle, slope = rng.uniform(0, 2 * math.pi), rng.uniform(0, 0.35)
    lit = array / 255.0 * (1 + slope * (x * math.cos(angle) + y * math.sin(angle)))
    lit = np.clip(lit, 0, 1) ** rng.uniform(0.7, 1.45) * rng.uniform(0.65, 1.1)
    noisy = lit + rng.normal(0, rng.uniform(0.01, 0.06), lit.shape)
    return np.rint(np.clip(noisy, 0, 1) * 255).astype(np.uint8)


def write_tree(root: Path, train: int = 2500, test: int = 500, seed: int = 0) -> None:
    """Write ``root/{train,test}/<class>/<number>.png``, classes as equal in size as can be.

    Picture i is a pure function of (seed, i), the test pictures numbered after the train ones.
    """
    for i in range(train + test):
        split, number = ("train", i) if i < train else ("test", i - train)
        label = number % len(CLASSES)
        folder = root / split / CLASSES[label]
        folder.mkdir(parents=True, exist_ok=True)
        face = draw(label, np.random.default_rng([seed, i]))
        Image.fromarray(face).save(folder / f"{number:05d}.png")


def ensure(cache: Path) -> Path:
    """The default tree below ``cache``, drawn at the first call (a few seconds).

    Raises:
      UserError: the cache cannot be written.
    """
    final = cache / "synthetic" / f"v{VERSION}"
    try:
        if final.is_dir():
            return final
        final.parent.mkdir(parents=True, exist_ok=True)
        with files.exclusive(final.with_suffix(".lock")):
            if not final.is_dir():
                # Not tempfile: its folders are private (0700) whatever the umask says.
                temporary = final.with_suffix(".drawing")
                if temporary.exists():
                    shutil.rmtree(temporary)  # its owner is dead: the lock is ours
                write_tree(temporary)
                temporary.rename(final)
    except OSError as error:
        raise UserError(
            f"Cannot write the data cache {cache}: {error.strerror or error}; "
            "set EMOTION_JAX_CACHE to a folder on a disk with room."
        ) from None
    return final
