import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sklearn.metrics
from hypothesis import given, settings
from hypothesis import strategies as st

from emotion_jax.training.metrics import Sums, quotients

N = 48
of = jax.jit(Sums.of)
add = jax.jit(lambda a, b: a + b)


def batch(seed, classes, present, masked):
    """Logits, labels of some of the classes, losses and a mask with ``masked`` rows of padding."""
    rng = np.random.default_rng(seed)
    labels = rng.choice(rng.permutation(classes)[:present], N).astype(np.int32)
    logits = rng.normal(size=(N, classes)).astype(np.float32)
    logits[np.arange(N), labels] += 1
    return logits, labels, rng.random(N, np.float32), rng.permutation(N) >= masked


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    classes=st.sampled_from([2, 7]),
    present=st.integers(1, 7),
    masked=st.integers(0, N - 1),
)
def test_against_scikit_learn(seed, classes, present, masked):
    logits, labels, losses, mask = batch(seed, classes, min(present, classes), masked)
    sums = of(logits, labels, losses, mask)
    found = quotients(sums)
    true, predicted = labels[mask], logits.argmax(1)[mask]

    confusion = sklearn.metrics.confusion_matrix(true, predicted, labels=range(classes))
    np.testing.assert_array_equal(sums.confusion, confusion)
    macro = {"labels": np.unique(true), "average": "macro", "zero_division": 0}
    assert found == {
        "accuracy": pytest.approx(sklearn.metrics.accuracy_score(true, predicted)),
        "precision": pytest.approx(sklearn.metrics.precision_score(true, predicted, **macro)),
        "recall": pytest.approx(sklearn.metrics.recall_score(true, predicted, **macro)),
        "f1": pytest.approx(sklearn.metrics.f1_score(true, predicted, **macro)),
        "loss": pytest.approx(losses[mask].mean(dtype=np.float64), rel=1e-5),
        "n": N - masked,
    }


@settings(max_examples=20, deadline=None)
@given(seeds=st.lists(st.integers(0, 2**32 - 1), min_size=2, max_size=5))
def test_sums_of_batches_are_the_sums_of_all(seeds):
    batches = [batch(seed, 7, 5, seed % N) for seed in seeds]
    total = Sums.zeros(7)
    for one in batches:
        total = add(total, of(*one))
    logits, labels, losses, mask = (np.concatenate(parts) for parts in zip(*batches, strict=True))
    wanted = np.zeros((7, 7), int)
    np.add.at(wanted, (labels[mask], logits.argmax(1)[mask]), 1)
    np.testing.assert_array_equal(total.confusion, wanted)
    assert float(total.loss) == pytest.approx(losses[mask].sum(dtype=np.float64), rel=1e-5)


def test_padding_may_hold_anything():
    logits, labels, losses, mask = batch(0, 7, 7, 5)
    wanted = jax.device_get(of(logits, labels, losses, mask))
    logits[~mask], labels[~mask], losses[~mask] = np.nan, 3, np.nan
    found = jax.device_get(of(logits, labels, losses, mask))
    np.testing.assert_array_equal(found.confusion, wanted.confusion)
    assert found.loss == wanted.loss


def test_types():
    sums = of(*batch(0, 7, 7, 0))
    for one in (sums, Sums.zeros(7), sums + sums):
        assert (one.confusion.shape, one.confusion.dtype) == ((7, 7), jnp.int32)
        assert (one.loss.shape, one.loss.dtype) == ((), jnp.float32)


def test_nothing_is_zero_of_everything():
    names = ("accuracy", "precision", "recall", "f1", "loss", "n")
    assert quotients(Sums.zeros(3)) == dict.fromkeys(names, 0)
