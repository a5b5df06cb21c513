"""Checkpoints that describe themselves and are whole or not there.

    checkpoints/<step>/model/             params, batch_stats (Orbax)
                       training/          the rest of the TrainState (Orbax)
                       description.json   all that is needed to use the model, and the progress
                       train_hashes.npy   sorted uint64 hashes of the training images
                       manifest.json      SHA-256 of every other file

A step is written under a temporary name, hashed, synced and renamed: kill -9 at any moment leaves
the old steps. Reading verifies the manifest; a step that fails is moved to quarantine/.
"""

import hashlib
import json
import shutil
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import jax
import numpy as np
import orbax.checkpoint as ocp
from flax import serialization

from emotion_jax import files
from emotion_jax.errors import UserError
from emotion_jax.training.state import TrainState

FORMAT = 1
MODEL = ("params", "batch_stats")


class Store:
    """The checkpoints of one workdir. Process 0 writes; all processes read.

    A context manager: when it is left, the last save is on disk or its failure is told.

    Attributes:
      directory: of the steps.
      keep_latest, keep_best: how many of the newest, and of the best by validation accuracy, stay.
    """

    def __init__(self, workdir: Path, keep_latest: int, keep_best: int) -> None:
        self.directory = workdir / "checkpoints"
        self.keep_latest, self.keep_best = keep_latest, keep_best
        self._writer = ThreadPoolExecutor(1, "checkpoint")
        self._pending: Future[None] | None = None
        if jax.process_index() == 0:
            self.directory.mkdir(parents=True, exist_ok=True)
            for unfinished in self.directory.glob("*.unfinished"):
                shutil.rmtree(unfinished)

    def save(
        self, state: TrainState, description: dict[str, Any], train_hashes: np.ndarray
    ) -> None:
        """Copy the state to the host now, write it in the background.

        Raises:
          UserError: the save before this one failed.
        """
        self.wait()
        if jax.process_index() == 0:
            tree = serialization.to_state_dict(jax.device_get(state))
            self._pending = self._writer.submit(self._write, tree, description, train_hashes)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            self.wait()
        except UserError as failed:
            if error is None:
                raise
            print(failed, file=sys.stderr)  # what ended the block is the better reason
        finally:
            self._writer.shutdown()

    def wait(self) -> None:
        """Return when the last save is on disk.

        Raises:
          UserError: it failed.
        """
        pending, self._pending = self._pending, None
        if pending is not None:
            try:
                pending.result()
            except OSError as error:
                raise UserError(
                    f"Cannot write a checkpoint to {self.directory}: {error.strerror or error}; "
                    "the checkpoints before it are intact: make room and run the command again."
                ) from None

    def newest_good(self) -> Path | None:
        """The newest step whose files are what was written; bad ones go to quarantine, with a word.

        Raises:
          UserError: there are steps, but none is good; then nothing is moved.
        """
        found = steps(self.directory)
        bad: list[tuple[Path, str]] = []
        for step in reversed(found):
            fault = verify(step)
            if fault is None:
                for path, reason in bad:
                    print(f"{_quarantine(path)}: {reason}; going on from {step}.", file=sys.stderr)
                return step
            bad.append((step, fault))
        if bad:
            raise UserError(
                f"No checkpoint in {self.directory} is whole ({bad[0][0].name}: {bad[0][1]}); "
                "nothing was deleted: restore one from a backup or use a new --workdir."
            )
        return None

    def _write(self, tree: dict[str, Any], description: dict[str, Any], hashes: np.ndarray) -> None:
        final = self.directory / str(description["step"])
        temporary = final.with_name(final.name + ".unfinished")
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir()
        writer = _checkpointer()
        writer.save(temporary / "model", {name: tree[name] for name in MODEL})
        writer.save(temporary / "training", {k: v for k, v in tree.items() if k not in MODEL})
        (temporary / "description.json").write_text(json.dumps(description, allow_nan=False))
        np.save(temporary / "train_hashes.npy", hashes, allow_pickle=False)
        manifest = json.dumps({name: _sha256(temporary / name) for name in _names(temporary)})
        files.write_text_atomic(temporary / "manifest.json", manifest)
        for name in _names(temporary):
            files.sync(temporary / name)
        if final.exists():  # the same step again, by a run that fell back past it
            shutil.rmtree(final)
        temporary.rename(final)
        files.sync(self.directory)
        self._prune()

    def _prune(self) -> None:
        found = steps(self.directory)
        keep = {*found[-self.keep_latest :], *ranked(found)[: self.keep_best]}
        for step in found:
            if step not in keep:
                shutil.rmtree(step)


def steps(directory: Path) -> list[Path]:
    """The finished steps in ``directory``, oldest first."""
    return sorted((p for p in directory.glob("*") if p.name.isdigit()), key=lambda p: int(p.name))


def ranked(found: list[Path]) -> list[Path]:
    """Steps that were validated, best first: by accuracy, then by loss, then the older one."""

    def key(step: Path) -> tuple[float, float, int]:
        val = validation(step) or {}
        return (-val["accuracy"], val["loss"], int(step.name))

    return sorted((step for step in found if validation(step)), key=key)


def validation(step: Path) -> dict[str, float] | None:
    """Validation metrics of a step; None if it was saved within an epoch or cannot be read."""
    try:
        return json.loads((step / "description.json").read_text())["metrics"]["val"]
    except (OSError, ValueError, KeyError, TypeError):
        return None


def best(directory: Path) -> Path:
    """The best whole step of a workdir's checkpoints.

    Raises:
      UserError: there is none.
    """
    found = steps(directory)
    candidates = ranked(found) or found[::-1]
    faults = []
    for step in candidates:
        fault = verify(step)
        if fault is None:
            return step
        faults.append(f"{step.name}: {fault}")
        print(f"{step} is not whole ({fault}); trying the next best.", file=sys.stderr)
    why = f"none of them is whole ({faults[0]})" if faults else "there is none yet"
    raise UserError(f"No checkpoint can be used in {directory}: {why}; train first.")


def verify(step: Path) -> str | None:
    """What is wrong with the files of ``step``, in a few words; None if nothing."""
    try:
        manifest = json.loads((step / "manifest.json").read_bytes())
        names = set(_names(step)) - {"manifest.json"}
        if missing := sorted(set(manifest) - names):
            return f"{missing[0]} is missing"
        if extra := sorted(names - set(manifest)):
            return f"{extra[0]} is not in its manifest"
        changed = (name for name in sorted(names) if _sha256(step / name) != manifest[name])
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


def read_state(step: Path, target: TrainState) -> TrainState:
    """The whole state, laid out on the devices as ``target`` is.

    Raises:
      UserError: its shapes are not those of ``target``.
    """
    tree = {**_restore(step / "model"), **_restore(step / "training")}
    restored = serialization.from_state_dict(target, tree)
    for (path, leaf), wanted in zip(
        jax.tree_util.tree_leaves_with_path(restored), jax.tree.leaves(target), strict=True
    ):
        if leaf.shape != wanted.shape or leaf.dtype != wanted.dtype:
            name = jax.tree_util.keystr(path)
            raise UserError(f"{step}: {name} is {leaf.shape}, the model wants {wanted.shape}.")
    return jax.tree.map(lambda leaf, wanted: _place(leaf, wanted.sharding), restored, target)


def _place(leaf: np.ndarray, sharding: Any) -> jax.Array:
    return jax.make_array_from_callback(leaf.shape, sharding, lambda index: leaf[index])


def _checkpointer() -> ocp.Checkpointer:
    # One process writes, so there is nobody to wait for.
    alone = ocp.options.MultiprocessingOptions(
        primary_host=jax.process_index(), active_processes={jax.process_index()}
    )
    handler = ocp.PyTreeCheckpointHandler(multiprocessing_options=alone)
    return ocp.Checkpointer(handler, multiprocessing_options=alone)


def _restore(path: Path) -> dict[str, Any]:
    return _checkpointer().restore(path)  # NumPy arrays, as they were saved


def _quarantine(step: Path) -> Path:
    home = step.parent.parent / "quarantine"
    home.mkdir(exist_ok=True)
    number = next(i for i in range(10**6) if not (home / f"{step.name}-{i}").exists())
    return step.rename(home / f"{step.name}-{number}")


def _names(directory: Path) -> Iterator[str]:
    for path in sorted(directory.rglob("*")):
        if path.is_file():
            yield path.relative_to(directory).as_posix()


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
