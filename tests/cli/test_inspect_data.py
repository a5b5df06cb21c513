import numpy as np
import pytest
from PIL import Image

from emotion_jax.cli import inspect_data
from emotion_jax.data import synthetic
from emotion_jax.evaluation.doctor import examine


@pytest.fixture
def happy(tmp_path):
    """A tree of one class that no network should learn from, and predictions of it."""
    rng = np.random.default_rng(0)
    lines = [",".join(["path", "label", "fold", "predicted", *synthetic.CLASSES])]
    for i in range(40):
        path = tmp_path / "data" / "train" / "happy" / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(synthetic.draw(3, np.random.default_rng(i))).save(path)
        probs = map(str, rng.dirichlet(np.full(7, 0.5)))
        lines.append(",".join([f"train/happy/{i}.png", "happy", str(1 + i % 2), "?", *probs]))
    (tmp_path / "predictions.csv").write_text("\n".join(lines) + "\n")
    return tmp_path / "data"


def test_predictions_of_one_class(happy, tmp_path, capsys):
    argv = [str(happy), "--out", str(tmp_path / "out")]
    inspect_data.main([*argv, "--predictions", str(tmp_path / "predictions.csv")])
    said = capsys.readouterr().out
    assert "mislabel       none" in said
    assert "All of them are of the class happy: likely mislabels take a second one." in said
    assert "All of them are of the class happy" in (tmp_path / "out" / "report.html").read_text()


def test_a_folder_of_the_users_is_refused_before_any_work(happy, tmp_path, capsys, monkeypatch):
    monkeypatch.delattr(examine, "examine")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "leak.png").write_text("mine")
    with pytest.raises(SystemExit) as stop:
        inspect_data.main([str(happy), "--out", str(tmp_path / "out")])
    assert stop.value.code == 2
    assert "out holds leak.png and is no report of inspect_data.py" in capsys.readouterr().err
    assert (tmp_path / "out" / "leak.png").read_text() == "mine"
