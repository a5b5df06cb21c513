import errno
import json
import os
import tempfile
from pathlib import Path

import pytest

from emotion_jax import config, files
from emotion_jax.benchmark import side_by_side, suite
from emotion_jax.cli import benchmark

ROOT = Path(__file__).parents[2]


@pytest.fixture
def argv(tiny_tree, tmp_path):
    """Of a benchmark of seconds."""
    settings = {
        "--data": tiny_tree,
        "--data.image_size": 12,
        "--data.pipeline": "resident",
        "--model.widths": 4,
        "--model.dense": 8,
        "--batch-size": 8,
        "--logging.progress": False,
        "--rounds": 2,
        "--seconds": 0.02,
        "--json": tmp_path / "figures" / "b.json",
    }
    return [str(part) for pair in settings.items() for part in pair]


def test_default_is_the_baseline():
    default, args = benchmark.parse([])
    assert default == config.load(ROOT / "configs" / "fer2013_baseline.toml")
    assert args == benchmark.Benchmark("", "", Path("runs/benchmark/benchmark.json"), 5, 1.0)


def test_settings_are_overridden_as_in_train():
    path = str(ROOT / "configs" / "synthetic.toml")
    given = ["--config", path, "--batch-size", "8", "--data", "faces", "--model.dense", "4"]
    parsed, args = benchmark.parse([*given, "--out", "there", "--peers", "torch"])
    assert parsed.training.batch_size == 8
    assert parsed.data.dir == Path("faces")
    assert parsed.model.dense == (4,)
    assert parsed.model.widths == config.load(Path(path)).model.widths
    assert args.json == Path("there/benchmark.json")
    assert args.peers == "torch"


def test_a_mode_leaves_the_figures_of_the_others():
    modes = ([], ["--configs", "vgg,resnet"], ["--compile-for", "v5e:1x1"])
    names = [benchmark.parse([*mode, "--out", "there"])[1].json.name for mode in modes]
    assert names == ["benchmark.json", "side_by_side.json", "compiled.json"]


def test_networks_side_by_side_train_in_batches_of_one_size():
    given = ["--configs", "vgg, resnet.toml", "--data", "faces", "--model.dense_dropout", "0"]
    _, args = benchmark.parse(given)
    assert list(args.configs) == ["vgg", "resnet"]
    vgg, resnet = args.configs.values()
    assert (vgg.model.name, resnet.model.name) == ("vgg", "resnet")
    for settings in (vgg, resnet):
        assert settings.training.batch_size == 128
        assert settings.data.dir == Path("faces")
        assert settings.model.dense_dropout == 0
    _, args = benchmark.parse([*given, "--batch-size", "8"])
    assert [settings.training.batch_size for settings in args.configs.values()] == [8, 8]


SENTENCES = [
    (["--configs", "vgg", "--config", "vgg"], "--configs goes with none of"),
    (["--configs", "vgg", "--peers", "torch"], "--configs goes with none of"),
    (["--configs", "vgg,vbb"], "Cannot read the config vbb"),
    (["--peers", "caffe"], "--peers: 'caffe' is not one of"),
    (["--rounds", "0"], "--rounds is 0"),
    (["--rounds", "many"], "--rounds"),
    (["--seconds", "nan"], "--seconds is nan"),
    (["--batch-size", "0"], "training.batch_size"),
    (["--model.dtype", "bfloat16", "--peers", "onnxruntime"], "model.dtype is bfloat16"),
    (["--data", "nowhere"], "nowhere"),
    (["--compile-for", "v1:1x1"], "v1"),
    (["--json", "file/b.json"], "Cannot write to file/b.json"),
    (["--json", "."], "error: . is a folder"),
    (["--json", "folder"], "error: folder is a folder"),
    (["--json", "b.png"], "--json is b.png, where the picture goes"),
    (["--json", "mine.json"], "mine.json is there already, and no figures of this command"),
    (["--json", "chart.json"], "chart.png is there already, and no figures"),
    (["surplus"], "surplus"),
]


@pytest.mark.parametrize(("argv", "sentence"), SENTENCES, ids=lambda value: str(value)[:30])
def test_bad_input_gets_a_sentence(argv, sentence, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("file").touch()
    Path("folder").mkdir()
    Path("chart.png").write_bytes(b"the user's")
    Path("mine.json").write_bytes(b'{"the": "user"}')
    with pytest.raises(SystemExit) as stop:
        benchmark.main([*argv, "--logging.progress", "False"])
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert sentence in error
    assert len(error.splitlines()) == 1
    assert list(Path().rglob("*.json")) == [Path("mine.json")]
    assert not [path for path in Path("runs").rglob("*") if path.is_file()]
    assert Path("chart.png").read_bytes() == b"the user's"
    assert Path("mine.json").read_bytes() == b'{"the": "user"}'


def full(*_, **__):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_folder_that_takes_no_file_is_refused_at_the_start(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(tempfile, "TemporaryFile", full)
    monkeypatch.setattr(suite, "run", pytest.fail)
    with pytest.raises(SystemExit) as stop:
        benchmark.main(["--json", str(tmp_path / "b.json")])
    assert stop.value.code == 2
    assert f"Cannot write to {tmp_path / 'b.json'}: No space left" in capsys.readouterr().err


def test_figures_that_cannot_be_written_are_told(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(side_by_side, "run", lambda *_: {})
    monkeypatch.setattr(side_by_side, "table", lambda _: "the table")
    monkeypatch.setattr(files, "write_bytes_atomic", full)
    with pytest.raises(SystemExit) as stop:
        benchmark.main(["--configs", "vgg", "--json", str(tmp_path / "b.json")])
    assert stop.value.code == 2
    assert capsys.readouterr().out == "the table\n\n"


def test_help_has_an_example(capsys):
    with pytest.raises(SystemExit) as stop:
        benchmark.main(["--help"])
    assert not stop.value.code
    text = capsys.readouterr().out
    assert "python scripts/benchmark.py --peers torch,keras,onnxruntime" in text


def check(content, peers, sizes):
    assert list(content["peers"]) == peers
    assert content["batch_size"] == 8
    measured = [value for key, value in content.items() if key not in ("peers", "details")]
    numbers = [value for value in measured if isinstance(value, float | int)]
    assert all(value > 0 for value in numbers)
    details = content["details"]
    assert set(details["eval"]) == sizes
    assert details["first_step_seconds"]["warm"] > 0
    for rates in (details["train"], *details["eval"].values()):
        assert all(len(rate["rounds"]) == 2 for rate in rates.values())
    counts = {about["parameters"] for about in details["contenders"].values()}
    assert len(counts) == 1


def test_the_command_writes_figures_and_a_picture(argv, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(suite, "SCALES", (1.0,))
    monkeypatch.setattr(suite, "EVALUATE", (1,))
    benchmark.main([*argv, "--peers", "onnxruntime"])
    content = json.loads((tmp_path / "figures" / "b.json").read_text())
    check(content, ["onnxruntime"], {"1", "8"})
    assert set(content["details"]["step_seconds"]) == {"8"}
    assert content["peers"]["onnxruntime"]["train_images_per_second"] is None
    assert content["ratio_to_fastest_peer"] is None  # it does not train
    assert (tmp_path / "figures" / "b.png").read_bytes().startswith(b"\x89PNG")
    assert "Inference, batch 8" in capsys.readouterr().out


def test_networks_side_by_side(argv, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(side_by_side, "EVALUATE", 8)
    thin, wide = tmp_path / "thin.toml", tmp_path / "wide.toml"
    thin.write_text("[model]\nwidths = [4]\n")
    wide.write_text("[model]\nwidths = [16]\n")
    at = argv.index("--model.widths")
    rest = [*argv[:at], *argv[at + 2 :]]
    benchmark.main([*rest, "--configs", f"{thin},{wide}"])
    content = json.loads((tmp_path / "figures" / "b.json").read_text())
    a, b = content["networks"].values()
    for what in ("parameters", "flops_per_image"):
        assert 3 * a[what] < b[what] < 5 * a[what]
    assert a["train"]["median"] > 0 < b["evaluate"]["median"]
    assert (tmp_path / "figures" / "b.png").read_bytes().startswith(b"\x89PNG")
    assert "| thin |" in capsys.readouterr().out


@pytest.mark.slow
def test_against_every_peer(argv, tmp_path):
    pytest.importorskip("torch")
    benchmark.main([*argv, "--peers", "torch,keras,onnxruntime", "--data.pipeline", "tfdata"])
    content = json.loads((tmp_path / "figures" / "b.json").read_text())
    check(content, ["torch", "keras", "onnxruntime"], {"1", "8", "64", "256"})
    best = max(content["peers"][name]["train_images_per_second"] for name in ("torch", "keras"))
    assert content["ratio_to_fastest_peer"] == pytest.approx(
        content["train_images_per_second"] / best
    )
