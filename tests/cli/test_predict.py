import csv
import io
import json

import numpy as np
import pytest
import skimage.data
from PIL import Image

from emotion_jax.cli import predict

pytestmark = pytest.mark.usefixtures("finished_cache")
CLASSES = ["angry", "happy", "sad"]


def run(*argv):
    predict.main([str(part) for part in argv])


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def refused(capsys, *argv):
    with pytest.raises(SystemExit) as stop:
        run(*argv)
    assert stop.value.code == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("error: ")
    return error


@pytest.fixture
def photos(tmp_path):
    """A folder with a photograph, one without a face, and files that are none."""
    folder = tmp_path / "photos"
    (folder / "sub").mkdir(parents=True)
    Image.fromarray(skimage.data.astronaut()).save(folder / "sub" / "astronaut.png")
    Image.fromarray(np.full((80, 90, 3), 99, np.uint8)).save(folder / "wall.jpg")
    (folder / "cut.jpg").write_bytes((folder / "wall.jpg").read_bytes()[:200])
    (folder / "empty.png").write_bytes(b"")
    (folder / "notes.txt").write_text("no image")
    return folder


def test_a_folder_of_photographs(finished, photos, tmp_path, capsys):
    out, pictures = tmp_path / "faces.jsonl", tmp_path / "annotated"
    run(photos, "--checkpoint", finished, "--out", out, "--annotate", pictures)
    rows = {row["path"].rpartition("/")[2]: row for row in lines(out)}
    assert sorted(rows) == ["astronaut.png", "cut.jpg", "empty.png", "wall.jpg"]
    face = rows["astronaut.png"]
    assert list(face["probs"]) == CLASSES
    assert sum(face["probs"].values()) == pytest.approx(1, abs=1e-5)
    x, y, width, height = face["box"]
    assert 150 < x < 220 < 250 < x + width < 300
    assert 40 < y < 100 < 150 < y + height < 200
    assert face["score"] == max(face["probs"].values()) == face["probs"][face["label"]]
    assert rows["wall.jpg"]["faces"] == 0
    assert (rows["cut.jpg"]["error"], rows["empty.png"]["error"]) == ("truncated", "zero bytes")
    (made,) = pictures.rglob("astronaut*")
    with Image.open(made) as picture:
        assert picture.size == (512, 512)
        assert (np.asarray(picture.convert("RGB")) != skimage.data.astronaut()).any()
    assert str(out) in capsys.readouterr().out


def test_the_same_command_goes_on_where_it_was_stopped(finished, photos, tmp_path):
    out = tmp_path / "faces.csv"
    run(photos, "--checkpoint", finished, "--out", out)
    whole = out.read_bytes()
    out.write_bytes(whole[: len(whole) - 30])
    run(photos, "--checkpoint", finished, "--out", out)
    assert out.read_bytes() == whole
    run(photos, "--checkpoint", finished, "--out", out)  # nothing is left to do
    assert out.read_bytes() == whole


def test_faces_that_are_cut_out_get_what_evaluation_gave(finished, tiny_tree, tmp_path):
    out = tmp_path / "faces.jsonl"
    run(tiny_tree / "test", "--crop", "--checkpoint", finished, "--out", out)
    with (finished / "report" / "predictions.csv").open(newline="") as file:
        expected = {row["path"]: row for row in csv.DictReader(file)}
    found = lines(out)
    assert len(found) == len(expected) == 24
    for row in found:
        truth = expected["test/" + "/".join(row["path"].split("/")[-2:])]
        assert row["label"] == truth["predicted"]
        for name in CLASSES:
            assert row["probs"][name] == pytest.approx(float(truth[name]), abs=2e-6)


def test_without_out_the_rows_are_printed(finished, tiny_tree, capsys):
    image = next((tiny_tree / "test" / "sad").iterdir())
    run(image, "--crop", "--checkpoint", finished, "--abstain-below", 1.0)
    (row,) = [json.loads(line) for line in io.StringIO(capsys.readouterr().out)]
    assert (row["path"], row["abstained"]) == (str(image), True)
    run(image, "--crop", "--checkpoint", finished, "--without", "happy")
    fewer = json.loads(capsys.readouterr().out)["probs"]
    assert list(fewer) == ["angry", "sad"]
    ratio = row["probs"]["angry"] / row["probs"]["sad"]
    assert fewer["angry"] / fewer["sad"] == pytest.approx(ratio, rel=1e-4)


def test_bad_input_is_a_sentence(finished, photos, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    assert "no images or videos" in refused(capsys, tmp_path / "empty", "--checkpoint", finished)
    assert "None of the 1 files" in refused(capsys, tmp_path / "none", "--checkpoint", finished)
    (tmp_path / "bad.jpg").write_text("x")
    assert "None of the 1 files" in refused(capsys, tmp_path / "bad.jpg", "--checkpoint", finished)
    assert "must end with .jsonl or .csv" in refused(
        capsys, photos, "--checkpoint", finished, "--out", tmp_path / "a.txt"
    )
    assert "no checkpoint nowhere" in refused(capsys, photos, "--checkpoint", "nowhere")
    assert "--fps is -1.0" in refused(capsys, photos, "--checkpoint", finished, "--fps", -1)
