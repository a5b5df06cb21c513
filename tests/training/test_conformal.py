import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mapie.classification import SplitConformalClassifier
from sklearn.base import BaseEstimator, ClassifierMixin

from emotion_jax.training.conformal import LEVELS, fit_thresholds, prediction_sets


def drawn(seed, n, classes=5, sharper=1.5):
    """Probabilities that are too sure of the labels drawn with them."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(scale=1.5, size=(n, classes))
    labels = (logits + rng.gumbel(size=logits.shape)).argmax(axis=1)
    odds = np.exp(sharper * logits)
    return odds / odds.sum(axis=1, keepdims=True), labels


class Given(ClassifierMixin, BaseEstimator):
    """A fitted classifier whose inputs are its probabilities."""

    def fit(self, x, y):
        self.classes_ = np.arange(x.shape[1])
        self.n_features_in_ = x.shape[1]
        return self

    def predict_proba(self, x):
        return x

    def predict(self, x):
        return x.argmax(axis=1)


@pytest.mark.parametrize("n", [21, 200, 997])
@pytest.mark.filterwarnings("ignore")
def test_sets_are_those_of_mapie(n):
    probs, labels = drawn(n, n)
    new, _ = drawn(n + 1, 300)
    other = SplitConformalClassifier(
        Given().fit(probs, labels), list(LEVELS), conformity_score="lac", prefit=True
    )
    _, expected = other.conformalize(probs, labels).predict_set(new)
    for place, threshold in enumerate(fit_thresholds(probs, labels)["thresholds"].values()):
        np.testing.assert_array_equal(prediction_sets(new, threshold), expected[:, :, place])


def test_coverage_is_as_promised_for_a_badly_calibrated_model():
    covered = {f"{level:g}": [] for level in LEVELS}
    for seed in range(40):
        fitted = fit_thresholds(*drawn(seed, 500, sharper=4.0))
        probs, labels = drawn(1000 + seed, 500, sharper=4.0)
        for level, threshold in fitted["thresholds"].items():
            sets = prediction_sets(probs, threshold)
            covered[level].append(sets[np.arange(500), labels].mean())
    for level, shares in covered.items():
        assert float(level) - 0.005 <= np.mean(shares) <= float(level) + 0.01


@given(seed=st.integers(0, 2**32 - 1), n=st.integers(1, 30), level=st.floats(0.01, 0.99))
def test_threshold_covers_that_share_of_its_own_images(seed, n, level):
    probs, labels = drawn(seed, n)
    fitted = fit_thresholds(probs, labels, [level])
    (threshold,) = fitted["thresholds"].values()
    own = prediction_sets(probs, threshold)[np.arange(n), labels]
    assert own.mean() >= min(1.0, level * (n + 1) / n) - 1e-6
    assert fitted["n"] == n


def test_by_hand_and_too_few_images():
    probs = np.array([[p, 1 - p] for p in (0.9, 0.5, 0.7, 0.6)])
    labels = np.zeros(4, int)
    assert fit_thresholds(probs, labels, [0.8, 0.6, 0.2])["thresholds"] == {
        "0.8": 0.5, "0.6": 0.6, "0.2": 0.9,
    }  # fmt: skip
    assert fit_thresholds(probs, labels, [0.9])["thresholds"] == {"0.9": 0.0}
    assert prediction_sets(np.array([[0.0, 1.0]]), 0.0).all()
    assert fit_thresholds(np.zeros((0, 2)), np.zeros(0, int), [0.5])["thresholds"] == {"0.5": 0.0}
