import shutil

import jax
import numpy as np
import pytest

from emotion_jax import config
from emotion_jax.data import dataset
from emotion_jax.errors import UserError
from emotion_jax.training import loop, trained, weights, workdir


@pytest.fixture(scope="module")
def finished(tiny_tree, tmp_path_factory):
    """The workdir of a finished run."""
    settings = config.from_mapping(
        {
            "data": {"dir": tiny_tree, "pipeline": "resident", "image_size": 12},
            "model": {"widths": (4,), "dense": (8,)},
            "training": {"epochs": 2, "batch_size": 8, "learning_rate": 1e-2},
            "logging": {"progress": False, "tensorboard": False},
        },
        "tests",
    )
    folder = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EMOTION_JAX_CACHE", str(folder / "cache"))
        with workdir.opened(folder / "run", settings):
            loop.train(settings, folder / "run", dataset.load(settings.data))
    return folder / "run"


@pytest.fixture(scope="module")
def model(finished):
    return trained.load(trained.resolve(finished))


def probabilities(model):
    images = np.random.default_rng(0).integers(0, 256, (50, 12, 12, 1), np.uint8)
    logits = np.asarray(model.module.apply(model.variables, images))
    return np.asarray(jax.nn.softmax(logits / model.temperature))


def test_weights_in_the_package_go_by_their_name(model, tmp_path, monkeypatch):
    monkeypatch.setattr(trained, "WEIGHTS", tmp_path)
    weights.write(tmp_path / "faces.safetensors", model)
    named = trained.load(trained.resolve(trained.Path("faces")))
    assert str(named.path) == "faces"
    np.testing.assert_array_equal(probabilities(named), probabilities(model))
    np.testing.assert_array_equal(named.train_hashes, model.train_hashes)
    by_file = trained.load(trained.resolve(tmp_path / "faces.safetensors"))
    np.testing.assert_array_equal(probabilities(by_file), probabilities(model))
    with pytest.raises(UserError, match=r"no checkpoint face; .* or a name \(faces\)"):
        trained.resolve(trained.Path("face"))


def test_a_checkpoint_of_that_name_comes_first_but_no_other_folder(
    model, finished, tmp_path, monkeypatch
):
    monkeypatch.setattr(trained, "WEIGHTS", tmp_path)
    (tmp_path / "run").mkdir()
    monkeypatch.chdir(tmp_path)
    weights.write(tmp_path / "run.safetensors", model)
    assert trained.load(trained.resolve(trained.Path("run"))).classes == model.classes
    monkeypatch.chdir(finished.parent)
    assert trained.resolve(trained.Path("run")).parent.name == "checkpoints"


def test_below_a_name_that_is_no_utf8(finished, tmp_path):
    folder = tmp_path / "\udce9"
    shutil.copytree(finished, folder)
    with pytest.raises(UserError, match="a name that is not valid UTF-8"):
        trained.load(trained.resolve(folder))


@pytest.mark.parametrize(("dtype", "largest"), [("float16", 2e-3), ("int8", 3e-2)])
def test_smaller_numbers_cost_little(model, tmp_path, dtype, largest):
    path = tmp_path / "small.safetensors"
    weights.write(path, model, dtype)
    weights.write(tmp_path / "whole.safetensors", model)
    small = trained.load(path)
    assert np.abs(probabilities(small) - probabilities(model)).max() < largest
    assert jax.tree.structure(small.variables) == jax.tree.structure(model.variables)
    kernel = model.variables["params"]["Conv_0"]["kernel"]
    error = np.abs(small.variables["params"]["Conv_0"]["kernel"] - kernel)
    if dtype == "int8":
        assert (error <= np.abs(kernel).max((0, 1, 2)) / 254 * 1.001).all()
    else:
        assert (error <= np.abs(kernel) * 2**-11).all()


def test_without_a_class_the_others_keep_their_proportions(model):
    fewer = trained.without(model, ["happy"])
    assert fewer.classes == ("angry", "sad")
    expected = probabilities(model)[:, [0, 2]]
    expected /= expected.sum(1, keepdims=True)
    np.testing.assert_allclose(probabilities(fewer), expected, rtol=1e-4)
    assert fewer.whole is trained.without(fewer, ["sad"]).whole is model
    with pytest.raises(UserError, match="does not know glad, but angry, happy, sad"):
        trained.without(model, ["glad"])
    with pytest.raises(UserError, match="no class left"):
        trained.without(model, ["angry", "happy", "sad"])
