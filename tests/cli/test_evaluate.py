import csv
import json
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from emotion_jax.cli import evaluate, train
from emotion_jax.training import saved, trained, weights

pytestmark = pytest.mark.usefixtures("finished_cache")
CLASSES = ["angry", "happy", "sad"]


def run(*argv):
    evaluate.main([str(part) for part in argv])


def refused(capsys, *argv):
    """The sentence of a command that exits with 2."""
    with pytest.raises(SystemExit) as stop:
        run(*argv)
    assert stop.value.code == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("error: ")
    return error


def read(out):
    """report.json, and predictions.csv as (paths, labels, predicted, probs)."""
    with (out / "predictions.csv").open(newline="") as file:
        header, *rows = csv.reader(file)
    assert header == ["path", "label", "predicted", *CLASSES]
    paths, labels, predicted, *probs = zip(*rows, strict=True)
    content = json.loads((out / "report.json").read_text())
    return content, paths, labels, predicted, np.array(probs, float).T


@pytest.mark.parametrize("batch_size", [1, 7, 64, 1000, 2 * 10**12])
def test_a_prediction_an_image_in_order(finished, tiny_tree, tmp_path, batch_size):
    argv = [finished, "--data", tiny_tree, "--out", tmp_path, "--batch-size", batch_size]
    evaluate.main([str(part) for part in argv])
    lines = (tmp_path / "predictions.csv").read_text().splitlines()
    labelled = [line.split(",")[:2] for line in lines[1:]]
    images = sorted((tiny_tree / "test").rglob("*.png"))
    paths = sorted(path.relative_to(tiny_tree).as_posix() for path in images)
    assert labelled == [[path, path.split("/")[1]] for path in paths]
    expected = np.loadtxt(finished / "report" / "predictions.csv", delimiter=",", skiprows=1,
                          usecols=(3, 4, 5))  # fmt: skip
    probs = np.array([line.split(",")[3:] for line in lines[1:]], float)
    np.testing.assert_allclose(probs, expected, rtol=1e-5, atol=1e-7)


def test_the_whole_contract(finished, tmp_path, capsys):
    run(finished, "--out", tmp_path)
    names = ["conformal.png", "confusion_matrix.png", "predictions.csv", "reliability.png"]
    names += ["report.html", "report.json", "selective.png"]
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    content, *_ = read(tmp_path)
    keys = """n classes accuracy accuracy_interval precision recall f1 keras_precision keras_recall
        log_loss ece per_class confusion_matrix deduplicated calibration selective conformal
        checkpoint protocol"""
    assert list(content) == keys.split()
    assert content["classes"] == CLASSES
    assert "weighted avg" in capsys.readouterr().out
    expected = (finished / "report" / "predictions.csv").read_bytes()
    assert (tmp_path / "predictions.csv").read_bytes() == expected


def test_default_place_of_the_report(finished, tiny_tree, tmp_path):
    shutil.copytree(finished, tmp_path / "run")
    run(tmp_path / "run", "--split", "train", "--tta")
    assert (tmp_path / "run" / "evaluation" / "train-tta" / "report.html").is_file()
    for name in ("angry", "happy"):
        shutil.copytree(tiny_tree / "test" / name, tmp_path / "two" / name)
    run(tmp_path / "run", "--data", tmp_path / "two", "--without", "sad")
    assert (tmp_path / "run" / "evaluation" / "test-without-sad" / "report.html").is_file()


def test_a_step_that_was_named_leaves_the_report_of_the_chosen_one(finished, tmp_path, monkeypatch):
    shutil.copytree(finished, tmp_path / "run")
    places = tmp_path / "run" / "evaluation"
    run(tmp_path / "run")
    run(tmp_path / "run" / "checkpoints")
    assert [path.name for path in places.iterdir()] == ["test"]
    chosen = (places / "test" / "report.json").read_bytes()
    steps = saved.steps(tmp_path / "run" / "checkpoints")
    run(steps[0], "--tta")
    monkeypatch.chdir(steps[-1])
    run(".")
    named = {f"test-step-{steps[0].name}-tta", f"test-step-{steps[-1].name}"}
    assert {path.name for path in places.iterdir()} == {"test", *named}
    assert (places / "test" / "report.json").read_bytes() == chosen
    assert saved.verify(steps[-1]) is None


def test_a_report_of_something_else_is_not_replaced(finished, tmp_path, capsys):
    (tmp_path / "report.json").write_text('{"accuracy": 1}')
    assert "report.json is no report of an evaluation" in refused(
        capsys, finished, "--split", "nowhere", "--out", tmp_path
    )
    assert [path.name for path in tmp_path.glob("*.*")] == ["report.json"]
    assert (tmp_path / "report.json").read_text() == '{"accuracy": 1}'


def test_classes_left_out_are_told(finished, tiny_tree, tmp_path):
    for name in ("angry", "happy"):
        shutil.copytree(tiny_tree / "test" / name, tmp_path / "two" / name)
    run(finished, "--data", tmp_path / "two", "--without", "sad", "--out", tmp_path / "out")
    content = json.loads((tmp_path / "out" / "report.json").read_text())
    assert content["classes"] == ["angry", "happy"]
    assert content["protocol"]["without"] == ["sad"]
    whole = json.loads((finished / "report" / "report.json").read_text())
    assert whole["protocol"]["without"] is None
    assert content["checkpoint"]["weights"] == whole["checkpoint"]["weights"]
    page = (tmp_path / "out" / "report.html").read_text()
    assert "<dt>classes left out</dt><dd>sad</dd>" in page


def test_sets_promise_nothing_on_images_that_were_learnt_from(finished, tiny_tree, tmp_path):
    run(finished, "--split", "train", "--out", tmp_path / "train")
    content, paths, *_ = read(tmp_path / "train")
    assert content["conformal"] is None
    why = f"was chosen by, {len(paths)} of these {len(paths)} images"
    assert why in content["protocol"]["conformal"]
    assert not (tmp_path / "train" / "conformal.png").exists()
    page = (tmp_path / "train" / "report.html").read_text()
    assert f"promised coverage are {content['protocol']['conformal']}." in page
    tree = shutil.copytree(tiny_tree, tmp_path / "tree")
    for i in range(12):
        shutil.copy(tree / "train" / "sad" / f"{i}.png", tree / "test" / "sad" / f"seen{i}.png")
    run(finished, "--data", tree, "--out", tmp_path / "test")
    content, paths, *_ = read(tmp_path / "test")
    assert (len(paths), content["deduplicated"]["n"]) == (36, 24)
    assert content["conformal"]["levels"]["0.9"]["coverage"] > 0
    fitted = content["conformal"]["calibrated_on"]
    assert content["protocol"]["conformal"] == f"thresholds from {fitted} validation images"


def test_weights_as_a_file_leave_the_place_of_a_run_of_their_name(
    finished, tiny_tree, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    weights.write(tmp_path / "mine.safetensors", trained.load(trained.resolve(finished)))
    run("mine.safetensors", "--data", tiny_tree)
    assert Path("runs/evaluation/mine/test/report.html").is_file()
    assert not Path("runs/mine").exists()


def test_one_step_and_the_checkpoints_folder(finished, tmp_path):
    step = saved.steps(finished / "checkpoints")[-1]
    for i, source in enumerate((step, finished / "checkpoints")):
        run(source, "--out", tmp_path / str(i))
    assert read(tmp_path / "0")[0]["checkpoint"]["step"] == int(step.name)
    summary = json.loads((finished / "summary.json").read_text())
    assert read(tmp_path / "1")[0]["checkpoint"]["step"] == summary["step"]


def test_a_folder_or_an_archive_that_is_the_split(finished, tiny_tree, tmp_path):
    run(finished, "--data", tiny_tree / "test", "--out", tmp_path / "folder")
    archive = tmp_path / "faces.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for path in sorted(tiny_tree.rglob("*.png")):
            file.write(path, f"faces/{path.relative_to(tiny_tree).as_posix()}")
    run(finished, "--data", archive, "--out", tmp_path / "archive")
    folder, packed = read(tmp_path / "folder"), read(tmp_path / "archive")
    assert [f"test/{path}" for path in folder[1]] == list(packed[1])
    np.testing.assert_array_equal(folder[4], packed[4])


def test_folders_whose_names_are_not_utf8(finished, tiny_tree, tmp_path, capsys):
    data, out = (Path(f"{tmp_path / name}\udce9") for name in ("caf", "out"))
    shutil.copytree(tiny_tree, data)
    run(finished, "--data", data, "--out", out)
    assert len(read(out)[1]) == 24
    assert rf"Report: {tmp_path}/out\udce9/report.html" in capsys.readouterr().out


def test_fewer_classes_and_images_of_train(finished, tiny_tree, tmp_path):
    tree = tmp_path / "tree"
    shutil.copytree(tiny_tree / "test" / "sad", tree / "test" / "sad")
    shutil.copy(tiny_tree / "train" / "sad" / "3.png", tree / "test" / "sad" / "seen.png")
    run(finished, "--data", tree, "--out", tmp_path / "out")
    content, paths, labels, predicted, _ = read(tmp_path / "out")
    assert set(labels) == {"sad"}
    right = [p == "sad" for p in predicted]
    assert content["recall"] == content["accuracy"] == pytest.approx(np.mean(right))
    assert content["precision"] == (1.0 if any(right) else 0.0)
    assert content["deduplicated"]["n"] == len(paths) - 1 == 8
    new = [r for r, path in zip(right, paths, strict=True) if "seen" not in path]
    assert content["deduplicated"]["accuracy"] == pytest.approx(np.mean(new))


def test_tta_is_the_mean_over_images_that_are_moved_and_mirrored(finished, tiny_tree, tmp_path):
    seen = []
    # Of 12 pixels a move is one.
    for down, right in ((0, 0), (-1, 0), (1, 0), (0, -1), (0, 1)):
        for turn in (1, -1):
            tree = tmp_path / f"{down}{right}{turn}"
            for path in sorted((tiny_tree / "test").rglob("*.png")):
                target = tree / path.relative_to(tiny_tree)
                target.parent.mkdir(parents=True, exist_ok=True)
                padded = np.pad(np.asarray(Image.open(path)), 1, "edge")
                moved = padded[1 - down : 13 - down, 1 - right : 13 - right][:, ::turn]
                Image.fromarray(moved).save(target)
            run(finished, "--data", tree, "--out", tree / "out")
            seen.append(read(tree / "out"))
    run(finished, "--data", tiny_tree, "--tta", "--out", tmp_path / "tta")
    tta = read(tmp_path / "tta")
    np.testing.assert_allclose(tta[4], np.mean([each[4] for each in seen], axis=0), rtol=1e-5)
    assert len(tta[0]["protocol"]["tta"]) == 10
    assert seen[0][0]["protocol"]["tta"] is None


def test_votes_relabel(finished, tiny_tree, tmp_path, capsys):
    columns = (
        "image,neutral,happiness,surprise,sadness,anger,disgust,fear,contempt,unknown,not_face"
    )
    tree = tmp_path / "tree" / "test"
    for path in sorted((tiny_tree / "test").rglob("*.png")):
        target = tree / path.parent.name / f"{path.parent.name}{path.name}"
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    rows = [
        columns,
        "sad0,0,0,0,0,10,0,0,0,0,0",
        "sad1,0,10,0,0,0,0,0,0,0,0",
        "happy2,0,0,0,0,0,0,0,0,0,10",
    ]
    table = tmp_path / "votes.csv"
    table.write_text("\n".join(rows) + "\n")
    run(finished, "--data", tree.parent, "--votes", table, "--out", tmp_path / "out")
    content, paths, labels, *_ = read(tmp_path / "out")
    assert dict(zip(paths, labels, strict=True)) == {
        "test/sad/sad0.png": "angry",
        "test/sad/sad1.png": "happy",
    }
    images = len(list(tree.rglob("*.png")))
    assert content["protocol"]["votes"]["left_out"] == {"no row": images - 3, "not_face": 1}
    said = refused(capsys, finished, "--votes", table_of_numbers(tmp_path, columns))
    assert "are called the same" in said


def table_of_numbers(folder, columns):
    """Votes on images that are called 0, of which each class has one."""
    (folder / "numbers.csv").write_text(f"{columns}\n0,0,0,0,0,10,0,0,0,0,0\n")
    return folder / "numbers.csv"


def test_bad_input_gets_a_sentence(finished, tiny_tree, tmp_path, capsys):
    assert "no checkpoint" in refused(capsys, tmp_path / "nothing")
    assert "no split 'valid'" in refused(capsys, finished, "--split", "valid")
    assert "--batch-size" in refused(capsys, finished, "--batch-size", 0)
    assert "nowhere" in refused(capsys, finished, "--data", tmp_path / "nowhere")
    shutil.copytree(tiny_tree / "test" / "sad", tmp_path / "tree" / "test" / "bored")
    shutil.copytree(tiny_tree / "test" / "sad", tmp_path / "tree" / "test" / "sad")
    sentence = refused(capsys, finished, "--data", tmp_path / "tree")
    assert "bored" in sentence
    assert "angry, happy, sad" in sentence


def test_a_damaged_step_is_refused_and_a_damaged_best_is_passed_over(finished, tmp_path, capsys):
    copy = tmp_path / "run"
    shutil.copytree(finished, copy)
    best = saved.best(copy / "checkpoints")
    (best / "description.json").write_text("{}")
    assert "description.json is damaged" in refused(capsys, best)
    run(copy, "--out", tmp_path / "out")
    assert "description.json is damaged); choosing from the others" in capsys.readouterr().err
    for step in saved.steps(copy / "checkpoints"):
        (step / "manifest.json").unlink(missing_ok=True)
    assert "none is whole" in refused(capsys, copy)


def test_votes_of_a_run_are_the_default_of_its_evaluation(tiny_tree, tmp_path, arguments):
    tree = shutil.copytree(tiny_tree, tmp_path / "tree")
    columns = "neutral,happiness,surprise,sadness,anger,disgust,fear,contempt,unknown,not_face"
    votes = {"angry": (0, 0, 0, 2, 8), "happy": (1, 9), "sad": (4, 0, 0, 6)}
    rows = [f"image,{columns}"]
    for number, path in enumerate(sorted(tree.rglob("*.png"))):
        path.rename(path.with_name(f"v{number}.png"))
        counts = (*votes[path.parent.name], *[0] * 10)[:10] if number % 5 else (0,) * 9 + (10,)
        rows.append(",".join(map(str, (f"v{number}", *counts))))
    table = tmp_path / "votes.csv"
    table.write_text("\n".join(rows) + "\n")
    folder = tmp_path / "run"
    more = ("--data.votes", table, "--data.pipeline", "resident", "--training.average", 0.9)
    train.main(arguments(tree, folder, *more))
    run(folder, "--out", tmp_path / "out")
    for name in ("predictions.csv", "confusion_matrix.png"):
        assert (tmp_path / "out" / name).read_bytes() == (folder / "report" / name).read_bytes()
    content = json.loads((tmp_path / "out" / "report.json").read_text())
    assert content["classes"] == sorted({"contempt", "disgust", "fear", "neutral", "surprise"}
                                        | set(CLASSES))  # fmt: skip
    assert content["protocol"]["votes"]["left_out"] == {"not_face": content_left(rows, tree)}
    run(folder, "--data", tree, "--out", tmp_path / "folders")  # then the folders' names count
    assert json.loads((tmp_path / "folders" / "report.json").read_text())["n"] == 24


def content_left(rows, tree):
    """Images of the test split that all votes call no face."""
    no_face = {row.split(",")[0] for row in rows if row.endswith(",10")}
    return len(no_face & {path.stem for path in (tree / "test").rglob("*.png")})
