"""Strictness for every test, and eight simulated devices for all that shards."""

import os

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import jax
import pytest

jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_numpy_rank_promotion", "raise")


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """A cache of its own for every test."""
    directory = tmp_path / "cache"
    monkeypatch.setenv("EMOTION_JAX_CACHE", str(directory))
    return directory
