import csv
import errno
import fcntl
import io
import json
import os

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emotion_jax.errors import UserError
from emotion_jax.inference import settings as settings_lib
from emotion_jax.inference.face import Face
from emotion_jax.inference.rows import Output, error_row, rows_of

CLASSES = ("sad", "happy")
MADE = {"network": "12"}


def face(p=0.25, landmarks=None):
    row = {"sad": p, "happy": 1 - p}
    label = max(row, key=row.get)
    return Face((1.5, 2.0, 30.25, 40.0), 0.98, landmarks, label, row[label], row)


def groups():
    """Rows as they are written together: images, and a video with two tracks."""
    yield rows_of("a.jpg", [face()])
    yield rows_of('odd, "name".jpg', [face(0.1), face(0.9), face(0.5)])
    yield [{"path": "bad.jpg", "error": "truncated"}]
    yield rows_of("ö/empty.png", [])
    for i in range(8):
        faces = [face(i / 10), face(0.5)][: i % 3]
        yield rows_of("film.mp4", faces, i, i * 0.04, list(range(len(faces))))


def write(path, chosen, made=None):
    output = Output(path, CLASSES, made)
    for group in chosen:
        output.write(group)
    output.close()
    return output


def test_json_lines(tmp_path):
    marks = np.float32([[1, 2], [3, 4], [5, 6], [7, 8], [9, 10.1]])
    write(tmp_path / "a.jsonl", [*groups(), rows_of("m.png", [face(landmarks=marks)])])
    rows = [json.loads(line) for line in (tmp_path / "a.jsonl").read_text("utf-8").splitlines()]
    contract = ["path", "frame", "time", "box", "det_score", "label", "score", "probs"]
    assert list(rows[0])[:8] == contract
    assert rows[0]["box"] == [1.5, 2.0, 30.25, 40.0]
    assert (rows[0]["label"], rows[0]["score"], rows[0]["faces"]) == ("happy", 0.75, 1)
    assert [row["faces"] for row in rows[1:4]] == [3] * 3
    assert rows[4] == {"path": "bad.jpg", "error": "truncated"}
    assert rows[5] == {"path": "ö/empty.png", "frame": None, "time": None, "faces": 0}
    assert [r["track"] for r in rows if r.get("frame") == 2] == [0, 1]
    assert rows[-1]["landmarks"][4] == [9.0, 10.1]


def test_csv_says_the_same(tmp_path):
    write(tmp_path / "a.csv", groups())
    with (tmp_path / "a.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    names = "path frame time x y width height det_score label score sad happy"
    assert list(rows[0]) == [*names.split(), "abstained", "track", "faces", "error"]
    first = rows[1]
    assert (first["path"], first["x"], first["sad"], first["faces"]) == (
        'odd, "name".jpg', "1.5", "0.1", "3",
    )  # fmt: skip
    assert rows[4]["error"] == "truncated"
    assert [row["time"] for row in rows if row["frame"] == "2"] == ["0.08", "0.08"]


@pytest.mark.parametrize("name", ["a.jsonl", "a.csv"])
@settings(max_examples=40)
@given(share=st.floats(0, 1), chosen=st.integers(0, 12))
def test_a_file_that_was_cut_anywhere_is_gone_on_with(tmp_path_factory, name, share, chosen):
    path = tmp_path_factory.mktemp("rows") / name
    everything = list(groups())
    write(path, everything)
    whole = path.read_bytes()
    path.unlink()
    write(path, everything[:chosen], MADE)
    path.write_bytes(path.read_bytes()[: round(share * path.stat().st_size)])
    output = Output(path, CLASSES, MADE)
    before = output.before
    done = set(before.done)
    last = before.last[-1] if before.last else {"path": None}
    for group in everything:
        row = group[0]
        is_new_frame = row["path"] == last["path"] and row.get("frame") is not None
        if row["path"] not in done or (is_new_frame and row["frame"] > last["frame"]):
            output.write(group)
    output.close()
    assert path.read_bytes() == whole


@pytest.mark.parametrize("name", ["out.jsonl", "out.csv"])
def test_where_rows_are_missing_within_nothing_is_cut(tmp_path, name):
    path = tmp_path / name
    write(path, groups())
    lines = path.read_bytes().splitlines(keepends=True)
    del lines[3 if name == "out.csv" else 2]  # the second of three faces
    path.write_bytes(b"".join(lines))
    with pytest.raises(UserError, match=r"rows of odd, \"name\"\.jpg are missing"):
        Output(path, CLASSES)
    assert path.read_bytes() == b"".join(lines)


@pytest.mark.parametrize("name", ["a.jsonl", "a.csv"])
def test_what_is_known_of_a_video(tmp_path, name):
    write(tmp_path / name, groups())
    before = write(tmp_path / name, []).before
    assert before.done == {
        "a.jpg": True, 'odd, "name".jpg': True, "bad.jpg": False, "ö/empty.png": True,
        "film.mp4": True,
    }  # fmt: skip
    assert (before.last[-1]["frame"], before.last[-1]["time"]) == (7, 0.28)
    assert before.next_track == 2
    assert before.last[-1]["probs"] == {"sad": 0.7, "happy": pytest.approx(0.3)}
    assert before.last[-1]["box"] == [1.5, 2.0, 30.25, 40.0]


def test_rows_of_a_long_video_are_not_all_kept(tmp_path):
    path = tmp_path / "a.jsonl"
    write(path, (rows_of("film.mp4", [face()], i, float(i), [0]) for i in range(1000)))
    assert len(write(path, []).before.last) <= 61


def test_the_last_file_can_be_forgotten(tmp_path):
    path = tmp_path / "a.jsonl"
    write(path, list(groups())[:4])
    kept = path.read_bytes()
    write(path, list(groups())[4:6])
    output = Output(path, CLASSES)
    output.forget_last()
    output.close()
    assert path.read_bytes() == kept


@pytest.mark.parametrize("name", ["a.jsonl", "a.csv"])
def test_of_two_processes_the_second_is_refused(tmp_path, name):
    path = tmp_path / name
    write(path, list(groups())[:1])
    first = Output(path, CLASSES)
    path.write_bytes(path.read_bytes() + b'{"pa'[: 4 if name == "a.jsonl" else 0])  # half a row
    whole = path.read_bytes()
    with pytest.raises(UserError, match=r"Another process writes to .*; wait .* another --out\.$"):
        Output(path, CLASSES)
    assert path.read_bytes() == whole
    write(tmp_path / f"b{path.suffix}", [])  # another is free
    first.close()
    write(path, [])
    assert sorted(os.listdir(tmp_path)) == [name, f"b{path.suffix}"]


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS])
def test_a_file_system_without_locks(tmp_path, monkeypatch, number):
    def flock(file, how):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", flock)
    write(tmp_path / "a.jsonl", groups())
    assert (tmp_path / "a.jsonl").read_text().count("\n") > 1


def test_an_output_that_is_refused_is_not_held(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text("mine\n")
    with pytest.raises(UserError, match="is not an output of"):
        Output(path, CLASSES)
    assert os.listdir(tmp_path) == ["a.jsonl"]
    path.unlink()
    write(path, groups())


FOREIGN = ["hello\n", "[1]\n", '{"a": 1}\n', '{"path": 1}\n', "null\n", '{"path": "a", "b": 1}\n']
NO_NEWLINE = ["hello", '{"a": 1}', '{"a', '{"path":1', "path,frame,mine", "1", " "]
# Users' own lists begin as our rows do.
NO_NEWLINE += ['{"path": "a.jpg", "caption": "my only line"}', '{"path": "a.jpg"}', "path", "path,"]
BEGUN = '{"path": "a.jpg", "frame": null, "time": null, "faces": '
WITH_A_FACE = '1, "box": [0, 0, 9, 9], "probs": {"sad": 0.5, "happy": 0.5}}\n'
FOREIGN += [
    '{"path": "a.jpg"}\n',
    '{"path": "a.jpg", "label": "happy"}\n',
    '{"path": "a.jpg", "track": "x"}\n',
    '{"path": "a.jpg", "time": "0:01"}\n{"path": "a.jpg", "time": "0:02"}\n',
    '{"path": "a.jpg", "faces": 0}\n',
    '{"path": "a.jpg", "error": 3}\n',
    '{"path": "a.jpg", "error": "mine", "label": "happy"}\n',
    *(f"{BEGUN}{faces}\n" for faces in ("2}", '"0"}', "null}", "true}", "-1}", '0, "track": "x"}')),
    f"{BEGUN}{WITH_A_FACE}".replace("null", '"0:01"'),
    *(
        f"{BEGUN}{WITH_A_FACE}".replace(*change)
        for change in (("[0, 0, 9, 9]", "[0, 0, 9]"), ("9]", '"9"]'), ("0.5,", '"0.5",'))
    ),
    "[" * 100_000 + "\n",
]


@pytest.mark.parametrize("text", FOREIGN + NO_NEWLINE)
@pytest.mark.parametrize("name", ["a.jsonl", "a.csv"])
def test_another_file_is_not_written_to(tmp_path, text, name):
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(UserError, match="is not an output of"):
        Output(path, CLASSES)
    assert path.read_text() == text


def test_the_rows_that_those_are_near_to_are_ours(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text(f"{BEGUN}{WITH_A_FACE}{BEGUN}0}}\n".replace("a.jpg", "b.jpg", 1))
    assert write(path, []).before.done == {"b.jpg": True, "a.jpg": True}


@pytest.mark.parametrize(("name", "half"), [("a.jsonl", '{"path": "a.jp'), ("a.csv", "path,fra")])
def test_half_a_line_alone_is_ours_where_our_settings_are(tmp_path, name, half):
    path = tmp_path / name
    path.write_text(half)
    with pytest.raises(UserError, match="is not an output of"):
        Output(path, CLASSES, MADE)
    assert path.read_text() == half
    assert os.listdir(tmp_path) == [name]
    settings_lib.write(path, MADE)
    write(path, groups(), MADE)
    write(tmp_path / f"b{path.suffix}", groups())
    assert path.read_bytes() == (tmp_path / f"b{path.suffix}").read_bytes()


def test_a_carriage_return_in_a_name_of_an_older_csv(tmp_path):
    path = tmp_path / "a.csv"
    write(path, [rows_of("a\rb.png", [])])
    assert list(write(path, []).before.done) == ["a\rb.png"]
    path.write_bytes(path.read_bytes().replace(b'"a\rb.png"', b"a\rb.png"))
    with pytest.raises(UserError, match="is not an output of"):
        Output(path, CLASSES)


def test_a_csv_that_a_spreadsheet_has_saved(tmp_path):
    path = tmp_path / "a.csv"
    write(path, list(groups())[:4])
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    assert len(write(path, []).before.done) == 4


def test_an_error_is_one_line(tmp_path):
    assert error_row("a.png", "bad\r\nmarker:\t3\n") == [
        {"path": "a.png", "error": "bad marker: 3"}
    ]


def test_standard_output_of_another_encoding(monkeypatch):
    raw = io.BytesIO()
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(raw, "ascii"))
    Output(None, CLASSES).write(rows_of("é.png", []))
    assert json.loads(raw.getvalue())["path"] == "é.png"


def test_an_output_of_other_classes(tmp_path):
    for name in ("a.jsonl", "a.csv"):
        write(tmp_path / name, groups())
        with pytest.raises(UserError, match="choose another --out"):
            Output(tmp_path / name, ("happy", "sad"))
    with pytest.raises(UserError, match=r"must end with \.jsonl or \.csv"):
        Output(tmp_path / "a.txt", CLASSES)


def test_without_a_file_the_rows_are_printed(capsys):
    output = Output(None, CLASSES)
    output.write(rows_of("a.jpg", []))
    output.close()
    assert json.loads(capsys.readouterr().out) == {
        "path": "a.jpg", "frame": None, "time": None, "faces": 0,
    }  # fmt: skip
