import dataclasses
import json

import jax
import numpy as np
import pytest
from networks import make_trained

from emotion_jax.errors import UserError
from emotion_jax.inference import settings
from emotion_jax.inference.rows import Output, rows_of

CLASSES = ("sad", "happy")
MADE = {"--checkpoint": "runs/a", "network": "12", "--detector": "mtcnn", "--without": ["fear"]}


def begin(path, made=MADE):
    output = Output(path, CLASSES, made)
    output.write(rows_of("a.jpg", []))
    output.close()


def test_a_fingerprint_is_of_the_network_and_not_of_its_place(trained, tmp_path):
    same = settings.fingerprint(trained)
    assert settings.fingerprint(dataclasses.replace(trained, path=tmp_path)) == same
    assert settings.fingerprint(make_trained(temperature=2.0)) != same
    moved = jax.tree.map(lambda array: np.nextafter(array, np.float32(9)), trained.variables)
    assert settings.fingerprint(dataclasses.replace(trained, variables=moved)) != same
    elsewhere = trained.description | {"config": {"data": {"dir": "elsewhere"}}}
    assert settings.fingerprint(dataclasses.replace(trained, description=elsewhere)) == same
    other = trained.description | {"config": {"model": {"activation": "gelu"}}}
    assert settings.fingerprint(dataclasses.replace(trained, description=other)) != same


@pytest.mark.parametrize("name", ["a.jsonl", "a.csv"])
@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"--detector": "haar"}, "--detector mtcnn, not haar"),
        ({"--without": []}, "--without fear, not nothing"),
        ({"network": "13"}, "an earlier state of runs/a"),
        ({"network": "13", "--checkpoint": "runs/b"}, "--checkpoint runs/a, not runs/b"),
    ],
)
def test_rows_of_other_settings_are_not_mixed(tmp_path, name, change, sentence):
    path = tmp_path / name
    begin(path)
    path.write_bytes(path.read_bytes()[:-1] + b'\n{"path": "b'[: 2 if name == "a.csv" else None])
    whole = path.read_bytes()
    with pytest.raises(UserError, match=f"was made with {sentence}; .*choose another --out"):
        Output(path, CLASSES, MADE | change)
    assert path.read_bytes() == whole
    output = Output(path, CLASSES, MADE | {"--checkpoint": "copy/of/a"})
    output.close()
    assert list(output.before.done) == ["a.jpg"]


def test_an_output_without_rows_is_begun_anew(tmp_path):
    path = tmp_path / "a.csv"
    Output(path, CLASSES, MADE).close()
    begin(path, MADE | {"--detector": "haar"})
    assert json.loads((tmp_path / "a.csv.settings.json").read_text())["--detector"] == "haar"


def test_an_older_output_is_gone_on_with_and_said_so(tmp_path, capsys):
    path = tmp_path / "a.jsonl"
    begin(path, None)
    assert not settings.path_of(path).exists()
    begin(path)
    assert "does not say what its rows were made with" in capsys.readouterr().err
    assert not settings.path_of(path).exists()


@pytest.mark.parametrize("text", ["mine", "[]", "{}"])
def test_a_file_of_another_in_the_place_of_the_settings(tmp_path, text):
    settings.path_of(tmp_path / "a.jsonl").write_text(text)
    with pytest.raises(UserError, match=r"a\.jsonl\.settings\.json is not what was written"):
        begin(tmp_path / "a.jsonl")
    assert settings.path_of(tmp_path / "a.jsonl").read_text() == text
