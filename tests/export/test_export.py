from contextlib import nullcontext

import numpy as np
import pytest

from emotion_jax.cli import export as command
from emotion_jax.data.split import Split
from emotion_jax.errors import UserError
from emotion_jax.export import export, onnx, parity, stablehlo
from emotion_jax.training import trained, weights


@pytest.fixture(scope="module")
def model(make_trained):
    return make_trained(widths=[4], dense=[])


@pytest.fixture(scope="module")
def split():
    """70 images, which is no multiple of a batch."""
    source = np.random.default_rng(0).integers(0, 256, (70, 16, 16, 1), np.uint8)
    none = np.zeros(70, np.int32)
    return Split("test", source, np.arange(70), none, none.astype(np.uint64), ("",) * 70)


def test_the_file_is_compared_on_every_image(model, split, tmp_path):
    result = export.export(model, "safetensors", tmp_path / "new" / "a.safetensors", split)
    assert result.difference == parity.Difference(n=70, largest=result.difference.largest, agree=70)
    assert result.difference.largest < 1e-6
    assert (result.size, result.own) == (result.path.stat().st_size, None)
    assert list(result.rates) == [1, 64]
    assert all(rate > 0 for rates in result.rates.values() for rate in rates.values())
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["a.safetensors"]
    np.testing.assert_array_equal(trained.load(result.path).train_hashes, model.train_hashes)


def test_past_the_tolerance_nothing_is_written(model, split, tmp_path, monkeypatch):
    out = tmp_path / "a.onnx"
    export.export(model, "onnx", out, split)
    before = out.read_bytes()
    load = onnx.load

    def broken(path):
        run = load(path)

        def off(images):
            probabilities = run(images)
            probabilities[-1] += 2e-4  # of one image of a batch
            return probabilities

        return off

    monkeypatch.setattr(onnx, "load", broken)
    with pytest.raises(
        export.Diverged, match=r"differs from JAX by up to 0\.0002 on test"
    ) as error:
        export.export(model, "onnx", out, split)
    assert error.value.exit_code == 1
    assert out.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["a.onnx"]
    assert export.export(model, "onnx", out, split, tolerance=1e-3).difference.largest > 1e-4


def test_nan_is_no_agreement(model, split, tmp_path, monkeypatch):
    run = lambda images: np.full((len(images), 3), np.nan)  # noqa: E731
    monkeypatch.setattr(onnx, "load", lambda path: run)
    with pytest.raises(export.Diverged, match="by up to nan"):
        export.export(model, "onnx", tmp_path / "a.onnx", split)


def test_float16_has_a_measured_difference(model, split, tmp_path):
    out = tmp_path / "a.safetensors"
    found = export.export(model, "safetensors", out, split, 1e-2, "float16").difference
    assert 1e-6 < found.largest < 1e-2
    with pytest.raises(UserError, match="--dtype float16 is for --format safetensors"):
        export.export(model, "onnx", tmp_path / "a.onnx", split, dtype="float16")


def test_bfloat16_is_told_apart(make_trained, split, tmp_path):
    model = make_trained(widths=[4], dense=[], dtype="bfloat16")
    result = export.export(model, "onnx", tmp_path / "a.onnx", split)
    assert result.difference.largest < 1e-5 < result.own.largest


def test_what_computes_in_bfloat16_is_held_to_less(make_trained, split, tmp_path, monkeypatch):
    bfloat16 = make_trained(widths=[4], dense=[], dtype="bfloat16")
    float32 = make_trained(widths=[4], dense=[])
    load = stablehlo.load
    for model, off, passes in (
        (bfloat16, 2e-3, True),  # what optimised programs of shipped networks differ by is 1e-3
        (bfloat16, 2e-2, False),
        (float32, 2e-3, False),
    ):
        run = lambda path, off=off: lambda images: load(path)(images) + off  # noqa: E731
        monkeypatch.setattr(stablehlo, "load", run)
        with nullcontext() if passes else pytest.raises(export.Diverged):
            result = export.export(model, "stablehlo", tmp_path / "a.stablehlo", split)
            assert result.tolerance == 1e-2
    assert export.export(bfloat16, "onnx", tmp_path / "a.onnx", split).tolerance == 1e-4


@pytest.mark.parametrize("name", ["onnx", "stablehlo", "safetensors"])
def test_what_is_not_ours_stays(name, tmp_path):
    diary = tmp_path / "diary"
    diary.write_text("dear me")
    with pytest.raises(UserError, match=f"diary exists and is not of a {name} export"):
        export.check_free(diary, name)
    with pytest.raises(UserError, match="is a folder"):
        export.check_free(tmp_path, name)
    export.check_free(tmp_path / "new", name)


def test_nor_does_a_description_replace_what_is_beside(tmp_path):
    (tmp_path / "a.json").write_text("{}")
    with pytest.raises(UserError, match=r"a\.json exists"):
        export.check_free(tmp_path / "a", "stablehlo")
    export.check_free(tmp_path / "a", "onnx")


def test_weights_in_a_file_are_a_checkpoint_too(model, tmp_path, capsys):
    weights.write(tmp_path / "w.safetensors", model)
    arguments = [str(tmp_path / "w.safetensors"), "--format", "onnx"]
    command.main([*arguments, "--out", str(tmp_path / "a.onnx")])
    assert "same label for 500 of 500 drawn test faces" in capsys.readouterr().out
