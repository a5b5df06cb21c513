"""Stop training at random moments, go on by the same command, compare with an undisturbed run.

Example: python tests/faults/harness.py --kills 50 --pipeline tfdata [--signal KILL|TERM|INT]

A round has a workdir and a cache of its own. It is stopped a few times, then run to the end; the
newest and best checkpoints' arrays, metrics.jsonl and predictions.csv must be, byte for byte, those
of the undisturbed run. Half of the moments are drawn from the whole length of a run, half from a
phase of it; the process is frozen (SIGSTOP) to see which phase it is in. Exit status 1: a round
differed, or an exit was not clean.
"""

import argparse
import contextlib
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from emotion_jax.data import synthetic
from emotion_jax.training import saved
from emotion_jax.training.checkpoint import UNFINISHED

ROOT = Path(__file__).parents[2]
EPOCHS = 3
SOURCES = ("tree", "archive", "drawn")
# Before there is a cache, and with one.
COLD = {"tree": ("ingest",), "archive": ("unpacking", "ingest"), "drawn": ("drawing", "ingest")}
WARM = ("compile", "save", "prune", "train", "evaluate", "report", "exit")
SHARE = {"compile": 0.4, "save": 0.5, "prune": 0.5, "train": 0.5}  # of a run, where they are
PER_ROUND = 5  # stops
PATIENCE = 300  # seconds until a run counts as hung
CLEAN = {signal.SIGINT: 130, signal.SIGTERM: 143}


def make_source(name: str, root: Path) -> list[str]:
    """Arguments of scripts/train.py for a small tree, a .zip of it, or the drawn faces."""
    if name == "drawn":
        return ["--training.batch_size", "256"]
    if not (root / "faces").exists():
        synthetic.write_tree(root / "faces", train=210, test=70)
        shutil.make_archive(str(root / "faces"), "zip", root / "faces")
    path = root / ("faces.zip" if name == "archive" else "faces")
    return ["--data", str(path), "--training.batch_size", "24"]


def arguments(pipeline: str) -> list[str]:
    """The rest: everything random switched on, a save a step."""
    settings = {
        "data.pipeline": pipeline,
        "data.image_size": 12,
        "data.augment.rotation": 10,
        "data.augment.flip": True,
        "data.augment.erase": 0.5,
        "model.widths": 4,
        "model.dense": 8,
        "model.dropout": 0.1,
        "training.epochs": EPOCHS,
        "training.save_minutes": 1e-9,
        "logging.every_steps": 2,
        "logging.progress": False,
    }
    return [str(part) for name, value in settings.items() for part in (f"--{name}", value)]


@dataclass
class Run:
    """A workdir, a cache, and the command that is given again and again."""

    argv: Sequence[str]
    home: Path
    process: Any = None
    began: float = 0.0

    @property
    def workdir(self) -> Path:
        return self.home / "run"

    @property
    def cache(self) -> Path:
        return self.home / "cache"

    def start(self) -> None:
        self.home.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-u", str(ROOT / "scripts" / "train.py"), *self.argv]
        command += ["--workdir", str(self.workdir)]
        environment = os.environ | {"EMOTION_JAX_CACHE": str(self.cache)}
        self.began = time.time()
        with (self.home / "said").open("w") as said:
            self.process = subprocess.Popen(command, env=environment, stdout=said, stderr=said)

    def said(self) -> str:
        return (self.home / "said").read_text(errors="replace")

    def wait(self) -> int:
        """The exit status.

        Raises:
          AssertionError: it hangs.
        """
        try:
            return self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise AssertionError(f"it hangs:\n{self.said()}") from None

    def finish(self) -> None:
        """Run to the end."""
        self.start()
        status = self.wait()
        assert status == 0, f"exit status {status}:\n{self.said()}"

    def frozen(self) -> bool:
        """Freeze the process, to be looked at; False if it has ended."""
        if self.process.poll() is not None:
            return False
        os.kill(self.process.pid, signal.SIGSTOP)
        _, status = os.waitpid(self.process.pid, os.WUNTRACED)
        if os.WIFSTOPPED(status):
            return True
        self.process.returncode = os.waitstatus_to_exitcode(status)
        return False

    def stop(self, signum: int, moment: float | str, delay: float) -> str | None:
        """Start, and send a signal at a moment: seconds, or ``delay`` seconds into a phase.

        Returns:
          The phase that it was at; None if it ended first.
        """
        self.start()
        if isinstance(moment, str):
            is_at = self.prunes if moment == "prune" else lambda: self.phase() == moment
            while self.process.poll() is None and not is_at():
                time.sleep(0 if moment == "prune" else 0.002)
            moment = time.time() - self.began + delay
        while self.process.poll() is None and time.time() - self.began < moment:
            time.sleep(0.002)
        if not self.frozen():
            return None
        phase = self.phase()
        os.kill(self.process.pid, signum)
        if signum != signal.SIGKILL:
            os.kill(self.process.pid, signal.SIGCONT)
        return phase

    def prunes(self) -> bool:
        """Whether it is at "prune"; quick to answer, for that takes a millisecond."""
        with contextlib.suppress(FileNotFoundError):
            names = os.listdir(self.workdir / "checkpoints")
            numbers = [int(name.partition(".")[0]) for name in names]
            return any(
                name.endswith(UNFINISHED) and number < max(numbers)
                for name, number in zip(names, numbers, strict=True)
            )
        return False

    def phase(self) -> str:
        """What the process is at, from what is on the disk and what it has said."""

        def made(path: Path) -> bool:
            with contextlib.suppress(OSError):
                return path.stat().st_mtime > self.began
            return False

        steps = self.workdir / "checkpoints"
        said = self.said()
        places = {
            "drawing": "synthetic/*.drawing",
            "unpacking": "unpacked/*-*",
            "ingest": "temporary/*",
        }
        for name, place in places.items():
            if any(self.cache.glob(place)):
                return name
        if "Results: " not in said:
            return "data" if (self.workdir / "config.toml").exists() else "import"
        finished = [int(path.name) for path in saved.steps(steps)]
        for unfinished in steps.glob(f"*{UNFINISHED}"):
            newest = max(finished, default=-1)
            return "save" if int(unfinished.stem) > newest else "prune"
        if "Report: " in said or made(self.workdir / "summary.json"):
            return "exit"
        if any(made(path) for path in (self.workdir / "report").glob("*")):
            return "report"
        rows = self.workdir / "metrics.jsonl"
        if rows.exists() and len(rows.read_text().splitlines()) == EPOCHS and finished:
            about = saved.read_description(steps / str(max(finished)))
            if about["epoch"] == EPOCHS:
                return "evaluate"
        return "train" if any(made(path) for path in saved.steps(steps)) else "compile"


def outcome(workdir: Path) -> dict[str, Any]:
    """What must not depend on how often a run was stopped."""
    steps = saved.steps(workdir / "checkpoints")
    kept = {"newest": steps[-1], "best": saved.best(workdir / "checkpoints")}
    rows = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    return {
        **{name: (step.name, digest(step)) for name, step in kept.items()},
        "rows": [{k: v for k, v in row.items() if k != "images_per_second"} for row in rows],
        "predictions": hashlib.sha256(
            (workdir / "report" / "predictions.csv").read_bytes()
        ).hexdigest(),
    }


def digest(step: Path) -> str:
    """Of the names and bytes of all arrays of a whole step."""
    assert saved.verify(step) is None, f"{step}: {saved.verify(step)}"
    total = hashlib.sha256()
    for part in ("model", "training"):
        tree = saved.checkpointer().restore(step / part)
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
            array = np.asarray(leaf)
            total.update(f"{part}{jax.tree_util.keystr(path)}{array.dtype}{array.shape}".encode())
            total.update(array.tobytes())
    return total.hexdigest()


def unclean(run: Run, signum: int, phase: str) -> str | None:
    """What is wrong with the end of a run that was sent a signal."""
    status, said = run.wait(), run.said()
    if signum == signal.SIGKILL:
        return None if status == -signum else f"exit status {status} after a kill"
    if "Traceback" in said or "Exception ignored" in said:
        return "a traceback"
    # A shell shows a death by the signal itself as the same status.
    if phase in ("import", "exit") and status in (0, -signum):
        return None
    if status != CLEAN[signum]:
        return f"exit status {status} instead of {CLEAN[signum]}"
    name = signal.Signals(signum).name
    return None if said.count(f"Stopped by {name}; ") == 1 else "not one sentence"


class Stop(NamedTuple):
    """A signal, and when: seconds after the start, or ``delay`` seconds into a phase."""

    signum: int
    moment: float | str
    delay: float = 0.0


@dataclass
class Tally:
    """Of a campaign."""

    landed: Counter[str] = field(default_factory=Counter)
    rounds: int = 0
    equal: int = 0
    faults: list[str] = field(default_factory=list)

    @property
    def stops(self) -> int:
        """How many signals have reached a process."""
        return sum(self.landed.values())


def whole(argv: Sequence[str], home: Path) -> Run:
    """An undisturbed run."""
    run = Run(argv, home)
    run.finish()
    return run


def go_through(run: Run, stops: Iterable[Stop], undisturbed: Run, tally: Tally) -> None:
    """Stop the run again and again, run it to the end, and compare."""
    tally.rounds += 1
    for stop in stops:
        phase = run.stop(*stop)
        if phase is None:
            if run.process.returncode != 0:
                tally.faults.append(f"it ended by itself:\n{run.said()}")
            break
        tally.landed[phase] += 1
        if fault := unclean(run, stop.signum, phase):
            tally.faults.append(f"{run.home}, {stop.signum} in {phase}: {fault}:\n{run.said()}")
    else:
        run.finish()
    if outcome(run.workdir) == outcome(undisturbed.workdir):
        tally.equal += 1
        shutil.rmtree(run.home)
    else:
        tally.faults.append(f"{run.home} differs from {undisturbed.home}")


def draw_stops(
    rng: random.Random, source: str, signals: Sequence[int], length: float, count: int
) -> list[Stop]:
    """Half of them at a time, half in a phase; the later a stop, the later in the run."""
    drawn: list[tuple[float, Stop]] = []
    for _ in range(count):
        signum, delay = rng.choice(signals), rng.uniform(0.0, 0.1)
        if rng.random() < 0.5:
            share = rng.random()
            # Python itself takes a moment to start.
            drawn.append((share, Stop(signum, max(0.1, share * length))))
        else:
            phase = rng.choice((*COLD[source], *WARM))
            share = 0.0 if phase in COLD[source] else SHARE.get(phase, 1.0)
            drawn.append((share, Stop(signum, phase, delay)))
    return [stop for _, stop in sorted(drawn, key=lambda pair: pair[0])]


def campaign(pipeline: str, count: int, signals: Sequence[int], root: Path, seed: int = 0) -> Tally:
    """Rounds until ``count`` signals have landed; ``root`` must be empty."""
    rng, tally = random.Random(seed), Tally()
    references: dict[str, tuple[Run, float]] = {}
    while tally.stops < count:
        source = SOURCES[tally.rounds % len(SOURCES)]
        argv = [*make_source(source, root), *arguments(pipeline)]
        if source not in references:
            undisturbed = whole(argv, root / f"whole-{source}")
            references[source] = undisturbed, time.time() - undisturbed.began
        undisturbed, length = references[source]
        stops = draw_stops(rng, source, signals, length, min(PER_ROUND, count - tally.stops))
        go_through(Run(argv, root / f"round-{tally.rounds}"), stops, undisturbed, tally)
        print(f"round {tally.rounds}: {source}, {dict(tally.landed)}", flush=True)
    return tally


def main() -> None:
    """Run a campaign and print its figures."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--pipeline", choices=("tfdata", "resident"), default="tfdata")
    parser.add_argument("--signal", choices=("KILL", "TERM", "INT", "BOTH"), default="KILL")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    both = [signal.SIGTERM, signal.SIGINT]
    signals = both if args.signal == "BOTH" else [signal.Signals[f"SIG{args.signal}"]]
    root = Path(tempfile.mkdtemp(prefix="faults-"))
    tally = campaign(args.pipeline, args.kills, signals, root, args.seed)
    for fault in tally.faults:
        print(fault)
    landed = ", ".join(f"{phase} {n}" for phase, n in tally.landed.most_common())
    print(
        f"{args.pipeline}, {args.signal}: {tally.stops} stops ({landed}); "
        f"{tally.equal} of {tally.rounds} rounds equal; {len(tally.faults)} faults."
    )
    if tally.faults:
        print(f"What is left of it: {root}")
        raise SystemExit(1)
    shutil.rmtree(root)


if __name__ == "__main__":
    main()
