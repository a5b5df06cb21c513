"""Cross-validate a configuration."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from emotion_jax import config as config_lib
from emotion_jax import files
from emotion_jax.cli import common, train
from emotion_jax.config import Config

PROG = "cross_validate.py"
DESCRIPTION = """Train and measure a network a fold: every image of train is predicted by one that
had not seen it.

Example: python scripts/cross_validate.py --data .data/fer2013 --model.widths 16 32 64

  --config FILE   settings in TOML; configs/synthetic.toml by default
  --data DIR      the folder, a .zip or .tar of it, or fer2013.csv (short for --data.dir);
                  without it: drawn faces. The folds are of train alone.
  --folds K       folds (5)
  --repeats R     of the whole, each with other folds (1)
  --groups SPEC   who is shown, so that nobody is on both sides: a CSV file with the columns
                  path,group (paths as in predictions.csv), or a regular expression for the
                  file's name whose first group is the subject, such as '^(S\\d+)_'
  --near BITS     near-duplicates stay together: largest difference of their perceptual
                  hashes (6); -1: do not look for them
  --workdir DIR   where all results go; runs/<config name>_cv by default. The same command
                  again resumes: a fold that is done is not run again.

and every setting by name:"""

OPTIONS = {"--folds": int, "--repeats": int, "--groups": str, "--near": int, "--workdir": Path}


def main(argv: Sequence[str] | None = None) -> None:
    """Cross-validate, or go on, and print the table."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    common.run(lambda: _cross_validate(arguments))


def _cross_validate(argv: Sequence[str]) -> None:
    config, values = common.parse_settings(
        argv, train.DEFAULT, PROG, DESCRIPTION, OPTIONS, {"--data": "--data.dir"}
    )
    given = {name: getattr(values, name) for name in ("folds", "repeats", "groups", "near")}
    asked = {name: value for name, value in given.items() if value is not None}
    name = values.config.stem if values.config else "synthetic"
    # This takes seconds to import, which --help and a typo need not wait for.
    from emotion_jax.training import compilation

    with compilation.cached(config_lib.cache_dir() / "xla"):
        _run(config, files.utf8(values.workdir or Path("runs") / f"{name}_cv"), asked)


def _run(config: Config, folder: Path, asked: dict[str, Any]) -> None:
    from emotion_jax.data import dataset
    from emotion_jax.data.folder import describe
    from emotion_jax.evaluation import cross_validation, pooled, scheme_file
    from emotion_jax.evaluation.folds import Scheme
    from emotion_jax.training import workdir

    scheme = Scheme(**asked)
    scheme_file.check(folder, config, scheme)
    with workdir.opened(folder, config, is_ours=scheme_file.begun(folder)):
        if config.data.dir is None:
            print("No --data was given: cross-validating on the synthetic faces.")
        whole = dataset.load_whole(config.data, config.logging.progress)
        if not scheme_file.begun(folder):
            workdir.write_problems(folder, whole.problems)
        if whole.problems:
            more = f"\nAll of them: {folder / 'unusable.csv'}"
            print(describe(whole.problems) + more, file=sys.stderr)
        print(
            f"{len(whole.train):,} images of train in {scheme.folds} folds; "
            f"classes: {', '.join(whole.classes)}. Results: {folder}"
        )
        content = cross_validation.cross_validate(config, folder, whole, scheme)
        print(f"\n{pooled.text(content)}\n\nResults: {folder / 'cross_validation.json'}")
