import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import namedtuple
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emotion_jax.data import mirror, tree
from emotion_jax.errors import UserError


@pytest.fixture
def source(tmp_path):
    root = tmp_path / "source"
    for i, path in enumerate(("train/a/1.png", "train/a/2.png", "train/b/1.png", "notes.txt")):
        write(root / path, bytes([i]) * (i + 1), at=1_000_000 + i)
    (root / "train/empty").mkdir()
    return root


@pytest.fixture
def target(tmp_path):
    return tmp_path / "local" / "source"


def write(path, data, at=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    if at is not None:
        os.utime(path, ns=(at * 10**9 + 123_456_789,) * 2)


def files_of(root):
    """Contents and times by path, hidden names left out; links by their text."""
    found = {}
    for path in root.rglob("*"):
        name = path.relative_to(root)
        if any(part.startswith(".") for part in name.parts):
            continue
        if path.is_symlink():
            found[name.as_posix()] = os.readlink(path)
        elif path.is_file():
            found[name.as_posix()] = (path.read_bytes(), path.stat().st_mtime_ns)
        else:
            found[name.as_posix()] = None
    return found


def copied_by(monkeypatch, *arguments):
    """What a call reads from the source."""
    read, chunks = [], mirror._chunks
    with monkeypatch.context() as patch:
        patch.setattr(mirror, "_chunks", lambda path: (read.append(path.name), chunks(path))[1])
        mirror.mirror(*arguments)
    return sorted(read)


def test_an_equal_copy_with_times_and_empty_folders(source, target):
    assert mirror.mirror(source, target) == []
    assert files_of(target) == files_of(source)
    assert sorted(p.name for p in (target / ".staging").iterdir()) == ["lock", "record.json"]


def test_a_file_larger_than_a_chunk(tmp_path, target, monkeypatch):
    monkeypatch.setattr(mirror, "CHUNK", 1000)
    data = os.urandom(10_500)
    write(tmp_path / "source/big.bin", data)
    mirror.mirror(tmp_path / "source", target)
    assert (target / "big.bin").read_bytes() == data


def test_the_second_call_copies_nothing(source, target, monkeypatch):
    assert copied_by(monkeypatch, source, target) == ["1.png", "1.png", "2.png", "notes.txt"]
    inode = (target / "notes.txt").stat().st_ino
    assert copied_by(monkeypatch, source, target) == []
    assert (target / "notes.txt").stat().st_ino == inode


def test_what_has_changed_is_copied_and_what_is_gone_is_removed(source, target, monkeypatch):
    mirror.mirror(source, target)
    write(source / "train/a/1.png", b"other", at=5)
    write(source / "train/c/new.png", b"new")
    (source / "notes.txt").unlink()
    shutil.rmtree(source / "train/b")
    assert copied_by(monkeypatch, source, target) == ["1.png", "new.png"]
    assert files_of(target) == files_of(source)


def test_the_same_size_at_another_time_is_a_change(source, target, monkeypatch):
    mirror.mirror(source, target)
    write(source / "notes.txt", b"1234", at=77)
    assert copied_by(monkeypatch, source, target) == ["notes.txt"]
    assert files_of(target) == files_of(source)


def test_what_was_lost_or_altered_in_the_copy_is_mended(source, target, monkeypatch):
    mirror.mirror(source, target)
    (target / "train/a/1.png").unlink()
    write(target / "notes.txt", b"abcd")
    assert copied_by(monkeypatch, source, target) == ["1.png", "notes.txt"]
    assert files_of(target) == files_of(source)


def test_a_file_becomes_a_folder_and_a_folder_a_file(source, target):
    mirror.mirror(source, target)
    shutil.rmtree(source / "train/b")
    write(source / "train/b", b"file")
    (source / "notes.txt").unlink()
    write(source / "notes.txt/1.png", b"x")
    mirror.mirror(source, target)
    assert files_of(target) == files_of(source)


def test_a_single_file_among_others(tmp_path, monkeypatch):
    write(tmp_path / "a.zip", b"archive", at=9)
    write(tmp_path / "local/mine.txt", b"mine")
    assert copied_by(monkeypatch, tmp_path / "a.zip", tmp_path / "local/a.zip") == ["a.zip"]
    copy = tmp_path / "local/a.zip"
    assert copy.read_bytes() == b"archive"
    assert copy.stat().st_mtime_ns == (tmp_path / "a.zip").stat().st_mtime_ns
    assert copied_by(monkeypatch, tmp_path / "a.zip", copy) == []
    write(tmp_path / "a.zip", b"newer")
    mirror.mirror(tmp_path / "a.zip", copy)
    assert copy.read_bytes() == b"newer"
    assert (tmp_path / "local/mine.txt").read_bytes() == b"mine"


def test_hidden_files_are_not_copied(source, target):
    write(source / ".git/config", b"x")
    write(source / "train/a/.DS_Store", b"x")
    mirror.mirror(source, target)
    assert not (target / ".git").exists()
    assert not (target / "train/a/.DS_Store").exists()


def test_links_are_copied_as_links_that_stay_inside(source, target, tmp_path):
    write(tmp_path / "secret.png", b"secret")
    (source / "train/b/relative.png").symlink_to("../a/1.png")
    (source / "train/b/absolute.png").symlink_to(source / "train/a/2.png")
    (source / "train/c").symlink_to("a")
    (source / "train/b/out.png").symlink_to(tmp_path / "secret.png")
    (source / "train/b/gone.png").symlink_to("nowhere")
    (source / "train/b/loop").symlink_to("loop")
    assert mirror.mirror(source, target) == []
    assert os.readlink(target / "train/b/relative.png") == "../a/1.png"
    assert os.readlink(target / "train/b/absolute.png") == "../a/2.png"
    assert (target / "train/c/1.png").read_bytes() == (source / "train/a/1.png").read_bytes()
    assert (target / "train/b/out.png").is_symlink()
    assert not any(
        p.read_bytes() == b"secret" for p in target.rglob("*") if not p.is_symlink() and p.is_file()
    )
    for root in (source, target):
        problems = []
        tree.class_folders(root, root / "train", problems)
        assert {problem.path: problem.reason for problem in problems} == {
            "train/b/out.png": "a symlink out of the tree",
            "train/b/gone.png": "a symlink to nothing",
            "train/b/loop": "a symlink to nothing",
        }


def test_no_links_on_this_disk(source, target, monkeypatch):
    (source / "link.png").symlink_to("notes.txt")

    def refuse(*_):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "symlink", refuse)
    assert mirror.mirror(source, target) == ["link.png"]
    assert (target / "notes.txt").exists()


def unreadable(monkeypatch, *names):
    chunks = mirror._chunks
    monkeypatch.setattr(
        mirror, "_chunks", lambda path: iter([None]) if path.name in names else chunks(path)
    )


def test_what_cannot_be_read_is_left_out(source, target, monkeypatch):
    os.mkfifo(source / "pipe")
    unreadable(monkeypatch, "2.png")
    assert sorted(mirror.mirror(source, target)) == ["pipe", "train/a/2.png"]
    expected = files_of(source)
    del expected["pipe"], expected["train/a/2.png"]
    assert files_of(target) == expected


def test_an_error_halfway_through_a_file_leaves_nothing_of_it(source, target, monkeypatch):
    chunks = mirror._chunks

    def broken(path):
        if path.name == "notes.txt":
            yield b"no"
            yield None
        else:
            yield from chunks(path)

    monkeypatch.setattr(mirror, "_chunks", broken)
    assert mirror.mirror(source, target) == ["notes.txt"]
    assert not (target / "notes.txt").exists()


def test_a_changed_file_that_cannot_be_read_leaves_no_old_copy(source, target, monkeypatch):
    mirror.mirror(source, target)
    write(source / "notes.txt", b"newer")
    unreadable(monkeypatch, "notes.txt")
    assert mirror.mirror(source, target) == ["notes.txt"]
    assert not (target / "notes.txt").exists()


def test_nothing_at_all_can_be_read(source, target, monkeypatch, tmp_path):
    unreadable(monkeypatch, "1.png", "2.png", "notes.txt")
    with pytest.raises(UserError, match=r"There is nothing in .*source that can be read"):
        mirror.mirror(source, target)
    (tmp_path / "void").mkdir()
    with pytest.raises(UserError, match=r"There is nothing in .*void that can be read"):
        mirror.mirror(tmp_path / "void", tmp_path / "local/void")


def test_an_unreadable_folder(source, target, monkeypatch):
    scandir = os.scandir

    def fail(path):
        if not isinstance(path, int) and Path(path).name == "a":
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", fail)
    assert mirror.mirror(source, target) == ["train/a"]
    assert (target / "train/b/1.png").exists()


def unlistable(monkeypatch, folder):
    """A network drive's hiccup."""
    scandir = os.scandir

    def fail(path):
        if not isinstance(path, int) and Path(path) == folder:
            raise OSError(5, "Input/output error")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", fail)


def test_what_cannot_be_listed_now_stays_as_it_was_copied(source, target, monkeypatch, capsys):
    write(source / "train/a/deep/3.png", b"3")
    (source / "train/a/empty").mkdir()
    mirror.mirror(source, target)
    before = files_of(target)
    (source / "notes.txt").unlink()  # what is gone is gone
    with monkeypatch.context() as patch:
        unlistable(patch, source / "train/a")
        assert mirror.mirror(source, target) == ["train/a"]
        assert mirror.mirror(source, target) == ["train/a"]  # it is still known as ours
    del before["notes.txt"]
    assert files_of(target) == before
    assert capsys.readouterr().err == 2 * (
        f"3 files in {target} are kept from an earlier copy, since {source} cannot be listed where "
        "they come from; the first is train/a/1.png.\n"
    )
    (source / "train/a/1.png").unlink()
    assert copied_by(monkeypatch, source, target) == []
    assert files_of(target) == files_of(source)


def test_a_file_that_became_a_folder_that_cannot_be_listed(source, target, monkeypatch):
    mirror.mirror(source, target)
    (source / "notes.txt").unlink()
    (source / "notes.txt").mkdir()
    unlistable(monkeypatch, source / "notes.txt")
    assert mirror.mirror(source, target) == ["notes.txt"]
    assert (target / "notes.txt").is_dir()


def test_a_file_whose_state_cannot_be_read_stays_as_it_was_copied(source, target, monkeypatch):
    mirror.mirror(source, target)
    lstat = Path.lstat

    def fail(path):
        if path == source / "notes.txt":
            raise OSError(5, "Input/output error")
        return lstat(path)

    monkeypatch.setattr(Path, "lstat", fail)
    assert mirror.mirror(source, target) == ["notes.txt"]
    monkeypatch.undo()
    assert files_of(target) == files_of(source)


@pytest.mark.parametrize("gone", ["error", "empty"])
def test_a_drive_that_is_gone_for_a_moment_costs_nothing(source, target, monkeypatch, gone):
    mirror.mirror(source, target)
    before = files_of(target)
    if gone == "error":
        unlistable(monkeypatch, source)
    else:
        shutil.rmtree(source)
        source.mkdir()
    with pytest.raises(UserError, match=r"There is nothing in .*source that can be read"):
        mirror.mirror(source, target)
    assert files_of(target) == before


def test_a_copy_that_differs_is_an_error_and_gets_no_name(source, target, monkeypatch):
    fsync = os.fsync

    def corrupt(descriptor):
        fsync(descriptor)
        if os.fstat(descriptor).st_size == 4:  # notes.txt
            os.pwrite(descriptor, b"X", 3)

    monkeypatch.setattr(os, "fsync", corrupt)
    with pytest.raises(UserError, match=r"copy of .*notes.txt is not what was read"):
        mirror.mirror(source, target)
    assert not (target / "notes.txt").exists()
    assert not (target / ".staging/partial").exists()
    monkeypatch.undo()
    mirror.mirror(source, target)
    assert files_of(target) == files_of(source)


def test_a_source_that_grows_meanwhile(source, target, monkeypatch):
    chunks = mirror._chunks

    def grown(path):
        yield from chunks(path)
        if path.name == "notes.txt":
            yield b"more"

    monkeypatch.setattr(mirror, "_chunks", grown)
    with pytest.raises(UserError, match=r"notes.txt changed while it was copied"):
        mirror.mirror(source, target)
    assert not (target / "notes.txt").exists()


def test_no_room_is_seen_before_anything_is_copied(source, target, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10, 8, 2))
    with pytest.raises(UserError, match="make room"):
        mirror.mirror(source, target)
    assert [name for name, kind in files_of(target).items() if kind is not None] == []


@pytest.mark.parametrize("place", ["folder", "file", "link"])
def test_a_place_that_is_not_ours(source, target, tmp_path, place):
    if place == "folder":
        write(target / "precious.txt", b"mine")
    elif place == "file":
        write(target, b"mine")
    else:
        target.parent.mkdir()
        (tmp_path / "other").mkdir()
        target.symlink_to(tmp_path / "other")
    before = files_of(tmp_path / "local")
    with pytest.raises(UserError, match="is not a copy that this program made"):
        mirror.mirror(source, target)
    assert files_of(tmp_path / "local") == before


def test_a_file_in_the_place_of_a_file(tmp_path):
    write(tmp_path / "a.zip", b"archive")
    write(tmp_path / "local/a.zip", b"mine")
    with pytest.raises(UserError, match="is not a copy that this program made"):
        mirror.mirror(tmp_path / "a.zip", tmp_path / "local/a.zip")
    assert (tmp_path / "local/a.zip").read_bytes() == b"mine"


def test_an_empty_folder_may_be_taken(source, target):
    target.mkdir(parents=True)
    mirror.mirror(source, target)
    assert files_of(target) == files_of(source)


def test_someone_elses_file_in_our_copy(source, target):
    mirror.mirror(source, target)
    write(target / "train/a/mine.png", b"mine")
    with pytest.raises(UserError, match=r"did not put there \(train/a/mine.png\)"):
        mirror.mirror(source, target)
    assert (target / "train/a/mine.png").read_bytes() == b"mine"


def test_the_copy_of_another_source(source, target, tmp_path):
    mirror.mirror(source, target)
    write(tmp_path / "elsewhere/source/1.png", b"x")
    with pytest.raises(UserError, match=f"holds a copy of {source}"):
        mirror.mirror(tmp_path / "elsewhere/source", target)
    assert files_of(target) == files_of(source)


def test_names_that_are_not_utf8(source, target):
    name = os.fsdecode(b"\xff\xfe.png")
    write(source / "train/a" / name, b"x")
    mirror.mirror(source, target)
    assert (target / "train/a" / name).read_bytes() == b"x"
    mirror.mirror(source, target)


def test_an_error_in_the_middle_then_again(source, target, monkeypatch):
    replace, done = os.replace, []

    def fail(old, new):
        if len(done) == 2:
            raise OSError(28, "No space left on device")
        done.append(new)
        replace(old, new)

    monkeypatch.setattr(mirror.os, "replace", fail)
    with pytest.raises(OSError, match="No space left"):
        mirror.mirror(source, target)
    assert not (target / ".staging/partial").exists()
    monkeypatch.undo()
    mirror.mirror(source, target)
    assert files_of(target) == files_of(source)


SLOW = """
import os, sys, time
from pathlib import Path
from emotion_jax.data import mirror
fsync = os.fsync
def slow(descriptor):
    time.sleep(0.05)
    fsync(descriptor)
os.fsync, mirror.THREADS = slow, 2
mirror.mirror(Path(sys.argv[1]), Path(sys.argv[2]))
"""


def test_killed_halfway_then_again(tmp_path, target, monkeypatch):
    source = tmp_path / "source"
    for i in range(100):
        write(source / f"train/{i % 3}/{i}.png", bytes([i]) * 1000)
    process = subprocess.Popen([sys.executable, "-c", SLOW, str(source), str(target)])
    deadline = time.monotonic() + 60
    while len(list(target.glob("train/*/*.png"))) < 10 and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    there = files_of(target)
    whole = files_of(source)
    assert 10 <= sum(kind is not None for kind in there.values()) < 100
    assert there.items() <= whole.items()  # what has its name is whole
    again = copied_by(monkeypatch, source, target)
    assert 0 < len(again) <= 90
    assert files_of(target) == whole
    assert not (target / ".staging/partial").exists()


def test_the_record_is_written_before_the_files(source, target, monkeypatch):
    seen = []

    def look(*_):
        seen.append(json.loads((target / ".staging/record.json").read_text())["files"])
        return True

    monkeypatch.setattr(mirror, "_copy", look)
    mirror.mirror(source, target)
    assert seen == [["notes.txt", "train/a/1.png", "train/a/2.png", "train/b/1.png"]] * 4


names = st.sampled_from(["train", "a", "b", "1.png", "2.png", ".hidden", "é"])
nodes = st.tuples(
    st.lists(names, min_size=1, max_size=3),
    st.sampled_from(["file", "folder", "link"]),
    st.binary(max_size=5),
)


@settings(deadline=None, max_examples=25)
@given(
    first=st.lists(nodes, min_size=1, max_size=8), second=st.lists(nodes, min_size=1, max_size=8)
)
def test_any_tree_after_any_other(first, second):
    with tempfile.TemporaryDirectory() as directory:
        source, target = Path(directory).resolve() / "s", Path(directory).resolve() / "t/s"
        for tree_nodes in (first, second):
            shutil.rmtree(source, ignore_errors=True)
            write(source / "always.png", b"x")
            for parts, kind, data in tree_nodes:
                path = source.joinpath(*parts)
                if os.path.lexists(path) or any(
                    p.is_file() or p.is_symlink() for p in path.parents
                ):
                    continue
                path.parent.mkdir(parents=True, exist_ok=True)
                if kind == "file":
                    path.write_bytes(data)
                elif kind == "folder":
                    path.mkdir()
                else:
                    path.symlink_to(data.hex() or "..")
            assert mirror.mirror(source, target) == []
            assert mirror.mirror(source, target) == []
            assert files_of(target) == files_of(source)
