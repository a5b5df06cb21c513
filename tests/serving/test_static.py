"""The page without a server, in a real Chromium."""

import contextlib
import functools
import http.server
import io
import json
import os
import re
import shutil
import threading
from pathlib import Path

import cv2
import numpy as np
import pytest
from browsing import DENY, picture_is
from PIL import Image
from playwright.sync_api import expect

from emotion_jax.data.preprocess import Preprocess
from emotion_jax.errors import UserError
from emotion_jax.inference.recognizer import Recognizer
from emotion_jax.serving import runtime, static
from emotion_jax.serving.guard import PAGE
from emotion_jax.training import trained


@pytest.fixture(scope="module")
def package(request):
    """ONNX Runtime Web, kept from run to run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EMOTION_JAX_CACHE", str(request.config.cache.mkdir("emotion_jax")))
        try:
            return runtime.ensure()
        except UserError as error:
            pytest.skip(str(error))


@pytest.fixture(scope="module")
def folder(checkpoint, package, tmp_path_factory):
    """A page with one checkpoint."""
    target = tmp_path_factory.mktemp("static") / "page"
    static.write(target, [checkpoint], package, progress=False)
    return target


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        """Say nothing of requests."""


@contextlib.contextmanager
def hosted(folder):
    """The address of a host that knows nothing but files."""
    handler = functools.partial(Quiet, directory=folder)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/"
        finally:
            server.shutdown()


@pytest.fixture(scope="module")
def address(folder):
    """The page below a path, as on GitHub's pages."""
    with hosted(folder.parent) as root:
        yield f"{root}page/"


def test_the_camera_is_looked_at(open_page, address, engine):
    page = open_page(address)
    page.locator("body[data-state=live]").wait_for()
    page.locator(".box:visible").first.wait_for()
    expect(page.locator("#link")).to_have_text("Ready")
    assert page.locator("#bars span").all_inner_texts() == ["Angry", "Happy", "Sad"]
    expect(page.locator("#latency")).to_have_text(re.compile(r"\d ms"))
    expect(page.locator("#docs")).to_be_hidden()
    expect(page.locator("#privacy")).to_contain_text("do not leave")


ASK = """async (bytes) => {
  const { Engine } = await import("./engine.js");
  const engine = new Engine();
  const isReady = new Promise((resolve) =>
    engine.addEventListener("link", ({ detail }) => detail.state === "ready" && resolve()));
  engine.start();
  await isReady;
  const image = await createImageBitmap(new Blob([new Uint8Array(bytes)], { type: "image/png" }));
  const canvas = new OffscreenCanvas(image.width, image.height);
  canvas.getContext("2d").drawImage(image, 0, 0);
  return await engine.picture(canvas);
}"""


def test_faces_and_probabilities_are_those_of_the_recognizer(
    open_page, address, checkpoint, astronaut
):
    wide = Image.new("RGB", (900, 512), (90, 120, 150))
    wide.paste(astronaut, (0, 0))
    wide.paste(astronaut.rotate(20, Image.Resampling.BICUBIC).resize((380, 380)), (515, 60))
    buffer = io.BytesIO()
    wide.save(buffer, "PNG")
    expected = Recognizer.load(checkpoint).predict(np.asarray(wide))
    page = open_page(f"{address}models.json")
    found = page.evaluate(ASK, list(buffer.getvalue()))
    assert len(found) == len(expected) == 2
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours["box"], theirs.box, atol=1.0)
        np.testing.assert_allclose(ours["landmarks"], theirs.landmarks, atol=0.7)
        assert ours["det_score"] == pytest.approx(theirs.det_score, abs=1e-3)
        assert ours["label"] == theirs.label
        assert list(ours["probs"]) == list(theirs.probs)
        for name, prob in theirs.probs.items():
            assert ours["probs"][name] == pytest.approx(prob, abs=0.01), name


@pytest.mark.slow
def test_so_are_those_of_the_shipped_weights(open_page, package, tmp_path, photograph, capsys):
    names = ["ferplus", "fer2013"]
    static.write(tmp_path / "page", [Path(name) for name in names], package, progress=False)
    expected = Recognizer.load("ferplus").predict(photograph)
    with hosted(tmp_path / "page") as url:
        page = open_page(f"{url}models.json")
        found = page.evaluate(ASK.replace("image/png", "image/jpeg"), list(photograph))
    ours, theirs = (
        np.array(list(one["probs"].values())) for one in (found[0], expected[0].to_dict())
    )
    with capsys.disabled():
        print(f"\nlargest difference {np.abs(ours - theirs).max():.1e}; {found[0]['score']:.4f}")
    assert found[0]["label"] == expected[0].label == "happy"
    assert np.abs(ours - theirs).max() < 0.01


RUN = """async ([name, pixels, width, height, channels, args]) => {
  const lib = await import("./pixels.js");
  const image = { data: Uint8Array.from(pixels), width, height, channels };
  const made = lib[name](image, ...args);
  return [[...made.data], made.height, made.width];
}"""


@pytest.fixture
def run(open_page, address):
    """A function of pixels.js, on an array."""
    page = open_page(f"{address}models.json")

    def call(name, array, *args):
        height, width, channels = array.shape
        arguments = [name, array.ravel().tolist(), width, height, channels, list(args)]
        data, height, width = page.evaluate(RUN, arguments)
        return np.array(data, np.uint8).reshape(height, width, -1)

    return call


def noise(height, width, channels=3):
    coarse = np.random.default_rng(height * width).integers(0, 256, (height, width, channels))
    return cv2.blur(coarse.astype(np.uint8), (3, 3)).reshape(height, width, channels)


@pytest.mark.parametrize("size", [(48, 36), (97, 53), (24, 24), (200, 20), (30, 180), (160, 120)])
def test_areas_are_those_of_opencv(run, size):
    array = noise(120, 160)
    expected = cv2.resize(array, size, interpolation=cv2.INTER_AREA)
    assert np.abs(run("resizeArea", array, *size).astype(int) - expected).max() <= 1


@pytest.mark.parametrize("side", [48, 61, 12])
def test_a_square_is_made_as_in_training(run, side):
    array = noise(70, 61)
    expected = Preprocess(side, 1).convert(Image.fromarray(array))
    made = run("resize", run("grey", array), side, side)
    assert np.abs(made.astype(int) - expected).max() <= 1


@pytest.mark.parametrize("degrees", [-33.3, 0.4, 20.0])
def test_turning_is_that_of_pillow(run, degrees):
    array = noise(61, 61)
    image = Image.fromarray(array).rotate(degrees, Image.Resampling.BILINEAR, center=(29.5, 31.2))
    made = run("rotate", array, degrees, [29.5, 31.2])
    assert np.abs(made.astype(int) - np.asarray(image)).max() <= 1


def test_what_is_cut_out_beyond_the_edge_is_black(run):
    array = noise(20, 30)
    for box in ((-5, -3, 20, 20), (25, 15, 10, 10), (40, 40, 5, 5), (3, 4, 10, 9)):
        left, top, width, height = box
        image = Image.fromarray(array).crop((left, top, left + width, top + height))
        np.testing.assert_array_equal(run("crop", array, *box), np.asarray(image))


def test_networks_that_are_not_there_are_told_of(open_page, folder, tmp_path):
    shutil.copytree(folder, tmp_path / "page")
    (tmp_path / "page" / "rnet.onnx").unlink()
    with hosted(tmp_path / "page") as url:
        page = open_page(url, may_say="rnet.onnx")
        page.locator("#link[data-link=gone]").wait_for()
        expect(page.locator("#hint")).to_contain_text("could not be loaded")


def test_the_folder(folder, checkpoint, package):
    names = {path.name for path in folder.iterdir()}
    assert {"index.html", "worker.js", "models.json", "checkpoint0.onnx", "ort"} <= names
    assert not names & set(static.SERVERS)
    assert {path.name for path in (folder / "ort").iterdir()} == set(runtime.FILES)
    html = (folder / "index.html").read_text()
    assert "'wasm-unsafe-eval'" in html
    assert "python -m http.server" in html
    assert "unsafe" not in (PAGE / "index.html").read_text()
    licences = (folder / "LICENCES.txt").read_text()
    assert "Microsoft" in licences
    assert "linxiaohui" in licences
    assert "Apache" in licences
    # Written once more it is replaced; what is the user's stays, and nothing is left beside it.
    about = json.loads((folder / "files.json").read_text())
    assert about["made_by"] == "emotion_jax"
    (folder / "old.js").write_text("of an earlier version")
    (folder / "files.json").write_text(json.dumps([*about["files"], "old.js"]))  # as it listed them
    (folder / ".git").mkdir()
    (folder / ".git" / "HEAD").write_text("ref: refs/heads/main")
    (folder / ".page-killed").mkdir()
    before = (folder / "index.html").stat().st_mtime_ns
    static.write(folder, [checkpoint], package, progress=False)
    assert (folder / "index.html").stat().st_mtime_ns > before
    assert not (folder / "old.js").exists()
    assert not (folder / ".page-killed").exists()
    assert (folder / ".git" / "HEAD").read_text() == "ref: refs/heads/main"
    assert list(folder.parent.iterdir()) == [folder]
    assert json.loads((folder / "files.json").read_text()) == about
    (folder / "old.js").write_text("of an earlier version")
    (folder / "files.json").write_text(json.dumps(about | {"files": [*about["files"], "old.js"]}))
    static.write(folder, [checkpoint], package, progress=False)
    assert not (folder / "old.js").exists()
    # A file of the user's is not written over, whatever its name.
    others = [name for name in about["files"] if name != "style.css"]
    (folder / "files.json").write_text(json.dumps(about | {"files": others}))
    (folder / "style.css").write_text("mine")
    with pytest.raises(UserError, match=r"style\.css is not of the page"):
        static.write(folder, [checkpoint], package, progress=False)
    assert (folder / "style.css").read_text() == "mine"


def test_nothing_of_the_users_is_overwritten(tmp_path, checkpoint):
    (tmp_path / "thesis.txt").write_text("ten years")
    with pytest.raises(UserError, match="holds something else"):
        static.write(tmp_path, [checkpoint], None, progress=False)
    assert (tmp_path / "thesis.txt").read_text() == "ten years"


@pytest.mark.parametrize(
    "listed",
    [
        '["files.json", "photos/a.jpg"]',
        '["files.json", "photos/a.jpg", "models.json", 1, {}]',
        '{"files.json": 1, "photos/a.jpg": 2}',
        '{"models.json": 1, "worker.js": 2, "photos/a.jpg": 3}',
        '{"files": ["files.json", "photos/a.jpg"]}',
        '{"made_by": "another", "files": ["files.json", "photos/a.jpg", "models.json"]}',
        '{"made_by": "emotion_jax", "files": {"photos/a.jpg": 1}}',
        '{"made_by": "emotion_jax", "files": "photos/a.jpg"}',
        "[" * 100_000,
        "not JSON",
        "1",
    ],
)
def test_a_list_of_files_that_is_the_users_own_is_not_taken_for_a_pages(tmp_path, listed):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").write_text("mine")
    (tmp_path / "files.json").write_text(listed)
    with pytest.raises(UserError, match="holds something else"):
        static.write(tmp_path, [], None, progress=False)
    assert (tmp_path / "photos" / "a.jpg").read_text() == "mine"
    assert (tmp_path / "files.json").read_text() == listed


@pytest.mark.skipif(os.name != "posix", reason="names of any bytes")
def test_a_checkpoint_of_any_name(tmp_path, package):
    renamed = tmp_path / os.fsdecode(b"caf\xe9.safetensors")
    shutil.copy(trained.shipped()["small"], renamed)
    static.write(tmp_path / "page", [renamed], package, progress=False)
    about = json.loads((tmp_path / "page" / "models.json").read_text(encoding="utf-8"))
    assert [one["name"] for one in about["checkpoints"]] == [r"caf\xe9.safetensors"]


def test_transparency_lies_on_white(open_page, address, cutout):
    page = open_page(address, switches=DENY)
    expect(page.locator("#link")).to_have_text("Ready")
    picture_is(page, *cutout)


def test_another_file_is_not_taken_for_the_runtime(tmp_path, checkpoint):
    other = tmp_path / "onnxruntime-web-1.30.0.tgz"
    other.write_bytes(b"something")
    with pytest.raises(UserError, match="its SHA-512 is another"):
        static.write(tmp_path / "page", [checkpoint], other, progress=False)
    with pytest.raises(UserError, match=r"Cannot read .*nowhere\.tgz"):
        static.write(tmp_path / "page", [checkpoint], tmp_path / "nowhere.tgz", progress=False)
    assert list(tmp_path.iterdir()) == [other]


@pytest.mark.parametrize(
    ("script", "sentence"),
    [
        ("echo 'npm error code E404' >&2; exit 1", r"cannot fetch .*E404.*--onnxruntime-web"),
        ("echo x > $4/onnxruntime-web-1.30.0.tgz", "its SHA-512 is another"),
    ],
)
def test_npm_fails(tmp_path, monkeypatch, script, sentence):
    npm = tmp_path / "npm"
    npm.write_text(f"#!/bin/sh\n{script}\n")
    npm.chmod(0o755)
    monkeypatch.setattr(runtime.shutil, "which", lambda name: str(npm))
    with pytest.raises(UserError, match=sentence):
        runtime.ensure()
    monkeypatch.setattr(runtime.shutil, "which", lambda name: None)
    with pytest.raises(UserError, match="install npm"):
        runtime.ensure()
