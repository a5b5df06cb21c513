"""From the bytes of an image file to the array that a network takes: one function for everyone."""

import io
from dataclasses import dataclass
from pathlib import PurePosixPath

import numpy as np
from PIL import ExifTags, Image

VERSION = 1  # part of every cache key: raise it when the pixels that come out change

# Extension -> Pillow's name of the format that must be inside.
FORMATS = {".jpg": "JPEG", ".jpeg": "JPEG", ".png": "PNG", ".bmp": "BMP", ".webp": "WEBP"}
TURNS = {  # EXIF orientation -> what makes the image upright
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# Where Pillow looks for an orientation.
TAGS = ("exif", "Raw profile type exif", "xmp", "XML:com.adobe.xmp")
CONVENTION = "the whole image, orientation by EXIF, resized to a square"


class BadImage(Exception):
    """The image cannot be used; the message is the reason, in a few words."""


@dataclass(frozen=True)
class Preprocess:
    """How images become arrays.

    Like Keras' ImageDataGenerator an image that is not square is squeezed to one, not cropped.

    Attributes:
      image_size: side of the result, pixels.
      channels: 1 for grey (ITU-R 601 luma), 3 for RGB.
      pixel_cap: images with more pixels are refused before they are decoded.
    """

    image_size: int = 48
    channels: int = 1
    pixel_cap: int = 40_000_000

    def decode(self, data: bytes, name: str = "") -> np.ndarray:
        """Decode, orient, convert and resize.

        Args:
          data: an image file.
          name: its file name; the extension, if any, must agree with the content.

        Returns:
          uint8 [image_size, image_size, channels].

        Raises:
          BadImage: with the reason.
        """
        return self.convert(self.open(data, name))

    def open(self, data: bytes, name: str = "") -> Image.Image:
        """Decode and orient: what ``convert`` takes, in the size of the file.

        Args:
          data: an image file.
          name: its file name; the extension, if any, must agree with the content.

        Raises:
          BadImage: with the reason.
        """
        if not data:
            raise BadImage("zero bytes")
        extension = PurePosixPath(name).suffix.lower() if name else ""
        try:
            # formats= keeps Pillow's many other readers, and their surprises, away.
            image = Image.open(io.BytesIO(data), formats=sorted(set(FORMATS.values())))
        except (Image.DecompressionBombError, Image.DecompressionBombWarning):
            raise BadImage(f"over the pixel cap of {self.pixel_cap}, or Pillow's own") from None
        except Exception:  # whatever a parser meets in broken bytes
            raise BadImage(_unknown(data, extension)) from None
        # A camera's file of several JPEGs begins with the picture; the rest are previews.
        found = "JPEG" if image.format == "MPO" else image.format
        if extension in FORMATS and FORMATS[extension] != found:
            raise BadImage(_misnamed(str(found), extension))
        width, height = image.size
        if width * height > self.pixel_cap:
            raise BadImage(f"over the pixel cap of {self.pixel_cap} ({width} x {height})")
        try:
            image.load()
            return flat(image)
        except Exception as error:
            is_cut = _is_cut(data) or "trunc" in str(error).lower()
            raise BadImage("truncated" if is_cut else f"damaged ({error})") from None

    def convert(self, image: Image.Image) -> np.ndarray:
        """Convert and resize an image of any mode: uint8 [image_size, image_size, channels]."""
        square = _eight_bit(image)
        mode = "L" if self.channels == 1 else "RGB"
        if square.mode != mode:  # a copy else
            square = square.convert(mode)
        if square.size != (self.image_size, self.image_size):
            # Pillow's resize is antialiased: the support grows with the reduction.
            square = square.resize((self.image_size,) * 2, Image.Resampling.BILINEAR)
        array = np.asarray(square, np.uint8)
        return array.reshape(self.image_size, self.image_size, self.channels)


def flat(image: Image.Image) -> Image.Image:
    """Turned as EXIF says, eight bits a channel, no transparency; the mode may still be any."""
    return _eight_bit(_upright(image))


def _eight_bit(image: Image.Image) -> Image.Image:
    """Deep greys scaled to 8 bits, transparency laid over white; other modes as they are."""
    if image.mode.startswith("I;16"):
        return Image.fromarray((np.asarray(image) // 257).astype(np.uint8))
    if image.mode in ("I", "F"):
        values = np.nan_to_num(np.asarray(image, np.float64))
        # 8-bit values in a wide mode stay; deeper ones are taken as 16-bit; unit floats as [0, 1].
        top = values.max(initial=0.0)
        scale = 1.0 if 1.0 < top <= 255.0 else 255.0 / (1.0 if top <= 1.0 else max(top, 65535.0))
        return Image.fromarray((values * scale).clip(0, 255).astype(np.uint8))
    if image.mode in ("LA", "PA", "RGBA", "RGBa") or "transparency" in image.info:
        rgba = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba)
    return image


def _upright(image: Image.Image) -> Image.Image:
    """Turned as EXIF says; not ImageOps.exif_transpose, which rewrites all tags and may fail."""
    try:
        turn = TURNS.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # broken EXIF, whole pixels
        return image
    if turn is None:
        return image
    turned = image.transpose(turn)
    for tag in TAGS:  # they came along, and whoever takes the image next would turn it again
        turned.info.pop(tag, None)
    return turned


def _unknown(data: bytes, extension: str) -> str:
    """Why Pillow does not open it."""
    if _is_cut(data):
        return "truncated"
    others = {b"GIF8": "GIF", b"II*\0": "TIFF", b"MM\0*": "TIFF", b"%PDF": "PDF"}
    name = others.get(data[:4])
    if name is None:
        return "not an image"
    return _misnamed(name, extension) if extension else f"a format that is not read ({name})"


def _misnamed(found: str, extension: str) -> str:
    return f"wrong format for its extension ({found} in {extension})"


def _is_cut(data: bytes) -> bool:
    """Whether the bytes begin as one of FORMATS but end before that format's own end."""
    if data.startswith(b"\xff\xd8\xff"):
        return b"\xff\xd9" not in data[-64:]
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return b"IEND" not in data[-64:]
    if data.startswith(b"RIFF") and data[8:12] in (b"WEBP", b""):
        return int.from_bytes(data[4:8], "little") + 8 > len(data)
    reserved = data[6:10] == bytes(4)  # tells a bitmap from a text that begins with BM
    return data.startswith(b"BM") and reserved and int.from_bytes(data[2:6], "little") > len(data)
