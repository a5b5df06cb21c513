"""The notebook from its first cell to its last, with folders that stand in for Drive and Colab."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).parents[2]
MORE = (
    "--data.image_size 12 --model.name cnn --model.widths 4 --model.dense 8 "
    "--model.dtype float32 --training.batch_size 8 --training.epochs 6 "
    "--training.warmup_epochs 1 --training.backup_minutes 0 --logging.tensorboard False"
)


@pytest.fixture
def environment(tiny_tree, tmp_path, monkeypatch):
    drive, local = tmp_path / "drive", tmp_path / "local"
    shutil.copytree(tiny_tree, drive / "Emotion_Dataset")
    local.mkdir()
    for name, value in (("DRIVE", drive), ("LOCAL", local), ("MORE", MORE)):
        monkeypatch.setenv(f"EMOTION_{name}", str(value))
    monkeypatch.setenv("PYTHONWARNINGS", "ignore")
    return drive, local


def execute(tmp_path):
    notebook = nbformat.read(ROOT / "notebooks" / "colab_tpu.ipynb", as_version=4)
    kernels = tmp_path / "kernels" / "kernels" / "python3"
    kernels.mkdir(parents=True, exist_ok=True)
    argv = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    about = {"argv": argv, "display_name": "Python 3", "language": "python"}
    (kernels / "kernel.json").write_text(json.dumps(about))
    os.environ["JUPYTER_PATH"] = str(tmp_path / "kernels")
    client = NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(ROOT)}})
    client.execute()
    return "".join(
        output.get("text", "") for cell in notebook.cells for output in cell.get("outputs", [])
    )


@pytest.mark.filterwarnings("ignore")
def test_cut_off_half_way_and_resumed_from_drive_with_nothing_lost(environment, tmp_path):
    drive, local = environment
    kept, workdir = drive / "emotion_jax_runs", local / "runs" / "colab"
    command = [sys.executable, "scripts/train.py", "--config", "configs/colab_tpu.toml"]
    command += ["--data", drive / "Emotion_Dataset", "--data.stage_to", local / "data"]
    command += ["--workdir", workdir, "--training.backup_to", kept, "--logging.progress", "False"]
    process = subprocess.Popen(list(map(str, command)) + MORE.split(), cwd=ROOT)
    deadline = time.monotonic() + 200
    while len(list(kept.glob("*.tar"))) < 2:
        assert time.monotonic() < deadline
        assert process.poll() in (None, 0)
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    shutil.rmtree(local)  # the machine is gone
    local.mkdir()
    said = execute(tmp_path)
    assert "Going on from the backup" in said
    rows = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    assert [row["epoch"] for row in rows] == [1, 2, 3, 4, 5, 6]
    names = {path.name for path in kept.iterdir()}
    assert {"colab.safetensors", "report", "summary.json"} <= names
    assert sum(name.endswith(".tar") for name in names) == 2


def test_it_is_committed_without_outputs():
    notebook = nbformat.read(ROOT / "notebooks" / "colab_tpu.ipynb", as_version=4)
    nbformat.validate(notebook)
    for cell in notebook.cells:
        assert not cell.get("outputs")
        assert cell.get("execution_count") is None
