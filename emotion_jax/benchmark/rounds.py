"""Measuring in turns: warm apart, then rounds in which everyone runs while the others wait.

A machine's speed drifts, with its clock and with what else it does. Contenders that take turns see
the same drift, so ratios within a round hold where absolute figures do not.
"""

import contextlib
import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

SETTLE = 0.2  # seconds before a block, in which the last one's thread pools stop spinning
# Runs that many steps, and gives their seconds.
Block = Callable[[int], float]


@dataclass(frozen=True)
class Samples:
    """Steps a second by round, of one contender.

    Attributes:
      values: a value a round.
    """

    values: tuple[float, ...]

    @property
    def median(self) -> float:
        """Over the rounds."""
        return statistics.median(self.values)

    def times(self, factor: float) -> "Samples":
        """In another unit, e.g. images a second by the batch size."""
        return Samples(tuple(factor * value for value in self.values))

    def as_dict(self) -> dict[str, Any]:
        """Median, quartiles, extremes and the values themselves."""
        low, _, high = (
            statistics.quantiles(self.values, n=4, method="inclusive")
            if len(self.values) > 1
            else self.values * 3
        )
        return {
            "median": self.median,
            "quartiles": [low, high],
            "range": [min(self.values), max(self.values)],
            "rounds": list(self.values),
        }


def calibrate(block: Block, seconds: float) -> int:
    """Warm up, and find how many steps take about ``seconds``.

    The first two steps compile and allocate; then blocks grow until one tells the time of a step.
    """
    block(1)
    steps, took = 1, block(1)
    while took < seconds / 4:
        steps *= 2
        took = block(steps)
    return max(1, math.ceil(seconds * steps / took))


def rotate(names: Sequence[str], by: int) -> tuple[str, ...]:
    """``names`` beginning with number ``by``, around the end."""
    start = by % len(names)
    return (*names[start:], *names[:start])


def interleave(
    blocks: Mapping[str, Block],
    steps: Mapping[str, int],
    rounds: int,
    progress: Callable[[str], None] = lambda name: None,
    settle: float = SETTLE,
) -> dict[str, Samples]:
    """Steps a second of each block: ``rounds`` rounds, each begun by the next in turn.

    A round before them does not count: it finds memory and threads as they are after a long rest,
    which costs some contenders half their speed.

    Args:
      blocks: by contender.
      steps: of a block, by contender; from ``calibrate``.
      rounds: at least 1.
      progress: called with a contender's name before its block.
      settle: seconds of rest before a block.
    """
    rates: dict[str, list[float]] = {name: [] for name in blocks}
    for number in range(-1, rounds):
        for name in rotate(tuple(blocks), number):
            progress(name)
            time.sleep(settle)
            rate = steps[name] / blocks[name](steps[name])
            if number >= 0:
                rates[name].append(rate)
    return {name: Samples(tuple(values)) for name, values in rates.items()}


def compare(
    blocks: Mapping[str, Block],
    seconds: float,
    rounds: int,
    progress: Callable[[str], None] = lambda name: None,
    tolerated: Callable[[str], contextlib.AbstractContextManager[None]] = (
        lambda name: contextlib.nullcontext()
    ),
) -> dict[str, Samples]:
    """Steps a second of each block: all are calibrated, then they take turns.

    Args:
      blocks: by contender.
      seconds: of a block, at least about.
      rounds: at least 1.
      progress: called with a contender's name before its warm-up and its blocks.
      tolerated: given a contender's name, what its warm-up is run in; one whose failure that
        swallows is left out.
    """
    steps: dict[str, int] = {}
    for name, block in blocks.items():
        progress(name)
        with tolerated(name):
            steps[name] = calibrate(block, seconds)
    ready = {name: block for name, block in blocks.items() if name in steps}
    return interleave(ready, steps, rounds, progress)


def ratio(ours: Samples, other: Samples) -> dict[str, Any]:
    """How many times as fast ours is.

    Returns:
      ``of_medians``; ``paired``: the median of the rounds' ratios; ``range`` of these.
    """
    pairs = [a / b for a, b in zip(ours.values, other.values, strict=True)]
    return {
        "of_medians": ours.median / other.median,
        "paired": statistics.median(pairs),
        "range": [min(pairs), max(pairs)],
    }
