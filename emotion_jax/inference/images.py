"""From whatever a user calls an image to an upright one."""

import os
import threading
from os import PathLike
from typing import Any, TypeAlias

import numpy as np
from PIL import Image

from emotion_jax.data.preprocess import BadImage, Preprocess, flat
from emotion_jax.errors import UserError

# A path, the bytes of an image file, uint8 pixels (RGB [H, W, 3], RGBA or grey), a Pillow image.
Source: TypeAlias = "str | PathLike[str] | bytes | np.ndarray | Image.Image"
SINGLE = (str, PathLike, bytes, bytearray, memoryview, Image.Image)
CHANNELS = (1, 3, 4)
LARGEST = 2**30  # bytes of a file: a decoder takes it as a whole
# A Pillow image reads its file and tags in place, so one that is given twice has the same lock.
LOCKS = tuple(threading.Lock() for _ in range(64))
MODES = ("1", "L", "P", "RGB", "CMYK", "YCbCr", "HSV")  # that Pillow converts to what is needed


def is_single(source: Any) -> bool:
    """Whether it is one image, not a series of them."""
    if isinstance(source, np.ndarray):
        return source.ndim < 4
    return isinstance(source, SINGLE)


def open_image(source: Any, preprocess: Preprocess) -> Image.Image:
    """Decode and orient one image, of the mode that it has.

    Raises:
      BadImage: it cannot be read, with the reason.
      UserError: it is no kind of image at all.
    """
    if isinstance(source, str | PathLike):
        # The content says what it is: many a photograph on the web has the wrong extension.
        return preprocess.open(_read(source))
    if isinstance(source, bytes | bytearray | memoryview):
        return preprocess.open(bytes(source))
    if isinstance(source, np.ndarray):
        return flat(_from_array(source))
    if isinstance(source, Image.Image):
        try:
            with LOCKS[id(source) // 16 % len(LOCKS)]:
                source.load()  # of a file that Pillow has opened but not read yet
                image = flat(source)
            return image if image.mode in MODES else image.convert("RGB")
        except Exception as error:
            raise BadImage(f"damaged ({error})") from None
    raise refusal(source)


def refusal(source: Any) -> UserError:
    """What is said of something that is no kind of image."""
    return UserError(
        f"An image is a path, bytes, a uint8 array or a Pillow image, not {type(source).__name__}."
    )


def name_of(source: Any) -> str:
    """For a sentence about the image."""
    return str(source) if isinstance(source, str | PathLike) else f"the {type(source).__name__}"


def _read(path: str | PathLike[str]) -> bytes:
    try:
        with open(path, "rb", buffering=0) as file:
            size = os.fstat(file.fileno()).st_size
            if size > LARGEST:
                raise BadImage(f"over the size cap of {LARGEST} bytes ({size})")
            return file.readall()
    except ValueError as error:  # a NUL in the name
        raise BadImage(f"unreadable ({error})") from None
    except OSError as error:
        raise BadImage(f"unreadable ({error.strerror or error})") from None


def _from_array(array: np.ndarray) -> Image.Image:
    shape = array.shape if array.ndim == 3 else (*array.shape, 1)
    if array.dtype != np.uint8 or len(shape) != 3 or shape[2] not in CHANNELS or 0 in shape:
        raise UserError(
            "Pixels are a uint8 array [height, width, 3], RGB (or RGBA, or grey), "
            f"not {array.dtype} {list(array.shape)}."
        )
    pixels = np.ascontiguousarray(array.reshape(shape if shape[2] > 1 else shape[:2]))
    return Image.fromarray(pixels)
