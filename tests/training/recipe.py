"""What each part of the recipe is worth: python tests/training/recipe.py DATA OUT

DATA is FER2013 as a folder. Each row of the table is configs/speedrun.toml made small (half the
widths, images of 32 pixels, so many epochs) with one thing changed, for some seeds. What counts is
accuracy on a fifth of train, which no row learns from, after the last epoch; the split is the
same for all. One run a core at a time; runs go on after a stop.
"""

import argparse
import json
import os
import queue
import statistics
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BASE = {
    "data.image_size": 32,
    "data.validation_fraction": 0.2,
    "model.widths": (16, 32, 64, 128),
    "training.start_size": 0,
    "training.grow_epochs": 0,
}


def adamw(rate):
    """In place of Muon."""
    return {"training.optimizer": "adamw", "training.learning_rate": rate}


def sgd(rate):
    """In place of Muon; momentum does not multiply decay here: 0.01 is as 5e-4 where it does."""
    return {
        "training.optimizer": "sgd",
        "training.learning_rate": rate,
        "training.weight_decay": 0.01,
    }


AFFINE = {f"data.augment.{name}": 0 for name in ("rotation", "shift", "zoom")}
LIGHT = {"data.augment.brightness": 0, "data.augment.contrast": 0}
MIRROR, ERASE = {"data.augment.flip": False}, {"data.augment.erase": 0}
ROWS = {
    "the recipe": {},
    "AdamW, rate of 0.004": adamw(0.004),
    "no average of the weights": {"training.average": 0},
    "no augmentation": AFFINE | LIGHT | MIRROR | ERASE,
    "no squeeze-and-excitation": {"model.squeeze": 0},
    "no label smoothing": {"training.label_smoothing": 0},
    "no mirroring": MIRROR,
    "rate of 0.004": {"training.learning_rate": 0.004},
    "mixup of 0.2": {"training.mixup": 0.2},
    "no erasing": ERASE,
    "GELU for ReLU": {"model.activation": "gelu"},
    "no dropout": {"model.dense_dropout": 0},
    "no rotation, shift, zoom": AFFINE,
    "constant rate": {"training.schedule": "constant"},
    "constant rate, no average": {"training.schedule": "constant", "training.average": 0},
    "CutMix of 1": {"training.cutmix": 1},
    "stochastic depth of 0.1": {"model.drop_path": 0.1},
    "rate of 0.016": {"training.learning_rate": 0.016},
    "AdamW, rate of 0.002": adamw(0.002),
    "SGD, rate of 0.1": sgd(0.1),
    "SGD, rate of 0.3": sgd(0.3),
}


def run(data, workdir, settings, core):
    """Train on one core, or find the run that is done; accuracy on validation at the end."""
    command = [sys.executable, "scripts/train.py", "--config", "configs/speedrun.toml"]
    command += ["--data", str(data), "--workdir", str(workdir), "--logging.progress", "False"]
    for name, value in settings.items():
        values = value if isinstance(value, tuple) else (value,)
        command += [f"--{name}", *(str(v) for v in values)]
    subprocess.run(
        command,
        check=True,
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        preexec_fn=lambda: os.sched_setaffinity(0, {core}),
    )
    rows = [json.loads(row) for row in (workdir / "metrics.jsonl").read_text().splitlines()]
    return rows[-1]["val_accuracy"]


def table(accuracy, seeds):
    """Mean and standard deviation by row, with the difference to the first, paired by seed."""
    lines = ["| | validation accuracy | difference |", "|-|-|-|"]
    base = next(iter(accuracy.values()))
    for name, by_seed in accuracy.items():
        own = [by_seed[seed] for seed in range(seeds)]
        pairs = [by_seed[seed] - base[seed] for seed in range(seeds)]
        mean, difference = statistics.mean(own), statistics.mean(pairs)
        spread = [statistics.stdev(v) if seeds > 1 else 0 for v in (own, pairs)]
        line = f"| {name} | {100 * mean:.1f}% ± {100 * spread[0]:.1f}"
        lines.append(f"{line} | {100 * difference:+.1f} ± {100 * spread[1]:.1f} |")
    return "\n".join(lines)


def main(data, out, epochs, seeds, rows):
    """Train the first ``rows`` and print the table."""
    cores = queue.SimpleQueue()
    for core in os.sched_getaffinity(0):
        cores.put(core)
    accuracy = {name: {} for name in list(ROWS)[:rows]}

    def work(job):
        seed, name = job
        core = cores.get()
        try:
            own = {"training.epochs": epochs, "training.seed": seed}
            workdir = out / f"{name} {seed}".replace(",", "").replace(" ", "-")
            accuracy[name][seed] = run(data, workdir, BASE | own | ROWS[name], core)
            print(f"{name}, seed {seed}: {accuracy[name][seed]:.4f}", flush=True)
        finally:
            cores.put(core)

    out.mkdir(parents=True, exist_ok=True)
    jobs = [(seed, name) for seed in range(seeds) for name in accuracy]
    with ThreadPoolExecutor(cores.qsize()) as pool:
        list(pool.map(work, jobs))
    print(table(accuracy, seeds))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--rows", type=int, default=len(ROWS))
    arguments = parser.parse_args()
    main(
        arguments.data.resolve(),
        arguments.out.resolve(),
        arguments.epochs,
        arguments.seeds,
        arguments.rows,
    )
