import csv
import io
import json
import re
import shutil

import numpy as np
import pytest

from emotion_jax.errors import UserError
from emotion_jax.evaluation import (
    calibration,
    calibration_plots,
    cross_validation,
    metrics,
    page,
    report,
)
from emotion_jax.evaluation.folds import Scheme

CLASSES = ["angry", "disgust", "happy", "悲しい <b>"]
EVIL = '<script>alert("1")</script>,\n"x".png'


@pytest.fixture(scope="module")
def case():
    """Report, paths, labels and probabilities; the first image has an evil name and is wrong."""
    rng = np.random.default_rng(0)
    labels = rng.choice([0, 2, 3], 40)
    probs = rng.dirichlet(np.ones(4), 40).astype(np.float32)
    labels[0], probs[0] = 0, (0, 0, 0, 1)
    hashes = np.arange(40, dtype=np.uint64)
    content = metrics.compute(labels, probs, CLASSES, hashes[:4], hashes)
    content["checkpoint"] = {
        "path": "runs/<i>/checkpoints/7", "step": 7, "epoch": 1, "model": "cnn",
        "fingerprint": "f00d", "versions": {"jax": "0.10.2", "emotion_jax": "1"},
        "config": {"training": {"epochs": 3, "note": "</pre><script>"}}, "temperature": None,
    }  # fmt: skip
    content["protocol"] = {
        "split": "test", "n": 40, "seed": 0, "selection": "best validation accuracy",
        "tta": None, "remark": "see <http>", "votes": {"min": 5}, "list": [1, 0.25, True],
    }  # fmt: skip
    paths = [EVIL, *(f"test/笑 {i}.png" for i in range(1, 40))]
    return content, paths, labels, probs


@pytest.fixture(scope="module")
def written(case, tmp_path_factory):
    out = tmp_path_factory.mktemp("report") / "made" / "here"
    report.write(out, *case)
    return out


def test_files_are_complete_and_the_same_again(case, written, tmp_path):
    names = ["confusion_matrix.png", "predictions.csv", "reliability.png", "report.html"]
    names += ["report.json", "selective.png"]
    assert sorted(path.name for path in written.iterdir()) == names
    report.write(tmp_path, *case)
    for path in written.iterdir():
        assert (tmp_path / path.name).read_bytes() == path.read_bytes()


def test_figures_of_an_earlier_report_do_not_stay(case, tmp_path):
    report.write(tmp_path, *case, {"explain": b"of another model"})
    (tmp_path / "mine.png").write_bytes(b"the user's own")
    report.write(tmp_path, *case)
    assert not (tmp_path / "explain.png").exists()
    assert (tmp_path / "mine.png").read_bytes() == b"the user's own"


def test_figures_of_others_stay(case, written, tmp_path):
    names = [f"{name}.png" for name in report.OPTIONAL]
    for name in names:
        (tmp_path / name).write_bytes(b"the user's own")
    report.write(tmp_path, *case)
    report.write(tmp_path, *case)
    assert [(tmp_path / name).read_bytes() for name in names] == [b"the user's own"] * len(names)
    # A report that was cut short between its files has left none that the next does not know of.
    shutil.rmtree(tmp_path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(report.files, "write_text_atomic", full_disk(".html"))
        with pytest.raises(UserError, match="No space left"):
            report.write(tmp_path, *case, {"explain": b"of the one that was cut short"})
    assert not (tmp_path / "explain.png").exists()


def full_disk(ending):
    """``write_text_atomic`` that fails for names with this ending."""
    whole = report.files.write_text_atomic

    def write(path, text):
        if path.name.endswith(ending):
            raise OSError(28, "No space left on device")
        whole(path, text)

    return write


@pytest.mark.parametrize("foreign", [b'{"accuracy": 0.5}', b"[]", b"not JSON", b"\xff\xfe"])
def test_a_report_of_another_program_is_not_replaced(case, tmp_path, foreign):
    (tmp_path / "report.json").write_bytes(foreign)
    with pytest.raises(UserError, match=r"report\.json is no report of an evaluation"):
        report.write(tmp_path, *case)
    assert [path.name for path in tmp_path.iterdir()] == ["report.json"]
    assert (tmp_path / "report.json").read_bytes() == foreign


def test_json_round_trip(case, written):
    content = json.loads((written / "report.json").read_bytes())
    assert content == case[0]
    assert list(content)[-2:] == ["checkpoint", "protocol"]


def test_csv(case, written):
    _, paths, labels, probs = case
    raw = (written / "predictions.csv").read_bytes()
    assert b"\r" not in raw
    assert raw.endswith(b"\n")
    header, *rows = csv.reader(io.StringIO(raw.decode(), newline=""))
    assert header == ["path", "label", "predicted", *CLASSES]
    assert [row[0] for row in rows] == paths
    assert [row[1] for row in rows] == [CLASSES[i] for i in labels]
    assert [row[2] for row in rows] == [CLASSES[i] for i in probs.argmax(1)]
    np.testing.assert_allclose(np.array([row[3:] for row in rows], float), probs, rtol=1e-7)


def test_csv_byte_for_byte():
    probs = np.array([[1 / 3, 2 / 3], [1.0, 1e-12]])
    table = report.predictions_csv(["a b.png", "ß,.png"], np.array([0, 0]), probs, ["x", "y"])
    assert table == (
        "path,label,predicted,x,y\n"
        "a b.png,x,y,0.33333333,0.66666667\n"
        '"ß,.png",x,x,1,1e-12\n'
    )  # fmt: skip


def test_html_escapes_and_needs_nothing(written):
    text = (written / "report.html").read_text(encoding="utf-8")
    assert "<script" not in text
    assert "&lt;script&gt;alert(&#34;1&#34;)&lt;/script&gt;" in text
    assert "悲しい &lt;b&gt;" in text
    assert "runs/&lt;i&gt;/" in text
    assert "see &lt;http&gt;" in text
    assert not re.search(r"https?://|<link|<iframe|@import|url\(", text)
    sources = re.findall(r'src="([^"]{30})', text)
    assert len(sources) == 3
    assert all(source.startswith("data:image/png;base64,") for source in sources)


def test_html_says_what_was_measured(case, written):
    text = (written / "report.html").read_text(encoding="utf-8")
    content = case[0]
    for value in (content["accuracy"], *content["accuracy_interval"], content["keras_recall"]):
        assert f"{value:.1%}" in text
    for phrase in ("on the test split", "best validation accuracy", "min 5", "1, 0.25, yes"):
        assert phrase in text
    for phrase in ("f00d", "jax 0.10.2, emotion_jax 1", "training.epochs = 3", "<details>"):
        assert phrase in text
    assert "3 of the checkpoint's 4 classes" in text
    assert "not in this data" in text
    assert "On the 36 images that do not occur in the training set" in text


@pytest.mark.parametrize("deduplicated", [None, {"n": 0, "accuracy": None, "f1": None}])
def test_html_of_a_perfect_single_class_run(deduplicated):
    labels, probs = np.zeros(2, int), np.ones((2, 1), np.float32)
    content = metrics.compute(labels, probs, ["one"])
    content |= {"checkpoint": {}, "protocol": {}, "deduplicated": deduplicated}
    figures = dict.fromkeys(("confusion_matrix", "reliability", "selective"), b"")
    text = page.html(content, report.mistakes(["a", "b"], labels, probs, ["one"]), figures)
    assert "100.0%" in text
    assert "None: every image" in text


@pytest.mark.parametrize(
    ("protocol", "sentence"),
    [
        ({}, "Not known."),
        ({"deduplicated": "not known: images of <another> size"}, "Not known: images of &lt;"),
        (cross_validation._protocol(Scheme()), "Nothing to leave out: identical images are in one"),
    ],
)
def test_html_says_why_nothing_was_left_out(case, protocol, sentence):
    content, paths, labels, probs = case
    content = {**content, "deduplicated": None, "protocol": protocol}
    figures = dict.fromkeys(("confusion_matrix", "reliability", "selective"), b"")
    text = page.html(content, report.mistakes(paths, labels, probs, CLASSES), figures)
    assert f'<td class="about">{sentence}' in text


def test_mistakes_are_the_surest_first(case):
    _, paths, labels, probs = case
    rows = report.mistakes(paths, labels, probs, CLASSES)
    assert rows[0] == {"path": EVIL, "label": "angry", "predicted": CLASSES[3], "p": 1.0}
    wrong = probs.argmax(1) != labels
    assert [row["p"] for row in rows] == sorted(probs.max(1)[wrong].tolist(), reverse=True)[:20]
    assert all(row["label"] != row["predicted"] for row in rows)


def test_figures_are_those_of_plots(case, written):
    content, _, labels, probs = case
    bins = calibration.plain(metrics.reliability_bins(probs, labels))
    floor = calibration.ece_floor(probs)
    expected = calibration_plots.reliability(bins, content["ece"], floor, probs.max(axis=1))
    assert (written / "reliability.png").read_bytes() == expected


def test_text(case):
    content, _, labels, probs = case
    table, line = report.text(content, labels, probs).split("\n\n")[-2:]
    assert "weighted avg" in table
    assert "disgust" not in table
    macro = report.text(content, labels, probs).split("macro avg")[1].split()[:3]
    assert macro == [f"{content[name]:.4f}" for name in ("precision", "recall", "f1")]
    low, high = content["accuracy_interval"]
    assert f"{content['accuracy']:.4f} (95% interval {low:.4f} to {high:.4f}, n = 40)" in line
    assert "(n = 36)" in line
    assert "\n" not in line


def test_a_place_that_cannot_be_written_to(case, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="Cannot write the report"):
        report.write(tmp_path / "file" / "out", *case)


def test_nan_is_refused_before_anything_is_replaced(case, tmp_path):
    content, *rest = case
    with pytest.raises(ValueError, match="JSON"):
        report.write(tmp_path, {**content, "f1": float("nan")}, *rest)
    assert not list(tmp_path.iterdir())
