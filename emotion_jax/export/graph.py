"""An ONNX graph under construction, whose values are known by the axes that JAX gave them."""

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper


@dataclass(frozen=True)
class Tensor:
    """A value that depends on the images.

    Attributes:
      name: in the graph.
      order: the axes of JAX's array in the order in which ONNX's has them. JAX computes in NHWC,
        ONNX in NCHW: what lies between two convolutions stays as ONNX has it.
    """

    name: str
    order: tuple[int, ...]


class Graph:
    """Nodes in the order of the computation, and the constants that they take."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, onnx.TensorProto] = {}
        self._shared: dict[tuple[str, tuple[int, ...], bytes], str] = {}

    def constant(self, value: np.ndarray) -> str:
        """The name of a constant; equal ones share it."""
        value = np.ascontiguousarray(value)
        key = (value.dtype.str, value.shape, value.tobytes())
        if key not in self._shared:
            name = self._shared[key] = f"c{len(self.constants)}"
            self.constants[name] = numpy_helper.from_array(value, name)
        return self._shared[key]

    def add(self, kind: str, *inputs: str, name: str = "", **attributes: Any) -> str:
        """A node of that operator; the name of its result, chosen here unless it is given."""
        name = name or f"x{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [name], **attributes))
        return name

    def ordered(self, tensor: Tensor, order: tuple[int, ...]) -> str:
        """The name of a tensor with its axes in another order."""
        if tensor.order == order:
            return tensor.name
        return self.add("Transpose", tensor.name, perm=[tensor.order.index(a) for a in order])

    def natural(self, tensor: Tensor) -> str:
        """The name of a tensor with its axes as JAX has them."""
        return self.ordered(tensor, tuple(range(len(tensor.order))))


@dataclass(frozen=True, eq=False)
class Linear:
    """A convolution or a product with constant weights that is not in the graph yet.

    What follows it, a factor and a summand by channel (BatchNorm, a bias, the temperature), goes
    into its weights; so does what follows a max-pool behind it, as a factor >= 0 commutes with the
    maximum.

    Attributes:
      kind: "Conv" or "Gemm".
      source: the name of what it is applied to.
      weights: float64, of Conv [K, C / groups, h, w], of Gemm [K, F].
      bias: float64 [K].
      order: of the result's axes, as in ``Tensor``.
      attributes: of the node.
      pool: attributes of the max-pool behind it, if there is one.
      factor, summand: float64 [K], of what comes out of the pool.
    """

    graph: Graph
    kind: str
    source: str
    weights: np.ndarray
    bias: np.ndarray
    order: tuple[int, ...]
    attributes: dict[str, Any]
    pool: dict[str, Any] | None = None
    factor: np.ndarray = field(default_factory=lambda: np.ones(1))
    summand: np.ndarray = field(default_factory=lambda: np.zeros(1))

    def by_channel(self, value: np.ndarray) -> np.ndarray | None:
        """A constant that has one value a channel as [K], or None if it has more."""
        channel = self.order[1]  # in NCHW and in [N, K]
        if value.ndim and value.shape[channel] != value.size:
            return None
        return np.broadcast_to(value.reshape(-1).astype(np.float64), self.bias.shape)

    def scaled(self, factor_K: np.ndarray) -> "Linear":
        """Times a factor."""
        return replace(self, factor=self.factor * factor_K, summand=self.summand * factor_K)

    def shifted(self, summand_K: np.ndarray) -> "Linear":
        """Plus a summand."""
        return replace(self, summand=self.summand + summand_K)

    def pooled(self, pool: dict[str, Any]) -> "Linear":
        """With a max-pool of these attributes behind it, and whatever follows behind that."""
        return replace(self._merged(), pool=pool)

    def _merged(self) -> "Linear":
        """The same with the factor and the summand in the weights."""
        return replace(
            self,
            weights=self.weights * self.factor.reshape(-1, *[1] * (self.weights.ndim - 1)),
            bias=self.bias * self.factor + self.summand,
            factor=np.ones(1),
            summand=np.zeros(1),
        )

    @cached_property
    def tensor(self) -> Tensor:
        """The result, in the graph from now on."""
        commutes = self.pool is None or bool((self.factor >= 0).all())
        linear = self._merged() if commutes else self
        constants = (self._constant(array) for array in (linear.weights, linear.bias))
        name = self.graph.add(self.kind, self.source, *constants, **self.attributes)
        if self.pool is not None:
            name = self.graph.add("MaxPool", name, **self.pool)
        if not commutes:
            for kind, array in (("Mul", self.factor), ("Add", self.summand)):
                name = self.graph.add(kind, name, self._constant(array.reshape(1, -1, 1, 1)))
        return Tensor(name, self.order)

    def _constant(self, array: np.ndarray) -> str:
        return self.graph.constant(array.astype(np.float32))
