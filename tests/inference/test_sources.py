import os
from pathlib import PurePath

from emotion_jax.inference.sources import collect


def touch(root, *names):
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def names(root, inputs):
    return [one.path.relative_to(root).as_posix() for one in inputs]


def test_folders_are_searched_and_sorted(tmp_path):
    touch(tmp_path, "b.JPG", "a.png", "notes.txt", ".hidden.png", "sub/c.webp", "sub/d.MP4")
    touch(tmp_path, "sub/.git/e.png", "__MACOSX/f.png", "out/g.jpg", "Thumbs.db")
    os.symlink(tmp_path, tmp_path / "sub" / "loop")
    inputs = collect([tmp_path], [tmp_path / "out"])
    assert names(tmp_path, inputs) == ["a.png", "b.JPG", "sub/c.webp", "sub/d.MP4"]
    assert [one.is_video for one in inputs] == [False, False, False, True]
    assert inputs[2].relative == PurePath("sub/c.webp")
    assert inputs[2].name == str(tmp_path / "sub/c.webp")


def test_a_file_that_is_named_is_taken_as_it_is(tmp_path):
    touch(tmp_path, "x/a.dat", "x/b.png")
    given = [tmp_path / "x/a.dat", tmp_path / "x", tmp_path / "gone.png", tmp_path / "x/b.png"]
    inputs = collect(given)
    assert names(tmp_path, inputs) == ["x/a.dat", "x/b.png", "gone.png"]
    assert [str(one.relative) for one in inputs] == ["a.dat", "b.png", "gone.png"]


def test_a_name_of_any_bytes_is_a_line_of_utf8(tmp_path):
    for raw in (b"\xff.png", b"two\nlines.png", b"car\rriage.png"):
        with open(os.path.join(os.fsencode(tmp_path), raw), "wb"):
            pass
    found = sorted(one.name.rsplit("/")[-1] for one in collect([tmp_path]))
    assert found == ["\\xff.png", "car\\rriage.png", "two\\nlines.png"]
