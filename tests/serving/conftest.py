"""A checkpoint, pictures, and films for a camera that is none."""

import io
import math
import sys
from pathlib import Path

import pytest
import skimage.data
from PIL import Image

sys.path.insert(0, str(Path(__file__).parent))

from emotion_jax.cli import train
from emotion_jax.serving import engines
from emotion_jax.serving.limits import Limits


def encoded(image, kind="JPEG"):
    buffer = io.BytesIO()
    image.save(buffer, kind)
    return buffer.getvalue()


@pytest.fixture(scope="session")
def checkpoint(tiny_tree, tmp_path_factory):
    """The workdir of a short run: classes angry, happy, sad."""
    workdir = tmp_path_factory.mktemp("serving") / "tiny"
    settings = {
        "--data": tiny_tree,
        "--workdir": workdir,
        "--data.image_size": 12,
        "--data.pipeline": "resident",
        "--model.widths": 4,
        "--model.dense": 8,
        "--training.epochs": 1,
        "--training.batch_size": 8,
        "--logging.progress": False,
        "--logging.tensorboard": False,
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EMOTION_JAX_CACHE", str(workdir.parent / "cache"))
        train.main([str(part) for pair in settings.items() for part in pair])
    return workdir


@pytest.fixture(scope="session")
def engine(checkpoint):
    """The checkpoint at work."""
    return engines.load([checkpoint], Limits())["tiny"]


@pytest.fixture(scope="session")
def astronaut():
    """A photograph in the public domain with one smiling face."""
    return Image.fromarray(skimage.data.astronaut())


@pytest.fixture(scope="session")
def photograph(astronaut):
    """It as a JPEG file."""
    return encoded(astronaut)


@pytest.fixture(scope="session")
def films(astronaut, tmp_path_factory):
    """Motion-JPEG files for Chromium's fake camera: a face that sways, and nobody."""
    folder = tmp_path_factory.mktemp("films")
    face = astronaut.resize((480, 480))
    for name in ("face", "nobody"):
        frames = []
        for i in range(30):
            frame = Image.new("RGB", (640, 480), (70, 80, 95))
            if name == "face":
                frame.paste(face, (80 + round(20 * math.sin(i / 30 * 2 * math.pi)), 0))
            frames.append(encoded(frame))
        (folder / f"{name}.mjpeg").write_bytes(b"".join(frames))
    return folder
