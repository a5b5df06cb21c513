"""What a compiled training step is expected to do on TPUs."""

from dataclasses import asdict, dataclass
from typing import Any

from emotion_jax.benchmark import scaling
from emotion_jax.benchmark.collectives import Collective


@dataclass(frozen=True)
class Memory:
    """Of one chip while the step runs, bytes.

    Attributes:
      arguments: state, data set and indices.
      outputs: the state after the step.
      temporaries: activations and scratch.
      aliased: of the outputs, what takes an argument's place.
      code: of the program.
      available: on the chip.
    """

    arguments: int
    outputs: int
    temporaries: int
    aliased: int
    code: int
    available: int

    @property
    def needed(self) -> int:
        """In all."""
        return self.arguments + self.outputs + self.temporaries - self.aliased + self.code


@dataclass(frozen=True)
class Estimate:
    """What a compiled step is expected to do on a slice; figures of a step are of one chip.

    Attributes:
      target: e.g. "v5e:2x4".
      chips: of the slice.
      batch_size: images a step over all of them.
      dtype: of the computation.
      images: in the resident data set.
      parameters: of the network.
      compile_seconds: tracing, lowering and compiling.
      flops, bytes: by XLA's cost analysis. It counts as bytes also what never leaves the chip's own
        memory, and for a gather many times what is read.
      hbm_bytes: into and out of its kernels, by ``traffic``.
      optimal_seconds: XLA's own estimate of the time, or None; it can be negative.
      compute_seconds: flops / the chip's peak.
      memory_seconds: bytes / its bandwidth.
      hbm_seconds: hbm_bytes / its bandwidth.
      communication_seconds: of the slice's collectives by ``scaling``'s model; 0 for one chip.
      memory: what it needs.
      gradients, small, others: the collectives by ``collectives.split``. One chip has none: then
        they are those of the same batch a chip on four (``collectives_of``).
      scaling: predicted, at this batch a chip.
    """

    target: str
    chips: int
    batch_size: int
    dtype: str
    images: int
    parameters: int
    compile_seconds: float
    flops: float
    bytes: float
    hbm_bytes: int
    optimal_seconds: float | None
    compute_seconds: float
    memory_seconds: float
    hbm_seconds: float
    communication_seconds: float
    memory: Memory
    collectives_of: str
    gradients: tuple[Collective, ...]
    small: tuple[Collective, ...]
    others: tuple[Collective, ...]
    scaling: tuple[scaling.Prediction, ...]

    @property
    def roofline_seconds(self) -> float:
        """max(flops / peak, bytes / bandwidth)."""
        return max(self.compute_seconds, self.memory_seconds)

    @property
    def work_seconds(self) -> float:
        """Of a step without communication: ``optimal_seconds`` if it can be true, or the roofline.

        XLA's sum can go wrong below zero on a whole step, and no step is faster than its products.
        """
        optimal = self.optimal_seconds or 0.0
        return optimal if optimal >= self.compute_seconds else self.roofline_seconds

    @property
    def step_seconds(self) -> float:
        """Of a step, nothing overlapped."""
        return self.work_seconds + self.communication_seconds

    @property
    def images_per_second(self) -> float:
        """Of the whole slice."""
        return self.batch_size / self.step_seconds

    @property
    def bound(self) -> str:
        """What limits the step, "compute" or "memory"."""
        return "compute" if self.compute_seconds >= self.memory_seconds else "memory"

    def as_dict(self) -> dict[str, Any]:
        """Everything, for JSON."""
        return {
            **asdict(self),
            "memory": {**asdict(self.memory), "needed": self.memory.needed},
            "roofline_seconds": self.roofline_seconds,
            "work_seconds": self.work_seconds,
            "step_seconds": self.step_seconds,
            "images_per_second": self.images_per_second,
            "bound": self.bound,
            "scaling_model": scaling.MODEL,
        }

    def table(self) -> str:
        """Everything, to read."""
        m, ms = self.memory, 1e3
        optimal = "none" if self.optimal_seconds is None else f"{self.optimal_seconds * ms:.1f} ms"
        impossible = (
            "" if self.work_seconds == self.optimal_seconds else " (no possible time: not used)"
        )
        rows = [
            f"{self.target}: {self.chips} chip(s), batch {self.batch_size} "
            f"({self.batch_size // self.chips} a chip), {self.dtype}, "
            f"{self.parameters / 1e6:.2f} M parameters, {self.images} resident images; "
            f"compiled in {self.compile_seconds:.0f} s",
            f"  memory       {_gib(m.needed)} of {_gib(m.available)} GiB a chip: arguments "
            f"{_gib(m.arguments)}, temporaries {_gib(m.temporaries)}, code {_gib(m.code)}",
            f"  a step       {self.flops / 1e12:.3f} TFLOP and {self.bytes / 1e9:.2f} GB a chip: "
            f"{self.compute_seconds * ms:.1f} ms of compute, "
            f"{self.memory_seconds * ms:.1f} ms of memory traffic; between HBM and its kernels "
            f"{self.hbm_bytes / 1e9:.2f} GB, {self.hbm_seconds * ms:.1f} ms",
            f"  estimate     {self.work_seconds * ms:.1f} ms of work ({self.bound}-bound) + "
            f"{self.communication_seconds * ms:.1f} ms of communication: "
            f"{self.images_per_second:,.0f} images/s; XLA's optimal_seconds: "
            f"{optimal}{impossible}",
            f"  collectives  on {self.collectives_of}; {_count(self.gradients, 'gradients')}; "
            f"{_count(self.small, 'BatchNorm and metrics')}; {_count(self.others, 'others')}",
            "  weak scaling, predicted",
            f"  {'chips':>12} {'torus':>10} {'BatchNorm':>10} {'gradients':>10} {'efficiency':>10} "
            f"{'overlapped':>10}",
        ]
        for p in self.scaling:
            shape = "x".join(map(str, p.shape))
            rows.append(
                f"  {p.chips:>12} {shape:>10} {p.batchnorm_seconds * ms:>7.3f} ms "
                f"{p.gradient_seconds * ms:>7.3f} ms {p.efficiency:>10.1%} "
                f"{p.efficiency_overlapped:>10.1%}"
            )
        return "\n".join([*rows, f"  model: {scaling.MODEL}."])


def _gib(size: float) -> str:
    return f"{size / 2**30:.2f}"


def _count(found: tuple[Collective, ...], what: str) -> str:
    kinds = " and ".join(sorted({f"{c.kind} of {'/'.join(c.dtypes)}" for c in found})) or "none"
    return f"{what}: {len(found)} ({kinds}, {sum(c.bytes for c in found) / 1e6:.2f} MB)"
