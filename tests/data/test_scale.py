"""What a data set costs in time and memory as it grows: pytest -m slow -s tests/data/test_scale.py

Of one size alone, by hand: python tests/data/test_scale.py 500000 FOLDER_FOR_4_GB
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

LIMIT = 2 * 2**30  # bytes of memory that a process may have taken at its peak
SIZE, CLASSES, BATCH = 48, 7, 256

# Data are asked for twice: the first time makes the cache, and the training uses it.
PROGRAM = """
import json, re, sys, time
from pathlib import Path
from emotion_jax import config
from emotion_jax.data import dataset

def peak():
    return int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) * 1024

settings = config.from_mapping(json.loads(sys.argv[1]), "test")
began = time.monotonic()
data = dataset.load(settings.data)
report = {"load_seconds": time.monotonic() - began, "load_peak": peak()}
if sys.argv[2] == "train":
    from emotion_jax.training import loop, workdir
    assert not data.train.in_memory
    folder = Path(sys.argv[3])
    began = time.monotonic()
    with workdir.opened(folder, settings):
        (row,) = loop.train(settings, folder, data)
    report |= {"train_seconds": time.monotonic() - began, "train_peak": peak(), "row": row}
report["n"] = len(data.train) + len(data.validation)
print(json.dumps(report))
"""


def make_tree(root, n):
    """n small images, all different: a drawing's file with the number written over four pixels."""
    rng = np.random.default_rng(0)
    for label in range(CLASSES):
        folder = root / "train" / f"class_{label}"
        folder.mkdir(parents=True)
        pixels = rng.integers(0, 256, (SIZE, SIZE), np.uint8)
        Image.fromarray(pixels).save(root / "pattern.bmp")
        pattern = (root / "pattern.bmp").read_bytes()
        (root / "pattern.bmp").unlink()
        for i in range(label, n, CLASSES):
            (folder / f"{i:07d}.bmp").write_bytes(pattern[:-4] + i.to_bytes(4, "little"))


def measure(n, folder):
    """Images a second and peak memory, to make the cache and to train for an epoch from disk."""
    make_tree(folder / "tree", n)
    settings = {
        "data": {
            "dir": str(folder / "tree"),
            "pipeline": "tfdata",
            "image_size": SIZE,
            "memory_limit": 1e-6,
            "augment": {"shear": 0.2, "zoom": 0.2, "flip": True},
        },
        "model": {"widths": (4,), "dense": (8,)},
        "training": {"epochs": 1, "batch_size": BATCH},
        "logging": {"progress": False, "tensorboard": False},
    }
    environment = {**os.environ, "EMOTION_JAX_CACHE": str(folder / "cache")}

    def child(what):
        arguments = [sys.executable, "-c", PROGRAM, json.dumps(settings), what, str(folder / "run")]
        result = subprocess.run(arguments, env=environment, capture_output=True, text=True)
        assert result.returncode == 0, result.stderr
        return json.loads(result.stdout.splitlines()[-1])

    made, trained = child("load"), child("train")
    assert made["n"] == trained["n"] == n
    return {
        "n": n,
        "ingest_images_per_second": n / made["load_seconds"],
        "ingest_peak": made["load_peak"],
        "index_bytes": next((folder / "cache").glob("datasets/*/index.json")).stat().st_size,
        "open_seconds": trained["load_seconds"],
        "open_peak": trained["load_peak"],
        "train_images_per_second": trained["row"]["images_per_second"],
        "train_seconds": trained["train_seconds"],
        "train_peak": trained["train_peak"],
    }


@pytest.mark.slow
@pytest.mark.parametrize("n", [5_000, 50_000, 500_000])
@pytest.mark.timeout(7200)
def test_memory_stays_bounded(n, tmp_path):
    report = measure(n, tmp_path)
    print(json.dumps(report))
    assert max(report["ingest_peak"], report["train_peak"]) < LIMIT


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(dir=sys.argv[2]) as place:
        began = time.monotonic()
        for key, value in measure(int(sys.argv[1]), Path(place)).items():
            peak = f" ({value / 2**20:.0f} MiB)" if "peak" in key or "bytes" in key else ""
            print(f"{key} {value:.1f}{peak}")
        print(f"seconds in all {time.monotonic() - began:.0f}")
