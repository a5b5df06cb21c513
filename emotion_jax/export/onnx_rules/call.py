"""A primitive as it is called, and the values that it is called with."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from emotion_jax.errors import UserError
from emotion_jax.export.graph import Graph, Linear, Tensor

Value = np.ndarray | Tensor | Linear


@dataclass(frozen=True)
class Call:
    """A primitive as it is called.

    Attributes:
      name, params: of the primitive.
      graph: that its nodes go to.
      shape: of the result, as JAX has it.
      operand: shape of the first operand.
    """

    name: str
    graph: Graph
    params: dict[str, Any]
    shape: tuple[Any, ...]
    operand: tuple[Any, ...]


def no_rule(call: Call, why: str) -> UserError:
    """A primitive that has no counterpart here."""
    return UserError(
        f"This network cannot become ONNX: it uses JAX's {call.name}, and {why} in "
        "emotion_jax/export/onnx_rules; add one, or use --format stablehlo."
    )


def tensor(value: Any) -> Tensor:
    """What is in the graph, or now comes to it."""
    return value.tensor if isinstance(value, Linear) else value


def aligned(call: Call, value: Value, order: tuple[int, ...]) -> str:
    """The name of a value with its axes in that order; a scalar has none."""
    if not isinstance(value, np.ndarray):
        return call.graph.ordered(tensor(value), order)
    return call.graph.constant(value.transpose(order) if value.ndim else value)
