import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emotion_jax.evaluation.doctor import oddities
from emotion_jax.evaluation.doctor.survey import Survey, Tree


def made(n=40, size=(48, 48), labels=None, splits=("train",), split=None, classes=("a", "b")):
    """A survey of n ordinary images, to be spoiled."""
    rng = np.random.default_rng(0)
    label = np.zeros(n, np.int32) if labels is None else np.array(labels, np.int32)
    where = np.zeros(n, np.int32) if split is None else np.array(split, np.int32)
    sizes = np.full((len(splits), len(classes)), -1)
    tree = Tree(None, splits, classes, (), (), sizes)
    return Survey(
        tree=tree,
        problems=(),
        paths=tuple(f"{i}.png" for i in range(n)),
        split=where,
        label=label,
        size=np.tile(np.array(size, np.int32), (n, 1)),
        mean=rng.uniform(100, 150, n).astype(np.float32),
        std=rng.uniform(40, 60, n).astype(np.float32),
        hashes=np.arange(n, dtype=np.uint64),
        thumbs=np.zeros((n, 32, 32), np.uint8),
    )


@pytest.mark.parametrize(
    ("field", "value", "word"),
    [
        ("size", (12, 12), "small"),
        ("size", (400, 400), "large"),
        ("size", (30, 60), "narrow"),
        ("size", (60, 30), "wide"),
        ("mean", 2, "dark"),
        ("mean", 252, "bright"),
        ("std", 5, "low contrast"),
        ("std", 125, "high contrast"),
    ],
)
def test_one_of_another_kind(field, value, word):
    survey = made()
    getattr(survey, field)[7] = value
    (finding,) = oddities.outliers(survey)
    assert finding.path == "7.png"
    assert finding.detail.partition(":")[0] == word


def test_the_farthest_comes_first():
    survey = made()
    survey.size[3], survey.size[9] = (200, 200), (900, 900)
    assert [finding.path for finding in oddities.outliers(survey)] == ["9.png", "3.png"]


@given(st.integers(0, 2**32 - 1), st.floats(1.0, 1.3))
def test_what_varies_a_little_is_no_outlier(seed, factor):
    survey = made()
    rng = np.random.default_rng(seed)
    survey.size[:, 0] = 48 * factor ** rng.uniform(-1, 1, len(survey))
    survey.mean[:] = rng.uniform(110, 140, len(survey))
    assert oddities.outliers(survey) == []


def test_of_few_images_none_is_an_outlier():
    survey = made(n=19)
    survey.size[3] = 900
    assert oddities.outliers(survey) == []


def test_blank_images_are_blank_and_no_outliers():
    survey = made()
    survey.std[4], survey.mean[4] = 0.5, 0.0
    (finding,) = oddities.blank(survey)
    assert finding.path == "4.png"
    assert finding.detail == "grey 0 of 255 all over (standard deviation 0.5)"
    assert oddities.outliers(survey) == []


def imbalances(survey):
    return [(f.path, f.related, f.detail) for f in oddities.imbalance(survey)]


def test_a_class_is_rare_below_a_fifth_of_the_largest():
    assert imbalances(made(60, labels=[0] * 50 + [1] * 10)) == []
    (finding,) = imbalances(made(59, labels=[0] * 50 + [1] * 9))
    assert finding == ("train/b", "train/a", "9 images, 18.0% of the largest class (50)")


def test_one_class_alone():
    detail = "the only class with images; a classifier needs two"
    assert imbalances(made(classes=("a",))) == [("train/a", "", detail)]
    assert imbalances(made(classes=("a",), splits=("",))) == [("a", "", detail)]


def test_empty_and_missing_classes():
    labels, split = [0, 0, 1, 1, 0, 0], [0, 0, 0, 0, 1, 1]
    survey = made(6, labels=labels, split=split, splits=("train", "test"), classes=("a", "b", "c"))
    survey.tree.sizes[0, 2] = 0
    assert imbalances(survey) == [
        ("train/c", "", "no readable image in this class folder"),
        ("test/b", "train/b", "a class that this split lacks"),
    ]
