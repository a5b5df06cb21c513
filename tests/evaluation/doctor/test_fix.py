import csv
import errno
import os
import shutil

import numpy as np
import pytest
from PIL import Image

from emotion_jax import files
from emotion_jax.data import synthetic
from emotion_jax.errors import UserError
from emotion_jax.evaluation.doctor import examine, fix


def contents(root):
    """Path -> bytes and time of change of every file."""
    files = (path for path in sorted(root.rglob("*")) if path.is_file())
    return {p.relative_to(root).as_posix(): (p.read_bytes(), p.stat().st_mtime_ns) for p in files}


def clean(root, target):
    diagnosis = examine.examine(root)
    left_out = fix.plan(diagnosis.survey, diagnosis.all, diagnosis.leaks)
    return fix.write(target, diagnosis.survey, left_out), left_out


@pytest.fixture(scope="module")
def cleaned(planted, tmp_path_factory):
    """The clean copy of the planted tree: (original before, folder, counts, left out)."""
    before = contents(planted[0])
    target = tmp_path_factory.mktemp("fixed") / "faces"
    counts, left_out = clean(planted[0], target)
    return before, target, counts, left_out


def test_what_is_left_out_and_why(cleaned):
    reasons = {entry.path: (entry.reason, entry.related) for entry in cleaned[3]}
    assert reasons == {
        "train/happy/zero.png": ("broken", ""),
        "train/happy/notes.txt": ("broken", ""),
        "train/sad/cut.png": ("broken", ""),
        "train/neutral/blank.png": ("blank", ""),
        "train/fear/00002.png": ("leak", "test/fear/leak.png"),
        "train/surprise/00006.png": ("leak", "test/surprise/near.png"),
        "train/angry/conflict.png": ("label_conflict", "train/disgust/00001.png"),
        "train/disgust/00001.png": ("label_conflict", "train/angry/conflict.png"),
        "train/happy/same.bmp": ("duplicate", "train/happy/00003.png"),
    }


def test_the_original_is_untouched_and_the_rest_is_in_the_copy(cleaned, planted):
    before, target, _, left_out = cleaned
    assert contents(planted[0]) == before
    kept = contents(target)
    with (target / "fixed.csv").open(newline="") as file:
        rows = [tuple(row.values()) for row in csv.DictReader(file)]
    assert rows == [tuple(entry) for entry in left_out]
    del kept["fixed.csv"]
    without = {entry.path for entry in left_out}
    assert kept == {path: value for path, value in before.items() if path not in without}


def test_links_not_copies(cleaned, planted):
    assert cleaned[2] == (193 - 6, 0)
    name = "test/fear/leak.png"
    assert os.path.samefile(cleaned[1] / name, planted[0] / name)


def test_of_the_copy_nothing_more_is_left_out(cleaned, tmp_path):
    _, left_out = clean(cleaned[1], tmp_path / "again")
    assert left_out == []


def test_all_that_a_test_image_is_like_is_left_out_of_train(tmp_path):
    def save(path, pixels):
        (tmp_path / "faces" / path).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.rint(pixels).astype(np.uint8)).save(tmp_path / "faces" / path)

    faces = [synthetic.draw(i % 2, np.random.default_rng([5, i])).astype(float) for i in range(9)]
    for i, face in enumerate(faces):
        save(f"train/{('happy', 'sad')[i % 2]}/{i}.png", face)
    save("train/happy/darker.png", 0.8 * faces[0])
    save("train/happy/mirrored.png", 0.9 * faces[0][:, ::-1])
    save("test/happy/again.png", faces[0])
    _, left_out = clean(tmp_path / "faces", tmp_path / "clean")
    assert {(entry.path, entry.reason) for entry in left_out} == {
        (f"train/happy/{name}.png", "leak") for name in ("0", "darker", "mirrored")
    }


def test_of_a_film_cut_across_splits_the_copy_has_no_leak(tmp_path):
    """Of each test frame more other test frames than the candidates of an image are alike."""
    rng = np.random.default_rng(0)
    film = synthetic.draw(3, np.random.default_rng(7)) + rng.normal(0, 2, (90, 48, 48))
    strangers = [synthetic.draw(i % 2, np.random.default_rng([5, i])) for i in range(9)]
    frames = {f"{'train' if i < 50 else 'test'}/happy/{i:02}.png": x for i, x in enumerate(film)}
    others = {f"train/{('happy', 'sad')[i % 2]}/other{i}.png": x for i, x in enumerate(strangers)}
    for path, pixels in (frames | others).items():
        (tmp_path / "film" / path).parent.mkdir(parents=True, exist_ok=True)
        grey = np.clip(np.rint(pixels), 0, 255).astype(np.uint8)
        Image.fromarray(grey).save(tmp_path / "film" / path)
    found = examine.examine(tmp_path / "film").findings["leak"]
    assert {finding.path for finding in found} == {p for p in frames if p.startswith("test")}
    _, left_out = clean(tmp_path / "film", tmp_path / "clean")
    assert {entry.path for entry in left_out} == {p for p in frames if p.startswith("train")}
    assert examine.examine(tmp_path / "clean").findings["leak"] == []


def test_copies_where_links_cannot_reach(planted, tmp_path, monkeypatch):
    def another_disk(source, place):
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))

    monkeypatch.setattr(os, "link", another_disk)
    counts, _ = clean(planted[0], tmp_path / "copy")
    assert counts == (0, 193 - 6)
    place = tmp_path / "copy" / "test" / "fear" / "leak.png"
    assert place.read_bytes() == (planted[0] / "test" / "fear" / "leak.png").read_bytes()
    assert place.stat().st_nlink == 1


def test_a_full_disk_leaves_nothing(planted, tmp_path, monkeypatch):
    def full(source, place):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "link", full)
    with pytest.raises(UserError, match=r"--fix: cannot write .*No space left"):
        clean(planted[0], tmp_path / "copy")
    assert list(tmp_path.iterdir()) == []


def tree(root, layout):
    for path, value in layout.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), value).save(root / path)
    return root


def test_test_keeps_its_blank_and_double_images(tmp_path):
    grey, black = (9, 9, 9), (0, 0, 0)
    layout = {"train/a/1.png": grey, "test/a/1.png": black, "test/a/2.png": black}
    data = tree(tmp_path / "data", layout | {"test/b/1.png": black})
    with pytest.raises(UserError, match="would be left out of train"):
        clean(data, tmp_path / "copy")
    Image.effect_noise((8, 8), 90).save(data / "train" / "a" / "2.png")
    counts, left_out = clean(data, tmp_path / "copy")
    assert counts == (4, 0)
    assert [(entry.path, entry.reason) for entry in left_out] == [("train/a/1.png", "blank")]


def test_a_class_that_train_would_lose_is_named(tmp_path):
    noise = [Image.effect_noise((8, 8), 90) for _ in range(4)]
    data = tree(tmp_path / "data", {"test/fear/blank.png": (0, 0, 0), "train/happy/0.png": 0})
    (data / "train" / "fear").mkdir()
    noise[0].save(data / "train" / "happy" / "1.png")
    for name in ("train/fear/2.png", "test/fear/2.png"):
        noise[2].save(data / name)
    with pytest.raises(UserError, match=r"every image of the class fear of train would be left"):
        clean(data, tmp_path / "copy")
    assert os.listdir(tmp_path) == ["data"]
    noise[3].save(data / "train" / "fear" / "3.png")
    _, left_out = clean(data, tmp_path / "copy")
    assert [entry.path for entry in left_out] == ["train/fear/2.png", "train/happy/0.png"]


def test_a_class_that_a_tree_without_splits_would_lose_is_named(tmp_path):
    data = tree(tmp_path / "data", {"a/1.png": (0, 0, 0)})
    (data / "b").mkdir()
    Image.effect_noise((8, 8), 90).save(data / "b" / "2.png")
    with pytest.raises(UserError, match=r"every image of the class a would be left out of .*data,"):
        clean(data, tmp_path / "copy")


def test_one_process_writes_a_copy(planted, tmp_path):
    making = tmp_path / ".copy.fixing"
    (making / "train").mkdir(parents=True)
    with (
        files.exclusive(tmp_path / ".copy.fixing.lock"),
        pytest.raises(UserError, match=r"--fix: another process writes .*copy; wait for it or"),
    ):
        clean(planted[0], tmp_path / "copy")
    assert os.listdir(making) == ["train"]
    clean(planted[0], tmp_path / "copy")
    assert os.listdir(tmp_path) == ["copy"]


def test_a_tree_without_splits_is_cleaned_as_train_is(tmp_path):
    data = tree(tmp_path / "data", {"a/1.png": (0, 0, 0)})
    Image.effect_noise((8, 8), 90).save(data / "a" / "2.png")
    shutil.copy(data / "a" / "2.png", data / "a" / "3.png")
    _, left_out = clean(data, tmp_path / "copy")
    assert [(e.path, e.reason) for e in left_out] == [
        ("a/1.png", "blank"),
        ("a/3.png", "duplicate"),
    ]


def test_links_in_the_tree_become_files(tmp_path):
    data = tmp_path / "data"
    for folder in ("train/a", "test/a"):
        (data / folder).mkdir(parents=True)
    Image.effect_noise((8, 8), 90).save(data / "train" / "a" / "1.png")
    Image.effect_noise((8, 8), 90).save(data / "test" / "a" / "2.png")
    (data / "test" / "a" / "3.png").symlink_to("2.png")
    clean(data, tmp_path / "copy")
    found = tmp_path / "copy" / "test" / "a" / "3.png"
    assert found.is_file()
    assert not found.is_symlink()
    assert found.read_bytes() == (data / "test" / "a" / "2.png").read_bytes()


@pytest.mark.parametrize(
    "place", [".", "inside", "..", "../full", "../file", "../out", "../out/in"]
)
def test_places_that_are_refused(tmp_path, place):
    data = tmp_path / "data"
    (data / "a").mkdir(parents=True)
    (tmp_path / "full" / "x").mkdir(parents=True)
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"--fix: .* choose a "):
        fix.check(data / place, data, tmp_path / "out")


@pytest.mark.parametrize("place", ["../new", "../new/deep", "../empty"])
def test_places_that_will_do(tmp_path, place):
    data = tmp_path / "data"
    data.mkdir()
    (tmp_path / "empty").mkdir()
    fix.check(data / place, data, tmp_path / "out")
