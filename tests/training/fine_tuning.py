"""What a trained network is worth to new classes: python tests/training/fine_tuning.py DATA OUT

DATA is FER2013 as a folder. One network learns four of its emotions; then others learn to tell the
remaining three apart from few images, from scratch or from that network, for three seeds each. The
test images of the three, which neither has seen, say how well. Runs go on after a stop.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
OLD, NEW = ("angry", "happy", "neutral", "sad"), ("disgust", "fear", "surprise")
IMAGES, SEEDS, EPOCHS, BATCH = (10, 30, 100, 300), (0, 1, 2), 50, 32
CONFIG = """
[data]
pipeline = "resident"
augment = {rotation = 15.0, shift = 0.08, zoom = 0.1, flip = true}

[model]
name = "fernet"
widths = [24, 48, 96, 192]
convolutions = 1
dropout = 0.0
dense_dropout = 0.2

[training]
optimizer = "muon"
learning_rate = 2e-3
schedule = "cosine"
momentum = 0.95
weight_decay = 0.02

[logging]
progress = false
tensorboard = false
"""


def links(data, target, split, names, most=None):
    """Hard links to the first ``most`` images of each class."""
    for name in names:
        (target / split / name).mkdir(parents=True, exist_ok=True)
        for path in sorted((data / split / name).iterdir())[:most]:
            link = target / split / name / path.name
            if not link.exists():
                os.link(path, link)


def run(data, workdir, *settings):
    """Train, or find the run that is done; the accuracy on test."""
    config = workdir.parent / "fine_tuning.toml"
    config.write_text(CONFIG)
    command = [sys.executable, "scripts/train.py", "--config", config]
    command += ["--data", data, "--workdir", workdir]
    subprocess.run(
        [str(part) for part in (*command, *settings)],
        check=True,
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
    )
    return json.loads((workdir / "summary.json").read_text())["test"]["accuracy"]


def main(data, out):
    """Train all networks and print the table."""
    links(data, out / "old", "train", OLD)
    links(data, out / "old", "test", OLD)
    run(out / "old", out / "first", "--training.epochs", 8, "--training.average", 0.998)
    print("images a class   from scratch      from the other network")
    for images in IMAGES:
        folder = out / f"new-{images}"
        links(data, folder, "train", NEW, images)
        links(data, folder, "test", NEW)
        kept = 3 * images - round(0.2 * 3 * images)
        batch = min(BATCH, kept // 4)
        common = ("--training.epochs", EPOCHS, "--training.batch_size", batch)
        common += ("--data.validation_fraction", 0.2, "--training.average", 0.98)
        known = ("--training.init_from", out / "first", "--training.frozen_epochs", 10)
        columns = []
        for way, settings in (("scratch", common), ("tuned", (*common, *known))):
            columns.append(
                [
                    run(folder, out / f"{way}-{images}-{n}", *settings, "--training.seed", n)
                    for n in SEEDS
                ]
            )
        text = "   ".join(
            f"{100 * statistics.mean(c):5.1f}% ± {100 * statistics.stdev(c):.1f}" for c in columns
        )
        print(f"{images:14}   {text}", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    arguments = parser.parse_args()
    main(arguments.data.resolve(), arguments.out.resolve())
