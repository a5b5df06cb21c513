import json
from pathlib import Path

import pytest

from emotion_jax import config
from emotion_jax.cli import evaluate, train

ROOT = Path(__file__).parents[2]


def test_a_run_leaves_what_the_contract_says(finished):
    names = {path.name for path in finished.iterdir()} - {".lock"}
    assert names == {
        "checkpoints", "config.toml", "curves.png", "metrics.jsonl", "report", "summary.json",
        "tensorboard",
    }  # fmt: skip
    assert config.load(finished / "config.toml").training.epochs == 3
    summary = json.loads((finished / "summary.json").read_text())
    assert list(summary) == [
        "step",
        "epoch",
        "seconds",
        "images_per_second",
        "train",
        "val",
        "test",
    ]
    assert summary["images_per_second"] > 0
    assert summary["test"]["n"] == 24
    assert summary["train"]["n"] + summary["val"]["n"] == 72
    for split in ("train", "val", "test"):
        assert list(summary[split]) == ["accuracy", "precision", "recall", "f1", "loss", "n"]
    report = json.loads((finished / "report" / "report.json").read_text())
    assert report["accuracy"] == summary["test"]["accuracy"]
    assert report["log_loss"] == pytest.approx(summary["test"]["loss"], rel=1e-5)
    rows = [json.loads(line) for line in (finished / "metrics.jsonl").read_text().splitlines()]
    best = next(row for row in rows if row["step"] == summary["step"])
    assert best["val_accuracy"] == max(row["val_accuracy"] for row in rows)
    assert best["val_accuracy"] == pytest.approx(summary["val"]["accuracy"])


@pytest.mark.usefixtures("finished_cache")
def test_the_same_command_again_changes_nothing(finished, arguments, tiny_tree, capsys):
    before = (finished / "report" / "predictions.csv").read_bytes()
    train.main(arguments(tiny_tree, finished, "--data.pipeline", "resident"))
    assert (finished / "report" / "predictions.csv").read_bytes() == before
    assert "weighted avg" in capsys.readouterr().out


def test_the_default_workdir_is_below_the_current_folder(
    arguments, tiny_tree, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    argv = arguments(tiny_tree, "WORKDIR", "--data.pipeline", "resident", "--training.epochs", "1")
    place = argv.index("--workdir")
    train.main(argv[:place] + argv[place + 2 :])
    assert (tmp_path / "runs" / "synthetic" / "report" / "report.html").is_file()
    evaluate.main(["runs/synthetic"])
    assert (tmp_path / "runs" / "synthetic" / "evaluation" / "test" / "report.html").is_file()


def test_default_is_the_synthetic_config():
    assert train.parse([]) == (
        config.load(ROOT / "configs" / "synthetic.toml"),
        Path("runs/synthetic"),
    )


def test_every_config_is_valid_and_opens_with_its_command():
    paths = sorted((ROOT / "configs").glob("*.toml"))
    assert len(paths) >= 3
    for path in paths:
        parsed, workdir = train.parse(["--config", str(path), "--data", "faces"])
        assert parsed.data.dir == Path("faces")
        assert workdir == Path("runs") / path.stem
        header = path.read_text().split("\n\n[")[0]
        assert all(line.startswith("#") for line in header.splitlines())
        assert f"python scripts/train.py --config configs/{path.name}" in header
        assert "Expect" in header


def test_a_folder_of_the_name_of_a_config_is_not_taken_for_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("fer2013").mkdir()
    parsed, _ = train.parse(["--config", "fer2013", "--data", "fer2013"])
    assert parsed.training == config.load(ROOT / "configs" / "fer2013.toml").training


SENTENCES = [
    (["--config", "none.toml"], "Cannot read the config none.toml"),
    (["--config", "bad.toml"], "not valid TOML"),
    (["--config", "typo.toml"], "training.epoch: there is no such setting"),
    (["--data", "nowhere"], "nowhere"),
    (["--data"], "--data"),
    (["--training.epochs", "0"], "training.epochs"),
    (["--training.epochs", "many"], "training.epochs"),
    (["--training.epoch", "3"], "training.epoch"),
    (["--model.name", "transformer", "--data", "TREE"], "model.name: 'transformer' is not one of"),
    (["--training.schedule", "sawtooth", "--data", "TREE"], "training.schedule"),
    (["--training.batch_size", "4096", "--data", "TREE"], "training.batch_size"),
    (["--model.widths", *"44444444", "--data", "TREE"], "model.widths"),
    (["surplus"], "surplus"),
]


@pytest.mark.parametrize(("argv", "sentence"), SENTENCES, ids=lambda value: str(value)[:30])
def test_bad_input_gets_a_sentence(argv, sentence, tiny_tree, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("bad.toml").write_text("[training")
    Path("typo.toml").write_text("[training]\nepoch = 3\n")
    argv = [str(tiny_tree) if part == "TREE" else part for part in argv]
    with pytest.raises(SystemExit) as stop:
        train.main([*argv, "--data.pipeline", "resident", "--logging.progress", "False"])
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert sentence in error
    assert len(error.splitlines()) == 1
    assert len(error) < 300


def test_a_workdir_that_cannot_be_made(arguments, tiny_tree, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    with pytest.raises(SystemExit) as stop:
        train.main(arguments(tiny_tree, tmp_path / "file" / "run"))
    assert stop.value.code == 2
    assert "Cannot write to" in capsys.readouterr().err
