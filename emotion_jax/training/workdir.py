"""The folder of a run: one run, one configuration, one process at a time."""

import contextlib
import csv
import hashlib
import io
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from emotion_jax import config as config_lib
from emotion_jax import files
from emotion_jax.config import Config
from emotion_jax.data.folder import Problem
from emotion_jax.errors import UserError
from emotion_jax.training import multihost, saved
from emotion_jax.training.backup import Backup

Row = dict[str, Any]

# What may differ when a run goes on: where things are and what is shown, never what is computed.
FREE = ("data.dir", "data.stage_to", "data.votes", "training.backup_", "logging.")


@contextlib.contextmanager
def opened(workdir: Path, config: Config, is_ours: bool = False) -> Iterator[None]:
    """Hold the workdir for ``config``, and note it there; of several processes the main one does.

    ``is_ours`` says that its results are known to be of this run, though it has no checkpoint.

    Raises:
      UserError: it cannot be written, another process trains in it, it holds something else, or
        its run has another configuration.
    """
    if not multihost.is_main():
        yield
        return
    with files.reported(workdir):
        workdir.mkdir(parents=True, exist_ok=True)
        lock = FileLock(workdir / ".lock", blocking=False)
        try:
            lock.acquire()
        except Timeout:
            raise UserError(
                f"Another process trains in {workdir}; wait for it or use another --workdir."
            ) from None
    try:
        archives = backup(workdir, config)
        if archives and (archive := archives.restore()):
            print(f"Going on from the backup {archive}.", file=sys.stderr)
        path = workdir / "config.toml"
        before = config_lib.load(path) if path.is_file() else None
        if saved.steps(workdir / "checkpoints"):
            if before is None:
                raise UserError(f"{workdir} has checkpoints and no config.toml; use another.")
            # Before the first checkpoint there is nothing that other settings could spoil.
            check_same(before, config, workdir)
        elif not is_ours:
            _check_free(workdir, is_run=before is not None)
        with files.reported(workdir):
            files.write_text_atomic(path, config_lib.dumps(config))
            for folder in (workdir, workdir / "report"):
                files.remove_temporary(folder)
        yield
    finally:
        lock.release()


def _check_free(workdir: Path, is_run: bool) -> None:
    """Refuse to write over results that no checkpoint in the workdir accounts for."""
    if (workdir / "quarantine").is_dir():
        return  # a run that has lost its checkpoints begins anew
    results = ["summary.json", "report"]
    if not is_run:
        results += ["metrics.jsonl", "curves.png", "unusable.csv", "tensorboard"]
    if found := [name for name in results if (workdir / name).exists()]:
        raise UserError(
            f"{workdir} holds {found[0]}, and no checkpoint that it could come from; move it away "
            "or use another --workdir."
        )


def backup(workdir: Path, config: Config) -> Backup | None:
    """The run's archives, if the settings ask for some.

    A run is known by all of its settings that ``check_same`` compares.
    """
    training = config.training
    if not training.backup_to:
        return None
    settings = config_lib.flatten(config)
    longer = {"training.epochs"} if training.schedule == "constant" else set()
    fixed = {
        name: value
        for name, value in settings.items()
        if not name.startswith(FREE) and name not in longer
    }
    run = hashlib.sha256(json.dumps(fixed, sort_keys=True, default=str).encode()).hexdigest()[:8]
    return Backup(workdir, run, training.backup_to, training.backup_minutes)


def check_same(before: Config, now: Config, workdir: Path) -> None:
    """Refuse to go on with other settings than the run began with.

    Raises:
      UserError: names the first setting that differs.
    """
    old, new = config_lib.flatten(before), config_lib.flatten(now)
    for name, value in new.items():
        longer = name == "training.epochs" and before.training.schedule == "constant"
        if value != old[name] and not longer and not name.startswith(FREE):
            raise UserError(
                f"{name} is {value}, but the run in {workdir} began with {old[name]}; "
                "use the same value or another --workdir."
            )


def agreed(config: Config) -> dict[str, Any]:
    """The settings, by name, that all processes of a run need to have in common."""
    settings = config_lib.flatten(config)
    names = [name for name in settings if not name.startswith(FREE)]
    return {name: settings[name] for name in (*names, "logging.every_steps")}


def write_history(workdir: Path, history: Sequence[Row]) -> None:
    """Write metrics.jsonl anew (the main process): the epochs up to the state that is held.

    Raises:
      UserError: it cannot be written.
    """
    if not multihost.is_main():
        return
    text = "".join(json.dumps(row, allow_nan=False) + "\n" for row in history)
    with files.reported(workdir):
        files.write_text_atomic(workdir / "metrics.jsonl", text)


def write_problems(workdir: Path, problems: Sequence[Problem]) -> None:
    """Write unusable.csv: ``path,reason`` of all that was left out; none where there is nothing.

    Raises:
      UserError: it cannot be written.
    """
    path = workdir / "unusable.csv"
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerows([("path", "reason"), *problems])
    with files.reported(workdir):
        if problems:
            files.write_text_atomic(path, buffer.getvalue())
        else:
            path.unlink(missing_ok=True)
