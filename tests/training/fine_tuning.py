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
IMAGES, SEEDS, BATCH = (10, 30, 100, 300), (0, 1, 2), 32
CONFIG = "configs/fine_tune.toml"
# It learns four emotions in minutes; the shipped one knows all seven.
NETWORK = ("--model.widths", 24, 48, 96, 192, "--model.convolutions", 1, "--model.squeeze", 0)
ALONE = ("--training.init_from", "", "--training.frozen_epochs", 0)
QUIET = ("--logging.progress", False, "--logging.tensorboard", False)


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
    command = [sys.executable, "scripts/train.py", "--config", CONFIG, "--data", data]
    command += ["--workdir", workdir, *NETWORK, *QUIET]
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
    first = ("--training.epochs", 8, "--training.batch_size", 64, "--training.average", 0.998)
    run(out / "old", out / "first", *first, "--data.validation_fraction", 0.1, *ALONE)
    print("images a class   from scratch      from the other network")
    for images in IMAGES:
        folder = out / f"new-{images}"
        links(data, folder, "train", NEW, images)
        links(data, folder, "test", NEW)
        kept = 3 * images - round(0.2 * 3 * images)
        batch = ("--training.batch_size", min(BATCH, kept // 4))
        columns = []
        for way, start in (("scratch", ALONE), ("tuned", ("--training.init_from", out / "first"))):
            settings, name = (*start, *batch), f"{way}-{images}"
            columns.append(
                [run(folder, out / f"{name}-{n}", *settings, "--training.seed", n) for n in SEEDS]
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
