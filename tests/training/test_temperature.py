import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from sklearn.metrics import log_loss

from emotion_jax.errors import UserError
from emotion_jax.training.predict import log_probabilities
from emotion_jax.training.temperature import HIGHEST, LOWEST, fit_temperature


def drawn(temperature, n=20_000, classes=7, seed=0):
    """Logits that are ``temperature`` times too large for labels drawn from their softmax."""
    rng = np.random.default_rng(seed)
    true = rng.normal(scale=2.0, size=(n, classes))
    labels = (true + rng.gumbel(size=true.shape)).argmax(axis=1)
    return (true * temperature).astype(np.float32), labels


def nll(logits, labels, temperature):
    logs = np.asarray(log_probabilities(logits.astype(np.float32), temperature), np.float64)
    probs = np.exp(logs)
    probs /= probs.sum(axis=1, keepdims=True)
    return log_loss(labels, probs, labels=np.arange(logits.shape[1]))


@pytest.mark.parametrize("temperature", [0.3, 1.0, 1.7, 6.0])
def test_recovers_a_known_temperature(temperature):
    logits, labels = drawn(temperature)
    assert fit_temperature(logits, labels) == pytest.approx(temperature, rel=0.02)


def test_is_the_minimum_that_another_method_finds_and_log_probabilities_are_logits():
    logits, labels = drawn(2.5, n=500)
    fitted = fit_temperature(logits, labels)
    other = minimize_scalar(
        lambda t: nll(logits, labels, t), bounds=(LOWEST, HIGHEST), method="bounded"
    )
    assert fitted == pytest.approx(other.x, rel=1e-3)
    assert fit_temperature(np.asarray(log_probabilities(logits)), labels) == pytest.approx(
        fitted, rel=1e-5
    )


@given(
    seed=st.integers(0, 2**32 - 1),
    n=st.integers(1, 40),
    classes=st.integers(1, 8),
    scale=st.floats(0, 50),
)
def test_is_never_worse_than_none(seed, n, classes, scale):
    rng = np.random.default_rng(seed)
    logits = rng.normal(scale=scale, size=(n, classes))
    labels = rng.integers(0, classes, n)
    fitted = fit_temperature(logits, labels)
    assert LOWEST <= fitted <= HIGHEST
    # Not log_loss, which wants two classes and clips; float64, as a float32 sum is less exact.
    at = {t: -np.log(_softmax(logits / t))[np.arange(n), labels].mean() for t in (fitted, 1.0)}
    assert at[fitted] <= at[1.0] * (1 + 1e-9) + 1e-12


def _softmax(z):
    e = np.exp(z - z.max(axis=1, keepdims=True))
    return (e / e.sum(axis=1, keepdims=True)).clip(1e-300)


def test_degenerate_splits():
    right = np.eye(3) * 4
    # All right or all wrong: the best temperature is none that can be told.
    assert fit_temperature(right, np.arange(3)) == 1.0
    assert fit_temperature(right, (np.arange(3) + 1) % 3) == 1.0
    assert fit_temperature(np.zeros((5, 3)), np.zeros(5, int)) == 1.0
    assert fit_temperature(np.array([[2.0, 1.0]]), np.array([0])) == 1.0
    assert fit_temperature(np.ones((4, 1)), np.zeros(4, int)) == 1.0
    huge = np.array([[1e30, 0.0], [0.0, 1e30], [1e30, 0.0]])
    assert fit_temperature(huge, np.array([0, 1, 1])) == 1.0


def test_refusals():
    with pytest.raises(UserError, match="no image"):
        fit_temperature(np.zeros((0, 3)), np.zeros(0, int))
    for bad in (np.nan, np.inf, -np.inf):
        with pytest.raises(UserError, match="not all finite"):
            fit_temperature(np.array([[bad, 0.0]]), np.array([0]))
