"""Name the expressions of the faces in images, folders and videos."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from emotion_jax.cli import common
from emotion_jax.config import cache_dir

if TYPE_CHECKING:
    from emotion_jax.training.trained import Trained

DESCRIPTION = """Name the expressions of the faces in images, folders and videos: a row a face.

Example: python scripts/predict.py photos/ film.mp4 --out faces.jsonl --annotate annotated/"""


@dataclass(frozen=True)
class Predict:
    """The command's arguments."""

    paths: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="PATH...")]
    """Images, videos, and folders of them (and their folders)."""
    checkpoint: Path = Path("ferplus")
    """A workdir (its chosen step), one step's directory, a .safetensors file, or the name of
    shipped weights."""
    out: Path | None = None
    """FILE.jsonl or FILE.csv; what it holds already is not done again. Default: JSON lines on
    standard output."""
    annotate: Path | None = None
    """Folder for pictures and videos with the faces framed and named, and timelines of videos."""
    detector: Literal["mtcnn", "haar", "none"] = "mtcnn"
    """What finds the faces; none: the images are faces already."""
    min_face: Annotated[int, tyro.conf.arg(name="min-face")] = 20
    """Smallest face that is looked for, pixels (of images with more than 1280 a side: at that
    size); the larger, the faster."""
    crop: bool = False
    """The images are faces already (--detector none)."""
    abstain_below: Annotated[float, tyro.conf.arg(name="abstain-below")] = 0.0
    """Faces whose best class is less probable are marked as abstained."""
    without: tuple[str, ...] = ()
    """Classes to leave out, such as contempt; the others share their probability in proportion."""
    fps: float = 0.0
    """Frames of a video that are looked at in each second; 0: every one."""
    smooth: float = 0.0
    """Time constant of the smoothing of a face's probabilities in a video, seconds; 0: none."""


def main(argv: Sequence[str] | None = None) -> None:
    """Predict, write the rows and pictures, print a summary."""
    common.run(lambda: _predict(common.parse(Predict, argv, "predict.py", DESCRIPTION)))


def _predict(args: Predict) -> None:
    # These take seconds to import, which --help and a typo need not wait for.
    from emotion_jax.errors import UserError
    from emotion_jax.inference import sources
    from emotion_jax.inference.batch import Batch
    from emotion_jax.inference.recognizer import Recognizer
    from emotion_jax.inference.rows import Output
    from emotion_jax.training import compilation

    for name, value in (("--fps", args.fps), ("--smooth", args.smooth)):
        if not 0.0 <= value < float("inf"):
            raise UserError(f"{name} is {value}; use 0 or more.")
    inputs = sources.collect(args.paths, () if args.annotate is None else (args.annotate,))
    if not inputs:
        where = ", ".join(map(str, args.paths))
        raise UserError(f"There are no images or videos in {where or 'nothing: name a PATH'}.")
    detector = "none" if args.crop else args.detector
    with compilation.cached(cache_dir() / "xla"):
        recognizer = Recognizer.load(
            args.checkpoint,
            detector,
            args.abstain_below,
            without=args.without,
            min_face=args.min_face,
        )
        output = Output(args.out, recognizer.classes, _settings(args, detector, recognizer.trained))
        try:
            batch = Batch(recognizer, output, args.annotate, args.fps, args.smooth)
            batch.run(inputs)
        finally:
            output.close()
    if not batch.read:
        raise UserError(f"None of the {len(inputs)} files could be read; the rows say why.")
    if args.out is not None:
        print(f"{batch.summary()}: {args.out}")


def _settings(args: Predict, detector: str, trained: "Trained") -> dict[str, Any]:
    """All that the rows depend on besides the files."""
    from emotion_jax.inference import settings

    return {
        settings.CHECKPOINT: os.fsencode(args.checkpoint).decode("utf-8", "backslashreplace"),
        settings.NETWORK: settings.fingerprint(trained),
        "--detector": detector,
        "--min-face": args.min_face if detector != "none" else None,
        "--abstain-below": args.abstain_below,
        "--without": sorted(args.without),
        "--fps": args.fps,
        "--smooth": args.smooth,
    }
