"""scripts/train.py on folders in which everything is broken that can be."""

import csv
import io
import os

import numpy as np
import pytest
from PIL import Image

from emotion_jax.cli import train

FORMATS = {"png": "PNG", "jpg": "JPEG", "jpeg": "JPEG", "bmp": "BMP", "webp": "WEBP"}
CLASSES = ("سعيد", "悲しい")


def encoded(kind, size=12):
    noise = np.random.default_rng(0).integers(0, 256, (size, size), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).save(buffer, kind)
    return buffer.getvalue()


def bomb(kind):
    """20,000 x 20,000 pixels in a small file: a header that says so is enough."""
    buffer = io.BytesIO()
    Image.new("1", (20_000, 20_000)).save(buffer, kind)
    return buffer.getvalue()


def broken_files():
    """Name -> (content, what the reason has to say)."""
    found = {}
    for extension, kind in FORMATS.items():
        other = "PNG" if kind == "BMP" else "BMP"
        whole = encoded(kind)
        found |= {
            f"zero.{extension}": (b"", "zero bytes"),
            f"page.{extension}": (b"<html>404 Not Found</html>", "not an image"),
            f"noise.{extension}": (bytes(range(1, 200)), "not an image"),
            f"cut.{extension}": (whole[: len(whole) // 2], "truncated"),
            f"other.{extension}": (encoded(other), "wrong format for its extension"),
            f"UPPER.{extension.upper()}": (encoded(other), "wrong format for its extension"),
        }
    flipped = bytearray(encoded("PNG"))
    flipped[60] ^= 255
    return found | {
        "gif.png": (encoded("GIF"), "wrong format for its extension"),
        "tiff.png": (encoded("TIFF"), "wrong format for its extension"),
        "pdf.png": (b"%PDF-1.7 nothing", "PDF"),
        "zip.png": (b"PK\x03\x04 nothing", "not an image"),
        "damaged.png": (bytes(flipped), "damaged"),
        "bomb.png": (bomb("PNG"), "over the pixel cap"),
        "bomb.webp": (bomb("PNG"), "over the pixel cap"),
        "face.gif": (encoded("GIF"), "not an image file (.gif)"),
        "face.tif": (encoded("TIFF"), "not an image file (.tif)"),
        "face.png.txt": (encoded("PNG"), "not an image file (.txt)"),
        "notes.csv": (b"a,b", "not an image file (.csv)"),
        "README": (b"hello", "no extension"),
    }


@pytest.fixture
def tree(tmp_path):
    """Forty good images in two classes."""
    rng = np.random.default_rng(1)
    for split, n in (("train", 16), ("test", 4)):
        for label, name in enumerate(CLASSES):
            folder = tmp_path / "faces" / split / name
            folder.mkdir(parents=True)
            for i in range(n):
                image = rng.integers(0, 100, (12, 12), np.uint8) + 100 * label
                Image.fromarray(image.astype(np.uint8)).save(folder / f"лицо {i}.png")
    return tmp_path / "faces"


def break_it(tree):
    """Put every kind of trouble into the tree: path -> what the reason has to say."""
    home = f"train/{CLASSES[0]}"
    expected = {}
    for name, (content, reason) in broken_files().items():
        (tree / home / name).write_bytes(content)
        expected[f"{home}/{name}"] = reason
    outside = tree.parent / "outside"
    outside.mkdir()
    (outside / "face.png").write_bytes(encoded("PNG"))
    links = {
        "out.png": (outside / "face.png", "a symlink out of the tree"),
        "out": (outside, "a symlink out of the tree"),
        "gone.png": ("nowhere.png", "a symlink to nothing"),
        "self.png": ("self.png", "a symlink to nothing"),
        "above": (".", "a symlink to a folder above it"),
    }
    for name, (target, reason) in links.items():
        (tree / home / name).symlink_to(target)
        expected[f"{home}/{name}"] = reason
    os.mkfifo(tree / home / "pipe.png")
    expected[f"{home}/pipe.png"] = "neither a file nor a folder"
    with open(os.path.join(os.fsencode(tree / home), b"\xff.png"), "wb") as file:
        file.write(encoded("PNG"))
    expected[f"{home}/\\udcff.png"] = "not valid UTF-8"
    for path, reason in {
        "train/stray.png": "class folder",
        "test/stray.png": "class folder",
    }.items():
        (tree / path).write_bytes(encoded("PNG"))
        expected[path] = reason
    (tree / "test" / "angry").mkdir()
    (tree / "test" / "angry" / "1.png").write_bytes(encoded("PNG"))
    expected["test/angry"] = "a class that train lacks"
    for path in ("train/bored", "test/sleepy"):
        (tree / path).mkdir()
        expected[path] = "an empty class"
    for hidden in (".DS_Store", "Thumbs.db"):  # nobody wants to hear of these
        (tree / home / hidden).write_bytes(b"x")
    return expected


def argv(tree, workdir):
    settings = {
        "--data": tree,
        "--workdir": workdir,
        "--data.pipeline": "resident",
        "--data.image_size": 12,
        "--model.widths": 4,
        "--model.dense": 8,
        "--training.epochs": 1,
        "--training.batch_size": 8,
        "--logging.progress": False,
        "--logging.tensorboard": False,
    }
    return [str(part) for pair in settings.items() for part in pair]


def test_trains_on_what_is_usable_and_lists_the_rest(tree, tmp_path, capsys):
    expected = break_it(tree)
    assert len(expected) >= 50
    train.main(argv(tree, tmp_path / "run"))
    said = capsys.readouterr()
    assert "8 for the test" in said.out
    assert f"{len(expected)} paths are not usable" in said.err
    assert "unusable.csv" in said.err
    with (tmp_path / "run" / "unusable.csv").open(newline="", encoding="utf-8") as file:
        header, *rows = csv.reader(file)
    assert header == ["path", "reason"]
    listed = dict(rows)
    assert listed.keys() == expected.keys()
    for path, reason in expected.items():
        assert listed[path]
        assert reason in listed[path], (path, listed[path])
    table = (tmp_path / "run" / "report" / "predictions.csv").read_text(encoding="utf-8")
    assert len(table.splitlines()) == 1 + 8


def test_a_whole_tree_has_no_list(tree, tmp_path, capsys):
    train.main(argv(tree, tmp_path / "run"))
    assert not (tmp_path / "run" / "unusable.csv").exists()
    assert "not usable" not in capsys.readouterr().err


def all_broken(tree):
    for path in tree.rglob("*.png"):
        path.write_bytes(b"no")


def one_class(tree):
    for path in sorted((tree / "train" / CLASSES[0]).iterdir()):
        path.unlink()


def one_class_readable(tree):
    for path in (tree / "train" / CLASSES[0]).iterdir():
        path.write_bytes(b"no")


def no_train(tree):
    (tree / "train").rename(tree / "training")


def a_file_in_place_of_train(tree):
    no_train(tree)
    (tree / "train").write_bytes(b"x")


def few(tree):
    for path in tree.rglob("лицо *.png"):
        if path.name != "лицо 0.png":
            path.unlink()


@pytest.mark.parametrize(
    ("breaking", "sentence"),
    [
        (all_broken, "can be read"),
        (one_class, "1 class folders with images"),
        (one_class_readable, "Only 1 class of"),
        (no_train, "has no train/<class>/ folders"),
        (a_file_in_place_of_train, "has no train/<class>/ folders"),
        (few, "too few images"),
        (lambda tree: all_broken(tree / "test"), "None of the 8 images in the test split"),
    ],
)
def test_where_nothing_can_go_on_there_is_a_sentence(tree, tmp_path, capsys, breaking, sentence):
    breaking(tree)
    with pytest.raises(SystemExit) as stop:
        train.main(argv(tree, tmp_path / "run"))
    assert stop.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert sentence in line
