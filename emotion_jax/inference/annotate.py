"""Pictures with the faces framed and named."""

import functools
import io
from collections.abc import Sequence
from pathlib import Path

import matplotlib
from PIL import Image, ImageColor, ImageDraw, ImageFont
from PIL.PngImagePlugin import PngInfo

from emotion_jax.inference.face import Face

# Okabe and Ito (2008), distinguishable with every common colour blindness; by place of the class.
COLOURS = ("#D55E00", "#009E73", "#CC79A7", "#E69F00", "#0072B2", "#56B4E9", "#F0E442", "#8C510A")
MARK = "annotated by emotion_jax"
REACH = 65_536  # bytes from an end of a file within which the mark is
SIDE = 65_500  # pixels: where JPEG ends
UNSURE = "#8a94a6"


def colour(place: int) -> str:
    """Of a class, by its place among the classes."""
    return COLOURS[place % len(COLOURS)]


def draw(
    image: Image.Image, faces: Sequence[Face], tracks: Sequence[int] = (), side: int = SIDE
) -> Image.Image:
    """A copy of an upright image, RGB, with a frame and a name about every face.

    Args:
      image: of any mode.
      faces: in its pixels.
      tracks: of a video: the number of each face's track.
      side: of the copy at most, pixels; a larger image is shrunk.
    """
    picture = image.convert("RGB") if image.mode != "RGB" else image.copy()
    scale = min(1.0, side / max(picture.size))
    if scale < 1.0:  # before it is drawn on: letters grow with the longest side
        across, down = (max(1, round(scale * edge)) for edge in picture.size)
        picture = picture.resize((across, down), reducing_gap=2.0)
    pen = ImageDraw.Draw(picture)
    unit = max(picture.size) / 1000
    line = max(2, round(4 * unit))
    for i, face in reversed(list(enumerate(faces))):  # the largest on top
        x, y, width, height = (scale * edge for edge in face.box)
        place = list(face.probs).index(face.label)
        ink = UNSURE if face.abstained else colour(place)
        pen.rounded_rectangle(
            (x, y, x + width, y + height), radius=3 * line, outline=ink, width=line
        )
        name = f"{face.label}{'?' if face.abstained else ''} {face.score:.0%}"
        text = f"#{tracks[i]} {name}" if tracks else name
        font = _font(max(11, round(min(24 * unit, max(width / 6, 14 * unit)))))
        left, top, right, bottom = pen.textbbox((0, 0), text, font=font)
        pad = line + 1
        wide, high = right - left + 2 * pad, bottom - top + 2 * pad
        tag_x = min(max(x, 0), max(0, picture.width - wide))
        above = y - high
        tag_y = above if above >= 0 else min(y + height, picture.height - high)
        pen.rounded_rectangle((tag_x, tag_y, tag_x + wide, tag_y + high), radius=pad, fill=ink)
        pen.text((tag_x + pad - left, tag_y + pad - top), text, font=font, fill=_contrast(ink))
    return picture


def jpeg(picture: Image.Image) -> bytes:
    """The bytes of a JPEG file."""
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=90, comment=MARK)
    return buffer.getvalue()


def marked_png(data: bytes) -> bytes:
    """A PNG file that ``is_ours``."""
    about = PngInfo()
    about.add_text("Comment", MARK)
    buffer = io.BytesIO()
    Image.open(io.BytesIO(data)).save(buffer, "PNG", pnginfo=about)
    return buffer.getvalue()


def is_ours(path: Path) -> bool:
    """Whether a JPEG, PNG or MP4 file was drawn by this program, which may draw it again."""
    # All three have the mark as it is: near their beginning, or MP4 near its end.
    try:
        with path.open("rb") as file:
            first = file.read(REACH)
            file.seek(max(0, path.stat().st_size - REACH))
            return MARK.encode() in first + file.read(REACH)
    except OSError:
        return False


def _contrast(ink: str) -> str:
    """Black or white, whichever can be read on a colour."""
    red, green, blue = ImageColor.getrgb(ink)[:3]
    return "black" if 0.299 * red + 0.587 * green + 0.114 * blue > 150 else "white"


@functools.cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    # matplotlib brings a font that has most alphabets.
    return ImageFont.truetype(f"{matplotlib.get_data_path()}/fonts/ttf/DejaVuSans-Bold.ttf", size)
