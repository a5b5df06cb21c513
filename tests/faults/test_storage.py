import dataclasses
import resource
import shutil

import numpy as np
import pytest
from disks import fill, mount

from emotion_jax import files
from emotion_jax.errors import Interrupted, UserError
from emotion_jax.training import saved
from emotion_jax.training.checkpoint import Store
from emotion_jax.training.state import TrainState

HASHES = np.zeros(3, np.uint64)


def state(size=20_000):
    """Several arrays, 4 * size bytes in each part of the state."""
    rng = np.random.default_rng(0)
    parts = [field.name for field in dataclasses.fields(TrainState)]
    return TrainState(
        **{part: {k: rng.random(size // 2).astype(np.float32) for k in "ab"} for part in parts}
    )


def save(store, step, size=20_000):
    store.save(state(size), {"step": step, "metrics": {}}, HASHES)
    store.wait()


def assert_intact(store, *names):
    found = saved.steps(store.directory)
    assert [step.name for step in found] == list(names)
    assert [saved.verify(step) for step in found] == [None] * len(found)
    assert sorted(path.name for path in store.directory.iterdir()) == sorted(names)


@pytest.mark.parametrize("room_is_checked", [True, False])
def test_a_full_disk(small_disk, monkeypatch, capfd, room_is_checked):
    if not room_is_checked:  # as where a file system cannot reserve room
        monkeypatch.setattr(files, "check_room", lambda folder, size: None)
    store = Store(small_disk / "run", 3, 1)
    save(store, 1)
    filler = fill(small_disk, but=200_000)
    with pytest.raises(UserError, match=r"^Cannot write a checkpoint .*: No space left on device;"):
        save(store, 2)
    assert_intact(store, "1")
    assert store.newest_good() == store.directory / "1"
    filler.unlink()
    save(store, 2)
    assert_intact(store, "1", "2")
    assert capfd.readouterr().err == ""  # Orbax has nothing to add


def test_a_disk_that_became_read_only(small_disk, capfd):
    store = Store(small_disk / "run", 3, 1)
    save(store, 1)
    mount("-o", "remount,ro", small_disk)
    with pytest.raises(UserError, match="Read-only file system"):
        save(store, 2)
    assert_intact(store, "1")
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("limit", [200_000, 30_000, 100])
@pytest.mark.parametrize("room_is_checked", [True, False])
def test_no_file_may_be_that_large(tmp_path, monkeypatch, capfd, limit, room_is_checked):
    if not room_is_checked:
        monkeypatch.setattr(files, "check_room", lambda folder, size: None)
    store = Store(tmp_path, 3, 1)
    save(store, 1)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        with pytest.raises(UserError, match="File too large"):
            save(store, 2, 100_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert_intact(store, "1")
    assert capfd.readouterr().err == ""


def test_a_workdir_that_vanished(tmp_path, capfd):
    store = Store(tmp_path / "run", 3, 1)
    save(store, 1)
    shutil.rmtree(tmp_path / "run")
    with pytest.raises(UserError, match="run/checkpoints was removed or unmounted"):
        save(store, 2)
    assert capfd.readouterr().err == ""


def test_errors_of_a_save_are_not_lost(tmp_path, capsys):
    for error in (None, Interrupted(15), UserError("cannot write metrics.jsonl either")):
        with pytest.raises(UserError if error is None else type(error)) as told:
            leave(tmp_path / "run", error)
        said = str(told.value) + capsys.readouterr().err
        # The folder is the reason of all that failed in it, and said once.
        assert said.count("was removed or unmounted") == 1
        assert "either" not in said


def leave(workdir, error):
    with Store(workdir, 3, 1) as store:
        shutil.rmtree(workdir)
        store.save(state(), {"step": 1, "metrics": {}}, HASHES)
        if error:
            raise error
