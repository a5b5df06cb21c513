import jax
import numpy as np
import pytest
from jax.sharding import AxisType

from emotion_jax import models
from emotion_jax.config import ModelSettings
from emotion_jax.data.split import Split
from emotion_jax.training import mesh as mesh_lib
from emotion_jax.training.metrics import quotients
from emotion_jax.training.predict import make_predict, predict

N, CLASSES, SIZE = 37, 3, 8


def mesh_of(n):
    return jax.make_mesh((n,), ("data",), axis_types=(AxisType.Auto,), devices=jax.devices()[:n])


class Case:
    """37 images, a module, and its log-probabilities of all at once."""

    def __init__(self):
        rng = np.random.default_rng(0)
        images = rng.integers(0, 256, (2 * N, SIZE, SIZE, 1), np.uint8)
        rows = rng.permutation(2 * N)[:N]
        labels = rng.integers(0, CLASSES, N).astype(np.int32)
        hashes = np.arange(N, dtype=np.uint64)
        self.examples = Split("test", images, rows, labels, hashes, ("",) * N)
        settings = ModelSettings(widths=(4,), dense=())
        self.module = models.build(settings, CLASSES, SIZE, (0.5,), (0.25,))
        self.variables = jax.jit(self.module.init)(jax.random.key(0), images[:1])
        self.logs = self.log_probabilities(self.examples.images(np.arange(N)))

    def log_probabilities(self, images):
        logits = np.asarray(self.module.apply(self.variables, images), np.float64)
        return logits - np.log(np.exp(logits).sum(1, keepdims=True))

    def predict(self, predict_fn, batch_size, mesh, examples=None):
        variables = jax.device_put(self.variables, mesh_lib.replicated(mesh))
        return predict(predict_fn, variables, examples or self.examples, batch_size, mesh)


@pytest.fixture(scope="module")
def case():
    return Case()


@pytest.mark.parametrize("devices", [1, 2, 8])
def test_every_example_once_and_in_order(case, devices):
    mesh = mesh_of(devices)
    predict_fn = make_predict(case.module, mesh)
    losses = -case.logs[np.arange(N), case.examples.labels]
    confusion = np.zeros((CLASSES, CLASSES), int)
    np.add.at(confusion, (case.examples.labels, case.logs.argmax(1)), 1)
    # Rows differ by far more than the tolerance, so a row in another's place would show.
    distances = np.abs(case.logs[:, None] - case.logs[None]).max(2) + np.eye(N)
    assert distances.min() > 1e-4
    for batch_size in (1, 7, N, 64):
        logs, sums = case.predict(predict_fn, batch_size, mesh)
        assert (logs.shape, logs.dtype) == ((N, CLASSES), np.float32)
        np.testing.assert_allclose(logs, case.logs, rtol=0, atol=2e-6)
        np.testing.assert_array_equal(sums.confusion, confusion)
        assert quotients(sums)["n"] == N
        assert quotients(sums)["loss"] == pytest.approx(losses.mean(), rel=1e-5)
        assert isinstance(sums.loss, np.ndarray | np.generic)


def test_one_compilation_for_splits_of_any_size(case):
    mesh = mesh_of(2)
    predict_fn = make_predict(case.module, mesh)
    for n in (1, 8, 9, N):
        few = case.examples.subset("few", np.arange(n))
        logs, sums = case.predict(predict_fn, 8, mesh, few)
        np.testing.assert_allclose(logs, case.logs[:n], rtol=0, atol=2e-6)
        assert quotients(sums)["n"] == n
    assert predict_fn._cache_size() == 1


def test_views_are_averaged_as_probabilities(case):
    mesh = mesh_of(1)
    logs, sums = case.predict(make_predict(case.module, mesh, ("identity", "flip")), N, mesh)
    flipped = case.log_probabilities(case.examples.images(np.arange(N))[:, :, ::-1])
    wanted = np.log((np.exp(case.logs) + np.exp(flipped)) / 2)
    np.testing.assert_allclose(logs, wanted, rtol=0, atol=2e-6)
    assert np.abs(wanted - case.logs).max() > 1e-2
    loss = -wanted[np.arange(N), case.examples.labels].mean()
    assert quotients(sums)["loss"] == pytest.approx(loss, rel=1e-5)


def test_flip_alone_mirrors_left_to_right(case):
    mesh = mesh_of(1)
    logs, _ = case.predict(make_predict(case.module, mesh, ("flip",)), N, mesh)
    flipped = case.log_probabilities(case.examples.images(np.arange(N))[:, :, ::-1])
    np.testing.assert_allclose(logs, flipped, rtol=0, atol=2e-6)
