"""What moves, joins or sums values."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from emotion_jax.export.graph import Tensor
from emotion_jax.export.onnx_rules.call import Call, Value, aligned, no_rule, tensor


def _transpose(call: Call, x: Value) -> Tensor:
    # No node: the axes get new numbers.
    before = list(call.params["permutation"])
    return Tensor(tensor(x).name, tuple(before.index(axis) for axis in tensor(x).order))


def _reshape(call: Call, x: Value) -> Tensor:
    return _shaped(call, x, call.shape)


def _shaped(call: Call, x: Value, shape: Sequence[Any]) -> Tensor:
    sides = np.array([side if isinstance(side, int) else -1 for side in shape], np.int64)
    name = call.graph.add("Reshape", call.graph.natural(tensor(x)), call.graph.constant(sides))
    return Tensor(name, tuple(range(len(shape))))


def _broadcast(call: Call, x: Value) -> Tensor:
    kept = call.params["broadcast_dimensions"]
    sides = dict(zip(kept, call.operand, strict=True))
    shape = tuple(sides.get(axis, 1) for axis in range(len(call.shape)))
    if shape != tuple(call.shape) or isinstance(x, np.ndarray):
        raise no_rule(call, "there is none that repeats values")
    return _shaped(call, x, shape)


def _reduce(kind: str, takes_axes: bool) -> Callable[..., Tensor]:
    """A reduction; in opset 17 the axes of ReduceSum are an input, those of others an attribute."""

    def rule(call: Call, x: Value) -> Tensor:
        order, reduced = tensor(x).order, call.params["axes"]
        axes = [order.index(axis) for axis in reduced]
        if takes_axes:
            places = call.graph.constant(np.array(axes, np.int64))
            name = call.graph.add(kind, tensor(x).name, places, keepdims=0)
        else:
            name = call.graph.add(kind, tensor(x).name, axes=axes, keepdims=0)
        rest = [axis for axis in order if axis not in reduced]
        return Tensor(name, tuple(sorted(rest).index(axis) for axis in rest))

    return rule


def _concatenate(call: Call, *values: Value) -> Tensor:
    order = next(tensor(v).order for v in values if not isinstance(v, np.ndarray))
    names = [aligned(call, value, order) for value in values]
    axis = order.index(call.params["dimension"])
    return Tensor(call.graph.add("Concat", *names, axis=axis), order)


def _pad(call: Call, x: Value, fill: Value) -> Tensor:
    config = call.params["padding_config"]
    if any(min(low, high) < 0 or inner for low, high, inner in config):
        raise no_rule(call, "there is one for edges alone")
    order = tensor(x).order
    pads = np.array([config[axis][side] for side in (0, 1) for axis in order], np.int64)
    inputs = (call.graph.constant(pads), aligned(call, fill, ()))
    return Tensor(call.graph.add("Pad", tensor(x).name, *inputs), order)


RULES: dict[str, Callable[..., Value]] = {
    "broadcast_in_dim": _broadcast,
    "concatenate": _concatenate,
    "pad": _pad,
    "reduce_max": _reduce("ReduceMax", takes_axes=False),
    "reduce_sum": _reduce("ReduceSum", takes_axes=True),
    "reshape": _reshape,
    "transpose": _transpose,
}
