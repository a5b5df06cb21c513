"""The folder of a run: one run, one configuration, one process at a time."""

import contextlib
import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

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
    """Hold the workdir for ``config``; of several processes the main one does.

    A run that begins is noted there; one that goes on may still be refused, and ``note`` follows.
    ``is_ours`` says that its results are known to be of this run, though it has no checkpoint.

    Raises:
      UserError: it cannot be written, another process trains in it, it holds something else (a
        config.toml of the user's own, too), or its run has another configuration.
    """
    if not multihost.is_main():
        yield
        return
    with files.reported(workdir):
        workdir.mkdir(parents=True, exist_ok=True)
        busy = f"Another process trains in {workdir}; wait for it or use another --workdir."
        lock = files.locked(workdir / ".lock", busy)
    try:
        path = workdir / "config.toml"
        before = config_lib.load(path) if path.is_file() else None
        if begun := has_begun(workdir):
            if before is None:
                raise UserError(f"{workdir} has checkpoints and no config.toml; use another.")
            # Before the first checkpoint there is nothing that other settings could spoil.
            check_same(before, config, workdir, has_begun=True)
        elif not is_ours:
            if before is not None:
                _check_written(path, before)
            if before is None or not config.training.backup_to:
                check_free(workdir, is_run=before is not None)
        if not (begun or is_ours):
            _write_config(workdir, config)
        with files.reported(workdir):
            for folder in (workdir, workdir / "report"):
                files.remove_temporary(folder)
        yield
    finally:
        if lock is not None:
            lock.close()


def has_begun(workdir: Path) -> bool:
    """Whether its run has a checkpoint."""
    return bool(saved.steps(workdir / "checkpoints"))


def note(workdir: Path, config: Config, problems: Sequence[Problem]) -> None:
    """Write config.toml and unusable.csv of the run that is known to be the workdir's.

    Args:
      workdir: held by ``opened``.
      config: of the run; where things are may have changed since it began.
      problems: of its data.

    Raises:
      UserError: they cannot be written.
    """
    if multihost.is_main():
        _write_config(workdir, config)
        write_problems(workdir, problems)


def _write_config(workdir: Path, config: Config) -> None:
    with files.reported(workdir):
        files.write_text_atomic(workdir / "config.toml", config_lib.dumps(config))


def _check_written(path: Path, config: Config) -> None:
    """Refuse to write over a config.toml with what else a user has put into it: comments, say.

    Raises:
      UserError: it is not the text that ``opened`` writes.
    """
    with files.reported(path):
        is_ours = path.read_bytes() == config_lib.dumps(config).encode()
    if not is_ours:
        raise UserError(
            f"{path} was not written by this version, and the run would replace it; move it "
            "elsewhere (--config FILE reads it there) or use another --workdir."
        )


def check_free(workdir: Path, is_run: bool) -> None:
    """Refuse to write over results that no checkpoint in the workdir accounts for.

    Of a run with a backup that waits until the backup has been looked for.

    Raises:
      UserError: there are some.
    """
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


def backup(workdir: Path, config: Config, images: str) -> Backup | None:
    """The run's archives, if the settings ask for some.

    A run is known by ``images``, the fingerprint of its data, and by its settings. Where it took
    weights from counts among them, as no checkpoint can tell where all of them are lost. Defaults
    do not: a later version has more of them, and the run is the same.
    """
    training = config.training
    if not training.backup_to:
        return None

    def digest(settings: dict[str, Any]) -> str:
        text = json.dumps(settings | {"images": images}, sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()[:8]

    run, former = digest(_fixed(config, exclude_defaults=True)), digest(_fixed(config))
    return Backup(workdir, run, training.backup_to, training.backup_minutes, former)


def check_same(before: Config, now: Config, workdir: Path, has_begun: bool = False) -> None:
    """Refuse to go on with other settings than the run began with.

    ``has_begun`` says that all of it has checkpoints. Then it counts whether it has teachers, not
    where they are: the loop compares their weights with those that it began with.

    Raises:
      UserError: names the first setting that differs.
    """
    old = _fixed(before)
    for name, value in _fixed(now).items():
        if name not in old or value == old[name]:
            continue
        moved = has_begun and name == "training.teachers" and value and old[name]
        if not moved:
            raise UserError(
                f"{name} is {_said(value)}, but the run in {workdir} began with "
                f"{_said(old[name])}; use the same value or another --workdir."
            )


def agreed(config: Config) -> dict[str, Any]:
    """The settings, by name, that all processes of a run need to have in common."""
    settings = config_lib.flatten(config)
    more = ("training.epochs", "logging.every_steps")
    return _fixed(config) | {name: settings[name] for name in more}


def _fixed(config: Config, exclude_defaults: bool = False) -> dict[str, Any]:
    """The settings, by name, that stay what they are as long as a run goes on."""
    longer = {"training.epochs"} if config.training.schedule == "constant" else set()
    return {
        name: value
        for name, value in config_lib.flatten(config, exclude_defaults).items()
        if not name.startswith(FREE) and name not in longer
    }


def _said(value: Any) -> Any:
    return "empty" if value in ("", []) else value


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
    with files.reported(workdir):
        if problems:
            files.write_text_atomic(path, files.csv_text([("path", "reason"), *problems]))
        else:
            path.unlink(missing_ok=True)
