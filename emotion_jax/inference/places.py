"""Where pictures and films with the faces framed go, and that nothing is lost there."""

import itertools
import os
from collections.abc import Sequence
from pathlib import Path, PurePath

from emotion_jax.errors import UserError
from emotion_jax.inference import annotate
from emotion_jax.inference.sources import Input


def targets(inputs: Sequence[Input]) -> dict[str, PurePath]:
    """Name of an input -> where its pictures go, below their folder and without an extension."""
    result: dict[str, PurePath] = {}
    taken: set[PurePath] = set()
    for one in inputs:
        plain = target = one.relative.with_suffix("")
        for i in itertools.count(2):
            if target not in taken:
                break
            target = plain.with_name(f"{plain.name}-{i}")
        taken.add(target)
        result[one.name] = target
    return result


def picture(target: Path) -> Path:
    """Of an image."""
    return target.with_name(f"{target.name}.jpg")


def film(target: Path) -> Path:
    """Of a video, once it is finished."""
    return target.with_name(f"{target.name}.mp4")


def chart(target: Path) -> Path:
    """The timeline of a video."""
    return target.with_name(f"{target.name}-timeline.png")


def check(targets: Sequence[Path], todo: Sequence[Input], inputs: Sequence[Input]) -> None:
    """Refuse to write over an input, under whatever name, or over what we have not drawn.

    Args:
      targets: of each of ``todo``.
      todo: inputs of which pictures are to be drawn.
      inputs: all.

    Raises:
      UserError: a file would be lost.
    """
    originals = {identity for one in inputs if (identity := _identity(one.path))}
    for place in itertools.chain.from_iterable(map(_drawn, targets, todo)):
        identity = _identity(place)
        if identity in originals:
            raise UserError(
                f"The annotated picture {place} would take the place of an input; "
                "choose another folder for --annotate."
            )
        if identity and not annotate.is_ours(place):
            raise UserError(
                f"{place} is there already and has no mark of this program; move it away or "
                "choose another folder for --annotate."
            )


def _identity(path: Path) -> tuple[int, int] | None:
    """What two names of one file have in common; None where there is none."""
    try:
        about = os.stat(path)
    except (OSError, ValueError):
        return None
    return about.st_dev, about.st_ino


def _drawn(target: Path, one: Input) -> tuple[Path, ...]:
    return (film(target), chart(target)) if one.is_video else (picture(target),)
