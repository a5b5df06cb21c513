import json
import shutil

import numpy as np
import pytest
from PIL import Image

from emotion_jax.cli import compare, evaluate, train

pytestmark = pytest.mark.usefixtures("finished_cache")


def refused(capsys, *argv):
    with pytest.raises(SystemExit) as stop:
        compare.main([str(part) for part in argv])
    assert stop.value.code == 2
    return capsys.readouterr().err.splitlines()[-1]


def test_two_runs(finished, tiny_tree, tmp_path, arguments, capsys):
    other = tmp_path / "other"
    more = ("--data.pipeline", "resident", "--training.learning_rate", 1e-2, "--training.seed", 1)
    train.main(arguments(tiny_tree, other, *more))
    capsys.readouterr()
    compare.main([str(finished), str(other), "--out", str(tmp_path / "out")])
    said = capsys.readouterr().out
    assert "24 images that all have predicted" in said
    assert "McNemar p = " in said
    content = json.loads((tmp_path / "out" / "compare.json").read_text())
    assert content["settings"] == {
        "training.learning_rate": [2e-3, 1e-2],
        "training.seed": [0, 1],
    }
    first, second = content["runs"]
    for row, folder in ((first, finished), (second, other)):
        report = json.loads((folder / "report" / "report.json").read_text())
        assert row["accuracy"] == pytest.approx(report["accuracy"])
        assert row["f1"] == pytest.approx(report["f1"])
        assert row["ece"] == pytest.approx(report["ece"], abs=1e-6)
    pair = second["against_first"]
    assert pair["accuracy"] == pytest.approx(second["accuracy"] - first["accuracy"])
    assert pair["f1"] == pytest.approx(second["f1"] - first["f1"])
    assert pair["accuracy_interval"][0] <= pair["accuracy"] <= pair["accuracy_interval"][1]
    gain = (pair["only_this_right"] - pair["only_first_right"]) / 24
    assert pair["accuracy"] == pytest.approx(gain)
    page = (tmp_path / "out" / "compare.html").read_text()
    assert "training.learning_rate" in page
    assert "http" not in page.replace("http-equiv", "")
    assert (tmp_path / "out" / "compare.png").read_bytes().startswith(b"\x89PNG")


def test_a_run_equals_itself(finished, tmp_path, capsys):
    compare.main([str(finished), str(finished), str(finished), "--out", str(tmp_path)])
    content = json.loads((tmp_path / "compare.json").read_text())
    for row in content["runs"][1:]:
        pair = row["against_first"]
        assert (pair["accuracy"], pair["p"], pair["p_holm"]) == (0.0, 1.0, 1.0)
        np.testing.assert_array_equal(pair["accuracy_interval"], [0.0, 0.0])
    assert content["settings"] == {}


def test_folders_of_one_name_are_told_apart(finished, tmp_path, capsys):
    for name in ("a", "b"):
        shutil.copytree(finished / "report", tmp_path / name / "test")
    folders = [str(tmp_path / name / "test") for name in ("a", "b")]
    compare.main([*folders, "--out", str(tmp_path / "out")])
    content = json.loads((tmp_path / "out" / "compare.json").read_text())
    assert [row["name"] for row in content["runs"]] == folders
    assert content["left_out"] == dict.fromkeys(folders, 0)


def test_bad_input_is_a_sentence(finished, tmp_path, capsys):
    assert "One run alone" in refused(capsys, finished)
    assert "holds no report" in refused(capsys, finished, tmp_path)
    other = tmp_path / "other"
    shutil.copytree(finished / "report", other)
    table = other / "predictions.csv"
    table.write_text(table.read_text().replace("test/", "elsewhere/"))
    assert "no image with one label in common" in refused(capsys, finished, other)
    table.write_text(table.read_text().replace("angry", "cross"))
    assert "such runs cannot be compared" in refused(capsys, finished, other)


def test_how_it_was_evaluated_is_a_difference(finished, tmp_path, tiny_tree, capsys):
    evaluate.main([str(finished), "--data", str(tiny_tree), "--tta", "--out", str(tmp_path / "a")])
    compare.main([str(finished), str(tmp_path / "a"), "--out", str(tmp_path / "out")])
    content = json.loads((tmp_path / "out" / "compare.json").read_text())
    assert content["settings"] == {"evaluation.tta": [False, True]}


def test_other_images_of_the_same_names(finished, tmp_path, tiny_tree, capsys):
    shutil.copytree(tiny_tree, tmp_path / "tree")
    first, *_ = sorted((tmp_path / "tree" / "test" / "sad").iterdir())
    Image.fromarray(np.full((12, 12), 7, np.uint8)).save(first)
    out = tmp_path / "a"
    evaluate.main([str(finished), "--data", str(tmp_path / "tree"), "--out", str(out)])
    said = refused(capsys, finished, out, "--out", tmp_path / "b")
    assert "were evaluated on other images under the same names" in said
    assert not (tmp_path / "b").exists()
