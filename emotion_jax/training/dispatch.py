"""Many steps in one call of a device, so that a fast one need not wait for the host."""

from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import jax
from jax import lax

from emotion_jax.config import Config
from emotion_jax.errors import UserError

CHOSEN = 20  # on GPU and TPU; XLA's CPU backend is slow within a loop, and its steps are long

State = TypeVar("State")
Metrics = TypeVar("Metrics")


def steps_per_dispatch(config: Config) -> int:
    """The setting, or what suits the pipeline and the backend.

    Raises:
      UserError: the pipeline hands over a step at a time.
    """
    wanted = config.training.steps_per_dispatch
    if config.data.pipeline == "resident":
        return wanted or (1 if jax.default_backend() == "cpu" else CHOSEN)
    if wanted > 1:
        raise UserError(
            f"training.steps_per_dispatch: {wanted} steps at once need their images on the device; "
            "use --data.pipeline resident, or 1."
        )
    return 1


def ends(start: int, stop: int, steps_per_epoch: int, most: int) -> Iterator[int]:
    """Cut the steps ``start`` to ``stop`` - 1 into dispatches, and give the end of each.

    Args:
      start, stop: steps, from 0.
      steps_per_epoch: no dispatch reaches into another epoch.
      most: steps a dispatch.
    """
    while start < stop:
        start = min(start + most, (start // steps_per_epoch + 1) * steps_per_epoch, stop)
        yield start


def repeated(
    step: Callable[[State, Any, jax.Array], tuple[State, Metrics]],
    take: Callable[[Any, jax.Array], Any],
    nothing: Any,
) -> Callable[[State, Any, jax.Array], tuple[State, Metrics]]:
    """Several of ``step`` as one function, whose result is the last one's.

    How many is an argument, not a part of the program: a dispatch of any length takes the same
    program, so where a run was stopped makes no difference to its bits.

    Args:
      step: (state, fed, key) to (state, metrics).
      take: what was fed for all steps, and the number of one, to what that one is fed.
      nothing: the metrics of no step; fixes their shapes and types.

    Returns:
      (state, (int32 number of steps, fed for all), key) to (state, metrics).
    """

    def train_steps(state: State, fed: Any, key: jax.Array) -> tuple[State, Metrics]:
        count, fed_for_all = fed

        def one(i: jax.Array, carry: tuple[State, Metrics]) -> tuple[State, Metrics]:
            return step(carry[0], take(fed_for_all, i), key)

        return lax.fori_loop(0, count, one, (state, nothing))

    return train_steps
