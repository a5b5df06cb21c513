"""Finished checkpoints: which steps there are, whether they are whole, what they hold."""

import contextlib
import hashlib
import json
import logging
import os
import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from flax import serialization

from emotion_jax import files
from emotion_jax.errors import UserError
from emotion_jax.training import selection
from emotion_jax.training.state import TrainState

GRACE = 0.5  # seconds, for the failures that come after the first


def steps(directory: Path) -> list[Path]:
    """The finished steps in ``directory``, oldest first."""
    return sorted((p for p in directory.glob("*") if p.name.isdigit()), key=lambda p: int(p.name))


def ranked(found: list[Path]) -> list[Path]:
    """Steps that were validated, the one that their run's rule (``selection``) chooses first."""
    places = {step: place for step in found if (place := _place_of(step))}
    return sorted(places, key=lambda step: places[step])


def _place_of(step: Path) -> tuple[float, float, int] | None:
    try:
        about = json.loads((step / "description.json").read_text())
        val = about["metrics"]["val"]
        accuracy, loss = float(val["accuracy"]), float(val["loss"])
        return selection.order(about.get("selection", ""), accuracy, loss, int(step.name))
    except (OSError, KeyError, TypeError, ValueError):  # never validated, or damaged
        return None


def best(directory: Path) -> Path:
    """The best whole step of a workdir's checkpoints.

    Raises:
      UserError: there is none.
    """
    found = steps(directory)
    # All are verified first: a damaged description would drop out of the ranking unnoticed.
    faults = {step: fault for step in found if (fault := verify(step))}
    whole = [step for step in found if step not in faults]
    if not whole:
        first = next(iter(faults.items()), None)
        why = f"none is whole ({first[0].name}: {first[1]})" if first else "there is none yet"
        raise UserError(f"No checkpoint can be used in {directory}: {why}; train first.")
    for step, fault in faults.items():
        print(f"{step} is not whole ({fault}); choosing from the others.", file=sys.stderr)
    return (ranked(whole) or whole[::-1])[0]


def manifest(step: Path) -> dict[str, str]:
    """SHA-256 by name, of the files that make up a step."""
    return json.loads((step / "manifest.json").read_bytes())


def verify(step: Path) -> str | None:
    """What is wrong with the files of ``step``, in a few words; None if nothing."""
    try:
        listed = manifest(step)
        found = set(names(step)) - {"manifest.json"}
        if missing := sorted(set(listed) - found):
            return f"{missing[0]} is missing"
        found -= {name for name in found - set(listed) if files.is_litter(name)}
        if extra := sorted(found - set(listed)):
            return f"{extra[0]} is not in its manifest"
        changed = (name for name in sorted(found) if sha256(step / name) != listed[name])
        damaged = next(changed, None)
        return f"{damaged} is damaged" if damaged else None
    except FileNotFoundError:
        return "manifest.json is missing"
    except (ValueError, TypeError, AttributeError):
        return "manifest.json is damaged"
    except OSError as error:
        return f"it cannot be read ({error.strerror})"


def read_description(step: Path) -> dict[str, Any]:
    """The description of a verified step."""
    return json.loads((step / "description.json").read_text())


def read_hashes(step: Path) -> np.ndarray:
    """Sorted uint64 hashes of the images that the step was trained on."""
    return np.load(step / "train_hashes.npy", allow_pickle=False)


def read_variables(step: Path) -> dict[str, Any]:
    """``params`` and ``batch_stats`` as NumPy arrays."""
    return _restore(step / "model")


def to_trees(state: TrainState) -> dict[str, dict[str, Any]]:
    """What is saved of a state, by folder: ``model``, to use it, and ``training``, to go on."""
    tree = serialization.to_state_dict(state)
    average = tree.pop("average")
    model = average or {name: tree.pop(name) for name in ("params", "batch_stats")}
    return {"model": model, "training": tree}


def read_state(step: Path, target: TrainState) -> TrainState:
    """The whole state, laid out on the devices as ``target`` is.

    Raises:
      UserError: its names or shapes are not those of ``target``.
    """
    model, tree = _restore(step / "model"), _restore(step / "training")
    if ("params" in tree) != bool(target.average):
        raise UserError(f"{step} was saved with another training.average.")
    tree |= {"average": model} if target.average else {**model, "average": {}}
    try:
        restored = serialization.from_state_dict(target, tree)
    except ValueError as error:
        why = str(error).partition("\n")[0]
        raise UserError(f"{step} is of another model or optimizer: {why}.") from None
    for (path, leaf), wanted in zip(
        jax.tree_util.tree_leaves_with_path(restored), jax.tree.leaves(target), strict=True
    ):
        if leaf.shape != wanted.shape or leaf.dtype != wanted.dtype:
            name = jax.tree_util.keystr(path)
            raise UserError(
                f"{step}: {name} is {leaf.dtype}{leaf.shape}, "
                f"the model wants {wanted.dtype}{wanted.shape}."
            )
    return jax.tree.map(lambda leaf, wanted: _place(leaf, wanted.sharding), restored, target)


def _place(leaf: np.ndarray, sharding: Any) -> jax.Array:
    return jax.make_array_from_callback(leaf.shape, sharding, lambda index: leaf[index])


def checkpointer() -> ocp.Checkpointer:
    """Orbax for one process, whichever it is."""
    # One process writes, so there is nobody to wait for.
    alone = ocp.options.MultiprocessingOptions(
        primary_host=jax.process_index(), active_processes={jax.process_index()}
    )
    handler = ocp.PyTreeCheckpointHandler(multiprocessing_options=alone)
    return ocp.Checkpointer(handler, multiprocessing_options=alone)


def write_tree(path: Path, tree: dict[str, Any]) -> None:
    """Save arrays with Orbax.

    Raises:
      OSError, ValueError: they cannot be written; ``reason`` says why.
    """
    with _quiet():
        try:
            checkpointer().save(path.absolute(), tree)  # Orbax takes no other
        except (OSError, ValueError):
            time.sleep(GRACE)
            raise


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Within the block Orbax raises errors without also showing pages of tracebacks."""
    logger, hook = logging.getLogger("absl"), sys.unraisablehook

    def nothing(record: logging.LogRecord) -> bool:
        return False

    def others(unraisable: Any) -> None:
        # TensorStore's, of the other arrays: Orbax has given up at the first error.
        if str(unraisable.exc_value) != "Event loop is closed":
            hook(unraisable)

    logger.addFilter(nothing)
    sys.unraisablehook = others
    try:
        yield
    finally:
        sys.unraisablehook = hook
        logger.removeFilter(nothing)


def reason(error: OSError | ValueError) -> str:
    """Why a tree could not be written, in a few words."""
    if code := re.search(r"os_error_code='(\d+)'", str(error)):
        return os.strerror(int(code[1]))
    return getattr(error, "strerror", None) or str(error).partition("\n")[0][:200]


def _restore(path: Path) -> dict[str, Any]:
    return checkpointer().restore(path.absolute())  # NumPy arrays, as they were saved


def names(directory: Path) -> Iterator[str]:
    """Files in ``directory`` and below, as sorted posix paths."""
    for path in sorted(directory.rglob("*")):
        if path.is_file():
            yield path.relative_to(directory).as_posix()


def sha256(path: Path) -> str:
    """Hex digest of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
