"""Write a model for another runtime, load it there, and hold it to JAX before it is kept."""

import os
import secrets
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from emotion_jax import files
from emotion_jax.data.split import Split
from emotion_jax.errors import UserError, choose
from emotion_jax.export import function, onnx, parity, safetensors, stablehlo
from emotion_jax.training.trained import Trained

# By name in --format, a module with PARTS, write, reference, load and is_ours.
FORMATS: dict[str, ModuleType] = {
    "onnx": onnx,
    "stablehlo": stablehlo,
    "safetensors": safetensors,
}
TOLERANCE = 1e-4  # of a probability
# XLA does not round to bfloat16 at the same places in any two programs of one network.
TOLERANCE_BFLOAT16 = 1e-2


class Diverged(UserError):
    """The exported model's probabilities are not those of JAX."""

    exit_code = 1


@dataclass(frozen=True)
class Exported:
    """A file, and how it compares.

    Attributes:
      path: of the file.
      size: bytes.
      difference: from the checkpoint in JAX.
      own: difference from JAX in the type that the checkpoint computes in, where the file
        computes in another.
      tolerance: what the difference was held to.
      rates: images a second by batch size, of "JAX" and of the format.
    """

    path: Path
    size: int
    difference: parity.Difference
    own: parity.Difference | None
    tolerance: float
    rates: Mapping[int, Mapping[str, float]]


def export(
    trained: Trained,
    name: str,
    out: Path,
    split: Split,
    tolerance: float | None = None,
    dtype: str = "float32",
    progress: bool = False,
) -> Exported:
    """Write ``out``, if what it holds gives JAX's probabilities on ``split``.

    Args:
      trained: the model.
      name: in ``FORMATS``.
      out: the file; replaced if it is an export of that format.
      split: the images to compare on.
      tolerance: largest difference of a probability; None: 1e-4, or 1e-2 where the file computes
        in bfloat16.
      dtype: of the kernels in a safetensors file, as in ``weights.write``.
      progress: show bars.

    Raises:
      UserError: the format is unknown, the file cannot be written, or something else is there.
      Diverged: the difference is larger than the tolerance; ``out`` is as it was.
    """
    form = choose(FORMATS, name, "--format")
    if dtype != "float32" and form is not safetensors:
        raise UserError(f"--dtype {dtype} is for --format safetensors; {name} keeps float32.")
    check_free(out, name)
    with _beside(out) as folder:
        path = folder / out.name
        form.write(path, trained, *([dtype] if form is safetensors else []))
        runner = form.load(path)
        reference = form.reference(trained)
        if tolerance is None:
            in_float32 = reference.config.model.dtype == "float32"
            tolerance = TOLERANCE if in_float32 else TOLERANCE_BFLOAT16
        found = parity.over(runner, split, name if progress else "")
        expected = parity.of_jax(reference, split, progress)
        difference = parity.difference(found, expected)
        # Written so that a NaN is no agreement.
        if not difference.largest <= tolerance:
            raise Diverged(
                f"{name} differs from JAX by up to {difference.largest:.2g} on {split.name}, more "
                f"than the tolerance of {tolerance:g}; {out} was not written."
            )
        own = None
        if reference is not trained:
            own = parity.difference(found, parity.of_jax(trained, split, progress))
        rates = parity.rates({"JAX": function.runner(trained), name: runner}, split)
        size = path.stat().st_size
        with files.reported(out):
            for part in form.PARTS:
                os.replace(folder / f"{out.name}{part}", f"{out}{part}")
    return Exported(out, size, difference, own, tolerance, rates)


def check_free(out: Path, name: str) -> None:
    """Refuse to replace what is not an export of that format.

    Raises:
      UserError: something else is at ``out``.
    """
    if out.is_dir():
        raise UserError(f"{out} is a folder; give the name of a file to --out.")
    form = FORMATS[name]
    there = [path for part in form.PARTS if (path := Path(f"{out}{part}")).exists()]
    if there and not form.is_ours(out):
        raise UserError(
            f"{there[0]} exists and is not of a {name} export of this program; move it away or "
            "give --out another name."
        )


@contextmanager
def _beside(out: Path) -> Iterator[Path]:
    """A folder on the same disk that is gone afterwards."""
    folder = out.parent / f".export-{secrets.token_hex(8)}"
    with files.reported(out):
        out.parent.mkdir(parents=True, exist_ok=True)
        folder.mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
