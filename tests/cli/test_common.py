import io
from pathlib import Path

import pytest

from emotion_jax.cli import common, cross_validate, export, train
from emotion_jax.errors import UserError

NAME = "runs/\udce9"  # of the byte 0xE9


def test_an_output_without_the_letters_gets_their_numbers(monkeypatch):
    raw = io.BytesIO()
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(raw, "latin-1"))
    common.run(lambda: print("é \u6012", NAME))
    assert raw.getvalue() == b"\xe9 \\u6012 runs/\\udce9\n"


def test_an_output_that_is_no_file(monkeypatch):
    output = io.StringIO()  # a notebook's is alike
    monkeypatch.setattr("sys.stdout", output)
    common.run(lambda: print("said"))
    assert output.getvalue() == "said\n"


COMMANDS = [
    (train, ["--workdir", NAME]),
    (cross_validate, ["--workdir", NAME]),
    (export, ["ferplus", "--format", "onnx", "--out", NAME]),
]


@pytest.mark.parametrize(("command", "argv"), COMMANDS, ids=["train", "cross_validate", "export"])
def test_a_name_that_libraries_refuse_gets_a_sentence(command, argv, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stop:
        command.main(argv)
    assert stop.value.code == 2
    assert "a name that is not valid UTF-8; choose another place." in capfd.readouterr().err
    assert not Path("runs").exists()


def test_a_default_place_below_such_a_name(tmp_path, monkeypatch):
    folder = tmp_path / "\udce9"
    folder.mkdir()
    monkeypatch.chdir(folder)
    with pytest.raises(UserError, match="not valid UTF-8"):
        train.parse([])
