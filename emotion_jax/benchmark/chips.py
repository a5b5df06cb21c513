"""What accelerators can do at most, for rooflines and utilisation.

TPUs: cloud.google.com/tpu/docs/v4, v5e, v5p, v6e ("System architecture": peak compute, HBM
capacity and bandwidth, interchip interconnect bandwidth a chip). GPUs: NVIDIA's data sheets, dense
figures (no sparsity).
"""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Chip:
    """Peaks of one accelerator, from its maker's data sheet.

    Attributes:
      name: e.g. "v5e", as in a target, or the GPU's.
      kinds: beginnings of ``jax.Device.device_kind`` in lower case.
      bfloat16: FLOP/s of matrix products of bfloat16 with float32 sums.
      float32: FLOP/s of float32 matrix products at JAX's default precision, which multiplies in
        bfloat16 on a TPU and in TF32 on a GPU that has it.
      memory: of HBM or GDDR, bytes.
      bandwidth: of that memory, bytes/s.
      interconnect: out of a chip over all its links to others of its slice, bytes/s each way; 0
        where no torus joins them.
      axes: of the torus that joins the chips of a slice; two links an axis.
      wraps: an axis of so many chips (or a multiple) is a ring; a shorter one is a line.
    """

    name: str
    kinds: tuple[str, ...]
    bfloat16: float
    float32: float
    memory: int
    bandwidth: float
    interconnect: float = 0.0
    axes: int = 0
    wraps: int = 0

    def peak(self, dtype: str) -> float:
        """FLOP/s of matrix products of ``dtype``, "bfloat16" or "float32"."""
        return {"bfloat16": self.bfloat16, "float32": self.float32}[dtype]


GB = 10**9
GIB = 2**30
# Gbit/s of interconnect a chip: v4 2,400, v5e 1,600, v5p 4,800, v6e 3,584.
_ALL = (
    Chip("v4", ("tpu v4",), 275e12, 275e12, 32 * GIB, 1228e9, 300e9, 3, 4),
    Chip("v5e", ("tpu v5 lite", "tpu v5e"), 197e12, 197e12, 16 * GIB, 819e9, 200e9, 2, 16),
    Chip("v5p", ("tpu v5", "tpu v5p"), 459e12, 459e12, 95 * GIB, 2765e9, 600e9, 3, 4),
    Chip("v6e", ("tpu v6 lite", "tpu v6e"), 918e12, 918e12, 32 * GIB, 1640e9, 448e9, 2, 16),
    # A T4 has no bfloat16: XLA computes it in float32.
    Chip("T4", ("tesla t4", "nvidia t4"), 8.1e12, 8.1e12, 16 * GB, 320e9),
    Chip("L4", ("nvidia l4",), 121e12, 60e12, 24 * GB, 300e9),
    Chip("A100 80GB", ("nvidia a100-sxm4-80gb",), 312e12, 156e12, 80 * GB, 2039e9),
    Chip("A100 80GB PCIe", ("nvidia a100 80gb pcie",), 312e12, 156e12, 80 * GB, 1935e9),
    Chip("A100", ("nvidia a100",), 312e12, 156e12, 40 * GB, 1555e9),
    Chip("H100 PCIe", ("nvidia h100 pcie",), 756e12, 378e12, 80 * GB, 2000e9),
    Chip("H100", ("nvidia h100",), 989e12, 494e12, 80 * GB, 3350e9),
    Chip("H200", ("nvidia h200",), 989e12, 494e12, 141 * GB, 4800e9),
)
CHIPS = {chip.name: chip for chip in _ALL}
TPUS = tuple(name for name, chip in CHIPS.items() if chip.axes)


def of(device: Any) -> Chip | None:
    """The chip that a ``jax.Device`` is; None if it is not known (the CPU, a newer chip)."""
    kind = device.device_kind.lower()
    # The longest beginning that fits: "tpu v5 lite" also begins with "tpu v5".
    fits = [(len(k), c.name) for c in _ALL for k in c.kinds if _is_or_begins(kind, k)]
    return CHIPS[max(fits)[1]] if fits else None


def _is_or_begins(kind: str, beginning: str) -> bool:
    """``beginning`` is the whole of ``kind`` or ends where a word of it does (no L4 in an L40)."""
    rest = kind.removeprefix(beginning)
    return rest != kind and not rest[:1].isalnum()
