"""Compare runs."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from emotion_jax.cli import common

DESCRIPTION = """Compare runs on the images that all have predicted: metrics, McNemar's test,
bootstrap intervals, curves, settings.

Example: python scripts/compare.py runs/fer2013_baseline runs/speedrun --out comparison/"""


@dataclass(frozen=True)
class Compare:
    """The command's arguments."""

    runs: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="RUN RUN...")]
    """Workdirs with a report, or folders that scripts/evaluate.py has written; the first is what
    the others are compared with."""
    out: Path = Path("comparison")
    """Where compare.json, compare.png and compare.html go."""


def main(argv: Sequence[str] | None = None) -> None:
    """Compare, write, print the table."""
    common.run(lambda: _compare(common.parse(Compare, argv, "compare.py", DESCRIPTION)))


def _compare(args: Compare) -> None:
    # This takes seconds to import, which --help and a typo need not wait for.
    from emotion_jax.evaluation import compare

    runs = compare.read(args.runs)
    content = compare.compare(runs)
    compare.write(args.out, content, runs)
    print(f"{compare.text(content)}\n\nComparison: {args.out / 'compare.html'}")
