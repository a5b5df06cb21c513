import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emotion_jax.data import splits
from emotion_jax.errors import UserError


@st.composite
def datasets(draw):
    n = draw(st.integers(1, 120))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    labels = rng.integers(0, draw(st.integers(1, 7)), n).astype(np.int32)
    hashes = rng.integers(0, max(1, int(n * draw(st.floats(0.1, 10)))), n).astype(np.uint64)
    return labels, hashes * np.uint64(0x9E3779B97F4A7C15)


@settings(max_examples=150, deadline=None)
@given(
    dataset=datasets(), fraction=st.floats(0.01, 0.99), seed=st.integers(0, 2**32), data=st.data()
)
def test_partition_stratified_with_equal_images_on_one_side(dataset, fraction, seed, data):
    labels, hashes = dataset
    train, validation = splits.stratified(labels, hashes, fraction, seed)
    np.testing.assert_array_equal(np.sort(np.concatenate([train, validation])), range(len(labels)))
    for rows in (train, validation):
        assert rows.dtype == np.int64
        assert (np.diff(rows) > 0).all()
    assert not set(hashes[train]) & set(hashes[validation])
    _, first = np.unique(hashes, return_index=True)
    for label in np.unique(labels):
        groups = first[labels[first] == label]
        held_out = np.isin(groups, validation).sum()
        if len(groups) < 2:
            assert held_out == 0
        else:
            assert 1 <= held_out < len(groups)
            assert abs(held_out - fraction * len(groups)) <= 1
    again = splits.stratified(labels, hashes, fraction, seed)
    np.testing.assert_array_equal(again[1], validation)


def test_seeds_choose_differently_and_of_the_same_size():
    labels, hashes = np.repeat([0, 1], [60, 40]), np.arange(100, dtype=np.uint64)
    chosen = [splits.stratified(labels, hashes, 0.1, seed)[1] for seed in range(20)]
    assert len({tuple(rows) for rows in chosen}) == 20
    assert all((np.bincount(labels[rows]) == [6, 4]).all() for rows in chosen)


def test_the_choice_hangs_on_the_order_of_images_and_not_on_the_value_of_their_hashes():
    labels = np.repeat([0, 1], 30)
    values = np.random.default_rng(0).permutation(60).astype(np.uint64)
    one = splits.stratified(labels, np.arange(60, dtype=np.uint64), 0.2, 5)
    other = splits.stratified(labels, values, 0.2, 5)
    np.testing.assert_array_equal(one[1], other[1])


@settings(max_examples=60)
@given(dataset=datasets(), count=st.integers(2, 8), seed=st.integers(0, 2**32 - 1))
def test_folds_keep_groups_whole(dataset, count, seed):
    labels, groups = dataset
    most = max(len(np.unique(groups[labels == label])) for label in labels)
    if most < count:
        with pytest.raises(UserError, match="too few for"):
            splits.folds(labels, groups, count, seed)
        return
    fold = splits.folds(labels, groups, count, seed)
    assert set(fold.tolist()) == set(range(count))
    for group in np.unique(groups):
        assert len(np.unique(fold[groups == group])) == 1
    np.testing.assert_array_equal(splits.folds(labels, groups, count, seed), fold)


def test_folds_of_single_images_are_equal_and_stratified():
    labels = np.repeat([0, 1, 2], [50, 30, 20])
    fold = splits.folds(labels, np.arange(100), 5, 0)
    for label, each in ((0, 10), (1, 6), (2, 4)):
        assert np.bincount(fold[labels == label]).tolist() == [each] * 5
    assert (fold != splits.folds(labels, np.arange(100), 5, 1)).any()


def test_too_few_groups_for_so_many_folds():
    with pytest.raises(UserError, match=r"8 images in 4 groups .* too few for 5 folds"):
        splits.folds(np.zeros(8, int), np.arange(8) // 2, 5, 0)
