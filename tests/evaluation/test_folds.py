from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emotion_jax.config import Config
from emotion_jax.data.split import Dataset, Split, normalisation
from emotion_jax.errors import UserError
from emotion_jax.evaluation import folds
from emotion_jax.evaluation.folds import Scheme

N = 600
CLASSES = ("angry", "happy", "sad")


def whole_of(labels, hashes=None, people=None, size=16):
    """All of train, of noisy pictures."""
    n = len(labels)
    hashes = np.arange(n) if hashes is None else hashes
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 256, (int(hashes.max()) + 1, size, size, 1), np.uint8)
    people = np.zeros(n, int) if people is None else people
    train = Split(
        name="train",
        source=pictures[hashes],
        rows=np.arange(n),
        labels=np.asarray(labels, np.int32),
        hashes=hashes.astype(np.uint64),
        paths=tuple(
            f"train/{CLASSES[label]}/S{person}_{i}.png"
            for i, (label, person) in enumerate(zip(labels, people, strict=True))
        ),
    )
    return Dataset(CLASSES, "f" * 64, (), train, train.subset("val", np.arange(0)), None)


@pytest.fixture(scope="module")
def people():
    """600 images of 200 people, 5 of them twice, and how they are cut for two repeats."""
    rng = np.random.default_rng(1)
    labels, who = rng.integers(0, 3, N), rng.integers(0, 200, N)
    hashes = np.arange(N)
    hashes[-5:] = hashes[:5]
    labels[-5:] = labels[:5]
    whole = whole_of(labels, hashes, who)
    scheme = Scheme(folds=4, repeats=2, groups=r"^(S\d+)_")
    groups, about = folds.grouped(whole.train, scheme)
    return whole, scheme, groups, about, folds.cut(Config(), whole, groups, scheme)


def test_every_image_is_held_out_once_a_repeat(people):
    whole, _, _, _, cut = people
    assert [fold.name for fold in cut] == [f"fold-{r}-{k}" for r in (1, 2) for k in (1, 2, 3, 4)]
    for repeat in (1, 2):
        rows = np.concatenate([fold.rows for fold in cut if fold.repeat == repeat])
        np.testing.assert_array_equal(np.sort(rows), np.arange(N))
    for fold in cut:
        assert fold.held_out.paths == tuple(whole.train.paths[row] for row in fold.rows)
        everything = {*fold.data.train.paths, *fold.data.validation.paths, *fold.held_out.paths}
        assert everything == set(whole.train.paths)


def test_nobody_and_no_image_is_on_two_sides(people):
    whole, _, _, about, cut = people
    assert about["identical"] == 5
    assert about["subjects"] == len({p.split("/")[2].split("_")[0] for p in whole.train.paths})
    for fold in cut:
        sides = (fold.data.train, fold.data.validation, fold.held_out)
        for names in (
            [set(side.hashes.tolist()) for side in sides],
            [{path.split("/")[-1].split("_")[0] for path in side.paths} for side in sides],
        ):
            assert not names[0] & names[1]
            assert not names[0] & names[2]
            assert not names[1] & names[2]


def test_what_a_program_depends_on_is_the_same_for_all_folds(people):
    # Before, the folds by groups are so uneven that they are not filled up to one size.
    pytest.importorskip("sklearn", minversion="1.7")
    whole, _, _, _, cut = people
    mean_std = normalisation(whole.train)
    for fold in cut:
        assert normalisation(fold.data.train) == mean_std
        np.testing.assert_array_equal(
            np.bincount(fold.data.train.labels), np.bincount(cut[0].data.train.labels)
        )
        own = Counter(fold.data.train.paths)
        assert len(fold.data.train) - len(own) == fold.repeated
        assert max(own.values()) <= 2
    assert min(fold.repeated for fold in cut) < max(fold.repeated for fold in cut)
    assert len({fold.data.fingerprint for fold in cut}) == len(cut)
    assert [fold.config.training.seed for fold in cut] == list(range(8))
    assert len({fold.config.model_copy(update={"training": None}) for fold in cut}) == 1


def test_a_class_is_not_filled_up_beyond_measure():
    labels = np.arange(90) % 3
    who = np.concatenate([np.zeros(40, int), np.arange(50)])  # one person has most of the images
    whole = whole_of(labels, people=who)
    scheme = Scheme(folds=3, groups=r"^(S\d+)_", near=-1)
    groups, _ = folds.grouped(whole.train, scheme)
    cut = folds.cut(Config(), whole, groups, scheme)
    assert [fold.repeated for fold in cut] == [0, 0, 0]
    assert len({len(fold.data.train) for fold in cut}) > 1


def test_the_seed_decides_and_the_repeats_differ(people):
    whole, scheme, groups, _, cut = people
    again = folds.cut(Config(), whole, groups, scheme)
    assert [a.data.fingerprint for a in again] == [b.data.fingerprint for b in cut]
    data = Config().data.model_copy(update={"split_seed": 7})
    other = folds.cut(Config(data=data), whole, groups, scheme)
    assert {a.data.fingerprint for a in other}.isdisjoint(b.data.fingerprint for b in cut)
    first, second = ({tuple(fold.rows) for fold in cut if fold.repeat == r} for r in (1, 2))
    assert not first & second


def test_near_duplicates_stay_together():
    whole = whole_of(np.arange(60) % 3)
    source = whole.train.source.copy()
    source[33] = source[3] // 2 + 20  # the class of both is angry
    whole = replace(whole, train=replace(whole.train, source=source))
    groups, about = folds.grouped(whole.train, Scheme())
    assert groups[33] == groups[3]
    assert about["near_pairs"] == 1
    assert about["groups"] == 59
    groups, about = folds.grouped(whole.train, Scheme(near=-1))
    assert about["near_distance"] is None
    assert about["groups"] == 60


@settings(max_examples=25)
@given(st.integers(0, 2**32), st.integers(2, 6), st.integers(20, 120))
def test_validation_is_never_empty_and_no_class_is_missing(seed, count, n):
    labels = np.random.default_rng(seed).integers(0, 3, n)
    scheme = Scheme(folds=count, near=-1)
    whole = whole_of(labels, size=8)
    groups, _ = folds.grouped(whole.train, scheme)
    for fold in folds.cut(Config(), whole, groups, scheme):
        assert len(fold.data.validation)
        assert np.bincount(fold.data.train.labels, minlength=3).all()


def test_a_class_that_one_person_alone_shows_is_named():
    labels = np.array([0, 1] * 20 + [2] * 5)
    who = np.array([i // 2 for i in range(40)] + [99] * 5)
    whole = whole_of(labels, people=who)
    scheme = Scheme(folds=3, groups=r"^(S\d+)_", near=-1)
    groups, _ = folds.grouped(whole.train, scheme)
    with pytest.raises(UserError, match=r"too few are left to train on \(sad: 0\)"):
        folds.cut(Config(), whole, groups, scheme)


def test_a_class_that_no_image_shows_does_not_hinder():
    labels = np.array([0, 1] * 20)
    whole = whole_of(labels)
    scheme = Scheme(folds=4, near=-1)
    groups, _ = folds.grouped(whole.train, scheme)
    cut = folds.cut(Config(), whole, groups, scheme)
    assert sorted(np.concatenate([fold.rows for fold in cut])) == list(range(40))


@pytest.mark.parametrize(
    ("values", "name"),
    [({"folds": 1}, "--folds"), ({"repeats": 0}, "--repeats"), ({"near": -2}, "--near")],
)
def test_a_scheme_out_of_range(values, name):
    with pytest.raises(UserError, match=name):
        Scheme(**values)
