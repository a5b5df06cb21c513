import shutil
import subprocess
import sys
import time

import harness
import pytest
from disks import fill, mount

from emotion_jax.cli import train
from emotion_jax.evaluation import summary
from emotion_jax.training import saved


@pytest.fixture(scope="module")
def argv(tiny_tree):
    return ["--data", str(tiny_tree), "--training.batch_size", "8", *harness.arguments("resident")]


@pytest.fixture(scope="module")
def home(argv, tmp_path_factory):
    """``whole``, the workdir of an undisturbed run, ``parts``, one that was stopped, ``cache``."""
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EMOTION_JAX_CACHE", str(home / "cache"))
        train.main([*argv, "--workdir", str(home / "whole")])
        patch.setattr(summary, "write_curves", stop)
        with pytest.raises(ZeroDivisionError):
            train.main([*argv, "--workdir", str(home / "parts")])
    return home


def stop(*_):
    raise ZeroDivisionError("after the first epoch")


@pytest.fixture
def command(argv, home, monkeypatch, capfd):
    """Train in a workdir; gives the exit status and the lines on stderr."""
    monkeypatch.setenv("EMOTION_JAX_CACHE", str(home / "cache"))

    def command(workdir):
        capfd.readouterr()
        status = 0
        try:
            train.main([*argv, "--workdir", str(workdir)])
        except SystemExit as ended:
            status = ended.code
        return status, capfd.readouterr().err.splitlines()

    return command


def damage(step):
    path = step / "train_hashes.npy"
    path.write_bytes(path.read_bytes()[:-1])


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_damaged_it_goes_on_from_the_step_before_to_the_same_end(home, command, tmp_path):
    workdir = shutil.copytree(home / "parts", tmp_path / "run")
    damage(workdir / "checkpoints" / "8")
    status, said = command(workdir)
    assert status == 0
    (line,) = said
    assert "quarantine/8-0: train_hashes.npy is damaged; going on from" in line
    assert line.endswith("checkpoints/7.")
    assert harness.outcome(workdir) == harness.outcome(home / "whole")


def test_all_damaged_nothing_is_touched(home, command, tmp_path):
    workdir = shutil.copytree(home / "parts", tmp_path / "run")
    for step in saved.steps(workdir / "checkpoints"):
        damage(step)
    before = contents(workdir / "checkpoints")
    status, said = command(workdir)
    assert status == 2
    (line,) = said
    assert line.startswith("error: No checkpoint in ")
    assert "nothing was deleted" in line
    assert contents(workdir / "checkpoints") == before


@pytest.mark.parametrize("room", [0, 100_000])
def test_a_disk_that_fills_up(home, command, small_disk, room):
    workdir = shutil.copytree(home / "parts", small_disk / "run")
    filler = fill(small_disk, but=room)
    newest = saved.steps(workdir / "checkpoints")[-1]
    status, said = command(workdir)
    assert status == 2
    (line,) = said
    assert line.startswith("error: Cannot write ")
    assert "No space left on device" in line
    found = saved.steps(workdir / "checkpoints")
    assert newest in found
    assert [saved.verify(step) for step in found] == [None] * len(found)
    filler.unlink()
    assert command(workdir) == (0, [])
    assert harness.outcome(workdir) == harness.outcome(home / "whole")


def test_a_read_only_mount(home, command, small_disk):
    workdir = shutil.copytree(home / "parts", small_disk / "run")
    before = contents(workdir)
    mount("-o", "remount,ro", small_disk)
    status, said = command(workdir)
    assert status == 2
    (line,) = said
    assert line.startswith(f"error: Cannot write to {workdir}: Read-only file system")
    assert contents(workdir) == before


def test_a_workdir_that_vanishes_while_it_trains(command, tmp_path, monkeypatch):
    def vanish(workdir, rows, _):
        while not (workdir / "checkpoints" / str(rows[-1]["step"])).is_dir():
            time.sleep(0.01)  # Orbax would make the folders that it is writing to again
        workdir.rename(tmp_path / "away")

    monkeypatch.setattr(summary, "write_curves", vanish)
    status, said = command(tmp_path / "run")
    assert status == 2
    (line,) = said
    assert "was removed or unmounted" in line or "No such file or directory" in line
    assert "run" in line


def test_an_output_that_cannot_be_written():
    command = [sys.executable, harness.ROOT / "scripts" / "train.py", "--help"]
    with open("/dev/full", "w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True)
    assert (done.returncode, done.stderr) == (2, "error: No space left on device.\n")
