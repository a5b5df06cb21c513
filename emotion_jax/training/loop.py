"""The loop around the step: epochs, validation, checkpoints, early stopping, signals."""

import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jax

from emotion_jax.config import Config
from emotion_jax.data.split import Dataset
from emotion_jax.errors import Interrupted, NonFiniteError, UserError
from emotion_jax.training import (
    ancestry,
    checkpoint,
    multihost,
    saved,
    selection,
    signals,
    step,
    transfer,
    workdir,
)
from emotion_jax.training import program as program_lib
from emotion_jax.training import state as state_lib
from emotion_jax.training.clock import Clock
from emotion_jax.training.logs import Log
from emotion_jax.training.metrics import quotients
from emotion_jax.training.program import Program
from emotion_jax.training.seen import Seen
from emotion_jax.training.state import TrainState
from emotion_jax.training.workdir import Row


@dataclass(frozen=True)
class Progress:
    """Where a run stands; all of it is in the checkpoint.

    Attributes:
      state: of the model and the optimiser.
      step: ``state.step``, known without asking the device.
      history: a row an epoch.
      seconds: of training so far, over all sessions of the run.
      seen: what the weights come from.
      fitted: ``calibration.fit`` of this very step, if it was validated.
    """

    state: TrainState
    step: int
    history: tuple[Row, ...]
    seconds: float
    seen: Seen
    fitted: dict[str, Any] | None = None


def train(
    config: Config,
    folder: Path,
    data: Dataset,
    on_epoch: Callable[[Sequence[Row]], None] = lambda history: None,
) -> tuple[Row, ...]:
    """Train, or go on training, the run in ``folder`` until its last epoch or early stop.

    Args:
      config: of the run.
      folder: the workdir, held by ``workdir.opened``.
      data: of ``config.data``.
      on_epoch: called with the rows so far after each epoch.

    Returns:
      A row of metrics an epoch, as in metrics.jsonl.

    Raises:
      UserError: the run cannot start or go on.
      NonFiniteError: the loss or a gradient is not finite.
      Interrupted: a signal came; the state was saved first.
    """
    training = config.training
    backup = workdir.backup(folder, config, data.fingerprint) if multihost.is_main() else None
    with checkpoint.Store(folder, training.keep_latest, training.keep_best, backup) as store:
        if backup:
            backup.restore()
            if not saved.steps(store.directory):
                workdir.check_free(folder, is_run=True)
        return _train(config, folder, data, store, on_epoch)


def _train(
    config: Config,
    folder: Path,
    data: Dataset,
    store: checkpoint.Store,
    on_epoch: Callable[[Sequence[Row]], None],
) -> tuple[Row, ...]:
    multihost.check_same("settings", json.dumps(workdir.agreed(config)))
    multihost.check_same("images", data.fingerprint)
    program, state = program_lib.build(config, data, store)
    multihost.check_same("weights of training.teachers", json.dumps(program.digests))
    progress = _restore(program, state)
    workdir.write_history(folder, progress.history)
    total = config.training.epochs * program.feed.steps_per_epoch
    if progress.step > total:
        raise UserError(
            f"training.epochs: the run in {folder} is past epoch {config.training.epochs}; "
            f"use at least {math.ceil(progress.step / program.feed.steps_per_epoch)}."
        )
    workdir.note(folder, config, data.problems)
    if progress.step < total and not _exhausted(progress.history, config.training.patience):
        with Log(config, folder, program.feed.steps_per_epoch, progress.step) as log:
            progress = _run(program, progress, total, log, folder, on_epoch)
    return progress.history


def _restore(program: Program, state: TrainState) -> Progress:
    """The newest good checkpoint laid out as ``state`` is, or ``state`` itself."""
    newest = multihost.step_of_main(program.store.directory, program.store.newest_good)
    if newest is None:
        return _begin(program, state)
    about = saved.read_description(newest)
    if about["fingerprint"] != program.data.fingerprint:
        raise UserError(
            f"The images are not those that the run in {newest.parent.parent} began with; "
            "bring them back or use another --workdir."
        )
    # Checkpoints of earlier versions do not say.
    if about.get("teachers", program.digests) != program.digests:
        raise UserError(
            "training.teachers: their weights are not those that the run in "
            f"{newest.parent.parent} began with; bring them back or use another --workdir."
        )
    state = saved.read_state(newest, state)
    seen = Seen.of(saved.read_hashes(newest), about)
    return Progress(state, about["step"], tuple(about["history"]), about["seconds"], seen)


def _begin(program: Program, state: TrainState) -> Progress:
    models = [("training.teachers", model) for model in program.teachers]
    if name := program.config.training.init_from:
        model, same_classes = transfer.source(name, program.data.classes)
        multihost.check_same("weights of training.init_from", model.digest)
        state = transfer.initial(state, model, same_classes)
        models.append(("training.init_from", model))
    seen = ancestry.begin(program.config, program.data, models)
    return Progress(state, 0, (), 0.0, seen)


def _run(
    program: Program,
    progress: Progress,
    total: int,
    log: Log,
    folder: Path,
    on_epoch: Callable[[Sequence[Row]], None],
) -> Progress:
    training, per_epoch = program.config.training, program.feed.steps_per_epoch
    every = program.config.logging.every_steps
    saved_at = time.monotonic()
    clock = Clock(progress.step, progress.seconds)
    with signals.deferred() as stopped:
        for end, fed in program.feed.dispatches(progress.step, total):
            train_step = program.train_step(progress.step // per_epoch)
            with jax.transfer_guard_device_to_host("disallow"):
                state, metrics = train_step(progress.state, fed, program.key)
                log.steps(end - progress.step)
                clock.step(end, metrics)
            look = end // every > progress.step // every
            progress = replace(progress, state=state, step=end, fitted=None)
            if look:
                _look(program, progress, metrics, log)
            done = progress.step % per_epoch == 0
            overdue = time.monotonic() - saved_at > 60 * training.save_minutes
            # Asked once: a signal that comes later waits for the next step.
            signum, overdue = multihost.decide(stopped(), overdue, now=look or done)
            if done or overdue or signum:
                _check_finite(program, progress)
                progress = replace(progress, seconds=clock.seconds())
                if done:
                    rate = clock.steps_per_second(progress.step) * training.batch_size
                    progress = _end_epoch(program, progress, rate, log)
                    workdir.write_history(folder, progress.history)
                _save(program, progress)
                if done:
                    on_epoch(progress.history)
                    clock = Clock(progress.step, progress.seconds)
                saved_at = time.monotonic()
            if signum:
                raise Interrupted(signum)
            if done and _exhausted(progress.history, training.patience):
                break
        signum, _ = multihost.decide(stopped(), False, now=True)
        if signum:
            raise Interrupted(signum)
    return progress


def _look(program: Program, progress: Progress, metrics: step.Metrics, log: Log) -> None:
    values = jax.device_get(metrics)
    if values["bad_step"]:
        _check_finite(program, progress)
    log.look(progress.step, float(values["loss"]), float(values["accuracy"]))


def _check_finite(program: Program, progress: Progress) -> None:
    """Waits for the devices, too.

    Raises:
      NonFiniteError: names the first step that was not finite, and the checkpoint that is left.
    """
    bad = int(progress.state.bad_step)
    if bad:
        program.store.wait()
        found = saved.steps(program.store.directory)
        kept = f"the last good checkpoint is {found[-1]}" if found else "there is no checkpoint yet"
        raise NonFiniteError(
            f"The loss or its gradient was not finite at step {bad} "
            f"(epoch {math.ceil(bad / program.feed.steps_per_epoch)}); {kept}. "
            "Lower training.learning_rate or set training.clip_norm, in a new --workdir."
        )


def _end_epoch(program: Program, progress: Progress, rate: float, log: Log) -> Progress:
    """Validate, add the epoch's row, and begin the sums of the next epoch."""
    train = quotients(progress.state.sums)
    val, fitted = program.validate(progress.state)
    names = ("loss", "accuracy", "precision", "recall")
    row = {
        "step": progress.step,
        "epoch": progress.step // program.feed.steps_per_epoch,
        **{name: train[name] for name in names},
        **{f"val_{name}": val[name] for name in names},
        "learning_rate": float(program.rate(progress.step - 1)),
        "images_per_second": round(rate, 2),
    }
    history = (*progress.history, row)
    log.epoch(row, selection.chosen(history) is row)
    state = state_lib.without_sums(progress.state)
    return replace(progress, state=state, history=history, fitted=fitted)


def _save(program: Program, progress: Progress) -> None:
    about = program.describe(
        progress.step,
        progress.history,
        progress.seconds,
        progress.fitted,
        progress.seen.described(),
    )
    program.store.save(progress.state, about, progress.seen.hashes)


def _exhausted(history: Sequence[Row], patience: int) -> bool:
    """Whether the best epoch is ``patience`` epochs old; never for 0."""
    if not patience or not history:
        return False
    return history[-1]["epoch"] - selection.chosen(history)["epoch"] >= patience
