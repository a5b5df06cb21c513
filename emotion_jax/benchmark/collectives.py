"""Communication in a compiled program: what XLA's HLO text says of its collectives."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from math import prod

from emotion_jax.benchmark import hlo

KINDS = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute")
# `%name = SHAPE all-reduce-start(operands), attributes`; its -done has no work of its own.
_INSTRUCTION = re.compile(
    rf"^\s*(?:ROOT )?%?(?P<name>[\w.\-]+) = (?P<shape>.+?) (?P<kind>{'|'.join(KINDS)})"
    r"(?P<start>-start)?\("
)
# {{0,1},{2,3}}; [groups,size]<=[devices], perhaps transposed; or axes of a mesh with their sizes.
_GROUPS = re.compile(
    r"(?:replica_groups|source_target_pairs)="
    r"(\{(?:[\d,]|\{[\d,]*\})*\}"
    r"|\[[\d,]+\]<=\[[\d,]+\](?:T\([\d,]+\))?"
    r"|mesh\[[^\]]*\][^{]*\{[^}]*\})"
)


@dataclass(frozen=True)
class Collective:
    """One collective of a program; an asynchronous start and done are one.

    Attributes:
      kind: one of ``KINDS``.
      dtypes: of its arrays, each once, e.g. ("f32",).
      arrays: how many it carries.
      numbers: in all of them.
      bytes: of the whole arrays: what an all-reduce sums, what an all-gather ends with, what a
        reduce-scatter begins with.
      groups: the replica groups (or pairs of a permutation) as in the text.
      group_size: devices that take part with each other; 0: all, however many there are.
      op_name: where in the traced program it comes from; "" if XLA lost it.
    """

    kind: str
    dtypes: tuple[str, ...]
    arrays: int
    numbers: int
    bytes: int
    groups: str
    group_size: int
    op_name: str


def parse(text: str) -> tuple[Collective, ...]:
    """The collectives of an optimised HLO module's text, in its order.

    Those in a loop's body count once, as those of one step do when a dispatch takes many.
    """
    found = (_INSTRUCTION.match(line) for line in text.splitlines())
    return tuple(_collective(match) for match in found if match)


def _collective(match: re.Match[str]) -> Collective:
    kind, shape, line = match["kind"], match["shape"], match.string
    if match["start"] and kind != "all-reduce" and shape.startswith("("):
        # (operands, results, contexts...): the results are what is counted.
        shape = list(_elements(shape))[1]
    arrays = [(m["dtype"], hlo.numbers(m)) for m in hlo.ARRAY.finditer(shape)]
    groups = _GROUPS.search(line)
    size = _group_size(groups[1]) if groups and kind != "collective-permute" else 0
    whole = max(size, 1) if kind == "reduce-scatter" else 1
    return Collective(
        kind=kind,
        dtypes=tuple(dict.fromkeys(dtype for dtype, _ in arrays)),
        arrays=len(arrays),
        numbers=whole * sum(n for _, n in arrays),
        bytes=whole * sum(-(-n * hlo.bits(dtype) // 8) for dtype, n in arrays),
        groups=groups[1] if groups else "",
        group_size=size,
        op_name=hlo.op_name(line),
    )


def _elements(shape: str) -> Iterator[str]:
    """The elements of a tuple's shape, which may be tuples and carry layouts in braces."""
    depth, begin = 0, 1
    for at, character in enumerate(shape):
        depth += (character in "([{") - (character in ")]}")
        if (character == "," and depth == 1) or depth == 0:
            yield shape[begin:at].strip()
            begin = at + 1


def _group_size(groups: str) -> int:
    if iota := re.match(r"\[(?:\d+,)*(\d+)\]<=", groups):
        return int(iota[1])
    if groups.startswith("mesh"):
        axes, _, along = groups.partition("]")
        sizes = dict(re.findall(r"'(\w+)'=(\d+)", axes))
        # A part of an axis brings its own size: 'axis_0':(1)2.
        taken = re.findall(r"'(\w+)'(?::\(\d+\)(\d+))?", along)
        return prod(int(part or sizes[axis]) for axis, part in taken)
    first = re.search(r"\{([\d,]+)\}", groups)
    return len(first[1].split(",")) if first else 0


def split(
    found: Iterable[Collective], parameters: int
) -> tuple[tuple[Collective, ...], tuple[Collective, ...]]:
    """All-reduces of gradients, and the others: BatchNorm's sums and the metrics'.

    XLA joins small all-reduces, and what their names say does not survive that, so size tells: a
    layer's statistics are a few numbers a channel, the gradients one a parameter. The largest
    all-reduces are gradients until at most a twentieth of the parameters is left, which (biases,
    BatchNorm's own scales) may ride with the small ones.

    Args:
      found: of a program.
      parameters: of the network.
    """
    reduces = [c for c in found if c.kind in ("all-reduce", "reduce-scatter")]
    left, smallest = 0.95 * parameters, 0
    for collective in sorted(reduces, key=lambda c: c.numbers, reverse=True):
        if left > 0:
            left, smallest = left - collective.numbers, collective.numbers
    large = tuple(c for c in reduces if c.numbers >= max(smallest, 1))
    return large, tuple(c for c in reduces if c.numbers < max(smallest, 1))
