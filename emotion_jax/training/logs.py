"""What a run shows while it goes: a progress bar, a line an epoch, TensorBoard."""

import sys
from pathlib import Path
from types import TracebackType
from typing import Self

from tensorboardX import SummaryWriter
from tqdm.auto import tqdm

from emotion_jax.config import Config
from emotion_jax.training.workdir import Row


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
    """

    def __init__(self, config: Config, workdir: Path, steps_per_epoch: int, step: int) -> None:
        self._epochs = config.training.epochs
        self._batch_size = config.training.batch_size
        self._bar = tqdm(
            total=self._epochs * steps_per_epoch * self._batch_size,
            initial=step * self._batch_size,
            unit="img",
            unit_scale=True,
            desc=f"epoch {step // steps_per_epoch + 1}/{self._epochs}",
            disable=not config.logging.progress,
            dynamic_ncols=True,
        )
        self._board = None
        if config.logging.tensorboard:
            # What an interrupted run wrote past the restored step is cut from the curves.
            self._board = SummaryWriter(str(workdir / "tensorboard"), purge_step=step + 1)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.close()
        if self._board is not None:
            self._board.close()

    def steps(self, count: int) -> None:
        """So many steps were given to the devices."""
        self._bar.update(count * self._batch_size)

    def look(self, step: int, loss: float, accuracy: float) -> None:
        """Show the loss and accuracy of a batch."""
        self._bar.set_postfix(loss=f"{loss:.3f}", accuracy=f"{accuracy:.3f}", refresh=False)
        if self._board is not None:
            self._board.add_scalar("batch/loss", loss, step)
            self._board.add_scalar("batch/accuracy", accuracy, step)

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
            for name, value in row.items():
                if name not in ("step", "epoch"):
                    group, _, rest = name.rpartition("val_")
                    tag = f"val/{rest}" if name.startswith("val_") else f"train/{rest or group}"
                    self._board.add_scalar(tag, value, row["step"])
            self._board.flush()
