import hashlib
import io
import os
import tempfile
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from emotion_jax.data import folder, ingest
from emotion_jax.data.preprocess import Preprocess
from emotion_jax.data.tree import Problem
from emotion_jax.errors import UserError

SMALL = Preprocess(8)
GOOD = {"train/happy/1.png", "train/sad/1.png", "test/happy/1.png", "test/sad/1.png"}


def picture(value=100, kind="PNG"):
    buffer = io.BytesIO()
    Image.fromarray(np.full((8, 8), value, np.uint8)).save(buffer, kind)
    return buffer.getvalue()


def write(root, *paths, data=None):
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(picture() if data is None else data)
    return root


@pytest.fixture
def root(tmp_path):
    return write(
        tmp_path / "root",
        "train/happy/1.png",
        "train/sad/1.png",
        "test/happy/1.png",
        "test/sad/1.png",
    )


def usable(root):
    """What a run gets of a tree: path -> class, and reason by path of what it does not get."""
    with tempfile.TemporaryDirectory() as cache:
        records = ingest.ingest(folder.list_tree(root), SMALL, Path(cache))
    found = {
        path: records.classes[label]
        for split in records.splits.values()
        for path, label in zip(split["paths"], split["labels"], strict=True)
    }
    return found, dict(records.problems)


def problems_of(root):
    """Reasons by path, of a tree whose four good images have all to be found."""
    found, problems = usable(root)
    assert found.keys() >= GOOD
    assert found.keys().isdisjoint(problems)
    return problems


def test_classes_labels_and_splits(root):
    write(root, "private_test/sad/x.png")
    listing = folder.list_tree(root)
    assert listing.classes == ("happy", "sad")
    assert [tuple(file) for file in listing.images] == [
        ("private_test/sad/x.png", "private_test", 1),
        ("test/happy/1.png", "test", 0),
        ("test/sad/1.png", "test", 1),
        ("train/happy/1.png", "train", 0),
        ("train/sad/1.png", "train", 1),
    ]
    assert listing.problems == ()


BROKEN = {
    "zero bytes": (b"", "zero bytes"),
    "text": (b"<html>Not found</html>", "not an image"),
    "a picture's beginning": (picture()[:40], "truncated"),
    "a JPEG": (picture(kind="JPEG"), "wrong format for its extension (JPEG in .png)"),
    "a GIF": (picture(kind="GIF"), "wrong format for its extension (GIF in .png)"),
}


@pytest.mark.parametrize("kind", BROKEN)
@pytest.mark.parametrize("split", ["train", "test"])
def test_a_broken_file_is_listed_and_the_rest_used(root, kind, split):
    data, reason = BROKEN[kind]
    write(root, f"{split}/happy/0.png", data=data)
    assert problems_of(root) == {f"{split}/happy/0.png": reason}


def test_all_kinds_of_trouble_at_once(root, tmp_path):
    write(tmp_path, "outside.png")
    for i, (data, _) in enumerate(BROKEN.values()):
        write(root, f"train/sad/broken{i}.png", data=data)
    write(root, "train/sad/notes.txt", "train/stray.png", "test/angry/1.png", "train/.hidden/1.png")
    (root / "train/bored").mkdir()
    (root / "test/bored").mkdir()
    (root / "train/sad/out.png").symlink_to(tmp_path / "outside.png")
    (root / "train/sad/gone.png").symlink_to("nowhere")
    (root / "train/sad/loop").symlink_to(".")
    big = io.BytesIO()
    Image.new("1", (9000, 9000)).save(big, "PNG")
    write(root, "train/sad/big.png", data=big.getvalue())
    assert problems_of(root) == {
        **{f"train/sad/broken{i}.png": reason for i, (_, reason) in enumerate(BROKEN.values())},
        "train/sad/notes.txt": "not an image file (.txt)",
        "train/stray.png": "not in a class folder",
        "test/angry": "a class that train lacks",
        "train/bored": "an empty class",
        "test/bored": "an empty class",
        "train/sad/out.png": "a symlink out of the tree",
        "train/sad/gone.png": "a symlink to nothing",
        "train/sad/loop": "a symlink to a folder above it",
        "train/sad/big.png": "over the pixel cap of 40000000 (9000 x 9000)",
    }


def test_an_empty_class_of_train_is_no_class_and_lacks_in_test(root):
    (root / "train/angry").mkdir()
    write(root, "test/angry/1.png", "train/bored/only.txt")
    listing = folder.list_tree(root)
    assert listing.classes == ("happy", "sad")
    assert dict(listing.problems) == {
        "test/angry": "a class that train lacks",
        "train/angry": "an empty class",
        "train/bored": "an empty class",
        "train/bored/only.txt": "not an image file (.txt)",
    }


def test_unreadable_files(root, monkeypatch):
    write(root, "train/happy/2.png")
    read_bytes = Path.read_bytes

    def fail(path):
        if path.name == "2.png":
            raise PermissionError(13, "Permission denied")
        return read_bytes(path)

    monkeypatch.setattr(Path, "read_bytes", fail)
    assert problems_of(root) == {"train/happy/2.png": "unreadable (Permission denied)"}


def test_a_file_that_vanishes_between_listing_and_reading(root):
    listing = folder.list_tree(root)
    (root / "train/sad/1.png").unlink()
    results = list(folder.read(listing, SMALL))
    assert [type(result) for result in results].count(Problem) == 1
    assert Problem("train/sad/1.png", "unreadable (No such file or directory)") in results


def test_a_folder_beside_train_that_cannot_be_read(root, monkeypatch):
    (root / "lost+found").mkdir()
    scandir = os.scandir

    def fail(path):
        if str(path).endswith("lost+found"):
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", fail)
    assert problems_of(root) == {"lost+found": "unreadable"}


def test_train_that_cannot_be_read(root, monkeypatch):
    scandir = os.scandir

    def fail(path):
        if Path(path).name == "train":
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", fail)
    with pytest.raises(UserError, match=r"Cannot read the folder .*train: Permission denied\."):
        folder.list_tree(root)


def test_test_may_be_missing_or_lack_classes(root):
    (root / "test/sad/1.png").unlink()
    assert {file.label for file in folder.list_tree(root).images if file.split == "test"} == {0}


@pytest.mark.parametrize(
    ("paths", "sentence"),
    [
        ((), "has no folders at all"),
        (("happy/1.png", "sad/1.png"), r"no train/<class>/ folders \(it has happy, sad\)"),
        (("test/happy/1.png",), r"no train/<class>/ folders \(it has test\)"),
        (("train/1.png", "train/2.png"), r"train has 0 class folders with images \(\)"),
        (("train/happy/1.png",), r"train has 1 class folders with images \(happy\); two"),
        (("train/happy/1.png", "train/sad/1.txt"), r"1 class folders with images \(happy\)"),
        ((".train/happy/1.png",), "has no folders at all"),
    ],
)
def test_too_little_to_train_on(tmp_path, paths, sentence):
    write(tmp_path / "root", *paths).mkdir(exist_ok=True)
    with pytest.raises(UserError, match=sentence):
        folder.list_tree(tmp_path / "root")


def test_a_train_that_is_there_but_of_no_use(tmp_path):
    write(tmp_path / "faces/train", "happy/1.png", "sad/1.png")
    (tmp_path / "root").mkdir()
    (tmp_path / "root/train").symlink_to(tmp_path / "faces/train")
    with pytest.raises(UserError, match=r"\(train: a symlink out of the tree\)"):
        folder.list_tree(tmp_path / "root")
    with pytest.raises(UserError, match="no split 'train'; train: a symlink out of the tree"):
        folder.list_split(tmp_path / "root", "train", ("happy", "sad"))
    write(tmp_path / "root", "test/happy/1.png")
    with pytest.raises(UserError, match=r"\(train: a symlink out of the tree\)"):
        folder.list_tree(tmp_path / "root")


def test_no_folder(tmp_path):
    write(tmp_path, "file")
    with pytest.raises(UserError, match="There is no folder"):
        folder.list_tree(tmp_path / "none")
    with pytest.raises(UserError, match="is not a folder"):
        folder.list_tree(tmp_path / "file")


def test_two_classes_have_to_be_left_after_opening(root):
    write(root, "train/sad/1.png", data=b"broken")
    with pytest.raises(UserError, match=r"Only 1 class of .*train has readable images \(happy\)"):
        usable(root)
    write(root, "test/happy/1.png", "test/sad/1.png", data=b"")
    with pytest.raises(UserError, match=r"None of the 2 images in the test split .* can be read"):
        usable(root)


def test_reads_in_the_order_of_the_listing(tmp_path):
    for i in range(60):
        write(tmp_path, f"train/{'ab'[i % 2]}/{i:02d}.png", data=picture(i))
    listing = folder.list_tree(tmp_path)
    results = list(folder.read(listing, SMALL, workers=5))
    assert [result.file for result in results] == list(listing.images)
    for result in results:
        assert np.unique(result.image).tolist() == [int(Path(result.file.path).stem)]
        data = (tmp_path / result.file.path).read_bytes()
        assert result.digest == hashlib.sha256(data).digest()


def test_reads_in_parallel(root, monkeypatch):
    together = threading.Barrier(4, timeout=20)
    read_bytes = Path.read_bytes

    def meet(path):
        together.wait()  # passes only when four files are being read at once
        return read_bytes(path)

    monkeypatch.setattr(Path, "read_bytes", meet)
    results = list(folder.read(folder.list_tree(root), SMALL, workers=4))
    assert [result.file.path for result in results] == sorted(GOOD)


def test_a_split_for_evaluation(root):
    listing = folder.list_split(root, "test", ["sad", "angry", "happy"])
    assert [tuple(file) for file in listing.images] == [
        ("test/happy/1.png", "test", 2),
        ("test/sad/1.png", "test", 0),
    ]
    assert listing.classes == ("sad", "angry", "happy")
    assert listing.root == root


def test_class_folders_directly_inside_are_the_split_itself(root):
    listing = folder.list_split(root / "train", "test", ["happy", "sad"])
    assert [tuple(file) for file in listing.images] == [
        ("happy/1.png", "test", 0),
        ("sad/1.png", "test", 1),
    ]


def test_a_split_that_cannot_be_evaluated(root):
    write(root, "test/bored/1.png")
    with pytest.raises(UserError, match="does not know the class bored; it knows happy, sad"):
        folder.list_split(root, "test", ["happy", "sad"])
    with pytest.raises(UserError, match=r"has no split 'other'; it has test, train"):
        folder.list_split(root, "other", ["happy", "sad"])
    for path in (root / "test").glob("*/*.png"):
        path.unlink()
    with pytest.raises(UserError, match="holds no image files"):
        folder.list_split(root, "test", ["happy", "sad"])


def test_fingerprint_follows_paths_sizes_and_times(root):
    def fingerprint():
        return folder.fingerprint(folder.list_tree(root))

    first = fingerprint()
    assert fingerprint() == first
    os.utime(root / "train/sad/1.png", ns=(1, 1))
    touched = fingerprint()
    write(root, "train/sad/1.png", data=picture() + b"x")
    grown = fingerprint()
    (root / "train/sad/1.png").rename(root / "train/sad/2.png")
    renamed = fingerprint()
    assert len({first, touched, grown, renamed}) == 4


def test_fingerprint_of_a_file_that_is_gone(root):
    listing = folder.list_tree(root)
    before = folder.fingerprint(listing)
    (root / "train/sad/1.png").unlink()
    assert folder.fingerprint(listing) != before


def test_describe_counts_by_reason():
    problems = [Problem(f"a/{i}.png", "truncated") for i in range(5)] + [Problem("b", "zero bytes")]
    assert folder.describe(problems).splitlines() == [
        "6 paths are not usable and were left out:",
        "  5 x truncated: a/0.png, a/1.png, a/2.png and 2 more",
        "  1 x zero bytes: b",
    ]


FILES = st.dictionaries(
    st.tuples(
        st.sampled_from(["train", "test", "x"]), st.sampled_from("abc"), st.sampled_from("12é")
    ),
    st.sampled_from(["good", *BROKEN]),
    max_size=14,
)


@settings(deadline=None, max_examples=40)
@given(FILES)
def test_random_trees(tree):
    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory)
        for (split, name, stem), kind in tree.items():
            data = picture() if kind == "good" else BROKEN[kind][0]
            write(root, f"{split}/{name}/{stem}.png", data=data)
        named = {name for split, name, _ in tree if split == "train"}
        good = {key for key, kind in tree.items() if kind == "good" and key[1] in named}
        splits = {split for split, name, _ in tree if name in named}
        in_train = {name for split, name, _ in good if split == "train"}
        if len(in_train) < 2 or splits != {split for split, _, _ in good}:
            with pytest.raises(UserError):
                usable(root)
            return
        found, problems = usable(root)
        classes = folder.list_tree(root).classes
    assert classes == tuple(sorted(named))
    paths = {key: f"{key[0]}/{key[1]}/{key[2]}.png" for key in tree}
    assert found == {paths[key]: key[1] for key in good}
    assert problems == {
        **{
            paths[k]: BROKEN[kind][1]
            for k, kind in tree.items()
            if kind != "good" and k[1] in named
        },
        **{f"{k[0]}/{k[1]}": "a class that train lacks" for k in tree if k[1] not in named},
    }
