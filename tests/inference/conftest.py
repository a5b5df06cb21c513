"""A checkpoint without training, a photograph, and films of known times."""

import sys
from fractions import Fraction
from pathlib import Path

import av
import pytest
import skimage.data

sys.path.insert(0, str(Path(__file__).parent))

from networks import make_trained

from emotion_jax.inference.faces import Mtcnn
from emotion_jax.inference.recognizer import Recognizer


@pytest.fixture(scope="session")
def trained():
    """A network of three classes with parameters that were drawn."""
    return make_trained()


@pytest.fixture(scope="session")
def of_faces(trained):
    """Its recognizer for images that are faces."""
    return Recognizer(trained, "none")


@pytest.fixture(scope="session")
def finder(trained):
    """Its recognizer with MTCNN."""
    return Recognizer(trained, "mtcnn")


@pytest.fixture(scope="session")
def mtcnn():
    """The detector."""
    return Mtcnn()


@pytest.fixture(scope="session")
def astronaut():
    """A photograph in the public domain with one face: uint8 RGB [512, 512, 3]."""
    return skimage.data.astronaut()


@pytest.fixture
def film(tmp_path):
    """A function that writes a film of pictures at given times, in units of ``time_base``."""

    def write(
        name, pictures, times, time_base=Fraction(1, 1000), codec="mpeg4", b_frames=0, gop=12
    ):
        path = tmp_path / name
        height, width = pictures[0].shape[:2]
        kind = "mpegts" if path.suffix in (".mts", ".m2ts") else None
        with av.open(str(path), "w", format=kind) as file:
            stream = file.add_stream(codec, rate=25)
            stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
            stream.codec_context.time_base = time_base
            stream.codec_context.max_b_frames, stream.codec_context.gop_size = b_frames, gop
            for picture, time in zip(pictures, times, strict=True):
                frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
                frame.pts, frame.time_base = int(time), time_base
                file.mux(stream.encode(frame))
            file.mux(stream.encode())
        return path

    return write
