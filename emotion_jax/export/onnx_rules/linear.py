"""Convolutions, products and max-pools."""

from collections.abc import Callable
from typing import Any

import numpy as np

from emotion_jax.export.graph import Linear, Tensor
from emotion_jax.export.onnx_rules.call import Call, Value, no_rule, tensor


def _conv(call: Call, x: Value, kernel: Value) -> Linear:
    p = call.params
    if set(p["lhs_dilation"]) != {1} or p["batch_group_count"] != 1 or len(call.shape) != 4:
        raise no_rule(call, "there is one for convolutions of images, not for their transposes")
    if not isinstance(kernel, np.ndarray):
        raise no_rule(call, "there is one for constant kernels alone")
    images, weights, result = p["dimension_numbers"]
    kernel_KChw = kernel.transpose(weights).astype(np.float64)
    return Linear(
        graph=call.graph,
        kind="Conv",
        source=call.graph.ordered(tensor(x), tuple(images)),
        weights=kernel_KChw,
        bias=np.zeros(len(kernel_KChw)),
        order=tuple(result),
        attributes={
            "kernel_shape": kernel_KChw.shape[2:],
            "strides": p["window_strides"],
            "pads": [pair[side] for side in (0, 1) for pair in p["padding"]],
            "dilations": p["rhs_dilation"],
            "group": p["feature_group_count"],
        },
    )


def _dot(call: Call, x: Value, weights: Value) -> Linear:
    (left, right), batched = call.params["dimension_numbers"]
    if not isinstance(weights, np.ndarray) or weights.ndim != 2 or len(call.shape) != 2:
        raise no_rule(call, "there is one for products with a constant matrix")
    if any(batched) or tuple(left) != (1,) or len(right) != 1:
        raise no_rule(call, "there is one for x @ w alone")
    weights_KF = np.moveaxis(weights, right[0], 1).astype(np.float64)
    source = call.graph.natural(tensor(x))
    bias = np.zeros(len(weights_KF))
    return Linear(call.graph, "Gemm", source, weights_KF, bias, (0, 1), {"transB": 1})


def _max_pool(call: Call, x: Value) -> Value:
    p = call.params
    window, strides, padding = p["window_dimensions"], p["window_strides"], p["padding"]
    if {*p["base_dilation"], *p["window_dilation"]} != {1}:
        raise no_rule(call, "there is one for windows without gaps")
    whole = [a for a, side in enumerate(window) if (side, strides[a], padding[a]) == (1, 1, (0, 0))]
    order = (*whole, *(axis for axis in range(len(window)) if axis not in whole))
    if len(whole) != 2 or len(order) != 4:
        raise no_rule(call, "there is one for pools over the two sides of an image")
    pool: dict[str, Any] = {
        "kernel_shape": [window[axis] for axis in order[2:]],
        "strides": [strides[axis] for axis in order[2:]],
        "pads": [padding[axis][side] for side in (0, 1) for axis in order[2:]],
    }
    if isinstance(x, Linear) and x.pool is None and x.order == order:
        return x.pooled(pool)
    return Tensor(call.graph.add("MaxPool", call.graph.ordered(tensor(x), order), **pool), order)


RULES: dict[str, Callable[..., Value]] = {
    "conv_general_dilated": _conv,
    "dot_general": _dot,
    "reduce_window_max": _max_pool,
}
