import hashlib
import json

import numpy as np
import pytest
from jax import export

from emotion_jax.export import function, stablehlo


@pytest.fixture(scope="module")
def model(make_trained):
    """Wide enough for Winograd's algorithm, as real networks are, and for tiles to be few."""
    return make_trained(12, widths=[16, 20], dense=[8])


@pytest.fixture(scope="module")
def written(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("stablehlo") / "a.stablehlo"
    stablehlo.write(path, model)
    return path


def test_any_number_of_images_gives_what_jax_gives(model, written):
    run, ours = stablehlo.load(written), function.runner(model)
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (5, 12, 12, 1), np.uint8)
    expected = ours(images)
    assert expected.std(axis=0).max() > 0.01
    for n in (1, 5):
        np.testing.assert_allclose(run(images[:n]), expected[:n], atol=2e-6)


def test_it_is_for_every_platform_and_any_batch(written):
    exported = export.deserialize(bytearray(written.read_bytes()))
    assert exported.platforms == ("cpu", "cuda", "tpu")
    (given,), (result,) = exported.in_avals, exported.out_avals
    assert (str(given.shape), given.dtype) == ("(N, 12, 12, 1)", np.uint8)
    assert (str(result.shape), result.dtype) == ("(N, 3)", np.float32)
    # On a GPU or a TPU it is a convolution, on a CPU it is not.
    assert "stablehlo.convolution" in exported.mlir_module()
    assert exported.mlir_module().count("stablehlo.case") >= 1


def test_what_lies_beside_it(written):
    about = json.loads(written.with_name("a.stablehlo.json").read_text())
    assert about["classes"] == ["angry", "happy", "sad"]
    assert about["sha256"] == hashlib.sha256(written.read_bytes()).hexdigest()
    assert (about["image_size"], about["temperature"]) == (12, 1.3)
    assert stablehlo.is_ours(written)
    assert b".py" not in written.read_bytes()  # nothing of the machine that exported it
    assert not stablehlo.is_ours(written.with_name("b.stablehlo"))
