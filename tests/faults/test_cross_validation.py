"""Killed in the middle, a cross-validation goes on and ends in the same numbers, bit for bit."""

import json
import os
import signal
import subprocess
import sys
import time

import harness
import pytest

SETTINGS = {
    "--data.pipeline": "resident",
    "--data.image_size": 12,
    "--data.augment.flip": True,
    "--model.widths": 4,
    "--model.dense": 8,
    "--training.epochs": 2,
    "--training.batch_size": 8,
    "--training.save_minutes": 1e-9,
    "--logging.progress": False,
    "--logging.tensorboard": False,
    "--folds": 3,
    "--near": -1,
}


def start(tree, workdir):
    command = [sys.executable, "-u", harness.ROOT / "scripts" / "cross_validate.py"]
    command += ["--data", tree, "--workdir", workdir]
    command += [part for pair in SETTINGS.items() for part in pair]
    with (workdir.parent / f"{workdir.name}.said").open("a") as said:
        environment = os.environ | {"EMOTION_JAX_CACHE": str(workdir.parent / "cache")}
        words = [str(part) for part in command]
        return subprocess.Popen(words, stdout=said, stderr=said, env=environment)


def finish(tree, workdir):
    assert start(tree, workdir).wait(harness.PATIENCE) == 0, said(workdir)


def said(workdir):
    return (workdir.parent / f"{workdir.name}.said").read_text()


def stop(tree, workdir, signum, fold):
    """Send a signal when the fold has its first checkpoint; gives the exit status."""
    process = start(tree, workdir)
    while not any((workdir / fold / "checkpoints").glob("[0-9]")) and process.poll() is None:
        time.sleep(0.002)
    os.kill(process.pid, signum)
    return process.wait(harness.PATIENCE)


def outcome(workdir):
    """Both files, with the times left out."""
    content = json.loads((workdir / "cross_validation.json").read_text())
    for row in content["per_fold"]:
        assert row.pop("seconds") > 0
    return content, (workdir / "predictions.csv").read_bytes()


def made_at(workdir, fold):
    return (workdir / fold / "fold.json").stat().st_mtime_ns


@pytest.fixture(scope="module")
def whole(tiny_tree, tmp_path_factory):
    """Undisturbed."""
    workdir = tmp_path_factory.mktemp("whole") / "cv"
    finish(tiny_tree, workdir)
    return workdir


def test_killed_and_gone_on_it_is_the_undisturbed_one(whole, tiny_tree, tmp_path):
    workdir = tmp_path / "cv"
    assert stop(tiny_tree, workdir, signal.SIGTERM, "fold-1-1") == 143, said(workdir)
    assert "Stopped by SIGTERM; the same command goes on" in said(workdir)
    assert not (workdir / "fold-1-1" / "fold.json").exists()
    assert stop(tiny_tree, workdir, signal.SIGKILL, "fold-1-2") == -signal.SIGKILL
    first = made_at(workdir, "fold-1-1")
    assert not (workdir / "fold-1-2" / "fold.json").exists()
    assert not (workdir / "cross_validation.json").exists()
    finish(tiny_tree, workdir)
    assert made_at(workdir, "fold-1-1") == first
    assert outcome(workdir) == outcome(whole)
    assert "Traceback" not in said(workdir)
