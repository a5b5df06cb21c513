import csv
import fcntl
import io
import os
import threading
import time
from pathlib import Path

import pytest

from emotion_jax import files
from emotion_jax.errors import UserError


def test_names_tell_paths_apart():
    paths = [Path("runs/a"), Path("runs/b"), Path("old/b")]
    assert files.named(paths) == [("a", paths[0]), ("runs/b", paths[1]), ("old/b", paths[2])]


@pytest.mark.skipif(os.name != "posix", reason="names of any bytes")
def test_names_can_be_sent_whatever_their_bytes():
    paths = [Path(os.fsdecode(name)) for name in (b"a/caf\xe9", b"\xff/b", b"c/b", "ü".encode())]
    assert [name for name, _ in files.named(paths)] == [r"caf\xe9", r"\xff/b", "c/b", "ü"]
    assert [path for _, path in files.named(paths)] == paths


def test_writes_bytes_and_replaces(tmp_path):
    path = tmp_path / "a.bin"
    files.write_bytes_atomic(path, b"first")
    files.write_bytes_atomic(path, b"\x00second")
    assert path.read_bytes() == b"\x00second"
    assert os.listdir(tmp_path) == ["a.bin"]


def test_text_is_utf8_as_it_is(tmp_path):
    path = tmp_path / "a.txt"
    text = "怒り\nغضب\r\nname \udcff\n"
    files.write_text_atomic(path, text)
    assert path.read_bytes() == text.encode("utf-8", "surrogateescape")


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_failure_leaves_what_was_there_and_nothing_else(tmp_path, monkeypatch, step):
    path = tmp_path / "a.json"
    files.write_text_atomic(path, "old")

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, step, fail)
    with pytest.raises(OSError, match="No space"):
        files.write_text_atomic(path, "new")
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.json"]


def test_synced_before_it_is_renamed(tmp_path, monkeypatch):
    calls = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda fd: (calls.append("fsync"), fsync(fd)))
    monkeypatch.setattr(os, "replace", lambda a, b: (calls.append("replace"), replace(a, b)))
    files.write_bytes_atomic(tmp_path / "a", b"x")
    assert calls == ["fsync", "replace"]


def test_a_missing_folder_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        files.write_text_atomic(tmp_path / "none" / "a", "x")


@pytest.mark.skipif(os.name != "posix", reason="POSIX modes")
@pytest.mark.parametrize("mask", [0o022, 0o077])
def test_mode_follows_the_umask(tmp_path, mask):
    before = os.umask(mask)
    try:
        files.write_bytes_atomic(tmp_path / "a", b"x")
    finally:
        os.umask(before)
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o666 & ~mask


def test_sync_takes_files_and_folders(tmp_path):
    files.write_bytes_atomic(tmp_path / "a", b"x")
    files.sync(tmp_path / "a")
    files.sync(tmp_path)


def test_what_a_killed_writer_left_is_removed_and_nothing_else(tmp_path):
    left = tmp_path / f".{'0a' * 8}.tmp"
    others = [tmp_path / name for name in (".mine.tmp", "0a0a0a0a0a0a0a0a.tmp", ".0a.tmp")]
    for path in (left, *others):
        path.write_text("x")
    files.remove_temporary(tmp_path)
    assert sorted(tmp_path.iterdir()) == sorted(others)
    files.remove_temporary(tmp_path / "none")


def test_a_folder_of_a_temporary_files_name_is_left_alone(tmp_path):
    folder = tmp_path / f".{'0a' * 8}.tmp"
    folder.mkdir()
    files.remove_temporary(tmp_path)
    assert folder.is_dir()


def test_litter_is_known_by_its_name_alone():
    litter = (
        ".DS_Store",
        "model/d/._a",
        "model/Icon\r",
        "model/desktop.ini",
        "Thumbs.db",
        "model/.directory",
    )
    ours = (
        "Icon",
        "Icon.png",
        ".hidden",
        ".zarray",
        "._a/b",
        "model/a.ini",
        "manifest.json",
        "x.DS_Store",
    )
    assert [name for name in (*litter, *ours) if files.is_litter(name)] == list(litter)


def test_a_table_is_read_as_it_was_whatever_line_ends_are_in_its_cells():
    rows = [["path", "n"], ["Icon\r", "1"], ["a\nb", ""], ["c\r\n", 'd"e,f'], ["", "\r\n"], [""]]
    text = files.csv_text(rows)
    assert text.startswith('path,n\n"Icon\r",1\n')
    assert list(csv.reader(io.StringIO(text, newline=""))) == rows


def test_a_lock_is_one_process_alone_has(tmp_path):
    path = tmp_path / "lock"
    lock = files.locked(path, "Busy.")
    with pytest.raises(UserError, match=r"^Busy\.$"):
        files.locked(path, "Busy.")
    lock.close()
    files.locked(path, "Busy.").close()


def test_a_lock_that_its_holder_deletes_is_none(tmp_path, monkeypatch):
    path = tmp_path / "lock"
    flock = fcntl.flock

    def deleted_first(file, how):
        if path.stat().st_size:
            path.unlink()
        flock(file, how)

    path.write_text("an earlier holder's")
    monkeypatch.setattr(fcntl, "flock", deleted_first)
    lock = files.locked(path, "Busy.")
    monkeypatch.undo()
    with pytest.raises(UserError, match="Busy"):
        files.locked(path, "Busy.")
    lock.close()


def test_an_exclusive_block_waits(tmp_path):
    order = []

    def second():
        with files.exclusive(tmp_path / "lock"):
            order.append(2)

    with files.exclusive(tmp_path / "lock"):
        thread = threading.Thread(target=second)
        thread.start()
        time.sleep(0.1)
        order.append(1)
    thread.join()
    assert order == [1, 2]
