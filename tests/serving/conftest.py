"""A checkpoint, pictures, and films for a camera that is none."""

import contextlib
import io
import math
import os
import shutil
import sys
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import skimage.data
from PIL import Image, ImageDraw

sys.path.insert(0, str(Path(__file__).parent))

from browsing import NAMES, PERMIT, SECONDS
from playwright.sync_api import sync_playwright

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
def cutout(astronaut):
    """A PNG file in which all but the face is gone and that is half there, and it over white."""
    image = astronaut.crop((130, 0, 330, 220)).convert("RGBA")
    alpha = Image.new("L", image.size, 0)
    ImageDraw.Draw(alpha).ellipse((40, 20, 150, 200), fill=128)
    image.putalpha(alpha)
    over = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return encoded(image, "PNG"), over


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


@pytest.fixture(scope="module")
def launch():
    """A function that starts a browser with a film for a camera, and switches."""
    found = [path for name in NAMES if (path := shutil.which(name))]
    if not found:
        reason = f"there is none of {', '.join(NAMES)}"
        pytest.fail(reason) if os.environ.get("CI") else pytest.skip(reason)
    with sync_playwright() as playwright, contextlib.ExitStack() as browsers:
        known = {}

        def start(film, *switches):
            if (film, *switches) not in known:
                camera = ("--use-fake-device-for-media-stream",
                          f"--use-file-for-fake-video-capture={film}") if film else ()  # fmt: skip
                browser = playwright.chromium.launch(
                    executable_path=found[0], args=["--no-sandbox", *camera, *switches]
                )
                known[film, *switches] = browsers.enter_context(browser)
            return known[film, *switches]

        yield start


@pytest.fixture
def open_page(launch, films):
    """A function that opens the page; at the end it must not have complained, or gone elsewhere."""
    contexts, complaints, hosts, expected = [], [], set(), []

    def go(url, film="face", switches=PERMIT, may_say="", **settings):
        expected.extend([may_say] if may_say else [])
        browser = launch(film and str(films / f"{film}.mjpeg"), *switches)
        context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **settings})
        contexts.append(context)
        context.set_default_timeout(1000 * SECONDS)
        page = context.new_page()
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("console", lambda said: said.type == "error" and complaints.append(said.text))
        page.on("request", lambda request: hosts.add(urlsplit(request.url).netloc))
        page.on("websocket", lambda socket: hosts.add(urlsplit(socket.url).netloc))
        page.goto(url)
        return page

    yield go
    for context in contexts:
        context.close()
    # What the browser itself says of a server that is gone or wants a token is no fault.
    expected += [
        "Failed to load resource",
        "WebSocket connection to",
        "The Cross-Origin-Opener-Policy header has been ignored",  # without HTTPS
        "wasm streaming compile failed: TypeError: Failed to fetch",
        "falling back to ArrayBuffer instantiation",
    ]
    assert [said for said in complaints if not any(text in said for text in expected)] == []
    assert len(hosts - {""}) == 1
