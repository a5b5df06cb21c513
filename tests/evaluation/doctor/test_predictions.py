import numpy as np
import pytest

from emotion_jax.errors import UserError
from emotion_jax.evaluation import report
from emotion_jax.evaluation.doctor import predictions

HEAD = "path,label,fold,predicted,a,b\n"


def read(tmp_path, text):
    (tmp_path / "predictions.csv").write_text(text)
    return predictions.read(tmp_path)


def test_a_cross_validations_file(tmp_path):
    found = read(tmp_path, HEAD + "x/a/1.png,a,1,a,0.75,0.25\nx/b/2.png,b,2,a,0.5,0.5\n")
    assert found.classes == ("a", "b")
    assert found.out_of_fold
    assert list(found.probs) == ["x/a/1.png", "x/b/2.png"]
    np.testing.assert_allclose(found.probs["x/a/1.png"], [0.75, 0.25])


def test_an_evaluations_file(tmp_path):
    probs = np.array([[0.2, 0.8], [1.0, 0.0]])
    text = report.predictions_csv(["1.png", "2.png"], np.array([0, 1]), probs, ["a", "fold"])
    found = read(tmp_path, text)
    assert found.classes == ("a", "fold")
    assert not found.out_of_fold
    np.testing.assert_allclose(np.stack(list(found.probs.values())), probs)


def test_repeats_are_averaged(tmp_path):
    found = read(tmp_path, HEAD + "1.png,a,1,a,0.9,0.1\n1.png,a,2,b,0.1,0.9\n")
    np.testing.assert_allclose(found.probs["1.png"], [0.5, 0.5])


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "is empty or no CSV table"),
        ("path,label,a,b\n", "has the columns path, label, a, b; it needs path,label,fold"),
        ("path,label,predicted,a\n1,a,a,1\n", "has the columns"),
        ("path,label,predicted,a,a\n1,a,a,1,0\n", "has the columns"),
        (HEAD, "has no line but its first"),
        (HEAD + "1.png,a,1,a,0.9\n", "line 2: 5 values instead of 6"),
        (HEAD + "1.png,a,1,a,0.9,x\n", "line 2: a probability is not a number"),
        (HEAD + "1.png,a,1,a,0.9,0.9\n", r"line 2: the probabilities do not add up to 1 \(but to"),
        (HEAD + "1.png,a,1,a,nan,0.9\n", "do not add up to 1"),
        (HEAD + "1.png,a,1,a,-1,2\n", "do not add up to 1"),
    ],
)
def test_other_files(tmp_path, text, sentence):
    with pytest.raises(UserError, match=sentence):
        read(tmp_path, text)


def test_no_file(tmp_path):
    with pytest.raises(UserError, match=r"Cannot read the predictions .*cross_validate.py"):
        predictions.read(tmp_path)
