import json
import re

import numpy as np
import onnx
import pytest
from PIL import Image

from emotion_jax.cli import export
from emotion_jax.data import dataset
from emotion_jax.evaluation.evaluate import evaluate
from emotion_jax.training import trained, weights

pytestmark = pytest.mark.usefixtures("finished_cache")


def run(*argv):
    export.main([str(part) for part in argv])


def refused(capsys, *argv, status=2):
    """The sentence of a command that exits with that status."""
    with pytest.raises(SystemExit) as stop:
        run(*argv)
    assert stop.value.code == status
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("error: ")
    return error


@pytest.mark.parametrize("name", ["onnx", "stablehlo", "safetensors"])
def test_an_export_tells_its_difference_size_and_speed(finished, tiny_tree, tmp_path, capsys, name):
    out = tmp_path / f"faces.{name}"
    run(finished, "--format", name, "--out", out, "--data", tiny_tree)
    first, difference, *speeds = capsys.readouterr().out.splitlines()
    assert first == f"{out}: {name}, {out.stat().st_size / 1e6:.2f} MB"
    found = re.fullmatch(
        r"largest difference from JAX: (\S+) \(tolerance 0\.0001\), "
        rf"same label for 24 of 24 images of {re.escape(str(tiny_tree))}",
        difference,
    )
    assert float(found[1]) < 1e-5
    assert [line.partition(":")[0] for line in speeds] == [
        "images a second on the CPU, 1 at a time",
        "images a second on the CPU, 64 at a time",
    ]
    before = out.read_bytes()
    run(finished, "--format", name, "--out", out, "--data", tiny_tree)  # it is ours to replace
    assert out.read_bytes() == before


def test_without_data_it_compares_on_drawn_faces(finished, tmp_path, capsys, monkeypatch):
    """Whatever the classes of the model."""

    def draw(cache):
        for i, name in enumerate(("angry", "surprise")):
            folder = cache / "drawn" / "test" / name
            folder.mkdir(parents=True)
            pixels = np.random.default_rng(i).integers(0, 256, (48, 48), np.uint8)
            Image.fromarray(pixels).save(folder / "0.png")
        return cache / "drawn"

    monkeypatch.setattr("emotion_jax.data.synthetic.ensure", draw)
    run(finished, "--format", "safetensors", "--out", tmp_path / "a.safetensors")
    assert "same label for 2 of 2 drawn test faces" in capsys.readouterr().out


def test_evaluating_shipped_weights_is_evaluating_the_checkpoint(finished, tmp_path):
    model = trained.load(trained.resolve(finished))
    split, _ = dataset.load_split(model.config.data, "test", model.classes)
    expected = evaluate(model, split)
    for dtype in ("float32", "float16"):
        path = tmp_path / f"{dtype}.safetensors"
        weights.write(path, model, dtype)
        found = evaluate(trained.load(path), split)
        off = np.abs(found.probs - expected.probs).max()
        assert off == 0 if dtype == "float32" else 0 < off < 5e-3
        assert found.report["deduplicated"]["n"] == expected.report["deduplicated"]["n"]
        if dtype == "float32":
            different = {"checkpoint"}
            same = [{k: v for k, v in e.report.items() if k not in different}
                    for e in (found, expected)]  # fmt: skip
            assert same[0] == same[1]


def test_past_the_tolerance_the_status_is_1(finished, tiny_tree, tmp_path, capsys):
    argv = (finished, "--format", "safetensors", "--out", tmp_path / "a", "--data", tiny_tree)
    sentence = refused(capsys, *argv, "--dtype", "float16", "--tolerance", "1e-9", status=1)
    assert "safetensors differs from JAX by up to" in sentence
    assert sentence.endswith(f"{tmp_path / 'a'} was not written.")
    assert list(tmp_path.iterdir()) == []


def test_bad_input_gets_a_sentence(finished, tiny_tree, tmp_path, capsys):
    diary = tmp_path / "diary.txt"
    diary.write_text("dear me")
    rest = ("--format", "onnx", "--out")
    assert "diary.txt exists and is not of a onnx" in refused(capsys, finished, *rest, diary)
    assert diary.read_text() == "dear me"
    assert "no checkpoint" in refused(capsys, tmp_path / "nothing", *rest, tmp_path / "a")
    assert "--out" in refused(capsys, finished, "--format", "onnx")
    assert "--format" in refused(capsys, finished, "--format", "tflite", "--out", tmp_path / "a")
    assert "nowhere" in refused(capsys, finished, *rest, tmp_path / "a", "--data", "nowhere")
    assert "Cannot write to" in refused(capsys, finished, *rest, diary / "a", "--data", tiny_tree)


def test_the_metadata_is_the_checkpoint_s(finished, tiny_tree, tmp_path):
    run(finished, "--format", "onnx", "--out", tmp_path / "a.onnx", "--data", tiny_tree)
    about = {p.key: p.value for p in onnx.load(tmp_path / "a.onnx").metadata_props}
    model = trained.load(trained.resolve(finished))
    assert json.loads(about["classes"]) == list(model.classes)
    assert int(about["step"]) == model.description["step"]
    assert about["fingerprint"] == model.description["fingerprint"]
