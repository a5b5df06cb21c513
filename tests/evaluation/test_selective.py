import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emotion_jax.evaluation import selective


def case(seed, n, values):
    """Random labels; confidences of ``values`` different sizes, so that there are ties."""
    rng = np.random.default_rng(seed)
    top = rng.choice(np.linspace(0.5, 1.0, values), n)
    probs = np.stack([top, 1 - top], axis=1)
    return probs, rng.integers(0, 2, n)


@given(seed=st.integers(0, 2**32 - 1), n=st.integers(1, 60))
def test_without_ties_it_is_the_risk_of_the_most_confident(seed, n):
    rng = np.random.default_rng(seed)
    probs = rng.dirichlet(np.ones(3), n)
    labels = rng.integers(0, 3, n)
    order = sorted(range(n), key=lambda i: -probs[i].max())
    expected = [
        np.mean([probs[i].argmax() != labels[i] for i in order[:kept]]) for kept in range(1, n + 1)
    ]
    np.testing.assert_allclose(selective.risk_coverage(probs, labels), expected, atol=1e-12)
    found = selective.compute(probs, labels)
    assert found["aurc"] == pytest.approx(np.mean(expected))
    assert found["aurc_best"] <= found["aurc"] + 1e-12
    for coverage, row in found["at_coverage"].items():
        assert row["n"] == max(1, round(float(coverage) * n))
        kept = order[: row["n"]]
        assert row["accuracy"] == pytest.approx(np.mean(probs[kept].argmax(1) == labels[kept]))
        assert row["confidence"] == probs[order[row["n"] - 1]].max()


@given(seed=st.integers(0, 2**32 - 1), n=st.integers(2, 40), values=st.integers(1, 5))
def test_the_order_of_the_images_has_no_influence(seed, n, values):
    probs, labels = case(seed, n, values)
    order = np.random.default_rng(seed).permutation(n)
    first = selective.risk_coverage(probs, labels)
    np.testing.assert_allclose(selective.risk_coverage(probs[order], labels[order]), first)


def test_ties_are_the_mean_over_their_orders():
    probs, labels = case(0, 9, 2)
    rng = np.random.default_rng(0)
    jitter = [
        selective.risk_coverage(
            probs + np.array([1e-9, 0]) * rng.random((9, 1)), labels
        )
        for _ in range(4000)
    ]  # fmt: skip
    np.testing.assert_allclose(
        np.mean(jitter, axis=0), selective.risk_coverage(probs, labels), atol=0.02
    )


def test_best_order_by_hand():
    probs = np.array([[0.9, 0.1], [0.8, 0.2], [0.7, 0.3], [0.6, 0.4]])
    found = selective.compute(probs, np.array([1, 0, 0, 0]))
    assert found["aurc"] == pytest.approx((1 + 1 / 2 + 1 / 3 + 1 / 4) / 4)
    assert found["aurc_best"] == pytest.approx(1 / 16)
