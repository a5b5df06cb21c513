import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emotion_jax.data import stream
from emotion_jax.errors import UserError


@settings(max_examples=50, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    n=st.integers(1, 200),
    epoch=st.integers(0, 1000),
    data=st.data(),
)
def test_an_epoch_holds_no_example_twice(seed, n, epoch, data):
    batch_size = data.draw(st.integers(1, n))
    steps = stream.steps_per_epoch(n, batch_size)
    assert steps == n // batch_size
    batches = [stream.batch_indices(seed, epoch * steps + i, n, batch_size) for i in range(steps)]
    assert all(batch.shape == (batch_size,) and batch.dtype == np.int32 for batch in batches)
    seen = np.concatenate(batches)
    assert len(np.unique(seen)) == len(seen) > n - batch_size
    assert seen.min() >= 0
    assert seen.max() < n


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), steps=st.permutations(range(12)))
def test_a_batch_depends_on_seed_and_step_alone(seed, steps):
    in_order = [stream.batch_indices(seed, step, 20, 5).copy() for step in range(12)]
    for step in steps:  # in any order, with the cache warm or cold
        stream._permutation.cache_clear()
        np.testing.assert_array_equal(stream.batch_indices(seed, step, 20, 5), in_order[step])


def test_epochs_and_seeds_all_differ():
    orders = [
        tuple(stream.batch_indices(seed, epoch, 30, 30))
        for seed in range(20)
        for epoch in range(20)
    ]
    assert len(set(orders)) == 400


def test_every_example_is_as_likely_in_the_short_epochs():
    counts = np.zeros(10)
    for step in range(3000):  # 1 of 10 is dropped each epoch
        counts[stream.batch_indices(0, step, 10, 3)] += 1
    np.testing.assert_allclose(counts / counts.mean(), 1, atol=0.1)


def test_a_batch_cannot_be_written_to():
    with pytest.raises(ValueError, match="read-only"):
        stream.batch_indices(0, 0, 10, 5)[0] = 1


def test_a_batch_larger_than_the_split_is_refused_by_both_numbers():
    with pytest.raises(UserError, match=r"training\.batch_size: 65 .* 64 .* at most 64"):
        stream.steps_per_epoch(64, 65)
