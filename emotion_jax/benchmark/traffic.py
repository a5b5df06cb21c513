"""Traffic of a compiled TPU program with its memory: what XLA's HLO text says of each kernel.

XLA's own sum ("bytes accessed") also has what kernels hand on within the chip, and about five times
what is fetched ahead of its use. Here every kernel reads each operand once and writes each result
once, and what the layout puts in another memory space than HBM, S(1) and above, is left out.
"""

import re
from dataclasses import dataclass

from emotion_jax.benchmark import hlo

_INSTRUCTION = re.compile(
    r"^\s*(?:ROOT )?%(?P<name>[\w.\-]+) = (?P<shape>\(.*?\)|\S+) (?P<kind>[\w\-]+)\((?P<rest>.*)$"
)
# They move nothing, or end what was counted where it started.
_FREE = {"parameter", "constant", "get-tuple-element", "bitcast", "tuple", "after-all"}
_FREE_CALLS = ('custom_call_target="ConcatBitcast"', 'custom_call_target="AssumeGather')
# (operand, result, context) in either order: a transfer between HBM and the chip.
_TRANSFERS = {"copy-start", "slice-start"}


@dataclass(frozen=True)
class Kernel:
    """One kernel or transfer of a program.

    Attributes:
      name: of its instruction.
      op_name: where in the traced program its root comes from; "" if XLA lost it.
      bytes: read from and written to HBM.
    """

    name: str
    op_name: str
    bytes: int


def kernels(text: str) -> tuple[Kernel, ...]:
    """Those of an optimised HLO module's entry, in its order; a loop's body counts nothing."""
    shapes: dict[str, str] = {}
    found = []
    for line in text[text.find("\nENTRY ") + 1 :].splitlines():
        match = _INSTRUCTION.match(line)
        if match is None:
            continue
        name, shape, kind = match["name"], match["shape"], match["kind"]
        shapes[name] = shape
        if kind in _FREE or kind.endswith("-done") or any(call in line for call in _FREE_CALLS):
            continue
        operands = re.findall(r"%([\w.\-]+)", match["rest"].partition(")")[0])
        if kind in _TRANSFERS:
            size = min(_sizes(shape)[:2], default=0)  # of a slice, the slice
        else:
            arrays = [shape, *(shapes.get(operand, "") for operand in operands)]
            size = sum(sum(_sizes(array, hbm=True)) for array in arrays)
        found.append(Kernel(name, hlo.op_name(line), size))
    return tuple(found)


def _sizes(shape: str, hbm: bool = False) -> list[int]:
    """Bytes of each array of a shape, or only of those in HBM."""
    return [
        hlo.numbers(m) * hlo.bits(m["dtype"]) // 8
        for m in hlo.ARRAY.finditer(shape)
        if not (hbm and re.search(r"S\([1-9]", m["layout"] or ""))
    ]
