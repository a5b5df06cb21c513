"""The whole benchmark: who runs what and when, and the figures it comes to."""

import contextlib
import platform
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from tqdm.auto import tqdm

from emotion_jax import config as config_lib
from emotion_jax.benchmark import network, pool, results, rounds, startup
from emotion_jax.benchmark.pool import Failed, Worker
from emotion_jax.benchmark.rounds import Block, Samples
from emotion_jax.benchmark.worker import OURS, threads
from emotion_jax.config import Config
from emotion_jax.errors import UserError

EVALUATE = (1, 64, 256)  # images at a time
SCALES = (0.25, 0.5, 1.0, 2.0, 4.0)  # batch sizes of the step-time curve, by the given one
MATMUL = "matrix product"
# Side of the square matrices, by platform: large enough to reach the peak, a tenth of a second.
MATMUL_SIZE = {"cpu": 2048, "gpu": 8192, "tpu": 8192}


@dataclass(frozen=True)
class Options:
    """How it is measured.

    Attributes:
      peers: from ``pool.parse_peers``.
      rounds: of each comparison.
      seconds: of a contender's block in a round, at least about.
      train: Python that trains by sys.argv, for the time to the first step.
      progress: whether to show a bar.
    """

    peers: tuple[str, ...]
    rounds: int
    seconds: float
    train: str
    progress: bool = True


@dataclass
class _Bench:
    config: Config
    options: Options
    folder: Path
    bar: Any
    workers: dict[str, Worker] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)

    @property
    def batch(self) -> int:
        return self.config.training.batch_size

    def shown(self, what: str) -> None:
        self.bar.set_description_str(what)
        self.bar.update()

    def compare(self, title: str, blocks: dict[str, Block]) -> dict[str, Samples]:
        """Steps a second by contender; one that fails in its warm-up is left out, ours never."""
        return rounds.compare(
            blocks,
            self.options.seconds,
            self.options.rounds,
            lambda name: self.shown(f"{title}: {name}"),
            self.tolerated,
        )

    def close(self) -> None:
        for worker in self.workers.values():
            worker.close()

    @contextlib.contextmanager
    def tolerated(self, name: str) -> Iterator[None]:
        """Leave a peer out when it fails: this machine may lack what it needs, e.g. a compiler."""
        try:
            yield
        except Failed as why:
            if name not in pool.contenders(self.options.peers)[1:]:
                raise
            self.skipped[name] = str(why)
            if name in self.workers:
                self.workers.pop(name).close()


def run(config: Config, options: Options) -> dict[str, Any]:
    """Measure ours and the peers, all of it on this machine in this run.

    Raises:
      UserError: the configuration, the data or a contender does not allow it.
    """
    if options.peers:
        network.check_comparable(config)
    with (
        tempfile.TemporaryDirectory() as name,
        contextlib.ExitStack() as stack,
        tqdm(
            total=_total(options, config.training.batch_size),
            disable=not options.progress,
            leave=False,
        ) as bar,
    ):
        bench = _Bench(config, options, Path(name), bar)
        (bench.folder / "config.toml").write_text(config_lib.dumps(config))
        stack.callback(bench.close)
        try:
            return _measure(bench, _start(bench))
        except Failed as why:
            raise UserError(f"The benchmark failed: {why}") from None


def _total(options: Options, batch: int) -> int:
    """Blocks and warm-ups, about."""
    everyone = pool.contenders(options.peers)
    trained = [name for name in everyone if name not in pool.INFERENCE_ONLY]
    sizes = {*EVALUATE, batch}
    blocks = len(trained) + 1 + len(sizes) * len(everyone) + len(SCALES)
    return len(everyone) + blocks * (options.rounds + 2) + 3


def _start(bench: _Bench) -> dict[str, dict[str, Any]]:
    """Start everyone, and make sure that they compute the same network."""
    about: dict[str, dict[str, Any]] = {}
    wanted: np.ndarray | None = None
    for name in pool.contenders(bench.options.peers):
        bench.shown(f"starting {name}")
        with bench.tolerated(name):
            bench.workers[name] = Worker(name, bench.folder)
            description = bench.workers[name].ask("describe")
            logits = np.array(bench.workers[name].ask("logits"))
            wanted = logits if wanted is None else wanted
            description["logit_difference"] = float(np.abs(logits - wanted).max())
            about[name] = description
            _check_same(name, about, float(np.abs(wanted).max()))
    return about


def _check_same(name: str, about: dict[str, dict[str, Any]], largest: float) -> None:
    this, ours = about[name], about[OURS]
    same = this["parameters"] == ours["parameters"]
    if not same or this["logit_difference"] > network.TOLERANCE * largest:
        raise UserError(
            f"{name} computes another network: {this['parameters']:,} parameters and logits up to "
            f"{this['logit_difference']:.1e} apart, where ours has {ours['parameters']:,}; "
            "this is a fault of emotion_jax, please report it."
        )


def _measure(bench: _Bench, about: dict[str, dict[str, Any]]) -> dict[str, Any]:
    ours = bench.workers[OURS]
    size = MATMUL_SIZE.get(about[OURS]["platform"], 2048)
    train = bench.compare("training", _train_blocks(bench, size))
    # Now, before other batch sizes take more.
    memory, program = ours.ask("memory"), ours.ask("program", batch=bench.batch)
    matmul = train.pop(MATMUL).times(2.0 * size**3 * about[OURS]["devices"])
    evaluated = {
        batch: _images(batch, bench.compare(f"inference, batch {batch}", _blocks(bench, batch)))
        for batch in sorted({*EVALUATE, bench.batch})
    }
    scaled = _scaled(bench, about[OURS]["devices"])
    bench.shown("end to end")
    seconds = bench.options.seconds
    pairs = ours.ask("end_to_end", rounds=bench.options.rounds, seconds=seconds)
    bench.shown("time to the first step")
    arguments = ["--config", str(bench.folder / "config.toml"), "--logging.progress", "False"]
    first = startup.measure(bench.options.train, arguments)
    return results.assemble(
        results.Measured(
            config=bench.config,
            about=about,
            skipped=bench.skipped,
            train=_images(bench.batch, train),
            evaluate=evaluated,
            scaled=scaled,
            matmul=matmul,
            program=program,
            memory=memory,
            end_to_end=Samples(tuple(pairs["end_to_end"])),
            alone=Samples(tuple(pairs["alone"])),
            first_step=first,
            peers=bench.options.peers,
            machine={"platform": platform.platform(), "threads": threads()},
            rounds=bench.options.rounds,
            seconds=seconds,
        )
    )


def _images(batch: int, rates: dict[str, Samples]) -> dict[str, Samples]:
    return {name: samples.times(batch) for name, samples in rates.items()}


def _block(bench: _Bench, name: str, task: str, batch: int) -> Block:
    return lambda steps: bench.workers[name].ask(task, batch=batch, steps=steps)


def _train_blocks(bench: _Bench, size: int) -> dict[str, Block]:
    """Of everyone who trains, and the matrix product that utilisation is measured against."""
    names: Sequence[str] = [n for n in bench.workers if n not in pool.INFERENCE_ONLY]
    blocks: dict[str, Callable[[int], float]] = {
        name: _block(bench, name, "train", bench.batch) for name in names
    }
    product = partial(bench.workers[OURS].ask, "matmul", size=size)
    return {**blocks, MATMUL: lambda steps: product(steps=steps)}


def _blocks(bench: _Bench, batch: int) -> dict[str, Block]:
    return {name: _block(bench, name, "evaluate", batch) for name in bench.workers}


def _scaled(bench: _Bench, devices: int) -> dict[int, Samples]:
    """Training steps a second by batch size, of ours."""
    sizes = {round(scale * bench.batch / devices) * devices for scale in SCALES} - {0}
    names = {f"batch {size}": size for size in sorted(sizes)}
    blocks = {name: _block(bench, OURS, "train", size) for name, size in names.items()}
    rates = bench.compare("step time", blocks)
    return {names[name]: samples for name, samples in rates.items()}
