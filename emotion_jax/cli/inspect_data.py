"""Find what is wrong with a folder of images, and write a clean copy."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from emotion_jax.cli import common
from emotion_jax.config import cache_dir

DESCRIPTION = """Inspect a data set: broken files, duplicates, leaks between splits, conflicting
labels, class balance, outliers, blank images and, with predictions, likely mislabels.

Example: python scripts/inspect_data.py .data/fer2013 --out runs/doctor --fix .data/fer2013_clean"""


@dataclass(frozen=True)
class Inspect:
    """The command's arguments."""

    data: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="DIR")]
    """Folder with <split>/<class>/ or with class folders directly inside, or an archive of it. It
    is only read."""
    out: Path | None = None
    """Where findings.csv, report.html and the contact sheets go; default: runs/doctor/<name of
    DIR>."""
    predictions: Path | None = None
    """Workdir of cross_validate.py, or any predictions.csv, for the likely mislabels."""
    votes: Path | None = None
    """FER+ votes (CSV) to score the likely mislabels against."""
    fix: Path | None = None
    """Write a cleaned copy to this new folder, by hard links where possible."""
    workers: int = 0
    """Threads that read images; 0: chosen for the machine."""


def main(argv: Sequence[str] | None = None) -> None:
    """Examine, write the report, print what was found, write the clean copy if asked for."""
    common.run(lambda: _inspect(common.parse(Inspect, argv, "inspect_data.py", DESCRIPTION)))


def _inspect(args: Inspect) -> None:
    # These take seconds to import, which --help and a typo need not wait for.
    from emotion_jax.data import staging
    from emotion_jax.errors import UserError
    from emotion_jax.evaluation.doctor import examine, fix, page, predictions

    if args.workers < 0:
        raise UserError(f"--workers is {args.workers}; use 0 or more.")
    if args.votes is not None and args.predictions is None:
        raise UserError("--votes scores the likely mislabels; give --predictions as well.")
    root = staging.resolve(args.data, cache_dir(), progress=True)
    out = args.out or Path("runs") / "doctor" / args.data.resolve().name
    if out.resolve().is_relative_to(root.resolve()):
        raise UserError(f"--out: {out} lies in the data {root}; choose a folder elsewhere.")
    examine.check(out)
    if args.fix is not None:
        fix.check(args.fix, root, out)
    known = None if args.predictions is None else predictions.read(args.predictions)
    diagnosis = examine.examine(root, known, args.votes, args.workers, progress=True)
    examine.write(diagnosis, out)
    print(page.text(diagnosis))
    print(f"\nReport: {out / 'report.html'}")
    if args.fix is not None:
        left_out = fix.plan(diagnosis.survey, diagnosis.all, diagnosis.leaks)
        linked, copied = fix.write(args.fix, diagnosis.survey, left_out, progress=True)
        print(fix.text(args.fix, left_out, linked, copied))
