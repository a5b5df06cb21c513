"""Train a network on a folder of faces."""

import contextlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from emotion_jax import config as config_lib
from emotion_jax import files
from emotion_jax.cli import common
from emotion_jax.config import Config

PROG = "train.py"
DESCRIPTION = """Train a network on a folder of faces: train/<emotion>/* and test/<emotion>/*.

Example: python scripts/train.py --config configs/fer2013_baseline.toml --data .data/fer2013

  --config FILE   settings in TOML; configs/synthetic.toml by default
  --data DIR      the folder, a .zip or .tar of it, or fer2013.csv (short for --data.dir);
                  without it: drawn faces
  --workdir DIR   where all results go; runs/<config name> by default. The same command
                  again resumes the run.
  --multihost     this process is one of several that train one model; start the same command
                  once a process, all with one --workdir. Clusters that JAX knows (TPU pods,
                  Slurm, MPI, Kubernetes) need no more; by hand, set JAX_NUM_PROCESSES=N,
                  JAX_PROCESS_ID=0 to N-1 and JAX_COORDINATOR_ADDRESS=HOST:PORT of process 0.
                  They wait EMOTION_JAX_MEET_SECONDS (120) for each other.

and every setting by name:"""


DEFAULT = config_lib.load(common.shipped()["synthetic"])


MULTIHOST = "--multihost"


def parse(argv: Sequence[str]) -> tuple[Config, Path]:
    """The configuration and the workdir that the arguments name.

    Raises:
      UserError: they are not understood.
      SystemExit: ``--help`` was asked for.
    """
    config, values = common.parse_settings(
        argv, DEFAULT, PROG, DESCRIPTION, {"--workdir": Path}, {"--data": "--data.dir"}
    )
    name = values.config.stem if values.config else "synthetic"
    return config, files.utf8(values.workdir or Path("runs") / name)


def main(argv: Sequence[str] | None = None) -> None:
    """Train, or resume, and report."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    several = MULTIHOST in arguments
    alone = [argument for argument in arguments if argument != MULTIHOST]
    common.run(lambda: _train(*parse(alone), several))


def _train(config: Config, folder: Path, several: bool) -> None:
    # These take seconds to import, which --help and a typo need not wait for.
    from emotion_jax.training import compilation, logs, multihost

    programs = compilation.cached(config_lib.cache_dir() / "xla")
    with multihost.joined() if several else contextlib.nullcontext(), programs:
        main = multihost.is_main()
        _train_and_report(config if main else logs.silenced(config), folder, main)


def _train_and_report(config: Config, folder: Path, main: bool) -> None:
    from emotion_jax.data import dataset
    from emotion_jax.data.folder import describe
    from emotion_jax.evaluation import summary
    from emotion_jax.training import loop, workdir

    def on_epoch(rows: Sequence[dict[str, Any]]) -> None:
        if main:
            summary.write_curves(folder, rows, config)

    with workdir.opened(folder, config):
        if config.data.dir is None:
            print(
                "No --data was given: training on the synthetic faces that come with the program."
            )
        data = dataset.load(config.data, config.logging.progress)
        if main and not workdir.has_begun(folder):
            workdir.write_problems(folder, data.problems)
        if data.problems and main:
            more = f"\nAll of them: {folder / 'unusable.csv'}"
            print(describe(data.problems) + more, file=sys.stderr)
        print(
            f"{len(data.train)} images to train on, {len(data.validation)} for validation, "
            f"{len(data.test) if data.test is not None else 'none'} for the test; "
            f"classes: {', '.join(data.classes)}. Results: {folder}"
        )
        history = loop.train(config, folder, data, on_epoch)
        print(summary.finish(folder, data, history, config.logging.progress))
