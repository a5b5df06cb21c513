from unittest import mock

import numpy as np
import pytest
import sklearn.metrics as sk
from hypothesis import given
from hypothesis import strategies as st
from statsmodels.stats.contingency_tables import mcnemar as reference
from statsmodels.stats.multitest import multipletests

from emotion_jax.evaluation import paired


@given(st.integers(0, 40), st.integers(0, 40))
def test_mcnemar_lies_below_the_exact_test_and_agrees_with_its_terms(b, c):
    first = np.array([True] * b + [False] * c + [True] * 5)
    second = np.array([False] * b + [True] * c + [True] * 5)
    only_first, only_second, p = paired.mcnemar(first, second)
    assert (only_first, only_second) == (b, c)
    if b + c == 0:
        assert p == 1.0
        return
    exact = reference([[5, b], [c, 0]], exact=True).pvalue
    # Mid-p counts half of the probability of what was seen.
    from scipy.stats import binom

    assert p == pytest.approx(min(1.0, 2 * binom.cdf(min(b, c), b + c, 0.5)
                                  - binom.pmf(min(b, c), b + c, 0.5)), abs=1e-12)  # fmt: skip
    assert p <= exact + 1e-12


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_agrees_with_statsmodels(p_values):
    # It collects garbage at each call, which takes half a second beside other tests' objects.
    with mock.patch("gc.collect"):
        expected = multipletests(p_values, method="holm")[1]
    np.testing.assert_allclose(paired.holm(p_values), expected, atol=1e-12)


@given(st.integers(0, 1000))
def test_macro_f1_agrees_with_scikit_learn(seed):
    rng = np.random.default_rng(seed)
    labels, predicted = rng.integers(0, 3, 30), rng.integers(0, 4, 30)
    expected = sk.f1_score(labels, predicted, labels=np.unique(labels), average="macro")
    assert paired.macro_f1(labels, predicted, 4) == pytest.approx(expected)


def test_the_bootstrap_of_a_mean_is_its_normal_interval():
    values = np.random.default_rng(1).normal(3.0, 2.0, 400)
    low, high = paired.bootstrap(lambda at: values[at].mean(), 400)
    error = values.std() / 20
    assert low == pytest.approx(values.mean() - 1.96 * error, abs=0.15 * error)
    assert high == pytest.approx(values.mean() + 1.96 * error, abs=0.15 * error)
    assert paired.bootstrap(lambda at: values[at].mean(), 400) == (low, high)
