"""StableHLO through ``jax.export``: for JAX on CPU, CUDA and TPU without this package.

FILE is what ``jax.export.deserialize`` takes. Its one function maps ``images`` uint8 [N, S, S, C]
to ``probabilities`` float32 [N, K] for any N >= 1; the variables, the normalisation and the
temperature are inside, and each platform has the convolutions that are fastest on it. FILE.json,
beside it, has the classes and whatever else ``function.describe`` says, and the SHA-256 of FILE.
"""

import contextlib
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import jax
import numpy as np
from jax import export

from emotion_jax import files
from emotion_jax.export import function
from emotion_jax.export.function import Runner
from emotion_jax.training.trained import Trained

PLATFORMS = ("cpu", "cuda", "tpu")
PARTS = (".json", "")  # ends of the names of the files, in the order of writing


def write(path: Path, trained: Trained) -> None:
    """Write FILE.json, then FILE.

    Raises:
      UserError: it cannot be written.
    """
    (batch,) = export.symbolic_shape("N")
    images = jax.ShapeDtypeStruct((batch, *function.image_shape(trained)), np.uint8)
    apply = jax.jit(function.probabilities(trained))
    with _no_locations():
        exported = export.export(apply, platforms=PLATFORMS)(images)
    data = bytes(exported.serialize())
    about = function.describe(trained) | {
        "platforms": list(PLATFORMS),
        "calling_convention_version": exported.calling_convention_version,
        "sha256": hashlib.sha256(data).hexdigest(),
    }
    with files.reported(path):
        files.write_text_atomic(_beside(path), json.dumps(about, indent=2) + "\n")
        files.write_bytes_atomic(path, data)


@contextlib.contextmanager
def _no_locations() -> Iterator[None]:
    """Within, programs do not carry the paths and lines of the code that they come from."""
    name = "jax_traceback_in_locations_limit"
    before = getattr(jax.config, name)
    jax.config.update(name, 0)
    try:
        yield
    finally:
        jax.config.update(name, before)


def _beside(path: Path) -> Path:
    return path.with_name(path.name + PARTS[0])


def reference(trained: Trained) -> Trained:
    """What the file computes: the same, in the same type."""
    return trained


def load(path: Path) -> Runner:
    """The function in the file, compiled for the devices at hand."""
    call = jax.jit(export.deserialize(bytearray(path.read_bytes())).call)
    return lambda images: np.asarray(call(images))


def is_ours(path: Path) -> bool:
    """Whether ``write`` wrote the file, as far as its description tells."""
    try:
        about = json.loads(_beside(path).read_bytes())
        return about["producer"] == function.PRODUCER
    except (OSError, ValueError, KeyError, TypeError):
        return False
