import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.calibration import calibration_curve
from sklearn.metrics import brier_score_loss

from emotion_jax.evaluation import calibration, metrics

CLASSES = ("angry", "happy", "sad", "surprise")


def drawn(seed, n=600, classes=4, temperature=1.0):
    """Labels drawn from known probabilities, and these made more certain than they are."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(scale=1.5, size=(n, classes))
    labels = (logits + rng.gumbel(size=logits.shape)).argmax(axis=1)
    odds = np.exp(logits * temperature)
    return odds / odds.sum(axis=1, keepdims=True), labels


@settings(max_examples=20)
@given(seed=st.integers(0, 2**32 - 1), n=st.integers(1, 50), classes=st.integers(2, 7))
def test_brier_is_the_sum_of_scikit_learns_over_the_classes(seed, n, classes):
    probs, labels = drawn(seed, n, classes)
    each = [
        brier_score_loss(np.append(labels == k, [True, False]), np.append(p, [1.0, 0.0]))
        for k, p in enumerate(probs.T)
    ]  # two perfect answers more, as scikit-learn wants both kinds
    expected = sum(each) * (n + 2) / n
    assert calibration.brier(probs, labels) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("bins", [1, 5, 15])
def test_classwise_ece_against_scikit_learns_quantile_bins(bins):
    probs, labels = drawn(3, n=600, temperature=2.0)
    for k, found in enumerate(calibration.classwise_ece(probs, labels, bins)):
        accuracy, confidence = calibration_curve(
            labels == k, probs[:, k], n_bins=bins, strategy="quantile"
        )
        assert found == pytest.approx(np.abs(accuracy - confidence).mean(), abs=0.004)


def test_classwise_ece_by_hand():
    probs = np.array([[0.9, 0.1], [0.9, 0.1], [0.2, 0.8], [0.2, 0.8]])
    found = calibration.classwise_ece(probs, np.array([0, 1, 1, 1]), bins=2)
    np.testing.assert_allclose(found, [(0.2 + 0.4) / 2, (0.2 + 0.4) / 2])


def test_the_floor_is_what_a_calibrated_model_shows():
    probs, _ = drawn(0, n=500)
    rng = np.random.default_rng(1)
    cumulative = probs.cumsum(axis=1)
    draws = [
        metrics.expected_calibration_error(
            probs, (rng.random((len(probs), 1)) > cumulative).sum(1).clip(max=3)
        )
        for _ in range(400)
    ]
    assert calibration.ece_floor(probs) == pytest.approx(np.mean(draws), rel=0.05)
    assert calibration.ece_floor(np.eye(4)) == 0.0


@given(seed=st.integers(0, 2**32 - 1), temperature=st.floats(0.2, 5))
def test_unscaled_undoes_the_temperature(seed, temperature):
    probs, _ = drawn(seed, n=20)
    scaled = calibration.unscaled(probs, 1 / temperature)
    np.testing.assert_allclose(calibration.unscaled(scaled, temperature), probs, rtol=1e-9)


def test_the_report_shows_before_and_after():
    hot, labels = drawn(0, n=4000, temperature=2.0)
    cool = calibration.unscaled(hot, 0.5)
    content = json.loads(json.dumps(calibration.compute(cool, labels, CLASSES, scaled_by=2.0)))
    before = content["before_temperature"]
    assert before["ece"] == pytest.approx(metrics.expected_calibration_error(hot, labels))
    assert before["brier"] == pytest.approx(calibration.brier(hot, labels))
    assert before["log_loss"] == pytest.approx(
        metrics.compute(labels, hot, CLASSES)["log_loss"], rel=1e-6
    )
    assert metrics.expected_calibration_error(cool, labels) < 0.03 < before["ece"]
    assert content["brier"] < before["brier"]
    assert sum(b["count"] for b in content["bins"]) == 4000
    assert all(b["interval"][0] <= b["accuracy"] <= b["interval"][1] for b in content["bins"])
    by_class = content["classwise_ece_per_class"]
    assert list(by_class) == list(CLASSES)
    assert content["classwise_ece"] == pytest.approx(np.mean(list(by_class.values())))
    assert calibration.compute(cool, labels, CLASSES)["before_temperature"] is None


def test_sure_and_wrong_is_no_infinity():
    probs = np.eye(4)[[0, 1]]
    content = calibration.compute(probs, np.array([1, 0]), CLASSES, scaled_by=2.0)
    json.dumps(content, allow_nan=False)
    assert content["brier"] == 2.0
