"""Predicted weak scaling: the same batch a chip on more and more chips of a slice.

The model. A step takes the one chip's time plus the time of its collectives. The chips of a slice
form a torus; an all-reduce of B bytes over n chips sends 2 (n - 1) / n B bytes out of each (the
bandwidth-optimal ring, Patarasuk & Yuan 2009) over all of its links at once, two an axis where the
axis is a ring and one where it is a line, and takes at least ``HOP`` seconds for each of the hops
across the torus and back. BatchNorm's sums are so small that the hops are all of their time, and
they stand in the way: the next layer waits for them. The gradients' all-reduce is predicted twice:
after the step, and overlapped with the backward pass, of which the last layer's gradient must be
there before its sum can begin. Input, stragglers and congestion are left out, so this is a bound.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

from emotion_jax.benchmark.chips import Chip
from emotion_jax.benchmark.collectives import Collective

SIZES = (1, 8, 64, 256)
# Latency of a neighbour, seconds: "How to Scale Your Model" (jax-ml.github.io/scaling-book), TPUs.
HOP = 1e-6
BACKWARD = 2 / 3  # of a step's work: the gradients by inputs and by parameters, to one forward pass
MODEL = (
    "an all-reduce of B bytes over n chips takes 2(n-1)/n B / (bandwidth of the links in use) + "
    "1 us a hop across the torus and back; BatchNorm's stand in the way, the gradients' comes "
    "after the step, or (overlapped) hides behind the backward pass, two thirds of the step"
)


@dataclass(frozen=True)
class Prediction:
    """A step on a slice.

    Attributes:
      chips: in the slice.
      shape: of its torus.
      batchnorm_seconds: of the small all-reduces of a step.
      gradient_seconds: of those of the gradients.
      efficiency: one chip's step time over this one's, nothing overlapped, in [0, 1].
      efficiency_overlapped: the same, the gradients' all-reduce behind the backward pass.
    """

    chips: int
    shape: tuple[int, ...]
    batchnorm_seconds: float
    gradient_seconds: float
    efficiency: float
    efficiency_overlapped: float


def predict(
    chip: Chip,
    step_seconds: float,
    gradients: Sequence[Collective],
    small: Sequence[Collective],
    sizes: Sequence[int] = SIZES,
) -> tuple[Prediction, ...]:
    """Weak scaling of a step that takes ``step_seconds`` on one ``chip``.

    Args:
      chip: joined to others by a torus.
      step_seconds: of the work without communication.
      gradients: the collectives that may overlap.
      small: those that may not.
      sizes: chips, powers of two.
    """

    def prediction(n: int) -> Prediction:
        shape = torus(chip, n)
        late, waited = (
            sum(all_reduce_seconds(chip, shape, c.bytes) for c in some)
            for some in (gradients, small)
        )
        shown = max(0.0, late - BACKWARD * step_seconds)
        return Prediction(
            n,
            shape,
            waited,
            late,
            step_seconds / (step_seconds + waited + late),
            step_seconds / (step_seconds + waited + shown),
        )

    return tuple(prediction(n) for n in sizes)


def torus(chip: Chip, n: int) -> tuple[int, ...]:
    """The most even shape of ``n`` chips, a power of two: 8 are 2x4 or 2x2x2."""
    doublings, more = divmod(n.bit_length() - 1, chip.axes)
    return (2**doublings,) * (chip.axes - more) + (2 ** (doublings + 1),) * more


def all_reduce_seconds(chip: Chip, shape: Sequence[int], size: int) -> float:
    """Time to sum ``size`` bytes over a torus by the module's model; 0 for one chip."""
    n = prod(shape)
    if n == 1:
        return 0.0
    link = chip.interconnect / (2 * chip.axes)
    rings = [(side, side % chip.wraps == 0) for side in shape if side > 1]
    bandwidth = sum(link * (2 if ring else 1) for _, ring in rings)
    # Summing and spreading the sum each cross every axis: half way round a ring, all of a line.
    hops = sum(2 * (side // 2 if ring else side - 1) for side, ring in rings)
    return 2 * (n - 1) / n * size / bandwidth + hops * HOP
