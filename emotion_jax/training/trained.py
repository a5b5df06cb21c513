"""A trained model, from its checkpoint alone, or from the weights in the package."""

import hashlib
import os
from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import linen as nn

from emotion_jax import config, files, models
from emotion_jax.config import Config
from emotion_jax.errors import UserError, listed
from emotion_jax.training import saved, weights
from emotion_jax.training.description import FORMAT
from emotion_jax.training.seen import Seen

WEIGHTS = Path(__file__).parents[1] / "weights"
SUFFIX = ".safetensors"


@dataclass(frozen=True)
class Trained:
    """What a checkpoint holds, ready to be applied.

    Attributes:
      path: of the step.
      description: see ``description.describer``.
      config: of the run.
      classes: in label order.
      module: uint8 [N, H, W, C] to logits [N, K].
      variables: of the module, NumPy arrays.
      train_hashes: sorted uint64, of the images that it has learnt from or was chosen by, those of
        its teachers and of what it began with included; see ``Seen.complete``.
      whole: where classes were left out (``without``), the model with all of them.
    """

    path: Path
    description: dict[str, Any]
    config: Config
    classes: tuple[str, ...]
    module: nn.Module
    variables: dict[str, Any]
    train_hashes: np.ndarray
    whole: "Trained | None" = None

    @property
    def temperature(self) -> float:
        """Of the probabilities (``predict.log_probabilities``); 1 where none was fitted."""
        return float(self.description["temperature"] or 1.0)

    @property
    def seen(self) -> Seen:
        """What it has learnt from or was chosen by."""
        return Seen.of(self.train_hashes, self.description)

    @property
    def validation_doubt(self) -> str | None:
        """What to say where it is not known that its validation images were new to it."""
        if self.seen.validation_unseen:
            return None
        return (
            "the weights that it began with, or its teachers, may have learnt from its validation "
            "images; what was measured, chosen or fitted on them may look better than it is"
        )

    @property
    def digest(self) -> str:
        """SHA-256 of the variables and the temperature: what its probabilities depend on."""
        digest = hashlib.sha256(repr(self.temperature).encode())
        for path, leaf in jax.tree_util.tree_leaves_with_path(self.variables):
            digest.update(jax.tree_util.keystr(path).encode())
            digest.update(np.ascontiguousarray(leaf).tobytes())
        return digest.hexdigest()


def resolve(source: Path) -> Path:
    """What ``source`` names: a step's directory, a workdir for its chosen step, weights as a file.

    What is no checkpoint may be the name of weights in the package.

    Raises:
      UserError: there is none, or it is not whole.
    """
    if source.is_file():
        return source
    if (source / "checkpoints").is_dir():
        return saved.best(source / "checkpoints")
    if saved.steps(source):
        return saved.best(source)
    if not _is_step(source):
        if str(source) in shipped():
            return source
        raise UserError(
            f"There is no checkpoint {source}; give a workdir of scripts/train.py, one step's "
            f"directory in its checkpoints/, a .safetensors file, or a name ({listed(shipped())})."
        )
    fault = saved.verify(source)
    if fault:
        raise UserError(f"The checkpoint {source} is not whole: {fault}; use another step.")
    return source


def shipped() -> dict[str, Path]:
    """Name -> file of the weights in the package."""
    return {path.stem: path for path in sorted(WEIGHTS.glob(f"*{SUFFIX}"))}


def title(source: Path) -> str:
    """What to call the checkpoint that ``source`` names: its last part, be it "." or "run.v2"."""
    # Not resolve(): what a link points to may be called by a checksum.
    return os.path.basename(os.path.abspath(source)).removesuffix(SUFFIX)


def load(source: Path) -> Trained:
    """Build the model of what ``resolve`` returned.

    Raises:
      UserError: it is damaged, or was written by a version of this program that this one does not
        understand; or it lies where the library that reads checkpoints takes no name.
    """
    if _is_step(source):
        files.utf8(source)
        description = saved.read_description(source)
        return _assemble(
            source, description, saved.read_variables(source), saved.read_hashes(source)
        )
    path = source if source.is_file() else shipped()[str(source)]
    return _assemble(source, *weights.read(path))


def _is_step(source: Path) -> bool:
    return (source / "manifest.json").is_file()


def without(trained: Trained, classes: Collection[str]) -> Trained:
    """The model with these of its classes left out; the others keep their proportions.

    Conformal thresholds, which were fitted with all classes, are left out as well. ``whole`` of
    the result is ``trained``, or its ``whole``.

    Raises:
      UserError: it does not know one of them, or nothing would be left.
    """
    if unknown := [name for name in classes if name not in trained.classes]:
        raise UserError(
            f"{trained.path} does not know {listed(unknown)}, but {listed(trained.classes)}."
        )
    kept = [i for i, name in enumerate(trained.classes) if name not in classes]
    if not kept:
        raise UserError(f"Without {listed(classes)} {trained.path} has no class left.")
    layer = models.last_layer(trained.variables["params"])
    last = {name: array[..., kept] for name, array in trained.variables["params"][layer].items()}
    variables = {**trained.variables, "params": {**trained.variables["params"], layer: last}}
    left = [trained.classes[i] for i in kept]
    description = {**trained.description, "classes": left, "conformal": None}
    fewer = _assemble(trained.path, description, variables, trained.train_hashes)
    return replace(fewer, whole=trained.whole or trained)


def _assemble(
    path: Path, description: dict[str, Any], variables: dict[str, Any], train_hashes: np.ndarray
) -> Trained:
    """Build the model that ``description`` tells of; ``path`` is where it was read.

    Raises:
      UserError: as for ``load``.
    """
    if description.get("format") != FORMAT:
        raise UserError(
            f"{path} has format {description.get('format')}, this version reads {FORMAT}; "
            f"use emotion_jax {description.get('versions', {}).get('emotion_jax', 'of its time')}."
        )
    settings = config.from_mapping(description["config"], f"the description of {path}")
    module = models.build(
        settings.model,
        len(description["classes"]),
        description["image_size"],
        tuple(description["mean"]),
        tuple(description["std"]),
    )
    return Trained(
        path=path,
        description=description,
        config=settings,
        classes=tuple(description["classes"]),
        module=module,
        variables=variables,
        train_hashes=train_hashes,
    )
