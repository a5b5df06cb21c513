"""How long training took, and how fast it was."""

import time
from collections import deque
from typing import Any

import jax

AHEAD = 2  # dispatches that a device may have before it; each holds its images there


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
        self._running: deque[Any] = deque()

    def step(self, step: int, metrics: Any) -> None:
        """The steps up to ``step`` were given to the devices, which will answer with ``metrics``.

        Waits until no more than ``AHEAD`` dispatches are unanswered. The first one may have
        compiled the program, so the rate is taken from its end.
        """
        self._running.append(metrics)
        if self._timed_step == self._first_step:
            jax.block_until_ready(metrics)
            self._timed_from, self._timed_step = time.monotonic(), step
        if len(self._running) > AHEAD:
            jax.block_until_ready(self._running.popleft())

    def seconds(self) -> float:
        """Of training until now."""
        return self._before + time.monotonic() - self._began

    def steps_per_second(self, step: int) -> float:
        """Without the first dispatch, unless there is no other."""
        if step > self._timed_step:
            return (step - self._timed_step) / (time.monotonic() - self._timed_from)
        return (step - self._first_step) / (time.monotonic() - self._began)
