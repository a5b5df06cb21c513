import json
import subprocess
import sys

import numpy as np
import pytest

from emotion_jax import models
from emotion_jax.cli import export as command
from emotion_jax.data.dataset import Split
from emotion_jax.errors import UserError
from emotion_jax.export import export as export_lib
from emotion_jax.export import function

MODELS = {
    "cnn": {"widths": [4, 6], "dense": [8]},
    "vgg": {"widths": [4, 6], "convolutions": 2, "dense": [8, 8]},
    "resnet": {"widths": [4, 6], "convolutions": 2},
    "mini_xception": {"widths": [4, 6], "convolutions": 1},
    "fernet": {"widths": [4, 6, 8], "convolutions": 1, "squeeze": 2, "activation": "gelu"},
}
# What a stranger's program needs of each: no word of this package.
OUTSIDE = {
    "onnx": "import onnxruntime; s = onnxruntime.InferenceSession(path)\n"
    "probs = s.run(None, {s.get_inputs()[0].name: images})[0]",
    "stablehlo": "import jax; from pathlib import Path\n"
    "call = jax.export.deserialize(bytearray(Path(path).read_bytes())).call\n"
    "probs = np.asarray(call(images))",
}


def split(n=40):
    images = np.random.default_rng(0).integers(0, 256, (n, 16, 16, 1), np.uint8)
    labels = np.arange(n, dtype=np.int32) % 3
    return Split("test", images, np.arange(n), labels, np.arange(n, dtype=np.uint64), ("",) * n)


@pytest.mark.parametrize("name", models.MODELS)
def test_every_backbone_as_onnx(make_trained, tmp_path, name):
    trained = make_trained(name=name, **MODELS[name])
    result = export_lib.export(trained, "onnx", tmp_path / "a.onnx", split())
    assert result.difference.largest < 1e-5
    assert result.difference.agree == result.difference.n == 40


@pytest.mark.parametrize("form", ["onnx", "stablehlo"])
def test_a_process_without_this_package_gets_the_same(make_trained, tmp_path, form):
    trained = make_trained(name="fernet", **MODELS["fernet"])
    path = tmp_path / f"a.{form}"
    export_lib.export(trained, form, path, split())
    images = split().images(np.arange(7))
    np.save(tmp_path / "images.npy", images)
    script = f"""import sys; import numpy as np
sys.modules["emotion_jax"] = None
path, folder = sys.argv[1:]
images = np.load(folder + "/images.npy")
{OUTSIDE[form]}
np.save(folder + "/probs.npy", probs)
"""
    subprocess.run([sys.executable, "-c", script, path, tmp_path], check=True, cwd=tmp_path)
    expected = function.runner(trained)(images)
    np.testing.assert_allclose(np.load(tmp_path / "probs.npy"), expected, atol=1e-5)
    assert expected.sum(1) == pytest.approx(np.ones(7), abs=1e-5)


def test_onnx_says_what_it_is(make_trained, tmp_path):
    import onnx

    trained = make_trained(**MODELS["cnn"])
    export_lib.export(trained, "onnx", tmp_path / "a.onnx", split())
    model = onnx.load(tmp_path / "a.onnx")
    about = {entry.key: entry.value for entry in model.metadata_props}
    assert json.loads(about["classes"]) == list(trained.classes)
    (given,) = model.graph.input
    sides = [side.dim_param or side.dim_value for side in given.type.tensor_type.shape.dim]
    assert sides[1:] == [16, 16, 1]
    assert isinstance(sides[0], str)
    assert given.type.tensor_type.elem_type == onnx.TensorProto.UINT8
    assert model.opset_import[0].version >= 17


def test_what_diverges_is_not_written(make_trained, tmp_path):
    trained = make_trained(**MODELS["cnn"])
    with pytest.raises(export_lib.Diverged, match="differs from JAX"):
        export_lib.export(
            trained, "safetensors", tmp_path / "a.safetensors", split(), 1e-9, "float16"
        )
    assert list(tmp_path.iterdir()) == []


def test_another_file_is_not_replaced(make_trained, tmp_path):
    path = tmp_path / "a.onnx"
    path.write_text("mine")
    with pytest.raises(UserError, match="move it away"):
        export_lib.export(make_trained(**MODELS["cnn"]), "onnx", path, split())
    assert path.read_text() == "mine"


def test_the_command(make_trained, tmp_path, capsys):
    from emotion_jax.training import weights

    weights.write(tmp_path / "w.safetensors", make_trained(**MODELS["cnn"]))
    arguments = [str(tmp_path / "w.safetensors"), "--format", "onnx"]
    command.main([*arguments, "--out", str(tmp_path / "a.onnx")])
    said = capsys.readouterr().out
    assert "largest difference from JAX" in said
    assert "same label for 500 of 500 drawn test faces" in said
    with pytest.raises(SystemExit) as stop:
        command.main([*arguments, "--out", str(tmp_path)])
    assert stop.value.code == 2
    assert "is a folder" in capsys.readouterr().err
