import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest

from emotion_jax.errors import UserError
from emotion_jax.training import multihost, saved

ROOT = Path(__file__).parents[2]
EPOCHS = 5


class Runs:
    """Starts scripts/train.py in processes of their own."""

    def __init__(self, tree, folder):
        self.tree, self.folder = tree, folder
        self.processes = []

    def start(self, name, pipeline, devices, argv=(), **environment):
        """``devices`` of them; the results go to ``folder/name``."""
        settings = {
            "--data": self.tree,
            "--workdir": self.folder / name,
            "--data.pipeline": pipeline,
            "--data.image_size": 12,
            "--data.augment.flip": True,
            "--data.augment.rotation": 10,
            "--model.widths": 4,
            "--model.dense": 8,
            "--training.epochs": EPOCHS,
            "--training.batch_size": 8,
            "--logging.tensorboard": False,
            "--logging.every_steps": 3,
        }
        environment |= {
            "EMOTION_JAX_CACHE": str(self.folder / "cache"),
            "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
            "JAX_NUM_CPU_DEVICES": str(devices),
        }
        command = [sys.executable, str(ROOT / "scripts" / "train.py"), *argv]
        command += [str(part) for pair in settings.items() for part in pair]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        self.processes.append(subprocess.Popen(command, env=os.environ | environment, **pipes))
        return self.processes[-1]

    def start_pair(self, name, pipeline):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            address = f"127.0.0.1:{free.getsockname()[1]}"
        common = {"JAX_COORDINATOR_ADDRESS": address, "JAX_NUM_PROCESSES": "2"}
        return [
            self.start(name, pipeline, 1, ["--multihost"], **common, JAX_PROCESS_ID=str(index))
            for index in range(2)
        ]

    def wait_for_rows(self, name):
        path, began = self.folder / name / "metrics.jsonl", time.monotonic()
        while not path.is_file() or not path.stat().st_size:
            assert time.monotonic() - began < 120
            assert all(process.poll() is None for process in self.processes[-2:])
            time.sleep(0.05)

    def stop(self):
        for process in self.processes:
            process.kill()
            process.communicate()


def ended(process, seconds=180):
    output, errors = process.communicate(timeout=seconds)
    return process.returncode, output, errors


def finished(process):
    status, output, errors = ended(process)
    assert status == 0, errors
    return output


@pytest.fixture(scope="module")
def runs(tiny_tree, tmp_path_factory):
    runs = Runs(tiny_tree, tmp_path_factory.mktemp("multihost"))
    yield runs
    runs.stop()


@pytest.fixture(scope="module")
def one(runs):
    """The workdir of a run of one process with two devices, by pipeline."""
    done = {}

    def one(pipeline):
        if pipeline not in done:
            finished(runs.start(f"one-{pipeline}", pipeline, 2))
            done[pipeline] = runs.folder / f"one-{pipeline}"
        return done[pipeline]

    return one


def newest(workdir):
    step = saved.steps(workdir / "checkpoints")[-1]
    assert saved.verify(step) is None
    trees = [saved._restore(step / part) for part in ("model", "training")]
    return {jax.tree_util.keystr(p): a for p, a in jax.tree_util.tree_leaves_with_path(trees)}


def rows(workdir):
    lines = (workdir / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line) | {"images_per_second": None} for line in lines]


def assert_same_run(workdir, other):
    mine, others = newest(workdir), newest(other)
    assert mine.keys() == others.keys()
    for name, array in mine.items():
        np.testing.assert_array_equal(array, others[name], err_msg=name)
    assert rows(workdir) == rows(other)
    for name in ("predictions.csv", "confusion_matrix.png"):
        assert (workdir / "report" / name).read_bytes() == (other / "report" / name).read_bytes()


@pytest.mark.parametrize(
    ("pipeline", "victim"),
    [
        ("resident", 1),
        pytest.param("resident", 0, marks=pytest.mark.slow),
        pytest.param("tfdata", 1, marks=pytest.mark.slow),
    ],
)
def test_one_killed_ends_the_other_and_the_pair_resumes(runs, one, pipeline, victim):
    name = f"killed-{pipeline}-{victim}"
    pair = runs.start_pair(name, pipeline)
    runs.wait_for_rows(name)
    pair[victim].kill()
    status, _, errors = ended(pair[1 - victim], seconds=60)
    assert status not in (0, None)
    lines = [line for line in errors.splitlines() if "img/s" not in line and line.strip()]
    assert lines[-1] == multihost.LOST
    assert "Traceback" not in errors
    assert "stack trace" not in errors
    assert ended(pair[victim])[0] == -signal.SIGKILL
    assert not (runs.folder / name / "summary.json").exists()
    for process in runs.start_pair(name, pipeline):
        finished(process)
    assert_same_run(runs.folder / name, one(pipeline))


def test_a_signal_at_one_process_stops_both_at_one_step(runs):
    pair = runs.start_pair("stopped", "resident")
    runs.wait_for_rows("stopped")
    pair[1].terminate()
    for status, _, errors in map(ended, pair):
        assert status == 143
        assert errors.splitlines()[-1].startswith("Stopped by SIGTERM")
    step = saved.steps(runs.folder / "stopped" / "checkpoints")[-1]
    assert saved.verify(step) is None
    assert int(step.name) % 3 == 0 or int(step.name) % 8 == 0  # a look, or an epoch's end


@pytest.mark.slow
@pytest.mark.parametrize("pipeline", ["resident", "tfdata"])
def test_two_processes_train_the_model_of_one(runs, one, pipeline):
    name = f"pair-{pipeline}"
    first, second = runs.start_pair(name, pipeline)
    output = finished(first)
    assert finished(second) == ""
    assert re.findall(r"^epoch (\d+)/", output, re.MULTILINE) == [*map(str, range(1, EPOCHS + 1))]
    assert "Best step" in output
    assert_same_run(runs.folder / name, one(pipeline))


def test_one_process_decides_at_every_step():
    assert multihost.is_main()
    for now in (False, True):
        assert multihost.decide(15, True, now) == (15, True)
    assert multihost.step_of_main(Path("nowhere"), lambda: None) is None
    multihost.check_same("settings", "anything")


@pytest.fixture
def two(monkeypatch):
    """Has ``multihost`` believe in another process, which gives these largest values."""

    def two(*others, main=True):
        monkeypatch.setattr(jax, "process_count", lambda: 2)
        monkeypatch.setattr(multihost, "is_main", lambda: main)
        answers = iter(others)
        monkeypatch.setattr(
            multihost, "_largest", lambda *mine: tuple(map(max, mine, next(answers)))
        )

    return two


def test_several_decide_together_and_by_the_clock_of_process_0(two):
    two((0, 0), (15, 0), (0, 1))
    assert multihost.decide(2, True, now=False) == (0, False)
    assert multihost.decide(0, True, now=True) == (0, True)
    assert multihost.decide(0, False, now=True) == (15, False)
    assert multihost.decide(2, False, now=True) == (2, True)
    two((0, 0), main=False)
    assert multihost.decide(0, True, now=True) == (0, False)


def test_the_step_is_that_of_process_0(two, tmp_path):
    (tmp_path / "8").mkdir()
    two((-1,), (-1,))
    assert multihost.step_of_main(tmp_path, lambda: tmp_path / "8") == tmp_path / "8"
    assert multihost.step_of_main(tmp_path, lambda: None) is None
    two((8,), (16,), main=False)
    assert multihost.step_of_main(tmp_path, lambda: tmp_path / "16") == tmp_path / "8"
    with pytest.raises(UserError, match=r"--workdir: process 0 does not see .*16.* share"):
        multihost.step_of_main(tmp_path, lambda: tmp_path / "16")


def test_processes_with_other_settings_are_refused(two, monkeypatch):
    two()
    asked = []
    monkeypatch.setattr(multihost, "_largest", lambda *mine: asked.append(mine) or mine)
    multihost.check_same("settings", "a = 1")
    monkeypatch.setattr(multihost, "_largest", lambda *mine: tuple(map(max, mine, asked[0])))
    multihost.check_same("settings", "a = 1")
    with pytest.raises(UserError, match="different settings"):
        multihost.check_same("settings", "a = 2")


def test_the_largest_of_each_value():
    assert multihost._largest(3, -1, 2**31 - 1) == (3, -1, 2**31 - 1)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("JAX_COORDINATOR_ADDRESS", "localhost", "'localhost' is not of the form HOST:PORT"),
        ("JAX_NUM_PROCESSES", "two", "'two' is not a whole number"),
        ("JAX_PROCESS_ID", "-1", "'-1' is not a whole number"),
    ],
)
def test_environment_that_is_not_understood(monkeypatch, name, value, message):
    monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match=f"{name}: {message}"):
        multihost._meet(1)
