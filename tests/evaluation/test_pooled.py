import csv
import io
from types import SimpleNamespace

import numpy as np
import pytest
import sklearn.metrics as sk
from scipy import stats

from emotion_jax.evaluation import fold_plots, pooled
from emotion_jax.evaluation.pooled import Result

CLASSES = ("angry", "happy", "sad")
N = 90


@pytest.fixture(scope="module")
def labels():
    return np.random.default_rng(0).integers(0, 3, N)


@pytest.fixture(scope="module")
def results(labels):
    """Two repeats of three folds, of predictions that are somewhat better than chance."""
    made = []
    for repeat in (1, 2):
        rng = np.random.default_rng(repeat)
        for number, rows in enumerate(np.split(rng.permutation(N), [20, 50])):
            rows = np.sort(rows)
            logits = rng.normal(size=(len(rows), 3)) + 1.5 * np.eye(3)[labels[rows]]
            probs = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
            fold = SimpleNamespace(
                repeat=repeat,
                number=number + 1,
                name=f"fold-{repeat}-{number + 1}",
                config=SimpleNamespace(training=SimpleNamespace(seed=number)),
                data=SimpleNamespace(train=range(50), validation=range(5)),
                held_out=SimpleNamespace(labels=labels[rows], __len__=None),
                rows=rows,
                repeated=2,
            )
            fold.held_out = Held(labels[rows])
            made.append(Result(fold, {"step": 1, "epoch": 1, "seconds": 0.5}, probs))
    return made


class Held:
    """As much of a split as is asked for."""

    def __init__(self, labels):
        self.labels = labels

    def __len__(self):
        return len(self.labels)


def scores(labels, probs):
    """By scikit-learn."""
    predicted = probs.argmax(1)
    macro = sk.precision_recall_fscore_support(labels, predicted, average="macro")
    loss = sk.log_loss(labels, probs, labels=range(3))
    return [sk.accuracy_score(labels, predicted), *macro[:3], loss]


def test_means_and_deviations_are_those_of_the_folds(results, labels):
    content = pooled.summarise(results, labels, CLASSES)
    expected = np.array([scores(labels[r.fold.rows], r.probs) for r in results])
    for place, name in enumerate(pooled.METRICS[:5]):
        column = [row[name] for row in content["per_fold"]]
        np.testing.assert_allclose(column, expected[:, place])
        assert content["mean"][name] == pytest.approx(expected[:, place].mean())
        assert content["std"][name] == pytest.approx(stats.tstd(expected[:, place]))
    assert [row["n"] for row in content["per_fold"]] == [20, 30, 40] * 2
    assert content["per_fold"][0]["train"] == 48


def test_pooled_is_over_all_held_out_images(results, labels):
    content = pooled.summarise(results, labels, CLASSES)["pooled"]
    each = []
    for repeat in (1, 2):
        probs = np.zeros((N, 3))
        for result in results:
            if result.fold.repeat == repeat:
                probs[result.fold.rows] = result.probs
        each.append(scores(labels, probs))
    assert content["n"] == N
    for place, name in enumerate(pooled.METRICS[:5]):
        column = [row[place] for row in each]
        assert [row[name] for row in content["repeats"]] == pytest.approx(column)
        assert content[name] == pytest.approx(np.mean(column))
        assert content["std"][name] == pytest.approx(stats.tstd(column))
    one = pooled.summarise(results[:3], labels, CLASSES)["pooled"]
    assert set(one["std"].values()) == {None}
    assert one["accuracy"] == one["repeats"][0]["accuracy"]


def test_predictions_are_in_the_order_of_train(results, labels):
    paths = [f"train/{i}.png" for i in range(N)]
    text = pooled.predictions_csv(results[:3], paths, labels, CLASSES)
    header, *rows = csv.reader(io.StringIO(text))
    assert header == ["path", "label", "fold", "predicted", *CLASSES]
    assert [row[0] for row in rows] == paths
    assert [row[1] for row in rows] == [CLASSES[label] for label in labels]
    for result in results[:3]:
        for row, probs in zip(result.fold.rows, result.probs, strict=True):
            assert rows[row][2] == str(result.fold.number)
            assert rows[row][3] == CLASSES[probs.argmax()]
            np.testing.assert_allclose(np.array(rows[row][4:], float), probs, rtol=1e-7)


def test_with_repeats_predictions_are_the_mean(results, labels):
    text = pooled.predictions_csv(results, ["x"] * N, labels, CLASSES)
    rows = list(csv.reader(io.StringIO(text)))[1:]
    for i in (0, 41, 89):
        both = [(r.fold.number, r.probs[r.fold.rows == i][0]) for r in results if i in r.fold.rows]
        assert rows[i][2] == "/".join(str(number) for number, _ in both)
        np.testing.assert_allclose(
            np.array(rows[i][4:], float), np.mean([p for _, p in both], axis=0), rtol=1e-7
        )


def test_the_interval_without_correction_is_students():
    values = [0.61, 0.64, 0.60, 0.66, 0.63]
    low, high = pooled.corrected_interval(values, 0.0)
    assert (low, high) == pytest.approx(
        stats.t.interval(0.95, 4, np.mean(values), stats.sem(values))
    )


def test_the_correction_of_five_folds_makes_it_half_as_wide_again():
    values = [0.61, 0.64, 0.60, 0.66, 0.63]
    plain, corrected = (pooled.corrected_interval(values, ratio) for ratio in (0.0, 0.25))
    assert (corrected[1] - corrected[0]) / (plain[1] - plain[0]) == pytest.approx(1.5)
    assert sum(corrected) / 2 == pytest.approx(np.mean(values))


def test_the_corrected_interval_covers_where_the_plain_one_does_not():
    """Means over folds whose scores share half of their variance, as overlapping sets make them."""
    rng = np.random.default_rng(0)
    covered = {0.0: 0, 0.25: 0}
    for _ in range(1000):
        # Nadeau and Bengio's model: correlation n_test / (n_test + n_train) = 1/5 between folds.
        shared = rng.normal() * np.sqrt(0.2)
        values = shared + rng.normal(size=5) * np.sqrt(0.8)
        for ratio in covered:
            low, high = pooled.corrected_interval(values, ratio)
            covered[ratio] += low <= 0 <= high
    assert covered[0.25] >= 930
    assert covered[0.0] < 880


def test_the_box_plot(results, labels):
    content = {"folds": 3, "repeats": 2, **pooled.summarise(results, labels, CLASSES)}
    png = fold_plots.boxes(content)
    assert png.startswith(b"\x89PNG")
    assert fold_plots.boxes(content) == png


def test_the_printed_table(results, labels):
    content = pooled.summarise(results, labels, CLASSES)
    lines = pooled.text(content).splitlines()
    assert len(lines) == 1 + len(pooled.METRICS)
    assert f"{content['mean']['accuracy']:.4f}" in lines[1]
