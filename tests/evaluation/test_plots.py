import io

import matplotlib
import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from emotion_jax.evaluation import calibration, calibration_plots, plots
from emotion_jax.evaluation.metrics import Bin
from emotion_jax.training import selection

FACES = ["angry", "disgust", "fear", "happy", "neutral", "sad", "surprise"]
BINS = [Bin(0.35, 0.5, 10), Bin(0.6, 0.6, 10), Bin(0.98, 0.7, 9)]


def row(epoch, **values):
    names = "loss accuracy precision recall val_loss val_accuracy val_precision val_recall"
    return {"step": 10 * epoch, "epoch": epoch, "learning_rate": 1e-3, "images_per_second": 100.0,
            **dict.fromkeys(names.split(), 0.5), **values}  # fmt: skip


def reliability(bins, ece=0.1, before=None):
    confidences = np.random.default_rng(0).random(100).astype(np.float32)
    return calibration_plots.reliability(calibration.plain(bins), ece, 0.02, confidences, before)


def opened(png):
    """The decoded picture, after a look at what every one has to be."""
    assert png.startswith(b"\x89PNG\r\n\x1a\n")
    image = Image.open(io.BytesIO(png))
    assert not image.text
    assert len(np.unique(np.asarray(image.convert("L")))) > 20
    return image


@pytest.mark.parametrize("classes", [["one"], FACES, [f"class {i}" for i in range(25)]])
def test_confusion_matrix(classes):
    matrix = np.random.default_rng(0).integers(0, 2000, (len(classes),) * 2)
    matrix[-1] = 0
    width, height = opened(plots.confusion_matrix(matrix.tolist(), classes)).size
    assert width == height
    assert 300 < width <= 2400


def test_confusion_matrix_of_any_names():
    names = ["$a$_^{", "怒り", "غضب", "x" * 300, "two\nlines", "\udcff", ""]
    opened(plots.confusion_matrix(np.eye(7, dtype=int).tolist(), names))


@pytest.mark.parametrize("bins", [BINS, BINS[:1], [Bin(1.0, 1.0, 5)]])
def test_reliability(bins):
    assert opened(reliability(bins)).size == (930, 1035)
    assert reliability(bins, before=calibration.plain(BINS)) != reliability(bins)


@pytest.mark.parametrize(
    "history",
    [
        [row(e, val_accuracy=e / 50) for e in range(1, 41)],
        [row(1)],
        [row(1, val_loss=None, val_accuracy=None), row(2, val_accuracy=0.7)],
        [{"step": 1, "epoch": 1, "loss": 2.0}],
        [],
    ],
)
def test_curves(history):
    assert opened(plots.curves(history)).size == (1575, 1050)


def test_the_marked_epoch_is_that_of_checkpoint_selection(monkeypatch):
    marked = []
    monkeypatch.setattr(plots, "_mark", lambda chosen, panels: marked.append(chosen["epoch"]))
    rows = [row(1, val_accuracy=0.6), row(2, val_accuracy=0.7), row(3, val_accuracy=0.7)]
    rows.append(row(4, val_accuracy=0.65))
    plots.curves(rows)
    plots.curves(rows, selection.RULES["last"])
    rows[2]["val_loss"] = 0.4
    plots.curves(rows)
    assert marked == [2, 4, 3]


def test_the_chosen_epoch_is_named_by_what_it_has():
    panels = Figure().subplots(2, 2)
    plots._mark(row(3, val_accuracy=0.7), panels)
    assert [line.get_label() for line in panels[0, 1].lines][-1] == "Chosen: 70.0% at epoch 3"


def test_bytes_depend_on_the_data_alone():
    first = reliability(BINS)
    with matplotlib.rc_context({"figure.dpi": 50, "axes.facecolor": "red", "font.size": 20}):
        assert reliability(BINS) == first
        assert matplotlib.rcParams["figure.dpi"] == 50
    assert reliability(BINS, 0.2) != first
