"""What a run shows while it goes: a progress bar, a line an epoch, TensorBoard."""

import socket
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.record_writer import RecordWriter
from tensorboardX.summary import scalar
from tqdm.auto import tqdm

from emotion_jax import files
from emotion_jax.config import Config
from emotion_jax.errors import UserError
from emotion_jax.training.workdir import Row

FLUSH_SECONDS = 120.0


def silenced(config: Config) -> Config:
    """``config`` without bars and TensorBoard."""
    logging = config.logging.model_copy(update={"progress": False, "tensorboard": False})
    return config.model_copy(update={"logging": logging})


class Log:
    """A context manager around the loop.

    Args:
      config: batch size, epochs, and what is shown at all.
      workdir: TensorBoard's files go to ``workdir/tensorboard``.
      steps_per_epoch: for the bar's total.
      step: where the run goes on.

    Raises:
      UserError: TensorBoard's file cannot be written; the methods raise it as well.
    """

    def __init__(self, config: Config, workdir: Path, steps_per_epoch: int, step: int) -> None:
        self._epochs = config.training.epochs
        self._batch_size = config.training.batch_size
        self._board = None
        if config.logging.tensorboard:
            # What an interrupted run wrote past the restored step is cut from the curves.
            self._board = _Board(workdir / "tensorboard", purge_step=step + 1)
        self._bar = tqdm(
            total=self._epochs * steps_per_epoch * self._batch_size,
            initial=step * self._batch_size,
            unit="img",
            unit_scale=True,
            desc=f"epoch {step // steps_per_epoch + 1}/{self._epochs}",
            disable=not config.logging.progress,
            dynamic_ncols=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.close()
        try:
            if self._board is not None:
                self._board.close()
        except UserError as failed:
            if error is None:
                raise
            if not isinstance(error, UserError):  # a full disk meets more than one file
                print(failed, file=sys.stderr)

    def steps(self, count: int) -> None:
        """So many steps were given to the devices."""
        self._bar.update(count * self._batch_size)

    def look(self, step: int, loss: float, accuracy: float) -> None:
        """Show the loss and accuracy of a batch."""
        self._bar.set_postfix(loss=f"{loss:.3f}", accuracy=f"{accuracy:.3f}", refresh=False)
        if self._board is not None:
            self._board.add({"batch/loss": loss, "batch/accuracy": accuracy}, step)

    def epoch(self, row: Row, best: bool) -> None:
        """Show an epoch's row of metrics.jsonl."""
        line = (
            f"epoch {row['epoch']}/{self._epochs}: "
            f"train loss {row['loss']:.4f} accuracy {row['accuracy']:.4f}, "
            f"validation loss {row['val_loss']:.4f} accuracy {row['val_accuracy']:.4f}"
            f"{' (best)' if best else ''}, {row['images_per_second']:.0f} images/s"
        )
        tqdm.write(line, file=sys.stdout)
        self._bar.set_description(f"epoch {min(row['epoch'] + 1, self._epochs)}/{self._epochs}")
        if self._board is not None:
            values = {}
            for name, value in row.items():
                if name not in ("step", "epoch"):
                    group, _, rest = name.rpartition("val_")
                    tag = f"val/{rest}" if name.startswith("val_") else f"train/{rest or group}"
                    values[tag] = value
            self._board.add(values, row["step"])
            self._board.flush()


class _Board:
    """TensorBoard's event file.

    Not tensorboardX's SummaryWriter, whose thread dies of a full disk unheard: then its queue fills
    up, and the run waits for ever.
    """

    def __init__(self, folder: Path, purge_step: int) -> None:
        self._folder, self._flushed = folder, -float("inf")
        name = f"events.out.tfevents.{int(time.time())}.{socket.gethostname()}"
        with files.reported(folder):
            folder.mkdir(parents=True, exist_ok=True)
            self._records = RecordWriter(str(folder / name))
            self._write(file_version="brain.Event:2")
            self._write(step=purge_step, session_log=SessionLog(status=SessionLog.START))

    def add(self, values: dict[str, float], step: int) -> None:
        """Add scalars by tag; at times they reach the disk."""
        with files.reported(self._folder):
            for tag, value in values.items():
                self._write(step=step, summary=scalar(tag, value))
        if time.monotonic() - self._flushed >= FLUSH_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Have all that was added reach the disk."""
        with files.reported(self._folder):
            self._records.flush()
        self._flushed = time.monotonic()

    def close(self) -> None:
        """Flush and close the file."""
        with files.reported(self._folder):
            try:
                self._records.flush()
            finally:
                self._records.close()

    def _write(self, **content: Any) -> None:
        event = Event(wall_time=time.time(), **content)
        self._records.write(event.SerializeToString())
