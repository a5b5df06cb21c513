import csv
import sys
from dataclasses import replace

import numpy as np
import pytest

from emotion_jax.data import votes
from emotion_jax.errors import UserError
from emotion_jax.evaluation.doctor import mislabels, predictions

WRONG = ["train/happy/00010.png", "train/angry/00021.png", "train/sad/00033.png"]


@pytest.fixture
def known(surveyed, predictions, tmp_path):
    """Predictions of the planted tree's train split that contradict three labels."""
    names = [p for p in surveyed.paths if p.startswith("train/") and "contempt" not in p]
    return read(predictions(tmp_path / "predictions.csv", names, WRONG))


read = predictions.read


def test_what_the_predictions_contradict(surveyed, known):
    ranking = mislabels.find(surveyed, known)
    found = {finding.path for finding in ranking.findings}
    # How many are pruned of a class is an estimate, of a class of 21 a coarse one.
    assert found <= set(WRONG)
    assert len(found) >= 2
    by_path = {finding.path: finding.detail for finding in ranking.findings}
    detail = by_path["train/happy/00010.png"]
    assert detail.startswith("labelled happy (p = 0.0")
    assert "looks neutral (p = 0.8" in detail
    assert ranking.notes == [f"147 of 193 images have a prediction in {known.source}."]
    assert len(ranking.labels) == 147


def test_the_surest_comes_first(surveyed, known):
    angry = known.probs["train/angry/00021.png"]
    angry[:] = 0.0
    angry[known.classes.index("disgust")] = 1.0
    ranking = mislabels.find(surveyed, known)
    assert ranking.findings[0].path == "train/angry/00021.png"


def test_what_is_not_known_is_said(surveyed, known, tmp_path):
    columns = ["path", "label", "predicted", "angry", "happy"]
    names = ["train/angry/00000.png", "train/happy/00003.png", "train/sad/00005.png", "gone.png"]
    with (tmp_path / "two.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows([name, "?", "angry", 0.9, 0.1] for name in names)
    notes = mislabels.find(surveyed, read(tmp_path / "two.csv")).notes
    assert notes[0].startswith("2 of 193 images")
    assert notes[1] == "1 are of classes that the predictions do not know."
    assert notes[2] == "1 predictions are of images that are not in this folder."
    assert "no fold column" in notes[3]


@pytest.mark.parametrize(
    ("path", "columns", "sentence"),
    [
        ("other/1.png", "angry,happy", r"predicts none of the images .* names 'other/1.png'"),
        ("train/sad/00005.png", "joy,grief", "knows the classes joy, grief.* none is the same"),
    ],
)
def test_predictions_of_something_else(surveyed, tmp_path, path, columns, sentence):
    (tmp_path / "predictions.csv").write_text(f"path,label,predicted,{columns}\n{path},x,x,1,0\n")
    with pytest.raises(UserError, match=sentence):
        mislabels.find(surveyed, read(tmp_path))


def test_without_cleanlab(surveyed, known, monkeypatch):
    monkeypatch.setitem(sys.modules, "cleanlab.filter", None)
    with pytest.raises(UserError, match=r'needs cleanlab: pip install "emotion-jax\[doctor\]"'):
        mislabels.find(surveyed, known)


def test_score(tmp_path):
    """Of five images, three with votes against their folder, two of these in the ranking."""
    labels = {f"train/happy/{name}.png": "happy" for name in "abcdef"}
    found = [mislabels.Finding("mislabel", f"train/happy/{name}.png", "", "") for name in "abc"]
    table = {"a": "sadness", "b": "happiness", "c": "not_face", "d": "anger", "e": None}
    with (tmp_path / "votes.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, ["image", *votes.COLUMNS], restval=0)
        writer.writeheader()
        for name, column in table.items():
            counts = {column: 10} if column else {"anger": 5, "fear": 5}
            writer.writerow({"image": name} | counts)
    ranking = mislabels.Ranking(found, labels, [])
    score = mislabels.score(ranking, tmp_path / "votes.csv")
    assert score["n"] == 5
    assert score["random"] == pytest.approx(3 / 5)
    assert score["precision"] == {3: pytest.approx(2 / 3)}
    strange = {f"train/Happy/{name}.png": "Happy" for name in "abcdef"}
    ranking = mislabels.Ranking(found, labels | strange, [])
    assert mislabels.score(ranking, tmp_path / "votes.csv") == score
    ranking = mislabels.Ranking(found, strange, [])
    with pytest.raises(UserError, match=r"are for the classes angry, .* are called Happy: rename"):
        mislabels.score(ranking, tmp_path / "votes.csv")
    ranking = mislabels.Ranking(found, {"x/y.png": "y"}, [])
    with pytest.raises(UserError, match="have none of the images"):
        mislabels.score(ranking, tmp_path / "votes.csv")


def test_classes_without_images_and_one_image(surveyed, known):
    some = {path: np.roll(probs, 0) for path, probs in list(known.probs.items())[:1]}
    few = predictions.Predictions(known.source, known.classes, some, True)
    assert mislabels.find(surveyed, few).findings == []


@pytest.mark.parametrize("name", ["angry", "happy", "surprise"])
def test_predictions_of_one_class_alone(surveyed, known, name):
    some = {path: probs for path, probs in known.probs.items() if f"/{name}/" in path}
    assert len(some) > 10
    ranking = mislabels.find(surveyed, replace(known, probs=some))
    assert ranking.findings == []
    assert ranking.notes[1].startswith(f"All of them are of the class {name}:")
