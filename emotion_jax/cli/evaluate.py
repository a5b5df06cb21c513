"""Evaluate a checkpoint on a split."""

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from emotion_jax.cli import common
from emotion_jax.config import cache_dir

DESCRIPTION = """Evaluate a checkpoint: scikit-learn's metrics, predictions, figures, a page.

Example: python scripts/evaluate.py runs/fer2013_baseline --data .data/fer2013 --split test"""


@dataclass(frozen=True)
class Evaluate:
    """The command's arguments."""

    checkpoint: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="CHECKPOINT")]
    """A workdir (its chosen step), one step's directory, a .safetensors file, or the name of
    weights in the package."""
    data: Path | None = None
    """Folder with <split>/<class>/ or with class folders directly inside, or an archive of it;
    default: the data of the run."""
    split: str = "test"
    """Name of the split in that folder."""
    votes: Path | None = None
    """FER+ votes (CSV): the labels are their majority instead of the folders. Default without
    --data: those of the run."""
    without: tuple[str, ...] = ()
    """Classes of the checkpoint to leave out, such as contempt; the others share their probability
    in proportion."""
    tta: bool = False
    """Average over the views that the checkpoint declares (mirrored and moved)."""
    robustness: bool = False
    """Also measure how accuracy falls under blur, noise, darkness, rotation, JPEG, occlusion and
    low resolution."""
    explain: bool = False
    """Also show where the network looks: Grad-CAM and occlusion by class, the surest mistakes."""
    out: Path | None = None
    """Where the report goes; default: evaluation/<split> in the workdir, of weights as a file
    runs/evaluation/<name>/<split>; with -step-<number> where CHECKPOINT is a step's directory, and
    with -tta, -votes, -without-<class> where these are given."""
    batch_size: Annotated[int, tyro.conf.arg(name="batch-size")] = 256
    """Images at a time; has no influence on the result but rounding (1e-6)."""


def main(argv: Sequence[str] | None = None) -> None:
    """Evaluate, write the report, print its headline."""
    common.run(lambda: _evaluate(common.parse(Evaluate, argv, "evaluate.py", DESCRIPTION)))


def _evaluate(args: Evaluate) -> None:
    # These take seconds to import, which --help and a typo need not wait for.
    from emotion_jax.data import dataset, votes
    from emotion_jax.data.folder import describe
    from emotion_jax.errors import UserError
    from emotion_jax.evaluation import explain, report, robustness
    from emotion_jax.evaluation.evaluate import evaluate
    from emotion_jax.training import compilation, trained

    if args.batch_size < 1:
        raise UserError(f"--batch-size is {args.batch_size}; use at least 1.")
    with compilation.cached(cache_dir() / "xla"):
        model = trained.load(trained.resolve(args.checkpoint))
        out = args.out or _place(args, model.path)
        report.check(out)  # before what can take minutes
        model = trained.without(model, args.without) if args.without else model
        settings = model.config.data
        table = args.votes
        if args.data is not None:
            # Unchecked: unlike a run's, the folder's name goes into no file that must be UTF-8.
            place = Path(os.path.expanduser(args.data))
            settings = settings.model_copy(update={"dir": place, "stage_to": None})
        else:
            table = table or settings.votes
        if settings.dir is None:
            print("No --data was given: evaluating on the synthetic faces that it was trained on.")
        split, problems = dataset.load_split(settings, args.split, model.classes, progress=True)
        if problems:
            print(describe(problems), file=sys.stderr)
        if table is not None:
            split = dataset.relabelled(split, votes.read(table), model.classes, str(table))
            left_out = (split.votes or {})["left_out"] or "none"
            print(f"{len(split)} images have a majority; left out: {left_out}")
        result = evaluate(model, split, args.tta, args.batch_size, progress=True)
        if args.explain:
            result.figures.update(explain.figures(model, split, result.probs))
        if args.robustness:
            result.report["robustness"] = robustness.compute(model, split, progress=True)
        result.write(out)
        print(f"{model.path} on {split.name}:\n\n{result.text()}\n\nReport: {out / 'report.html'}")


def _place(args: Evaluate, found: Path) -> Path:
    """Where the report on the checkpoint ``found`` goes unless --out says."""
    from emotion_jax.training import trained

    # A path such as "." or "16" does not say where it lies.
    step = found.resolve() if found.is_dir() and found.parent.name != "checkpoints" else found
    if not step.is_dir() or step.parent.name != "checkpoints":  # apart from any run of its name
        return Path("runs/evaluation") / trained.title(found) / _name(args)
    # What the workdir stands for keeps its place, whichever step that is as the run goes on.
    named = [f"step-{step.name}"] if found == args.checkpoint else []
    return step.parent.parent / "evaluation" / _name(args, *named)


def _name(args: Evaluate, *parts: str) -> str:
    """What tells an evaluation from others of the same checkpoint, or of its workdir."""
    given = [name for name, value in (("tta", args.tta), ("votes", args.votes)) if value]
    without = [f"without-{name}" for name in sorted(args.without)]
    return "-".join([args.split, *parts, *given, *without])
