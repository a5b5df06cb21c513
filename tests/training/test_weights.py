import json

import jax
import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given
from hypothesis import strategies as st

from emotion_jax.errors import UserError
from emotion_jax.training import trained, weights


@pytest.fixture(scope="module")
def model(make_trained):
    return make_trained(widths=[4, 6], dense=[8])


@pytest.fixture(scope="module")
def written(model, tmp_path_factory):
    """The file of each type."""
    folder = tmp_path_factory.mktemp("weights")
    for dtype in ("float32", "float16"):
        weights.write(folder / f"{dtype}.safetensors", model, dtype)
    return folder


def leaves(model):
    found = jax.tree_util.tree_leaves_with_path(model.variables)
    return {jax.tree_util.keystr(path): leaf for path, leaf in found}


def logits(model):
    images = np.random.default_rng(1).integers(0, 256, (32, 16, 16, 1), np.uint8)
    return np.asarray(jax.jit(model.module.apply)(model.variables, images))


def test_float32_is_the_same_bits(model, written):
    path = written / "float32.safetensors"
    read = trained.load(path)
    assert (read.path, read.classes, read.temperature) == (path, model.classes, 1.3)
    assert leaves(read).keys() == leaves(model).keys()
    for name, array in leaves(model).items():
        assert leaves(read)[name].dtype == array.dtype == np.float32
        np.testing.assert_array_equal(leaves(read)[name], array)
    np.testing.assert_array_equal(read.train_hashes, model.train_hashes)
    np.testing.assert_array_equal(logits(read), logits(model))


def test_a_model_is_always_the_same_bytes(model, written, tmp_path):
    for _ in range(4):
        weights.write(tmp_path / "a", model)
        assert (tmp_path / "a").read_bytes() == (written / "float32.safetensors").read_bytes()


def test_float16_halves_the_kernels_and_nothing_else(model, written):
    read = trained.load(written / "float16.safetensors")
    for name, array in leaves(model).items():
        found = leaves(read)[name]
        assert found.dtype == np.float32
        if "kernel" in name:
            assert (found != array).any()
            np.testing.assert_allclose(found, array, rtol=2**-11, atol=2**-24)
        else:
            np.testing.assert_array_equal(found, array)
    np.testing.assert_array_equal(read.train_hashes, model.train_hashes)
    off = np.abs(logits(read) - logits(model)).max()
    assert 0 < off < 5e-3 * np.abs(logits(model)).max()
    kernels = sum(a.size for name, a in leaves(model).items() if "kernel" in name)
    saved, whole = ((written / f"{d}.safetensors").stat().st_size for d in ("float16", "float32"))
    assert whole - saved == pytest.approx(2 * kernels, abs=16)


def test_what_others_find_in_the_file(model, written):
    with safetensors.safe_open(written / "float16.safetensors", "numpy") as file:
        metadata, arrays = file.metadata(), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    assert arrays["params/Conv_0/kernel"].dtype == np.float16
    assert arrays["batch_stats/BatchNorm_2/var"].shape == (8,)
    about = json.loads(metadata["description"])
    assert about["classes"] == ["angry", "happy", "sad"]
    assert (about["mean"], about["std"], about["temperature"]) == ([0.4], [0.3], 1.3)
    assert weights.digest(metadata["description"], arrays) == metadata["sha256"]
    # The data keeps its name; where the machine that trained had it is nobody's business.
    assert about["config"]["data"]["dir"] == "faces"
    assert about == model.description | {
        "config": about["config"],
        "mean": [0.4],
        "std": [0.3],
    }


@given(st.data())
def test_a_flipped_bit_is_found_or_changes_nothing(model, written, tmp_path_factory, data):
    whole = bytearray((written / "float32.safetensors").read_bytes())
    at = data.draw(st.integers(0, len(whole) - 1) | st.integers(0, 600))
    whole[at] ^= 1 << data.draw(st.integers(0, 7))
    path = tmp_path_factory.mktemp("flipped") / "a.safetensors"
    path.write_bytes(whole)
    error = None
    try:
        read = trained.load(path)
    except UserError as refused:
        error = str(refused)
    if error is None:
        for name, array in leaves(model).items():
            np.testing.assert_array_equal(leaves(read)[name], array)
    else:
        assert str(path) in error


@pytest.mark.parametrize("keep", [0, 7, 8, 500, -1])
def test_a_file_that_was_cut(written, tmp_path, keep):
    path = tmp_path / "a.safetensors"
    path.write_bytes((written / "float32.safetensors").read_bytes()[:keep])
    with pytest.raises(UserError, match="no whole safetensors file"):
        weights.read(path)
    assert not weights.is_weights(path)


def test_files_that_are_something_else(model, written, tmp_path):
    with pytest.raises(UserError, match=r"no file .*nothing"):
        weights.read(tmp_path / "nothing")
    assert not weights.is_weights(tmp_path / "nothing")
    with pytest.raises(UserError, match="no whole safetensors file"):
        weights.read(tmp_path)
    other = tmp_path / "other.safetensors"
    safetensors.numpy.save_file({"a": np.zeros(3)}, other)
    with pytest.raises(UserError, match="nothing says of which network"):
        weights.read(other)
    assert not weights.is_weights(other)
    assert weights.is_weights(written / "float16.safetensors")
    newer = model.description | {"format": 99}
    weights.write(other, type(model)(**vars(model) | {"description": newer}))
    with pytest.raises(UserError, match="format 99, this version reads 1"):
        trained.load(other)


def test_what_float16_cannot_hold(model, tmp_path):
    kernel = {"kernel": np.full((2, 2), 1e5, np.float32)}
    large = type(model)(**vars(model) | {"variables": {"params": {"Dense_0": kernel}}})
    with pytest.raises(UserError, match=r"params/Dense_0/kernel has values beyond .*float16"):
        weights.write(tmp_path / "a.safetensors", large, "float16")
    assert list(tmp_path.iterdir()) == []
    weights.write(tmp_path / "a.safetensors", large)


def test_a_place_that_cannot_be_written(model, tmp_path):
    with pytest.raises(UserError, match=r"Cannot write to .*nowhere"):
        weights.write(tmp_path / "nowhere" / "a.safetensors", model)
