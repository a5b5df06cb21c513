import os
import subprocess
import sys
from pathlib import Path

import pytest

from emotion_jax.data import tfdata

ROOT = Path(__file__).parents[2]
# Found at every start of Python through PYTHONPATH: what is not installed has no spec.
HIDE = """
from importlib.machinery import PathFinder

find = PathFinder.find_spec
PathFinder.find_spec = lambda name, *more: (
    None if name.partition(".")[0] in ("tensorflow", "keras") else find(name, *more)
)
"""


@pytest.fixture(scope="module")
def without(tmp_path_factory):
    """Run Python with arguments where TensorFlow is not installed."""
    home = tmp_path_factory.mktemp("without")
    (home / "sitecustomize.py").write_text(HIDE)
    environment = {"PYTHONPATH": str(home), "EMOTION_JAX_CACHE": str(home / "cache")}

    def run(*argv):
        command = [sys.executable, *map(str, argv)]
        return subprocess.run(
            command, env=os.environ | environment, capture_output=True, text=True, check=False
        )

    return run


def test_tensorflow_is_hidden(without):
    done = without("-c", "import tensorflow")
    assert done.stderr.splitlines()[-1] == "ModuleNotFoundError: No module named 'tensorflow'"


def test_tfdata_says_what_to_install_and_resident_does_it_all(
    without, arguments, tiny_tree, tmp_path
):
    workdir = tmp_path / "run"

    def train(pipeline, epochs):
        more = ("--data.pipeline", pipeline, "--training.schedule", "constant")
        argv = arguments(tiny_tree, workdir, *more, "--training.epochs", epochs)
        return without(ROOT / "scripts" / "train.py", *argv)

    refused = train("tfdata", 1)
    assert (refused.returncode, refused.stderr) == (
        2,
        'error: data.pipeline: tfdata needs TensorFlow: pip install "emotion-jax[tfdata]", '
        "or use --data.pipeline resident.\n",
    )
    for epochs in (1, 2):
        done = train("resident", epochs)
        assert done.returncode == 0, done.stderr
        assert len((workdir / "metrics.jsonl").read_text().splitlines()) == epochs
    done = without(ROOT / "scripts" / "evaluate.py", workdir, "--out", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert "weighted avg" in done.stdout
    expected = (workdir / "report" / "predictions.csv").read_bytes()
    assert (tmp_path / "out" / "predictions.csv").read_bytes() == expected


PROGRAM = """
import sys
from emotion_jax.cli import train

middle = sys.argv.index("--")
train.main(sys.argv[1:middle])
print("imported" if "tensorflow" in sys.modules else "not imported", file=sys.stderr)
train.main(sys.argv[middle + 1 :])
import tensorflow as tf
print([tf.config.get_visible_devices(kind) for kind in ("GPU", "TPU")], file=sys.stderr)
"""


def test_only_tfdata_imports_it_and_it_sees_no_accelerator(arguments, tiny_tree, tmp_path):
    runs = [
        arguments(tiny_tree, tmp_path / name, "--training.epochs", 1, "--data.pipeline", name)
        for name in ("resident", "tfdata")
    ]
    command = [sys.executable, "-c", PROGRAM, *runs[0], "--", *runs[1]]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "not imported\n[[], []]\n")


def test_it_is_told_to_see_none(monkeypatch):
    # The list above is empty on a machine without accelerators, whatever we do.
    tf = tfdata.require()
    told = []
    monkeypatch.setattr(tf.config, "set_visible_devices", lambda *args: told.append(args))
    tfdata.require.cache_clear()
    assert tfdata.require() is tf
    assert told == [([], "GPU"), ([], "TPU")]
