"""The wheel: what is in it, and that it works where there is no checkout."""

import importlib.metadata
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from PIL import Image

from emotion_jax.cli import common, main
from emotion_jax.errors import UserError

ROOT = Path(__file__).parents[1]
SETTINGS = {
    "--data.pipeline": "resident",
    "--model.widths": 8,
    "--model.dense": 8,
    "--training.epochs": 1,
    "--logging.progress": False,
}


INSTALLED = ("Always", "`emotion-jax[export]`, besides", "`emotion-jax[video]`, besides")


def canonical(name):
    return re.sub(r"[-_.]+", "-", name).lower()


def noticed():
    """The packages in THIRD_PARTY.md, by heading."""
    found = {}
    for part in (ROOT / "THIRD_PARTY.md").read_text().split("\n## ")[1:]:
        rows = re.findall(r"^\| [^|]+ \| ([^|]+) \|$", part, re.MULTILINE)
        names = {name.split()[0].strip(",") for row in rows for name in row.split(", ")}
        found[part.partition("\n")[0]] = names - {"packages"}
    return found


def test_third_party_names_every_dependency():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    shown = {name: extras[name] for name in extras if name not in ("test", "tpu", "cuda")}
    wanted = {
        canonical(Requirement(text).name)
        for requirements in (project["dependencies"], *shown.values())
        for text in requirements
    }
    named = {name for names in noticed().values() for name in names}
    assert wanted - {"emotion-jax"} - named == set()
    for name in ("tpu", "cuda"):
        assert f"`emotion-jax[{name}]`" in (ROOT / "THIRD_PARTY.md").read_text()


def test_a_config_by_its_name_from_anywhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    expected = (ROOT / "configs" / "synthetic.toml").read_text()
    for name in ("synthetic", "synthetic.toml", "configs/synthetic.toml"):
        assert common.config_file(Path(name)).read_text() == expected
    words = r"Cannot read the config other/synthetic\.toml: .* are .*synthetic"
    with pytest.raises(UserError, match=words):
        common.config_file(Path("other/synthetic.toml"))
    (tmp_path / "synthetic.toml").write_text("")  # the user's own comes first
    assert common.config_file(Path("synthetic.toml")) == Path("synthetic.toml")


@pytest.fixture(scope="module")
def wheel():
    """Built from this checkout into dist/."""
    shutil.rmtree(ROOT / "dist", ignore_errors=True)
    pip("wheel", "--no-deps", "--wheel-dir", ROOT / "dist", ROOT)
    (built,) = (ROOT / "dist").iterdir()
    return built


def pip(*argv, python=sys.executable):
    command = [python, "-m", "pip", "--quiet", "--disable-pip-version-check", *map(str, argv)]
    subprocess.run(command, check=True)


@pytest.mark.slow
def test_what_is_in_the_wheel(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        metadata = next(archive.read(n).decode() for n in names if n.endswith("/METADATA"))
    for path in [*(ROOT / "emotion_jax").rglob("*"), *(ROOT / "configs").rglob("*")]:
        if path.is_file() and "__pycache__" not in path.parts:
            name = path.relative_to(ROOT).as_posix()
            assert (name if name.startswith("emotion_jax") else f"emotion_jax/{name}") in names
    assert {name.split("/")[0].split("-")[0] for name in names} == {"emotion_jax"}
    assert "License-Expression: Apache-2.0" in metadata
    assert (
        sum(name.endswith(("licenses/LICENSE", "licenses/THIRD_PARTY.md")) for name in names) == 2
    )


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """Python of a fresh environment that has the wheel and what it depends on."""
    home = tmp_path_factory.mktemp("fresh")
    subprocess.run([sys.executable, "-m", "venv", home], check=True)
    python = home / "bin" / "python"
    pip("install", f"{wheel}[export,video]", python=python)
    return python


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_everything_works_where_there_is_no_checkout(installed, tmp_path):
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    environment["EMOTION_JAX_CACHE"] = str(tmp_path / "cache")

    def run(*argv):
        command = [installed.with_name("emotion-jax"), *argv]
        done = subprocess.run(
            [str(part) for part in command],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    for command in main.COMMANDS:
        assert "usage" in run(command, "--help").lower()
    settings = [part for pair in SETTINGS.items() for part in pair]
    run("train", "--config", "synthetic", *settings)
    assert "accuracy" in run("evaluate", "runs/synthetic", "--out", "report")
    assert json.loads((tmp_path / "report" / "report.json").read_text())["n"] == 500
    for name in ("onnx", "stablehlo", "safetensors"):
        told = run("export", "runs/synthetic", "--format", name, "--out", f"faces.{name}")
        assert "same label for 500 of 500 drawn test faces" in told
    data = pytest.importorskip("skimage.data")
    Image.fromarray(data.astronaut()).save(tmp_path / "photo.jpg")
    run("predict", "photo.jpg", "--checkpoint", "ferplus", "--out", "faces.jsonl")
    (face,) = map(json.loads, (tmp_path / "faces.jsonl").read_text().splitlines())
    assert (face["path"], face["label"]) == ("photo.jpg", "happy")
    program = "import emotion_jax; print(emotion_jax.__file__)"
    command = [str(installed), "-I", "-c", program]
    where = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    assert where.startswith(str(installed.parents[1]))


@pytest.mark.slow
def test_third_party_names_all_that_a_fresh_environment_has(installed):
    paths = [str(path) for path in (installed.parents[1] / "lib").glob("*/site-packages")]
    found = {canonical(d.metadata["Name"]) for d in importlib.metadata.distributions(path=paths)}
    shown = noticed()
    names = set().union(*(shown[part] for part in INSTALLED))
    assert found - names - {"emotion-jax", "pip", "setuptools"} == set()
