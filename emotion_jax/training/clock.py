"""How long training took, and how fast it was."""

import time
from typing import Any

import jax


class Clock:
    """Times the steps of an epoch; validation is not in it.

    Args:
      step: where it starts.
      seconds: of training before it.
    """

    def __init__(self, step: int, seconds: float) -> None:
        self._before = seconds
        self._began = self._timed_from = time.monotonic()
        self._first_step = self._timed_step = step

    def step(self, step: int, metrics: Any) -> None:
        """A step was given to the devices, which will answer with ``metrics``.

        The first one may have compiled the program, so the rate is taken from its end.
        """
        if step == self._first_step + 1:
            jax.block_until_ready(metrics)
            self._timed_from, self._timed_step = time.monotonic(), step

    def seconds(self) -> float:
        """Of training until now."""
        return self._before + time.monotonic() - self._began

    def steps_per_second(self, step: int) -> float:
        """Without the first step, unless there is no other."""
        if step > self._timed_step:
            return (step - self._timed_step) / (time.monotonic() - self._timed_from)
        return (step - self._first_step) / (time.monotonic() - self._began)
