"""The versions that are supported, and that a checkpoint of one is used by another."""

import csv
import json
import shutil
import subprocess
import tomllib
from pathlib import Path

import jax
import numpy as np
import pytest

from emotion_jax.training import saved

ROOT = Path(__file__).parents[1]
# `make test-oldest` makes both.
PYTHONS = {
    "oldest": ROOT / ".venv-oldest" / "bin" / "python",
    "newest": ROOT / ".venv" / "bin" / "python",
}
SETTINGS = {
    "data.pipeline": "resident",
    "data.image_size": 12,
    "data.augment.rotation": 10,
    "data.augment.flip": True,
    "data.augment.erase": 0.5,
    "model.widths": 4,
    "model.dense": 8,
    "model.dropout": 0.1,
    "training.batch_size": 8,
    "training.schedule": "constant",
    "logging.progress": False,
}


def without_markers(lines):
    return {line.partition(";")[0].strip() for line in lines}


def test_the_oldest_versions_tested_are_the_lowest_allowed():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    # torch is measured by hand alone: its wheels are gigabytes.
    peers = [p for p in extras["bench"] if not p.startswith(("emotion-jax", "torch"))]
    bounds = [*project["dependencies"], *extras["tfdata"], *extras["export"], *peers]
    lines = (ROOT / "tests" / "oldest.txt").read_text().splitlines()
    pins = without_markers(line for line in lines if not line.startswith("#"))
    allowed = without_markers(bounds) | {"jaxlib>=0.7.2"}  # comes with jax
    assert pins == {bound.replace(">=", "==") for bound in allowed}


def run(versions, script, *argv):
    command = [PYTHONS[versions], ROOT / "scripts" / script, *argv]
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    assert done.returncode == 0, f"{versions}: {done.stderr}"


def train(versions, tree, workdir, epochs):
    settings = [part for name, value in SETTINGS.items() for part in (f"--{name}", value)]
    more = ("--data", tree, "--workdir", workdir, "--training.epochs", epochs)
    run(versions, "train.py", *settings, *more)


def history(workdir):
    return [json.loads(row) for row in (workdir / "metrics.jsonl").read_text().splitlines()]


def predictions(versions, workdir, out):
    run(versions, "evaluate.py", workdir, "--out", out)
    with (out / "predictions.csv").open(newline="") as file:
        header, *rows = csv.reader(file)
    assert len(rows) == 24
    assert header[:3] == ["path", "label", "predicted"]
    return np.array([row[3:] for row in rows], float)


def newest_step(workdir):
    step = saved.steps(workdir / "checkpoints")[-1]
    assert saved.verify(step) is None
    return step


def made_by(workdir):
    return saved.read_description(newest_step(workdir))["versions"]["jax"]


@pytest.fixture(scope="module")
def runs(tiny_tree, tmp_path_factory):
    """By each version: a run of two epochs, and one that went on to four."""
    home = tmp_path_factory.mktemp("versions")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EMOTION_JAX_CACHE", str(home / "cache"))
        for versions in PYTHONS:
            train(versions, tiny_tree, home / f"{versions}-2", 2)
            shutil.copytree(home / f"{versions}-2", home / f"{versions}-4")
            train(versions, tiny_tree, home / f"{versions}-4", 4)
    assert made_by(home / "oldest-4") == "0.7.2" != made_by(home / "newest-4")
    return home


@pytest.mark.slow
@pytest.mark.parametrize(("writer", "reader"), [("oldest", "newest"), ("newest", "oldest")])
def test_a_checkpoint_is_used_by_the_other(writer, reader, runs, tiny_tree, tmp_path):
    workdir = shutil.copytree(runs / f"{writer}-2", tmp_path / "run")
    found = {name: predictions(name, workdir, tmp_path / name) for name in (writer, reader)}
    np.testing.assert_allclose(found[reader], found[writer], rtol=1e-5, atol=1e-7)

    begun = history(workdir)
    train(reader, tiny_tree, workdir, 4)
    assert history(workdir)[:2] == begun
    assert made_by(workdir) == made_by(runs / f"{reader}-4") != made_by(runs / f"{writer}-4")
    mixed, alone = (saved.read_variables(newest_step(p)) for p in (workdir, runs / f"{writer}-4"))
    assert jax.tree.structure(mixed) == jax.tree.structure(alone)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), mixed, alone)
