import csv
import errno
import io
import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
import skimage.data
from PIL import Image

from emotion_jax import Recognizer
from emotion_jax.cli import evaluate, predict
from emotion_jax.data import dataset
from emotion_jax.evaluation.evaluate import evaluate as evaluate_split
from emotion_jax.inference import video
from emotion_jax.inference.rows import Output
from emotion_jax.training import trained as trained_lib

pytestmark = pytest.mark.usefixtures("finished_cache")
CLASSES = ["angry", "happy", "sad"]
KEYS = ["path", "frame", "time", "box", "det_score", "label", "score", "probs"]


def run(*argv):
    predict.main([str(part) for part in argv])


def read(path):
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def refused(capsys, *argv):
    """The sentence of a command that exits with 2."""
    with pytest.raises(SystemExit) as stop:
        run(*argv)
    assert stop.value.code == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("error: ")
    return error


@pytest.fixture(scope="module")
def astronaut(tmp_path_factory):
    path = tmp_path_factory.mktemp("photographs") / "astronaut.png"
    Image.fromarray(skimage.data.astronaut()).save(path)
    return path


@pytest.fixture
def photographs(tmp_path, astronaut):
    """A folder of all that a user has in one."""
    root = tmp_path / "photographs"
    (root / "sub").mkdir(parents=True)
    grey = np.random.default_rng(0).integers(0, 256, (40, 30), np.uint8)
    shutil.copy(astronaut, root)
    Image.fromarray(grey.astype(np.uint16) * 257).save(root / "deep.png")
    Image.fromarray(np.dstack([grey] * 4), "CMYK").save(root / "print.jpg")
    frames = [Image.new("RGB", (30, 30), c) for c in ("red", "blue")]
    frames[0].save(root / "sub" / "moving.webp", save_all=True, append_images=frames[1:])
    (root / "sub" / "empty.jpg").touch()
    (root / "sub" / "cut.png").write_bytes(astronaut.read_bytes()[:5000])
    (root / "sub" / "text.jpg").write_text("not an image at all")
    Image.fromarray(grey).save(root / "sub" / "misnamed.jpg", "PNG")
    return root


def film(path, n=12):
    av = video.pyav()
    image = skimage.data.astronaut()
    with av.open(str(path), "w") as file:
        stream = file.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt = 240, 200, "yuv420p"
        for i in range(n):
            view = np.ascontiguousarray(image[20:220, 80 + 4 * i : 320 + 4 * i])
            file.mux(stream.encode(av.VideoFrame.from_ndarray(view, format="rgb24")))
        file.mux(stream.encode())
    return path


def test_training_and_serving_are_the_same_to_the_last_bit(finished, tiny_tree, tmp_path):
    """A test image as a face of its own has the probabilities of evaluate.py's predictions.csv."""
    # In batches of the same size, so whole ones of train's 72 images.
    for split, batch, n in (("test", 32, 24), ("train", 32, 64)):
        argv = [finished, "--data", tiny_tree, "--split", split, "--batch-size", batch]
        evaluate.main([str(part) for part in [*argv, "--out", tmp_path / split]])
        with (tmp_path / split / "predictions.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))[:n]
        assert len(rows) == n
        recognizer = Recognizer.load(finished, detector="none")
        faces = recognizer.predict([tiny_tree / row["path"] for row in rows])
        for (face,), row in zip(faces, rows, strict=True):
            assert list(face.probs) == CLASSES
            assert face.label == row["predicted"]
            assert face.probs == {name: float(row[name]) for name in CLASSES}
        model = trained_lib.load(trained_lib.resolve(finished))
        data, _ = dataset.load_split(model.config.data, split, model.classes)
        wanted = evaluate_split(model, data, batch_size=batch).probs[:n].astype(np.float32)
        images = data.images(np.arange(n))
        np.testing.assert_array_equal(recognizer.probabilities(images), wanted)


def test_a_row_a_face_and_a_line_for_everything_else(finished, photographs, tmp_path, capsys):
    out = tmp_path / "out.jsonl"
    run(photographs, "--checkpoint", finished, "--out", out, "--annotate", tmp_path / "drawn")
    rows = {os.path.relpath(row["path"], photographs): row for row in read(out)}
    assert len(rows) == 8
    face = rows["astronaut.png"]
    assert list(face)[:8] == KEYS
    assert face["box"] == pytest.approx([179, 61, 88, 112], abs=3)
    assert list(face["probs"]) == CLASSES
    assert face["label"] == max(face["probs"], key=face["probs"].get)
    errors = {name: row["error"] for name, row in rows.items() if "error" in row}
    assert errors == {
        "sub/empty.jpg": "zero bytes", "sub/cut.png": "truncated", "sub/text.jpg": "not an image",
    }  # fmt: skip
    for name in ("deep.png", "print.jpg", "sub/moving.webp", "sub/misnamed.jpg"):
        assert rows[name]["faces"] == 0
    assert "8 files, 1 face found now, 3 unreadable" in capsys.readouterr().out
    drawn = sorted(p.relative_to(tmp_path / "drawn").as_posix()
                   for p in (tmp_path / "drawn").rglob("*.jpg"))  # fmt: skip
    assert drawn == [
        "astronaut.jpg", "deep.jpg", "print.jpg", "sub/misnamed.jpg", "sub/moving.jpg",
    ]  # fmt: skip


def test_images_that_are_faces(finished, tiny_tree, tmp_path):
    folder = tiny_tree / "test"
    run(folder, "--checkpoint", finished, "--crop", "--out", tmp_path / "a.jsonl")
    run(folder, "--checkpoint", finished, "--detector", "none", "--out", tmp_path / "b.csv")
    rows = read(tmp_path / "a.jsonl")
    assert len(rows) == 24
    assert all(row["box"] == [0, 0, 12, 12] and row["faces"] == 1 for row in rows)
    with (tmp_path / "b.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    assert [row["path"] for row in table] == [row["path"] for row in rows]
    for line, row in zip(table, rows, strict=True):
        assert {name: float(line[name]) for name in CLASSES} == row["probs"]


def table(path):
    """Path and probabilities of every row of an output of either kind."""
    if path.suffix == ".jsonl":
        return [(row["path"], *row["probs"].values()) for row in read(path)]
    with path.open(newline="") as file:
        return [(r["path"], *(float(r[name]) for name in CLASSES)) for r in csv.DictReader(file)]


@pytest.mark.parametrize("name", ["out.jsonl", "out.csv"])
@pytest.mark.parametrize("cut", [0, 1, 700, 2000])
def test_the_same_command_goes_on(finished, tiny_tree, tmp_path, name, cut, monkeypatch):
    out = tmp_path / name
    argv = [tiny_tree / "test", "--checkpoint", finished, "--crop", "--out", out]
    run(*argv)
    whole, rows = out.read_bytes(), table(out)
    out.write_bytes(whole[:cut])
    kept = max(0, whole[:cut].count(b"\n") - (name == "out.csv"))  # less the header
    done, results = [], Recognizer.results
    monkeypatch.setattr(
        Recognizer, "results", lambda *args: (done.append(r) or r for r in results(*args))
    )
    run(*argv)
    assert len(done) == 24 - kept
    again = table(out)
    assert [row[0] for row in again] == [row[0] for row in rows]
    for one, other in zip(again, rows, strict=True):
        assert one[1:] == pytest.approx(other[1:], rel=1e-5)
    before = out.stat().st_mtime_ns
    run(*argv)
    assert len(done) == 24 - kept
    assert out.stat().st_mtime_ns == before


def test_a_video(finished, tmp_path, capsys):
    path = film(tmp_path / "film.mp4")
    argv = [path, "--checkpoint", finished, "--out", tmp_path / "out.jsonl"]
    run(*argv, "--annotate", tmp_path / "drawn")
    rows = read(tmp_path / "out.jsonl")
    assert [row["frame"] for row in rows] == list(range(12))
    assert [row["time"] for row in rows] == pytest.approx(np.arange(12) / 25)
    assert {row["track"] for row in rows} == {0}
    assert sorted(p.name for p in (tmp_path / "drawn").iterdir()) == [
        "film-timeline.png", "film.mp4",
    ]  # fmt: skip
    assert len(list(video.frames(tmp_path / "drawn" / "film.mp4"))) == 12
    # Stopped within: it goes on at the next frame; with pictures, from the beginning.
    whole = (tmp_path / "out.jsonl").read_bytes()
    half = whole[: len(whole) // 2]
    noted = tmp_path / "out.jsonl.settings.json"
    finished_settings = json.loads(noted.read_text())
    for more in ((), ("--annotate", tmp_path / "again")):
        (tmp_path / "out.jsonl").write_bytes(half)
        if more:
            noted.write_text(json.dumps(finished_settings | {"unfinished": str(path)}))
        run(*argv, *more)
        again = read(tmp_path / "out.jsonl")
        assert [(row["frame"], row["time"], row["track"]) for row in again] == [
            (row["frame"], row["time"], row["track"]) for row in rows
        ]
        run(*argv, *more)
        assert len(read(tmp_path / "out.jsonl")) == 12
    run(path, "--checkpoint", finished, "--fps", 5, "--out", tmp_path / "few.csv")
    with (tmp_path / "few.csv").open(newline="") as file:
        assert [row["frame"] for row in csv.DictReader(file)] == ["0", "5", "10"]


def test_nothing_is_written_behind_a_video_that_is_not_finished(
    finished, astronaut, tmp_path, capsys, monkeypatch
):
    path = film(tmp_path / "film.mp4")
    argv = ("--checkpoint", finished, "--out", tmp_path / "out.jsonl")
    write = Output.write

    def stop(output, rows):
        if rows[0]["frame"] == 6:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write(output, rows)

    with monkeypatch.context() as patch:
        patch.setattr(Output, "write", stop)
        assert "No space left" in refused(capsys, path, *argv)
    assert "is not finished in the output" in refused(capsys, astronaut, *argv)
    assert len(read(tmp_path / "out.jsonl")) == 6
    run(astronaut, path, *argv)
    rows = read(tmp_path / "out.jsonl")
    assert [row["frame"] for row in rows] == [*range(12), None]
    run(astronaut, *argv)  # now that it is finished
    # Stopped after the film and before that was noted: it is noted with the next.
    out, drawn = tmp_path / "drawn.jsonl", tmp_path / "drawn"
    argv = ("--checkpoint", finished, "--out", out, "--annotate", drawn)
    run(path, *argv)
    noted = out.with_name("drawn.jsonl.settings.json")
    noted.write_text(json.dumps(json.loads(noted.read_text()) | {"unfinished": str(path)}))
    run(path, *argv)
    run(astronaut, *argv)


def test_originals_are_not_written_over(finished, astronaut, tmp_path, capsys, monkeypatch):
    Image.open(astronaut).save(tmp_path / "photo.jpg")
    film(tmp_path / "film.mp4", 2)
    Image.open(astronaut).crop((140, 30, 300, 200)).save(tmp_path / "other.png")
    monkeypatch.chdir(tmp_path)
    whole = {path: path.read_bytes() for path in tmp_path.iterdir()}
    argv = ("--checkpoint", finished, "--annotate")
    for inputs in (tmp_path, "photo.jpg", "film.mp4"):
        sentence = refused(capsys, inputs, *argv, ".")
        assert "take the place of an input" in sentence
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == whole
    run("other.png", *argv, ".")
    run("other.png", *argv, ".")  # ours may be drawn again
    (tmp_path / "other.jpg").write_bytes(whole[tmp_path / "photo.jpg"])
    assert "other.jpg is there already" in refused(capsys, "other.png", *argv, ".")
    assert (tmp_path / "other.jpg").read_bytes() == whole[tmp_path / "photo.jpg"]


def test_files_that_are_known_are_drawn_or_refused(finished, astronaut, tmp_path, capsys):
    film(tmp_path / "film.mp4", 2)
    argv = ("--checkpoint", finished, "--out", tmp_path / "out.jsonl")
    run(astronaut, tmp_path / "film.mp4", *argv)
    rows = (tmp_path / "out.jsonl").read_bytes()
    drawn = tmp_path / "drawn"
    sentence = refused(capsys, astronaut, tmp_path / "film.mp4", *argv, "--annotate", drawn)
    assert "is in the output already, so it would not be drawn" in sentence
    # The last one, which might have been stopped within, is noted as finished.
    assert "film.mp4 is in the output already, so" in refused(
        capsys, tmp_path / "film.mp4", *argv, "--annotate", drawn
    )
    assert (tmp_path / "out.jsonl").read_bytes() == rows
    assert not drawn.exists()
    # Of what failed there is nothing to draw.
    (tmp_path / "bad.png").write_bytes(b"no image")
    argv = ("--checkpoint", finished, "--out", tmp_path / "more.jsonl", "--annotate", drawn)
    for _ in range(2):
        run(tmp_path / "bad.png", astronaut, *argv)
    assert [path.name for path in drawn.iterdir()] == [f"{astronaut.stem}.jpg"]


def test_a_video_without_a_frame(finished, tmp_path, capsys):
    path = film(tmp_path / "film.mp4", 3)
    data = bytearray(path.read_bytes())
    begin = data.index(b"mdat") + 4
    size = int.from_bytes(data[begin - 8 : begin - 4], "big") - 8
    data[begin : begin + size] = bytes(size)
    path.write_bytes(data)
    argv = (path, "--checkpoint", finished, "--out", tmp_path / "out.jsonl")
    for _ in range(2):
        assert "None of the 1 files could be read" in refused(capsys, *argv)
        assert read(tmp_path / "out.jsonl") == [
            {"path": str(path), "error": "no frame in it can be decoded"}
        ]


def test_an_output_of_other_settings_is_not_gone_on_with(finished, tiny_tree, tmp_path, capsys):
    images = sorted((tiny_tree / "test" / "sad").iterdir())[:3]
    argv = ["--crop", "--checkpoint", finished, "--out", tmp_path / "out.csv"]
    run(*images[:2], *argv)
    whole = (tmp_path / "out.csv").read_bytes()
    for more, sentence in (
        (("--fps", 2), "--fps 0.0, not 2.0"), (("--abstain-below", 0.5), "--abstain-below 0.0"),
    ):  # fmt: skip
        assert f"was made with {sentence}" in refused(capsys, *images, *argv, *more)
    haar = refused(capsys, *images, *argv[1:], "--detector", "haar")
    assert "--detector none, not haar" in haar
    assert (tmp_path / "out.csv").read_bytes() == whole
    run(*images, *argv)
    assert "2 there already and not done again" in capsys.readouterr().out


def test_a_broken_video_is_a_line_and_is_not_tried_again(finished, tmp_path, astronaut):
    (tmp_path / "broken.mp4").write_bytes(b"nothing")
    argv = [astronaut, tmp_path / "broken.mp4", "--checkpoint", finished, "--out"]
    for _ in range(2):
        run(*argv, tmp_path / "out.jsonl")
        rows = read(tmp_path / "out.jsonl")
        assert [row.get("error", "")[:11] for row in rows] == ["", "not a video"]


def test_rows_on_standard_output(finished, astronaut, capsys):
    run(astronaut, astronaut.with_name("gone.jpg"), "--checkpoint", finished)
    good, bad = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    assert good["faces"] == 1
    assert bad["error"] == "unreadable (No such file or directory)"


def test_a_terminal_of_another_encoding(finished, tiny_tree, tmp_path, monkeypatch):
    image = next((tiny_tree / "test" / "sad").iterdir())
    shutil.copy(image, tmp_path / "é.png")
    for more in ((), ("--out", tmp_path / "ö.jsonl")):
        raw = io.BytesIO()
        monkeypatch.setattr("sys.stdout", io.TextIOWrapper(raw, "ascii"))
        run(tmp_path / "é.png", "--crop", "--checkpoint", finished, *more)
        said = raw.getvalue().decode()
        assert ("\\u00e9.png" in said) if not more else said.endswith("\\xf6.jsonl\n")


def test_classes_left_out(finished, tiny_tree, tmp_path):
    image = next((tiny_tree / "test" / "sad").iterdir())
    argv = [image, "--crop", "--checkpoint", finished, "--out"]
    run(*argv, tmp_path / "a.jsonl", "--abstain-below", 1.0)
    (row,) = read(tmp_path / "a.jsonl")
    assert row["abstained"]
    run(*argv, tmp_path / "b.jsonl", "--without", "happy")
    (fewer,) = read(tmp_path / "b.jsonl")
    assert list(fewer["probs"]) == ["angry", "sad"]
    ratio = row["probs"]["angry"] / row["probs"]["sad"]
    assert fewer["probs"]["angry"] / fewer["probs"]["sad"] == pytest.approx(ratio, rel=1e-4)


def test_bad_input_gets_a_sentence(finished, tmp_path, astronaut, capsys):
    gone = tmp_path / "gone.jpg"
    assert "None of the 1 files could be read" in refused(capsys, gone, "--checkpoint", finished)
    assert "no images or videos" in refused(capsys, tmp_path, "--checkpoint", finished)
    assert "PATH" in refused(capsys, "--checkpoint", finished)
    assert "--fps is -1" in refused(capsys, astronaut, "--fps", -1)
    assert "no checkpoint" in refused(capsys, astronaut, "--checkpoint", gone)
    out = tmp_path / "out.txt"
    assert ".jsonl or .csv" in refused(capsys, astronaut, "--checkpoint", finished, "--out", out)
    assert "invalid choice" in refused(capsys, astronaut, "--detector", "retina")


def test_a_checkpoint_in_a_new_process(finished, astronaut):
    command = [sys.executable, "scripts/predict.py", astronaut, "--checkpoint", finished]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["faces"] == 1
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_ten_thousand_broken_images(finished, tmp_path):
    """Mutations of every format: one line each, no crash, no hang."""
    rng = np.random.default_rng(0)
    small = Image.fromarray(skimage.data.astronaut()).crop((140, 30, 300, 200))
    deep = Image.fromarray(np.asarray(small.convert("L")).astype(np.uint16) * 257)
    kinds = {
        "jpg": (small, "JPEG", {}), "cmyk.jpg": (small.convert("CMYK"), "JPEG", {}),
        "png": (small, "PNG", {}), "deep.png": (deep, "PNG", {}), "bmp": (small, "BMP", {}),
        "webp": (small, "WEBP", {}), "p.png": (small.convert("P"), "PNG", {}),
        "moving.webp": (small, "WEBP", {"save_all": True, "append_images": [small]}),
        "moving.png": (small, "PNG", {"save_all": True, "append_images": [small]}),
    }  # fmt: skip
    originals = {}
    for name, (image, kind, more) in kinds.items():
        buffer = io.BytesIO()
        image.save(buffer, kind, **more)
        originals[name] = buffer.getvalue()
    folder = tmp_path / "images"
    folder.mkdir()
    names = list(originals)
    for i in range(10_000):
        name = names[i % len(names)]
        data = bytearray(originals[name])
        for _ in range(rng.integers(0, 8)):
            # Half of the changes are in the header, where they do most.
            end = len(data) if rng.random() < 0.5 else 64
            data[rng.integers(end)] = rng.integers(256)
        if rng.random() < 0.3:
            data = data[: rng.integers(len(data) + 1)]
        if rng.random() < 0.1:
            data = bytearray(originals[names[rng.integers(len(names))]][:40]) + data[40:]
        (folder / f"{i:05}.{name}").write_bytes(data)
    run(folder, "--checkpoint", finished, "--out", tmp_path / "out.jsonl", "--detector", "haar")
    rows = read(tmp_path / "out.jsonl")
    firsts = {row["path"] for row in rows}
    assert len(firsts) == 10_000
    errors = [row for row in rows if "error" in row]
    assert 1000 < len(errors) < 9500
    assert all(0 < len(row["error"]) < 300 and "\n" not in row["error"] for row in errors)
