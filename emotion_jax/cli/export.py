"""Export a checkpoint for another runtime."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from emotion_jax import files
from emotion_jax.cli import common
from emotion_jax.config import cache_dir

if TYPE_CHECKING:
    from emotion_jax.export.export import Exported

DESCRIPTION = """Export a checkpoint: pixels in, probabilities out, held to JAX on real images.

Example: python scripts/export.py runs/synthetic --format onnx --out faces.onnx"""


@dataclass(frozen=True)
class Export:
    """The command's arguments."""

    checkpoint: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="CHECKPOINT")]
    """A workdir (its chosen step), one step's directory, or weights by their file or name."""
    format: Literal["onnx", "stablehlo", "safetensors"]
    """onnx: ONNX Runtime, browsers, phones; stablehlo: JAX without this package; safetensors: the
    arrays and their description."""
    out: Path
    """The file. One that is there is replaced only if it is an export of this format."""
    data: Path | None = None
    """Images to compare on: a folder with test/<class>/ or with class folders directly inside, or
    an archive of it; default: the synthetic test split."""
    tolerance: float | None = None
    """Largest difference of a probability from JAX's; past it nothing is written and the exit
    status is 1. Default: 1e-4, or 1e-2 where the file computes in bfloat16."""
    dtype: Literal["float32", "float16", "int8"] = "float32"
    """Of the kernels in a safetensors file."""


def main(argv: Sequence[str] | None = None) -> None:
    """Export, compare, print."""
    common.run(lambda: _export(common.parse(Export, argv, "export.py", DESCRIPTION)))


def _export(args: Export) -> None:
    # These take seconds to import, which --help and a typo need not wait for.
    from emotion_jax.data import dataset, synthetic
    from emotion_jax.data.folder import describe
    from emotion_jax.export import export
    from emotion_jax.training import compilation, trained

    export.check_free(files.utf8(args.out) if args.format == "onnx" else args.out, args.format)
    with compilation.cached(cache_dir() / "xla"):
        model = trained.load(trained.resolve(args.checkpoint))
        update = {"dir": args.data, "stage_to": None}
        settings = model.config.data.model_copy(update=update)
        # Drawn faces are compared, not scored: their classes need not be the model's.
        classes = synthetic.CLASSES if args.data is None else model.classes
        split, problems = dataset.load_split(settings, "test", classes, progress=True)
        if problems:
            print(describe(problems), file=sys.stderr)
        result = export.export(
            model, args.format, args.out, split, args.tolerance, args.dtype, progress=True
        )
    images = "drawn test faces" if args.data is None else f"images of {args.data}"
    print(_told(result, args, f"{result.difference.n} {images}"))


def _told(result: "Exported", args: Export, images: str) -> str:
    """The outcome in a few lines."""
    difference, own = result.difference, result.own
    lines = [
        f"{result.path}: {args.format}, {result.size / 1e6:.2f} MB",
        f"largest difference from JAX: {difference.largest:.2g} (tolerance {result.tolerance:g}), "
        f"same label for {difference.agree} of {images}",
    ]
    if own is not None:
        lines.append(
            f"both in float32; in bfloat16 the checkpoint itself differs by {own.largest:.2g}, "
            f"same label for {own.agree}"
        )
    for batch, rates in result.rates.items():
        speeds = ", ".join(f"{name} {rate:,.0f}" for name, rate in rates.items())
        lines.append(f"images a second on the CPU, {batch} at a time: {speeds}")
    return "\n".join(lines)
