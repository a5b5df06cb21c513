import json
from pathlib import Path

import jax
import numpy as np
import onnx
import pytest

from emotion_jax.config import ModelSettings
from emotion_jax.errors import UserError
from emotion_jax.export import function
from emotion_jax.export import onnx as onnx_format
from emotion_jax.models import MODELS

NETWORKS = [
    {"name": "cnn", "widths": [4, 6], "convolutions": 2, "dense": [8]},
    {"name": "cnn", "widths": [4], "dense": []},
    {"name": "vgg", "widths": [4, 6], "dense": [8, 5]},
    *(
        {"name": name, "widths": [4, 6, 8], "activation": activation, "squeeze": squeeze}
        for name in ("resnet", "mini_xception", "fernet")
        for activation, squeeze in (("relu", 2), ("gelu", 0))
    ),
    {"name": "fernet", "widths": [4, 6], "convolutions": 2, "drop_path": 0.5},
]


def exported(model, path):
    onnx_format.write(path, model)
    return onnx.load(path), onnx_format.load(path)


def images_of(model, n):
    """Noise, from one image to the next of another brightness."""
    rng = np.random.default_rng(n)
    noise = rng.integers(0, 256, (n, *function.image_shape(model)))
    return (noise * rng.uniform(0.1, 1, (n, 1, 1, 1))).astype(np.uint8)


def test_every_backbone_is_tested():
    assert {network["name"] for network in NETWORKS} == set(MODELS)


@pytest.mark.parametrize("place", range(len(NETWORKS)))
def test_a_network_gives_what_it_gives_in_jax(make_trained, tmp_path, place):
    network, size = NETWORKS[place], ((16, 1), (17, 3))[place % 2]
    model = make_trained(*size, **network)
    found, run = exported(model, tmp_path / "a.onnx")
    images = images_of(model, 9)
    expected = function.runner(model)(images)
    assert np.log(expected).std(axis=0).max() > 0.05
    np.testing.assert_allclose(run(images), expected, rtol=2e-5)
    np.testing.assert_allclose(run(images[:1]), expected[:1], rtol=2e-5)
    # Every BatchNorm is in the weights before it, whatever the signs of its scales.
    kinds = [node.op_type for node in found.graph.node]
    gelu, squeezes = network.get("activation") == "gelu", network.get("squeeze", 0)
    if not gelu:
        assert kinds.count("Mul") == (kinds.count("Sigmoid") if squeezes else 0)
        # In between them the images stay as ONNX has them: once there, and back to be flattened.
        assert kinds.count("Transpose") <= 2 + kinds.count("Sigmoid")


def test_the_temperature_is_in_the_graph(make_trained, tmp_path):
    cold, hot = (make_trained(temperature=t, widths=[4], dense=[]) for t in (0.5, 4.0))
    images = images_of(cold, 5)
    found = {}
    for name, model in (("cold", cold), ("hot", hot)):
        _, run = exported(model, tmp_path / f"{name}.onnx")
        found[name] = run(images)
        logits = np.asarray(jax.jit(model.module.apply)(model.variables, images), np.float64)
        powers = np.exp(logits / model.temperature)
        np.testing.assert_allclose(
            found[name], powers / powers.sum(axis=1, keepdims=True), atol=2e-6
        )
    assert found["cold"].max() > found["hot"].max() + 0.1


def test_what_the_file_says_of_itself(make_trained, tmp_path):
    model = make_trained(24, 3, widths=[4], dense=[], classes=("happy", "überrascht"))
    found, _ = exported(model, tmp_path / "a.onnx")
    assert [(entry.domain, entry.version) for entry in found.opset_import] == [("", 17)]
    (given,), (result,) = found.graph.input, found.graph.output
    assert (given.name, result.name) == ("images", "probabilities")
    sides = [d.dim_param or d.dim_value for d in given.type.tensor_type.shape.dim]
    assert (sides, given.type.tensor_type.elem_type) == (["N", 24, 24, 3], onnx.TensorProto.UINT8)
    about = {prop.key: prop.value for prop in found.metadata_props}
    assert json.loads(about["classes"]) == ["happy", "überrascht"]
    assert (about["image_size"], about["channels"], about["temperature"]) == ("24", "3", "1.3")
    assert about["crop"] == "the whole image, orientation by EXIF, resized to a square"
    assert "RGB" in about["input"]
    assert json.loads(about["versions"])["jax"] == jax.__version__
    assert json.loads(about["model"]) == ModelSettings(widths=(4,), dense=()).model_dump(
        mode="json"
    )
    assert "/home" not in str(about)


def test_bfloat16_becomes_float32(make_trained, tmp_path):
    model = make_trained(widths=[4, 6], dense=[8], dtype="bfloat16")
    same = make_trained(widths=[4, 6], dense=[8])
    _, run = exported(model, tmp_path / "a.onnx")
    images = images_of(model, 9)
    np.testing.assert_allclose(run(images), function.runner(same)(images), atol=2e-6)
    assert np.abs(function.runner(model)(images) - run(images)).max() > 1e-5
    assert onnx_format.reference(same) is same


def test_which_files_are_ours(make_trained, tmp_path):
    path = tmp_path / "a.onnx"
    onnx_format.write(path, make_trained(widths=[4], dense=[]))
    assert onnx_format.is_ours(path)
    other = onnx.load(path)
    other.producer_name = "pytorch"
    onnx.save(other, tmp_path / "b.onnx")
    Path(tmp_path / "c.onnx").write_text("a diary")
    assert not any(onnx_format.is_ours(tmp_path / name) for name in ("b.onnx", "c.onnx", "d.onnx"))


def test_without_onnx_it_says_what_to_install(make_trained, tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "onnx", None)
    with pytest.raises(UserError, match=r'needs onnx: pip install "emotion-jax\[export\]"'):
        onnx_format.write(tmp_path / "a.onnx", make_trained(widths=[4], dense=[]))
