"""Element by element; a factor or a summand by channel goes into the weights before it."""

from collections.abc import Callable

import numpy as np
from onnx import helper

from emotion_jax.export.graph import Linear, Tensor
from emotion_jax.export.onnx_rules.call import Call, Value, aligned, tensor


def unary(*kinds: str) -> Callable[..., Tensor]:
    """One operator after the other, element by element."""

    def rule(call: Call, x: Value) -> Tensor:
        name, order = tensor(x).name, tensor(x).order
        for kind in kinds:
            name = call.graph.add(kind, name)
        return Tensor(name, order)

    return rule


def binary(kind: str) -> Callable[..., Tensor]:
    """An operator of two arrays that broadcast."""

    def rule(call: Call, a: Value, b: Value) -> Tensor:
        orders = [tensor(v).order for v in (a, b) if not isinstance(v, np.ndarray)]
        # Of two orders the one that convolutions have brought.
        order = max(orders, key=lambda o: o != tuple(range(len(o))))
        return Tensor(call.graph.add(kind, *(aligned(call, v, order) for v in (a, b))), order)

    return rule


def _by_channel(linear: Value, value: Value) -> tuple[Linear, np.ndarray] | None:
    """The two, where the second is a constant with one value for each channel of the first."""
    if isinstance(linear, Linear) and isinstance(value, np.ndarray):
        value_K = linear.by_channel(value)
        return None if value_K is None else (linear, value_K)
    return None


def _add(call: Call, a: Value, b: Value) -> Value:
    if found := _by_channel(a, b) or _by_channel(b, a):
        return found[0].shifted(found[1])
    return binary("Add")(call, a, b)


def _sub(call: Call, a: Value, b: Value) -> Value:
    if found := _by_channel(a, b):
        return found[0].shifted(-found[1])
    return binary("Sub")(call, a, b)


def _mul(call: Call, a: Value, b: Value) -> Value:
    if found := _by_channel(a, b) or _by_channel(b, a):
        return found[0].scaled(found[1])
    return binary("Mul")(call, a, b)


def _div(call: Call, a: Value, b: Value) -> Value:
    if found := _by_channel(a, b):
        return found[0].scaled(1.0 / found[1])
    return binary("Div")(call, a, b)


def _max(call: Call, a: Value, b: Value) -> Value:
    for x, constant in ((a, b), (b, a)):
        if isinstance(constant, np.ndarray) and constant.size == 1:
            if constant.item() == 0:
                return unary("Relu")(call, x)
            if constant.item() == -np.inf:
                return x
    return binary("Max")(call, a, b)


def _integer_pow(call: Call, x: Value) -> Tensor:
    return binary("Pow")(call, x, np.array(call.params["y"], np.float32))


def _convert(call: Call, x: Value) -> Tensor:
    to = helper.np_dtype_to_tensor_dtype(np.dtype(call.params["new_dtype"]))
    return Tensor(call.graph.add("Cast", tensor(x).name, to=to), tensor(x).order)


def _erfc(call: Call, x: Value) -> Value:
    return _sub(call, np.array(1, np.float32), unary("Erf")(call, x))


def _same(call: Call, x: Value) -> Value:
    return x


RULES: dict[str, Callable[..., Value]] = {
    "abs": unary("Abs"),
    "add": _add,
    "convert_element_type": _convert,
    "copy": _same,
    "div": _div,
    "erf": unary("Erf"),
    "erfc": _erfc,
    "exp": unary("Exp"),
    "integer_pow": _integer_pow,
    "log": unary("Log"),
    "logistic": unary("Sigmoid"),
    "max": _max,
    "min": binary("Min"),
    "mul": _mul,
    "neg": unary("Neg"),
    "rsqrt": unary("Sqrt", "Reciprocal"),
    "sqrt": unary("Sqrt"),
    "stop_gradient": _same,
    "sub": _sub,
    "tanh": unary("Tanh"),
}
