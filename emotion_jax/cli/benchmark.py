"""Measure how fast training and inference are here, against other frameworks."""

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from emotion_jax import config as config_lib
from emotion_jax import files
from emotion_jax.cli import common
from emotion_jax.config import Config
from emotion_jax.errors import UserError

PROG = "benchmark.py"
OURS = {"train_images_per_second", "networks", "compile_for"}  # one is in every file of figures
DESCRIPTION = """Measure training and inference on this machine, and compare other frameworks.

Example: python scripts/benchmark.py --peers torch,keras,onnxruntime --json benchmark.json

  --config FILE        settings in TOML; configs/fer2013_baseline.toml by default
  --data DIR           the images of the end-to-end figure; drawn faces by default
  --batch-size N       short for --training.batch_size
  --peers NAMES        of torch,keras,onnxruntime (the extra emotion-jax[bench]): the same network
                       in each of them, in processes of their own that take turns with ours;
                       torch+allocator is torch with the settings of the C library's allocator
                       that this program makes for itself, and so on
  --rounds N           turns in each comparison; 5 by default
  --seconds S          of each turn, at least about; 1 by default
  --json FILE          the figures, and a picture of them beside it (.png)
  --out DIR            runs/benchmark by default: where they go without --json, as benchmark.json
                       (side_by_side.json of --configs, compiled.json of --compile-for)
  --configs FILES      e.g. configs/vgg.toml,configs/resnet.toml: instead of all that, the networks
                       of these side by side, in batches of 128 without --batch-size: parameters,
                       arithmetic, images a second
  --compile-for CHIPS  e.g. v5e:1x1 or v5e:1x1,v5e:2x4 (the extra emotion-jax[tpu]): instead of all
                       that, compile the training step for these TPUs, which need not be there

and every setting by name:"""

DEFAULT = config_lib.load(common.shipped()["fer2013_baseline"])
BATCH = 128  # of --configs, where no --batch-size is given: their own ones differ
# What the time to the first step is taken of.
TRAIN = "from emotion_jax.cli import train; train.main()"


@dataclass(frozen=True)
class Benchmark:
    """The command's arguments beside the settings.

    Attributes:
      peers: names, separated by commas.
      compile_for: targets, likewise; empty: measure this machine.
      json: the file for the figures; the picture goes beside it.
      rounds, seconds: how it is measured.
      configs: by name, whose networks to compare; empty: measure one.
    """

    peers: str
    compile_for: str
    json: Path
    rounds: int
    seconds: float
    configs: Mapping[str, Config] = field(default_factory=dict)


def parse(argv: Sequence[str]) -> tuple[Config, Benchmark]:
    """The configuration and the arguments.

    Raises:
      UserError: they are not understood.
      SystemExit: ``--help`` was asked for.
    """
    options = {
        "--peers": str,
        "--configs": str,
        "--compile-for": str,
        "--json": Path,
        "--out": Path,
        "--rounds": int,
        "--seconds": float,
    }
    short = {"--data": "--data.dir", "--batch-size": "--training.batch_size"}

    def settings(argv: Sequence[str]) -> tuple[Config, argparse.Namespace]:
        return common.parse_settings(argv, DEFAULT, PROG, DESCRIPTION, options, short)

    config, given = settings(argv)
    rounds = 5 if given.rounds is None else given.rounds
    seconds = 1.0 if given.seconds is None else given.seconds
    if rounds < 1:
        raise UserError(f"--rounds is {rounds}; use at least 1.")
    if not 0 < seconds <= 600:
        raise UserError(f"--seconds is {seconds:g}; use more than 0 and at most 600.")
    folder = given.out or Path("runs/benchmark")
    names = [name.strip() for name in (given.configs or "").split(",") if name.strip()]
    if names and (given.config or given.peers or given.compile_for):
        raise UserError("--configs goes with none of --config, --peers and --compile-for.")
    mode = "side_by_side" if names else "compiled" if given.compile_for else "benchmark"
    file = given.json or folder / f"{mode}.json"
    alike = ["--batch-size", str(BATCH), *argv, "--config"]
    labels = files.named([Path(name.removesuffix(".toml")) for name in names])
    configs = {
        label: settings([*alike, name])[0] for (label, _), name in zip(labels, names, strict=True)
    }
    return config, Benchmark(
        given.peers or "", given.compile_for or "", file, rounds, seconds, configs
    )


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, write the figures, print them."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    common.run(lambda: _benchmark(*parse(arguments)))


def _benchmark(config: Config, args: Benchmark) -> None:
    _check_free(args.json, has_picture=not args.compile_for)
    if args.compile_for:
        _compile_for(config, args)
        return
    if args.configs:
        _side_by_side(args, config.logging.progress)
        return
    # These take seconds to import, which --help and a typo need not wait for.
    from emotion_jax.benchmark import plots, pool, suite
    from emotion_jax.benchmark.table import table

    peers = pool.parse_peers(args.peers)
    if config.data.dir is None:
        print("No --data was given: the end-to-end figure is of the synthetic faces.")
    options = suite.Options(peers, args.rounds, args.seconds, TRAIN, config.logging.progress)
    content = suite.run(config, options)
    _write(args.json, content, plots.figure, table(content))


def _check_free(path: Path, has_picture: bool) -> None:
    """See before minutes of work, not after, that the figures can be written; nothing stays there.

    Raises:
      UserError: they cannot, or a picture would be lost that does not belong to figures there.
    """
    with files.reported(path):
        if path.is_dir():
            raise UserError(f"{path} is a folder; give the name of a file to --json.")
        beside = path.with_suffix(".png")
        if has_picture and beside == path:
            raise UserError(f"--json is {path}, where the picture goes; let it end with .json.")
        if path.exists() and not _is_ours(path):
            raise UserError(
                f"{path} is there already, and no figures of this command; move it away or give "
                "--json another name."
            )
        if has_picture and os.path.lexists(beside) and not path.exists():
            raise UserError(
                f"{beside} is there already, and no figures that it belongs to; move it away or "
                "give --json another name."
            )
        path.parent.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=path.parent).close()


def _is_ours(path: Path) -> bool:
    try:
        content = json.loads(path.read_bytes())
    except ValueError:
        return False
    return isinstance(content, dict) and not OURS.isdisjoint(content)


def _compile_for(config: Config, args: Benchmark) -> None:
    from emotion_jax.benchmark import ahead

    estimates: dict[str, Any] = {}
    for target in (name.strip() for name in args.compile_for.split(",")):
        estimate = ahead.compile_for(config, target)
        estimates[target] = estimate.as_dict()
        print(f"{estimate.table()}\n")
    _write_json(args.json, {"compile_for": estimates})
    print(f"Figures: {args.json}")


def _side_by_side(args: Benchmark, progress: bool) -> None:
    from emotion_jax.benchmark import plots, side_by_side

    content = side_by_side.run(args.configs, args.rounds, args.seconds, progress)
    _write(args.json, content, plots.side_by_side, side_by_side.table(content))


def _write(
    path: Path, content: dict[str, Any], draw: Callable[[dict[str, Any]], bytes], table: str
) -> None:
    print(f"{table}\n", flush=True)  # first of all: whatever fails below, the figures are known
    _write_json(path, content)
    beside = path.with_suffix(".png")
    with files.reported(beside):
        files.write_bytes_atomic(beside, draw(content))
    print(f"Figures: {path}\nPicture: {beside}")


def _write_json(path: Path, content: dict[str, Any]) -> None:
    with files.reported(path):
        files.write_text_atomic(path, json.dumps(content, indent=1, allow_nan=False) + "\n")
