import csv
import io

import pytest
from PIL import Image

from emotion_jax.errors import UserError
from emotion_jax.evaluation.doctor import examine, page, predictions
from emotion_jax.evaluation.doctor.findings import KINDS, Finding, table

WRONG = ("train/happy/00017.png", "train/sad/00040.png")


@pytest.fixture(scope="module")
def diagnosis(planted):
    return examine.examine(planted[0])


def test_what_was_planted_is_found_and_nothing_else(diagnosis, planted):
    found = [(finding.kind, finding.path, finding.related) for finding in diagnosis.all]
    assert set(found) == planted[1]
    assert len(found) == len(planted[1])
    details = {finding.path: finding.detail for finding in diagnosis.all}
    assert details["train/happy/zero.png"] == "zero bytes"
    assert details["train/sad/cut.png"] == "truncated"
    assert details["train/happy/notes.txt"] == "not an image file (.txt)"
    assert details["test/fear/leak.png"] == "identical pixels"
    assert details["train/sad/mirror.png"] == "near-identical, correlation 1.000, mirrored"
    assert details["train/disgust/00001.png"] == "identical pixels, labelled disgust and angry"
    assert details["train/neutral/large.png"].startswith("large: 200 x 200 pixels")
    assert details["train/neutral/night.png"].startswith("low contrast: 48 x 48 pixels")
    assert details["train/contempt"] == "2 images, 8.3% of the largest class (24)"


def test_mislabels_with_predictions_alone(diagnosis, planted, predictions_file):
    assert "mislabel" not in diagnosis.findings
    again = examine.examine(planted[0], predictions.read(predictions_file))
    assert {finding.path for finding in again.findings["mislabel"]} == set(WRONG)
    others = [finding for finding in again.all if finding.kind != "mislabel"]
    assert others == diagnosis.all


@pytest.fixture
def predictions_file(planted, predictions, tmp_path):
    paths = sorted((planted[0] / "train").glob("*/000*.png"))
    names = [path.relative_to(planted[0]).as_posix() for path in paths]
    return predictions(tmp_path / "predictions.csv", names, WRONG)


def test_the_files(diagnosis, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "findings.csv").write_text("kind,path,related,detail\n")
    (out / "mislabel.png").write_bytes(b"of an earlier examination")
    examine.write(diagnosis, out)
    sheets = {f"{kind}.png" for kind in KINDS if kind != "mislabel"}
    assert {path.name for path in out.iterdir()} == sheets | {"findings.csv", "report.html"}
    for name in sheets:
        with Image.open(out / name) as sheet:
            assert min(sheet.size) > 100
    with (out / "findings.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["kind", "path", "related", "detail"]
    assert [tuple(row.values()) for row in rows] == [tuple(f) for f in diagnosis.all]


def test_the_page_shows_each_kind_and_needs_nothing_else(diagnosis, tmp_path):
    examine.write(diagnosis, tmp_path)
    html = (tmp_path / "report.html").read_text()
    assert html.count("<img ") == 8
    assert 'src="http' not in html
    assert "<script" not in html
    assert "skipped: needs --predictions" in html
    assert "1 with the same pixels, 1 near-identical" in html


def test_names_are_escaped_on_the_page(tmp_path):
    folder = tmp_path / "data" / "train" / "<b>bold"
    folder.mkdir(parents=True)
    Image.new("L", (8, 8), 7).save(folder / "<i>.png")
    html = page.html(examine.examine(tmp_path / "data"), {})
    assert "<b>bold" not in html
    assert "&lt;i&gt;.png" in html


def test_the_text_has_a_line_a_kind(diagnosis):
    lines = page.text(diagnosis).splitlines()
    assert lines[0].endswith("193 images of 9 classes (train 149, test 44)")
    assert [line.split()[0] for line in lines[2:]] == list(KINDS)
    said = {line.split()[0]: " ".join(line.split()[1:]) for line in lines[2:]}
    assert said["leak"] == "2 in test: 1 with the same pixels, 1 near-identical"
    assert said["duplicate"] == "2 in train"
    conflicts = "1 group of identical images (1 in train); 0 near-identical images"
    assert said["label_conflict"] == conflicts
    assert said["broken"] == "1 not an image file (.txt), 1 truncated, 1 zero bytes"


@pytest.mark.parametrize("name", ["leak.png", "mislabel.png", "report.html", "findings.csv"])
def test_files_of_the_users_are_left_alone(diagnosis, tmp_path, name):
    (tmp_path / name).write_text("mine")
    with pytest.raises(UserError, match=rf"holds {name} and is no report of inspect_data\.py"):
        examine.write(diagnosis, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_text() == "mine"


def test_a_report_is_written_anew(diagnosis, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    for _ in range(2):
        examine.write(diagnosis, tmp_path)
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_a_score_without_mislabels_is_a_sentence():
    said = page.score_text({"n": 1200, "random": 0.25, "precision": {}})
    assert "contradict the label of 25.0% of all 1,200 images; none is among" in said
    said = page.score_text({"n": 1200, "random": 0.25, "precision": {3: 2 / 3}})
    assert "of 66.7% of the first 3 mislabels; of 25.0% of all 1,200 images." in said


def test_csv_of_odd_names():
    names = ('a "b",\n.png', "a\rb.png", "c\r\n.png")
    text = table([Finding("broken", name, "", "zero bytes") for name in names])
    rows = list(csv.reader(io.StringIO(text, newline="")))[1:]
    assert rows == [["broken", name, "", "zero bytes"] for name in names]


def test_a_report_that_cannot_be_written(diagnosis, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="Cannot write the report to"):
        examine.write(diagnosis, tmp_path / "file")
