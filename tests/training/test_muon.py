import jax
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emotion_jax.training import muon


@settings(max_examples=25, deadline=None)  # each shape is compiled
@given(st.integers(2, 40), st.integers(2, 40), st.integers(0, 99))
def test_singular_values_come_near_one_and_singular_vectors_stay(rows, columns, seed):
    matrix = np.random.default_rng(seed).normal(size=(rows, columns)).astype(np.float32)
    u, s, vt = np.linalg.svd(matrix, full_matrices=False)
    found = np.asarray(muon.orthogonalized(jax.numpy.asarray(matrix)), np.float64)
    along = u.T @ found @ vt.T
    is_large = s > 0.05 * s.max()  # the small ones need more iterations
    assert (np.abs(np.diag(along)[is_large] - 0.95) < 0.35).all()
    assert np.abs(along - np.diag(np.diag(along))).max() < 1e-3


def test_convolutions_are_orthogonal_and_the_rest_is_adam():
    rng = np.random.default_rng(0)
    shapes = {"conv": (3, 3, 8, 16), "dense": (8, 4), "bias": (4,)}
    params = {k: rng.normal(size=shape).astype(np.float32) for k, shape in shapes.items()}
    grads = jax.tree.map(lambda leaf: (1e-3 * rng.normal(size=leaf.shape)).astype("f"), params)
    tx, adam = muon.scale_by_muon(0.95), optax.scale_by_adam()
    updates, _ = tx.update(grads, tx.init(params), params)
    expected, _ = adam.update(grads, adam.init(params), params)
    for name in ("dense", "bias"):
        np.testing.assert_array_equal(updates[name], expected[name])
    matrix = np.asarray(updates["conv"]).reshape(72, 16)
    singular = np.linalg.svd(matrix, compute_uv=False)
    assert singular.min() > 0.5 * singular.max()
    # Of Adam's size: Moonlight's 0.2 for a matrix whose singular values are all 1.
    assert np.sqrt(np.mean(matrix**2)) == pytest.approx(0.2, rel=0.2)


def test_momentum_is_nesterovs():
    tx = muon.scale_by_muon(0.5)
    kernel = {"kernel": np.zeros((1, 1, 2, 2), np.float32)}
    first, second = np.float32([[1, 0], [0, 1]]), np.float32([[0, 1], [1, 0]])
    state = tx.init(kernel)
    for gradient in (first, second):
        updates, state = tx.update({"kernel": gradient.reshape(1, 1, 2, 2)}, state, kernel)
    trace = 0.5 * first + second
    expected = muon.orthogonalized(second + 0.5 * trace)
    scale = 0.2 * np.sqrt(2)
    np.testing.assert_allclose(updates["kernel"][0, 0], scale * expected, rtol=1e-5)
