import json
import math
import warnings

import numpy as np
import pytest
import sklearn.metrics
from hypothesis import given, settings
from hypothesis import strategies as st

from emotion_jax.errors import UserError
from emotion_jax.evaluation import metrics


def example(seed, n, classes, present, dtype=np.float32, scale=2.0):
    """Labels of at most ``present`` of the classes, and softmax of random logits."""
    rng = np.random.default_rng(seed)
    labels = rng.choice(rng.permutation(classes)[:present], n)
    logits = rng.normal(0, scale, (n, classes))
    logits[np.arange(n), labels] += 1
    odds = np.exp(logits - logits.max(1, keepdims=True)).astype(dtype)
    return labels, odds / odds.sum(1, keepdims=True)


def names(classes):
    return [f"class {i}" for i in range(classes)]


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    n=st.integers(1, 120),
    classes=st.integers(2, 9),
    data=st.data(),
    dtype=st.sampled_from([np.float32, np.float64]),
    scale=st.sampled_from([0.1, 2.0, 60.0]),
)
def test_against_scikit_learn_and_numpy(seed, n, classes, data, dtype, scale):
    present = data.draw(st.integers(1, classes))
    labels, probs = example(seed, n, classes, present, dtype, scale)
    report = metrics.compute(labels, probs, names(classes))
    json.dumps(report, allow_nan=False)
    predicted = np.array([max(range(classes), key=lambda c: (row[c], -c)) for row in probs])

    assert report["n"] == n
    assert report["classes"] == names(classes)
    assert report["accuracy"] == np.mean(predicted == labels)
    low, high = report["accuracy_interval"]
    assert 0 <= low <= report["accuracy"] <= high <= 1
    confusion = np.zeros((classes, classes), int)
    np.add.at(confusion, (labels, predicted), 1)
    assert report["confusion_matrix"] == confusion.tolist()

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        macro = {"labels": np.unique(labels), "average": "macro", "zero_division": 0}
        for name in ("precision", "recall", "f1"):
            function = getattr(sklearn.metrics, f"{name}_score")
            assert report[name] == pytest.approx(function(labels, predicted, **macro), abs=1e-12)
        loss = sklearn.metrics.log_loss(labels, probs, labels=range(classes))
    assert report["log_loss"] == pytest.approx(loss, rel=1e-5, abs=1e-7)

    for c, (name, row) in enumerate(report["per_class"].items()):
        hits, support, called = confusion[c, c], confusion[c].sum(), confusion[:, c].sum()
        assert name == names(classes)[c]
        assert row["support"] == support
        assert row["precision"] == pytest.approx(hits / called if called else 0)
        assert row["recall"] == pytest.approx(hits / support if support else 0)
        assert row["f1"] == pytest.approx(2 * hits / (support + called) if hits else 0)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), n=st.integers(1, 80), classes=st.integers(1, 8))
def test_keras_style_is_micro_over_all_decisions(seed, n, classes):
    labels, probs = example(seed, n, classes, classes)
    decisions, truth = (probs >= 0.5).ravel(), np.eye(classes, dtype=bool)[labels].ravel()
    precision, recall = metrics.keras_precision_recall(labels, probs)
    micro = {"zero_division": 0}
    assert precision == pytest.approx(sklearn.metrics.precision_score(truth, decisions, **micro))
    assert recall == pytest.approx(sklearn.metrics.recall_score(truth, decisions, **micro))


def test_keras_style_by_hand():
    probs = np.array([[0.6, 0.3, 0.1], [0.4, 0.35, 0.25], [0.1, 0.8, 0.1], [0.5, 0.5, 0.0]])
    # Called: (0, class 0) right, (2, class 1) wrong, (3, class 0) right, (3, class 1) wrong.
    precision, recall = metrics.keras_precision_recall(np.array([0, 0, 2, 0]), probs)
    assert (precision, recall) == (2 / 4, 2 / 4)
    report = metrics.compute(np.array([0, 1]), np.full((2, 3), 1 / 3), names(3))
    assert (report["keras_precision"], report["keras_recall"]) == (0.0, 0.0)


@pytest.mark.parametrize(
    ("correct", "n", "low", "high"),
    [
        (81, 263, 0.2553, 0.3662),  # these four: Newcombe 1998, table I, method 3
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
        (0, 10, 0.0, 0.2775),  # z² / (n + z²)
        (10, 10, 0.7225, 1.0),
        (5, 10, 0.2366, 0.7634),  # 1/2 ± z / 2 sqrt(n + z²)
    ],
)
def test_wilson_known_values(correct, n, low, high):
    assert metrics.wilson_interval(correct, n) == pytest.approx((low, high), abs=6e-5)


@settings(deadline=None)
@given(n=st.integers(1, 10**6), data=st.data())
def test_wilson_ends_solve_the_score_equation(n, data):
    correct = data.draw(st.integers(0, n))
    z, p = 1.959964, correct / n
    for end in metrics.wilson_interval(correct, n):
        assert 0 <= end <= 1
        assert abs(p - end) == pytest.approx(z * math.sqrt(end * (1 - end) / n), abs=1e-7)


def test_wilson_of_nothing():
    assert metrics.wilson_interval(0, 0) == (0.0, 1.0)


def test_ece_by_hand():
    probs = np.array([[0.6, 0.4], [0.3, 0.7], [0.8, 0.2], [0.1, 0.9]])
    labels = np.array([0, 0, 0, 1])  # right, wrong, right, right
    lower, upper = metrics.reliability_bins(probs, labels, bins=2)
    assert (lower.accuracy, lower.count, upper.accuracy, upper.count) == (0.5, 2, 1.0, 2)
    assert (lower.confidence, upper.confidence) == pytest.approx((0.65, 0.85))
    expected = 0.5 * abs(0.5 - 0.65) + 0.5 * abs(1 - 0.85)
    assert metrics.expected_calibration_error(probs, labels, bins=2) == pytest.approx(expected)


def test_ece_of_calibrated_data():
    exact = np.repeat([[0.75, 0.25], [0.5, 0.5]], 8, axis=0)
    labels = np.array([0, 0, 0, 1] * 2 + [0, 1] * 4)
    assert metrics.expected_calibration_error(exact, labels) == 0.0
    _, probs = example(0, 60_000, 7, 7)
    drawn = (probs.cumsum(1) < np.random.default_rng(1).random((len(probs), 1))).sum(1).clip(max=6)
    assert metrics.expected_calibration_error(probs, drawn) < 0.01


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    n=st.integers(1, 100),
    bins=st.integers(1, 20),
    digits=st.sampled_from([1, 16]),
)
def test_bins_do_not_depend_on_the_order_of_images(seed, n, bins, digits):
    labels, probs = example(seed, n, 4, 4, np.float64)
    probs = probs.round(digits)  # one digit: many ties
    table = metrics.reliability_bins(probs, labels, bins)
    order = np.random.default_rng(seed).permutation(n)
    assert metrics.reliability_bins(probs[order], labels[order], bins) == table
    assert sum(b.count for b in table) == n
    means = [b.confidence for b in table]
    assert means == sorted(means)
    confidence = probs.max(1)
    if len(np.unique(confidence)) == n:
        parts = [part for part in np.array_split(np.sort(confidence), bins) if len(part)]
        assert [b.count for b in table] == [len(part) for part in parts]
        np.testing.assert_allclose(means, [part.mean() for part in parts])


def test_deduplicated():
    labels, probs = example(3, 50, 5, 5)
    hashes = np.arange(50, dtype=np.uint64) + np.uint64(2**63)
    new = np.arange(50) >= 20

    def deduplicated(train):
        return metrics.compute(labels, probs, names(5), train, hashes)["deduplicated"]

    alone = metrics.compute(labels[new], probs[new], names(5))
    expected = {key: alone[key] for key in ("n", "accuracy", "f1")}
    assert deduplicated(hashes[:20]) == expected
    assert deduplicated(hashes) == {"n": 0, "accuracy": None, "f1": None}
    assert deduplicated(hashes[:0])["n"] == 50
    for known in ((None, hashes), (hashes, None)):
        assert metrics.compute(labels, probs, names(5), *known)["deduplicated"] is None


def test_many_classes_of_few_images():
    labels, probs = np.arange(40, dtype=np.uint8), np.eye(40, dtype=np.float32)
    report = metrics.compute(labels, probs, names(40))
    assert report["f1"] == 1.0
    assert report["confusion_matrix"] == np.eye(40, dtype=int).tolist()


def test_first_maximum_wins():
    report = metrics.compute(np.array([1]), np.array([[0.4, 0.4, 0.2]]), names(3))
    assert report["confusion_matrix"][1] == [1, 0, 0]


def test_refuses_what_has_no_answer():
    with pytest.raises(UserError, match="no image"):
        metrics.compute(np.zeros(0, int), np.zeros((0, 3)), names(3))
    with pytest.raises(UserError, match="finite"):
        metrics.compute(np.array([0]), np.array([[np.nan, 1.0]]), names(2))
