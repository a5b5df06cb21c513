"""Checkpoints that describe themselves and are whole or not there.

    checkpoints/<step>/model/             params, batch_stats; their averages where kept (Orbax)
                       training/          the rest of the TrainState (Orbax)
                       description.json   all that is needed to use the model, and the progress
                       train_hashes.npy   sorted uint64 hashes of the training images
                       manifest.json      SHA-256 of every other file that is ours

A step is written under a temporary name, hashed, synced and renamed: kill -9 at any moment leaves
the old steps. Reading verifies the manifest; a step that fails is moved to quarantine/.
"""

import json
import shutil
import sys
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import jax
import numpy as np

from emotion_jax import files
from emotion_jax.errors import UserError
from emotion_jax.training import saved
from emotion_jax.training.backup import Backup
from emotion_jax.training.state import TrainState

UNFINISHED = ".unfinished"
OVERHEAD = 2**18  # bytes of a step beside its arrays, about


class Store:
    """The checkpoints of one workdir. Process 0 writes; all processes read.

    A context manager: when it is left, the last save is on disk or its failure is told.

    Attributes:
      directory: of the steps.
      keep_latest, keep_best: how many of the newest, and of the best by the run's rule, stay.
      backup: archives the saves elsewhere, if any does.
    """

    def __init__(
        self, workdir: Path, keep_latest: int, keep_best: int, backup: Backup | None = None
    ) -> None:
        self.directory = workdir / "checkpoints"
        self.backup = backup
        self.keep_latest, self.keep_best = keep_latest, keep_best
        self._writer = ThreadPoolExecutor(1, "checkpoint")
        self._pending: Future[None] | None = None
        self._has_saved = False
        self._why = ""  # the last save failed
        if jax.process_index() == 0:
            with files.reported(self.directory):
                self.directory.mkdir(parents=True, exist_ok=True)
                for unfinished in self.directory.glob(f"*{UNFINISHED}"):
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
            self._has_saved = True
            tree = saved.to_trees(jax.device_get(state))
            step, text = description["step"], json.dumps(description, allow_nan=False)
            self._pending = self._writer.submit(self._write, tree, step, text, train_hashes)

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
            # A run that was refused has not made the checkpoints that it found.
            if self.backup and (error is None or self._has_saved):
                self.backup.finish()
        except UserError as failed:
            if error is None:
                raise
            if isinstance(error, UserError) and not self.directory.is_dir():
                raise failed from None  # why the other thing failed as well
            if self._why not in str(error):  # a full disk meets more than one file
                print(failed, file=sys.stderr)
        finally:
            self._writer.shutdown()

    def wait(self) -> None:
        """Return when the last save is on disk.

        Raises:
          UserError: it failed.
        """
        pending, self._pending = self._pending, None
        try:
            if pending is not None:
                pending.result()
        except (OSError, ValueError) as error:  # TensorStore's are ValueErrors
            self._why = saved.reason(error)
            if not self.directory.is_dir():
                raise UserError(
                    f"{self.directory} was removed or unmounted while the run went on "
                    f"({self._why}): bring it back, or begin anew with the same command."
                ) from None
            raise UserError(
                f"Cannot write a checkpoint to {self.directory}: {self._why}; the checkpoints "
                "before it are intact: make room and run the command again."
            ) from None

    def newest_good(self) -> Path | None:
        """The newest step whose files are what was written; bad ones go to quarantine, with a word.

        Raises:
          UserError: there are steps, but none is good; then nothing is moved.
        """
        found = saved.steps(self.directory)
        bad: list[tuple[Path, str]] = []
        for step in reversed(found):
            fault = saved.verify(step)
            if fault is None:
                for path, reason in bad if jax.process_index() == 0 else ():
                    with files.reported(self.directory.parent / "quarantine"):
                        moved = _quarantine(path)
                    print(f"{moved}: {reason}; going on from {step}.", file=sys.stderr)
                return step
            bad.append((step, fault))
        if bad:
            raise UserError(
                f"No checkpoint in {self.directory} is whole ({bad[0][0].name}: {bad[0][1]}); "
                "nothing was deleted: restore one from a backup or use a new --workdir."
            )
        return None

    def _write(self, tree: dict[str, Any], step: int, description: str, hashes: np.ndarray) -> None:
        final = self.directory / str(step)
        temporary = final.with_name(final.name + UNFINISHED)
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir()
        try:
            _fill(temporary, tree, description, hashes)
            if final.exists():  # never by a run of ours, so it is not ours to delete
                _quarantine(final)
            temporary.rename(final)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)  # room for what else is to be written
            raise
        files.sync(self.directory)
        self._prune()
        if self.backup:
            self.backup.due()

    def _prune(self) -> None:
        found = saved.steps(self.directory)
        keep = {*found[-self.keep_latest :], *saved.ranked(found)[: self.keep_best]}
        for step in found:
            if step not in keep:  # renamed first: half a step must not look like one
                shutil.rmtree(step.rename(step.with_name(step.name + UNFINISHED)))


def _fill(folder: Path, tree: dict[str, Any], description: str, hashes: np.ndarray) -> None:
    """Write a step's files, the manifest last, and have them reach the disk."""
    size = sum(np.asarray(leaf).nbytes for leaf in jax.tree.leaves(tree))
    files.check_room(folder, size + OVERHEAD)
    for name, part in tree.items():
        saved.write_tree(folder / name, part)
    (folder / "description.json").write_text(description)
    np.save(folder / "train_hashes.npy", hashes, allow_pickle=False)
    whole = [name for name in saved.names(folder) if not files.is_litter(name)]
    digests = {name: saved.sha256(folder / name) for name in whole}
    files.write_text_atomic(folder / "manifest.json", json.dumps(digests))
    for name in saved.names(folder):
        files.sync(folder / name)


def _quarantine(step: Path) -> Path:
    home = step.parent.parent / "quarantine"
    home.mkdir(exist_ok=True)
    number = next(i for i in range(10**6) if not (home / f"{step.name}-{i}").exists())
    return step.rename(home / f"{step.name}-{number}")
