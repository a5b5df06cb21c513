"""Strictness for every test, and eight simulated devices for all that shards."""

import atexit
import os
import shutil
import tempfile
from pathlib import Path
from types import SimpleNamespace

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ["EMOTION_JAX_CACHE"] = os.devnull  # only the fixture's cache may be written
# What one test compiled the next finds again, here and in the processes that tests start.
os.environ["JAX_COMPILATION_CACHE_DIR"] = tempfile.mkdtemp(prefix="emotion-jax-tests-")
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"

import jax
import numpy as np
import pytest
from hypothesis import settings
from PIL import Image

from emotion_jax import config, models
from emotion_jax.training import description, trained

atexit.register(shutil.rmtree, os.environ["JAX_COMPILATION_CACHE_DIR"], ignore_errors=True)
# The same examples in every run: a new failure is a new fault, not a new draw.
settings.register_profile("tests", derandomize=True, deadline=None)
settings.load_profile("tests")
jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_numpy_rank_promotion", "raise")
# Most of the time here is XLA compiling; what is tested holds for unoptimised programs as well.
jax.config.update("jax_disable_most_optimizations", True)
# XLA reads its flags now. A command under test sets them (emotion_jax/xla.py): which tests compile
# with them, and round otherwise in the eighth digit, must not depend on which command came first.
jax.devices()


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """A cache of its own for every test."""
    directory = tmp_path / "cache"
    monkeypatch.setenv("EMOTION_JAX_CACHE", str(directory))
    return directory


def draw_tree(root, train=24, test=8, size=12, classes=("angry", "happy", "sad")):
    """A tree of noisy images whose class is the place of a bright bar."""
    rng = np.random.default_rng(0)
    for split, n in (("train", train), ("test", test)):
        for label, name in enumerate(classes):
            folder = root / split / name
            folder.mkdir(parents=True)
            for i in range(n):
                image = rng.integers(0, 120, (size, size), dtype=np.uint8)
                image[label * size // len(classes) :][: size // len(classes)] += 80
                Image.fromarray(image).save(folder / f"{i}.png")
    return root


@pytest.fixture(scope="session")
def tiny_tree(tmp_path_factory):
    """72 images to train on and 24 to test, of three classes, 12 x 12 grey."""
    return draw_tree(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def tiny_config(tiny_tree):
    """A run of seconds on it: 4 epochs of 8 steps with everything random switched on."""
    return config.from_mapping(
        {
            "data": {
                "dir": tiny_tree,
                "pipeline": "resident",
                "image_size": 12,
                "augment": {"rotation": 10.0, "flip": True, "erase": 0.5},
            },
            "model": {"widths": (4,), "dense": (8,), "dropout": 0.1},
            "training": {"epochs": 4, "batch_size": 8, "learning_rate": 1e-2},
            "logging": {"progress": False, "tensorboard": False, "every_steps": 2},
        },
        "tests",
    )


def make_trained(size=16, channels=1, temperature=1.3, classes=("angry", "happy", "sad"), **model):
    """A Trained that never was: every array is random, and none has the value that it begins with.

    Its logits are far apart, so that the probabilities of different images differ.
    """
    settings = config.from_mapping(
        {
            "data": {"dir": "/home/someone/faces", "image_size": size, "channels": channels},
            "model": model,
        },
        "tests",
    )
    data = SimpleNamespace(classes=classes, fingerprint="0" * 64)
    mean, std = (0.4, 0.5, 0.6)[:channels], (0.3, 0.2, 0.25)[:channels]
    about = description.describer(settings, data, mean, std, 1)(7, [], 1.0)
    image = np.zeros((1, size, size, channels), np.uint8)
    module = models.build(settings.model, len(classes), size, mean, std)
    shapes = jax.eval_shape(module.init, jax.random.key(0), image)
    rng = np.random.default_rng(0)

    def draw(path, leaf):
        name = path[-1].key
        if name == "kernel":
            fan_in = np.prod(leaf.shape[:-1])
            scale = 3.0 if leaf.shape[-1] == len(classes) else 1.0
            return rng.normal(0, scale * fan_in**-0.5, leaf.shape).astype(np.float32)
        low, high = {"scale": (-1.5, 1.5), "var": (0.2, 1.0)}.get(name, (-0.2, 0.2))
        return rng.uniform(low, high, leaf.shape).astype(np.float32)

    return trained.Trained(
        path=Path("runs/tests/checkpoints/7"),
        description=about | {"temperature": temperature},
        config=settings,
        classes=classes,
        module=module,
        variables=jax.tree_util.tree_map_with_path(draw, shapes),
        train_hashes=np.sort(rng.integers(0, 2**64, 50, np.uint64, endpoint=False)),
    )


@pytest.fixture(scope="session", name="make_trained")
def _make_trained():
    """``make_trained``, for tests that choose the model."""
    return make_trained
