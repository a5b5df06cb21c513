import errno
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


def fail_at(monkeypatch, function, place, number):
    """Have a function of ``os`` fail for a path; the tests may run as root, who may read all."""
    original = getattr(os, function)

    def failing(path, *args, **kwargs):
        if os.fspath(path) == os.fspath(place):
            raise OSError(number, os.strerror(number), os.fspath(path))
        return original(path, *args, **kwargs)

    monkeypatch.setattr(os, function, failing)


def test_a_folder_that_cannot_be_read_is_there_with_the_reason(tmp_path, monkeypatch):
    touch(tmp_path, "a.png", "sub/b.png", "z/c.png")
    fail_at(monkeypatch, "scandir", tmp_path / "sub", errno.EACCES)
    found = {one.path.relative_to(tmp_path).as_posix(): one.error for one in collect([tmp_path])}
    reason = "unreadable (Permission denied)"
    assert found == {"a.png": None, "z/c.png": None, "sub": reason}
    (alone,) = collect([tmp_path / "sub"])
    assert (alone.name, alone.error, alone.is_video) == (str(tmp_path / "sub"), reason, False)


def test_a_file_in_a_folder_that_may_not_be_searched_is_named_all_the_same(tmp_path, monkeypatch):
    touch(tmp_path, "locked/a.png", "b.png")
    fail_at(monkeypatch, "stat", tmp_path / "locked/a.png", errno.EACCES)
    inputs = collect([tmp_path / "locked/a.png", tmp_path / "b.png"])
    assert names(tmp_path, inputs) == ["locked/a.png", "b.png"]


def test_a_pipe_in_a_folder_is_not_opened(tmp_path):
    touch(tmp_path, "a.png")
    for name in ("pipe.png", "pipe.mp4"):
        os.mkfifo(tmp_path / name)
    os.symlink(tmp_path / "a.png", tmp_path / "link.png")
    os.symlink(tmp_path / "gone.png", tmp_path / "loose.png")
    errors = {one.path.name: one.error for one in collect([tmp_path])}
    assert errors.pop("pipe.png") == errors.pop("pipe.mp4") == "not a regular file"
    assert errors == dict.fromkeys(["a.png", "link.png", "loose.png"])
    (named,) = collect([tmp_path / "pipe.png"])  # such as of <(command)
    assert named.error is None
