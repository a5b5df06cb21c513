"""scheme.json: how a cross-validation cuts its folds, so that it cannot go on with other ones."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from emotion_jax import config as config_lib
from emotion_jax import files
from emotion_jax.config import Config
from emotion_jax.errors import UserError
from emotion_jax.evaluation.folds import Scheme
from emotion_jax.training import saved, workdir

NAME = "scheme.json"
RESULTS = ("predictions.csv", "cross_validation.json", "cross_validation.png")


def check(folder: Path, config: Config, scheme: Scheme) -> None:
    """Refuse to go on with other settings than a cross-validation began with.

    Raises:
      UserError: names the first setting that differs, or what else the folder holds.
    """
    if (folder / "checkpoints").is_dir():
        raise UserError(f"{folder} is the workdir of a training run; use another --workdir.")
    if not begun(folder):
        _check_free(folder)
        return  # there is nothing that other settings could spoil
    before = _read(folder)
    for name in ("folds", "repeats", "near"):  # of --groups it is the effect that counts
        _check_same(name, before, scheme, folder)
    workdir.check_same(config_lib.load(folder / "config.toml"), config, folder)


def _check_free(folder: Path) -> None:
    """Refuse to write over results that no fold accounts for.

    Raises:
      UserError: there are some.
    """
    found = [name for name in RESULTS if (folder / name).exists()]
    if (folder / NAME).exists() and not (folder / "config.toml").is_file():
        found.append(NAME)
    if found:
        raise UserError(
            f"{folder} holds {found[0]}, and no fold that it could come from; move it away or use "
            "another --workdir."
        )


def note(folder: Path, scheme: Scheme, images: str, cuts: Sequence[str]) -> None:
    """Write the file; where a fold has begun, compare with what it said before.

    Args:
      folder: of the cross-validation.
      scheme: as ``check`` has seen it.
      images: fingerprint of the data.
      cuts: fingerprint of every fold's data.

    Raises:
      UserError: the images or the folds are others, or the file cannot be written.
    """
    cut = hashlib.sha256(" ".join(cuts).encode()).hexdigest()
    if begun(folder):
        before = _read(folder)
        if before["images"] != images:
            raise UserError(
                f"The images are not those that the cross-validation in {folder} began with; "
                "bring them back or use another --workdir."
            )
        if before["cut"] != cut:
            _check_same("groups", before, scheme, folder)
            raise UserError(
                f"The folds are not those that the cross-validation in {folder} began with "
                "(the file of --groups has changed, or a library cuts otherwise in this version); "
                "use another --workdir."
            )
    content = {**asdict(scheme), "images": images, "cut": cut}
    with files.reported(folder):
        files.write_text_atomic(folder / NAME, json.dumps(content, indent=2) + "\n")


def _check_same(name: str, before: Mapping[str, Any], scheme: Scheme, folder: Path) -> None:
    value = getattr(scheme, name)
    if before[name] != value:
        raise UserError(
            f"--{name} is {value}, but the cross-validation in {folder} began with "
            f"{before[name]}; use the same value or another --workdir."
        )


def begun(folder: Path) -> bool:
    """Whether a fold of a cross-validation in ``folder`` has a checkpoint."""
    return any(saved.steps(place / "checkpoints") for place in folder.glob("fold-*-*"))


def _read(folder: Path) -> dict[str, Any]:
    try:
        content = json.loads((folder / NAME).read_text())
        return {name: content[name] for name in (*asdict(Scheme()), "images", "cut")}
    except (OSError, ValueError, TypeError, KeyError):
        raise UserError(
            f"{folder} has folds that were begun and no {NAME} that can be read; "
            "use another --workdir."
        ) from None
