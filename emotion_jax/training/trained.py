"""A trained model, from its checkpoint alone."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from flax import linen as nn

from emotion_jax import config, models
from emotion_jax.config import Config
from emotion_jax.errors import UserError
from emotion_jax.training import saved
from emotion_jax.training.description import FORMAT


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
      train_hashes: sorted uint64, of the images in the train folder.
    """

    path: Path
    description: dict[str, Any]
    config: Config
    classes: tuple[str, ...]
    module: nn.Module
    variables: dict[str, Any]
    train_hashes: np.ndarray

    @property
    def temperature(self) -> float:
        """Of the probabilities (``predict.log_probabilities``); 1 where none was fitted."""
        return float(self.description["temperature"] or 1.0)


def resolve(source: Path) -> Path:
    """The step that ``source`` names: a step's directory, or a workdir for its best step.

    Raises:
      UserError: there is none, or it is not whole.
    """
    if (source / "checkpoints").is_dir():
        return saved.best(source / "checkpoints")
    if saved.steps(source):
        return saved.best(source)
    if not (source / "manifest.json").is_file():
        raise UserError(
            f"There is no checkpoint {source}; give a workdir of scripts/train.py, "
            "or one step's directory in its checkpoints/."
        )
    fault = saved.verify(source)
    if fault:
        raise UserError(f"The checkpoint {source} is not whole: {fault}; use another step.")
    return source


def load(step: Path) -> Trained:
    """Build the model of a verified step.

    Raises:
      UserError: it was written by a version of this program that this one does not understand.
    """
    description = saved.read_description(step)
    return assemble(step, description, saved.read_variables(step), saved.read_hashes(step))


def assemble(
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
