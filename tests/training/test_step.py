import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn
from jax.sharding import AxisType

from emotion_jax import models
from emotion_jax.config import Config, DataSettings, ModelSettings, TrainingSettings
from emotion_jax.data.split import Split
from emotion_jax.training import feed as feed_lib
from emotion_jax.training import mesh as mesh_lib
from emotion_jax.training import optimizer, state, step
from emotion_jax.training.metrics import quotients

CLASSES, SIZE = 3, 16
MODEL = ModelSettings(widths=(8, 16), dense=(16,), dropout=0.0, dense_dropout=0.0)
ONES = np.ones(CLASSES, np.float32)


def mesh_of(n):
    return jax.make_mesh((n,), ("data",), axis_types=(AxisType.Auto,), devices=jax.devices()[:n])


def split(n=96):
    """Noise with a bar whose place is the class."""
    rng = np.random.default_rng(0)
    labels = np.arange(n, dtype=np.int32) % CLASSES
    images = rng.integers(0, 120, (n, SIZE, SIZE, 1), np.uint8)
    for image, label in zip(images, labels, strict=True):
        image[5 * label : 5 * label + 5] += 80
    return Split("train", images, np.arange(n), labels, np.arange(n, dtype=np.uint64), ("",) * n)


def module_of(settings=MODEL):
    return models.build(settings, CLASSES, SIZE, (0.3,), (0.2,))


def as_fed(fed, key):
    del key
    return fed


class Run:
    """A step compiled for a mesh, on a batch that is fed as it is."""

    def __init__(self, mesh, weights=ONES, module=None, **settings):
        self.mesh, self.settings = mesh, TrainingSettings(**settings)
        self.module = module or module_of()
        self.tx = optimizer.optimizer(self.settings, optax.constant_schedule(1e-2))
        self.step = step.make_train_step(self.module, self.tx, self.settings, weights, as_fed, mesh)
        self.initial = state.create(self.module, self.tx, (SIZE, SIZE, 1), CLASSES, 0, mesh)

    def create(self):
        return jax.tree.map(jnp.copy, self.initial)

    def batch(self, n=24):
        data = split(n)
        return jax.device_put((data.source, data.labels), mesh_lib.by_batch(self.mesh))


@pytest.fixture(scope="module")
def run():
    return Run(mesh_of(1))


def equal(a, b):
    return jax.tree.all(jax.tree.map(np.array_equal, a, b))


def test_state_before_the_first_step(run):
    mesh = mesh_of(8)
    first, other = (
        state.create(run.module, run.tx, (SIZE, SIZE, 1), CLASSES, seed, mesh)
        for seed in (0, 2**32 - 1)
    )
    assert equal(first, run.initial)
    assert not equal(first.params, other.params)
    assert all(len(leaf.devices()) == 8 for leaf in jax.tree.leaves(first))
    assert all(leaf.sharding.is_fully_replicated for leaf in jax.tree.leaves(first))
    floats = [leaf for leaf in jax.tree.leaves(first) if jnp.issubdtype(leaf.dtype, jnp.floating)]
    assert {leaf.dtype for leaf in floats} == {jnp.dtype("float32")}
    assert int(first.step) == int(first.bad_step) == int(first.sums.confusion.sum()) == 0
    assert set(first.variables) == {"params", "batch_stats"}


def test_loss_falls_without_compiling_again_and_the_same_way_again(run):
    def curve():
        s, fed, losses = run.create(), run.batch(), []
        for _ in range(30):
            s, metrics = run.step(s, fed, jax.random.key(0))
            losses.append(float(metrics["loss"]))
        return s, losses

    last, losses = curve()
    assert losses[0] == pytest.approx(math.log(CLASSES), abs=0.5)
    assert losses[-1] < 0.1 * losses[0]
    assert run.step._cache_size() == 1
    again, same = curve()
    assert losses == same
    assert equal(last, again)


def test_metrics_and_sums(run):
    s, fed, key = run.create(), run.batch(), jax.random.key(0)
    variables = jax.tree.map(jnp.copy, s.variables)
    logits, updated = run.module.apply(variables, fed[0], train=True, mutable=["batch_stats"])
    logs = np.asarray(jax.nn.log_softmax(logits))
    labels = np.asarray(fed[1])
    loss, hits = -logs[np.arange(24), labels].mean(), (logs.argmax(1) == labels).mean()

    s, metrics = run.step(s, fed, key)
    assert {m.shape for m in metrics.values()} == {()}
    assert float(metrics["loss"]) == pytest.approx(loss, rel=1e-5)
    assert float(metrics["accuracy"]) == pytest.approx(hits)
    assert int(s.step) == 1
    for found, wanted in zip(*map(jax.tree.leaves, (s.batch_stats, updated)), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-6)
    one = quotients(s.sums)
    assert (one["n"], one["accuracy"]) == (24, pytest.approx(hits))
    s, second = run.step(s, fed, key)
    both = quotients(s.sums)
    assert both["n"] == 48
    assert both["loss"] == pytest.approx((loss + float(second["loss"])) / 2, rel=1e-5)


def test_state_alone_is_donated(run):
    s, fed = run.create(), run.batch()
    run.step(s, fed, jax.random.key(0))
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(s))
    assert not any(leaf.is_deleted() for leaf in fed)


def test_new_epoch_keeps_all_but_the_sums_and_the_compiled_step(run):
    s, _ = run.step(run.create(), run.batch(), jax.random.key(0))
    fresh = state.without_sums(s)
    assert quotients(fresh.sums)["n"] == 0
    assert equal(fresh.replace(sums=s.sums), s)
    run.step(fresh, run.batch(), jax.random.key(0))
    assert run.step._cache_size() == 1


def test_first_bad_step_is_remembered(run):
    s, (images, labels), key = run.create(), run.batch(), jax.random.key(0)
    fed = images.astype(jnp.float32), labels
    poison = fed[0].at[3, 4, 5].set(jnp.nan), labels
    found = []
    for batch in (fed, fed, poison, fed, poison):
        s, metrics = run.step(s, batch, key)
        found.append((int(metrics["bad_step"]), int(s.bad_step)))
    assert found == [(0, 0), (0, 0), (3, 3), (3, 3), (3, 3)]


class Cliff(nn.Module):
    """A finite loss whose gradient is not: the square root at 0."""

    @nn.compact
    def __call__(self, x, train=False):
        w = self.param("kernel", nn.initializers.zeros, (CLASSES,))
        return x.mean((1, 2, 3), dtype=jnp.float32)[:, None] * jnp.sqrt(w)[None, :]


def test_gradient_that_is_not_finite_is_bad_too():
    run = Run(mesh_of(1), module=Cliff())
    _, metrics = run.step(run.create(), run.batch(), jax.random.key(0))
    assert float(metrics["loss"]) == pytest.approx(math.log(CLASSES))
    assert int(metrics["bad_step"]) == 1


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_cross_entropy_by_hand(smoothing):
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(size=(9, 4)).astype(np.float32), rng.integers(0, 4, 9)
    logs = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    targets = np.full((9, 4), smoothing / 4) + (1 - smoothing) * np.eye(4)[labels]
    found = step.cross_entropy(
        jnp.asarray(logits), step.probabilities(jnp.asarray(labels), 4), smoothing
    )
    np.testing.assert_allclose(found, -(targets * logs).sum(1), rtol=1e-5)


def test_class_weights_by_hand():
    labels = np.array([0, 0, 0, 0, 1, 1, 3, 3])
    balanced = step.class_weights(TrainingSettings(class_weights="balanced"), labels, 4)
    # 8 / (4 * n_k); a class without images has no loss to weigh, so its weight is only finite.
    assert balanced[[0, 1, 3]].tolist() == [0.5, 1.0, 1.0]
    assert np.isfinite(balanced).all()
    assert (balanced[labels].sum(), balanced.dtype) == (pytest.approx(6.0), np.float32)
    none = step.class_weights(TrainingSettings(), labels, 4)
    assert (none.tolist(), none.dtype) == ([1.0] * 4, np.float32)


def test_class_weights_of_probabilities_count_their_shares():
    # No image shows class 2 first, yet a fifth of what is learnt is of it.
    targets = np.array([[0.6, 0.0, 0.4]] * 5 + [[0.0, 1.0, 0.0]] * 5, np.float32)
    balanced = step.class_weights(TrainingSettings(class_weights="balanced"), targets, 3)
    np.testing.assert_allclose(balanced, [10 / (3 * 3), 10 / (3 * 5), 10 / (3 * 2)], rtol=1e-6)
    assert balanced.dtype == np.float32


def test_weights_and_smoothing_reach_the_loss():
    weights = np.array([0.5, 1.0, 3.0], np.float32)
    run = Run(mesh_of(1), weights, label_smoothing=0.2)
    s, (images, labels) = run.create(), run.batch()
    logits, _ = run.module.apply(s.variables, images, train=True, mutable=["batch_stats"])
    targets = step.probabilities(labels, CLASSES)
    each = np.asarray(step.cross_entropy(logits, targets, 0.2)) * weights[np.asarray(labels)]
    s, metrics = run.step(s, (images, labels), jax.random.key(0))
    assert float(metrics["loss"]) == pytest.approx(each.mean(), rel=1e-5)
    assert quotients(s.sums)["loss"] == pytest.approx(each.mean(), rel=1e-5)


def curve(pipeline, devices, initial, steps=20):
    """Losses of a run through a pipeline, augmentation and all."""
    mesh, data = mesh_of(devices), split()
    config = Config(
        data=DataSettings(
            image_size=SIZE, pipeline=pipeline, augment={"rotation": 10.0, "flip": True}
        ),
        model=MODEL,
        training=TrainingSettings(batch_size=16, epochs=4),
    )
    feed = feed_lib.make(config, data, mesh)
    module = module_of()
    tx = optimizer.optimizer(
        config.training, optimizer.schedule(config.training, feed.steps_per_epoch)
    )
    s = jax.device_put(initial, mesh_lib.replicated(mesh))
    train_step = step.make_train_step(module, tx, config.training, ONES, feed.prepare, mesh)
    losses = []
    for fed in feed.fed(0, steps):
        s, metrics = train_step(s, fed, jax.random.key(0))
        losses.append(float(metrics["loss"]))
    assert train_step._cache_size() == 1
    return np.array(losses)


@pytest.mark.parametrize("pipeline", ["tfdata", "resident"])
def test_one_two_and_eight_devices_take_the_same_course(run, pipeline):
    initial = jax.device_get(run.initial)
    one, two, eight = (curve(pipeline, devices, initial) for devices in (1, 2, 8))
    for other in (two, eight):
        assert np.abs(other - one).max() < 1e-5 * np.abs(one).max()
    assert one[-1] < 0.8 * one[0]


def test_the_average_follows_the_weights(run):
    kept = Run(mesh_of(1), average=0.5, optimizer="sgd", momentum=0.0)
    s = state.create(kept.module, kept.tx, (SIZE, SIZE, 1), CLASSES, 0, kept.mesh, averaged=True)
    expected = jax.device_get(s.trained)
    for i in range(3):
        s, _ = kept.step(s, kept.batch(), jax.random.key(0))
        keep = min(0.5, (2 + i) / (11 + i))
        new = jax.device_get(s.trained)
        expected = jax.tree.map(lambda a, b: keep * a + (1 - keep) * b, expected, new)  # noqa: B023
    for found, wanted in zip(jax.tree.leaves(s.variables), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-7)
    plain, _ = run.step(run.create(), run.batch(), jax.random.key(0))
    assert plain.average == {}
    assert plain.variables is not None


def test_soft_targets_of_ones_are_labels(run):
    images, labels = run.batch()
    soft = step.probabilities(labels, CLASSES)
    by_label, first = run.step(run.create(), (images, labels), jax.random.key(0))
    by_share, second = run.step(run.create(), (images, soft), jax.random.key(0))
    assert float(first["loss"]) == float(second["loss"])
    np.testing.assert_array_equal(by_label.sums.confusion, by_share.sums.confusion)


def test_resized_images_keep_what_is_constant_and_linear():
    ramp = np.broadcast_to(np.arange(16.0)[None, None, :, None], (2, 16, 16, 1))
    small = np.asarray(step.resized(jnp.asarray(ramp, jnp.float32), 8))[0, 4, :, 0]
    assert small[1:-1] == pytest.approx(np.arange(8)[1:-1] * 2 + 0.5, abs=1e-4)
    same = step.resized(jnp.full((1, 48, 48, 1), 7.0), 32)
    assert np.asarray(same) == pytest.approx(np.full((1, 32, 32, 1), 7.0))
