"""Strictness for every test, and eight simulated devices for all that shards."""

import atexit
import os
import shutil
import tempfile

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

from emotion_jax import config

atexit.register(shutil.rmtree, os.environ["JAX_COMPILATION_CACHE_DIR"], ignore_errors=True)
# The same examples in every run: a new failure is a new fault, not a new draw.
settings.register_profile("tests", derandomize=True, deadline=None)
settings.load_profile("tests")
jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_numpy_rank_promotion", "raise")
# Most of the time here is XLA compiling; what is tested holds for unoptimised programs as well.
jax.config.update("jax_disable_most_optimizations", True)


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
