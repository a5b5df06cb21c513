"""From JAX's program to an ONNX graph: one rule a primitive.

What does not depend on the images is computed here and now, by JAX itself. The shapes of the
program have a symbolic batch size, which is the only dimension that is no number.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.extend.core as jex
import numpy as np
from jax import export

from emotion_jax.export.graph import Graph, Tensor
from emotion_jax.export.onnx_rules import RULES
from emotion_jax.export.onnx_rules.call import Call, Value, no_rule, tensor

# Of primitives that do no more than call a program: the parameter that has it.
CALLS = {
    "jit": "jaxpr",
    "pjit": "jaxpr",
    "custom_jvp_call": "call_jaxpr",
    "custom_vjp_call": "call_jaxpr",
}


def translate(
    function: Callable[[jax.Array], jax.Array], shape: tuple[int, ...], source: str, target: str
) -> Graph:
    """The graph of ``function``, which maps uint8 [N, *shape] to [N, K].

    Args:
      function: traceable for any N; its constants become the graph's.
      shape: of an image.
      source, target: names of what goes in and what comes out.

    Raises:
      UserError: it uses a primitive for which there is no rule.
    """
    (batch,) = export.symbolic_shape("N")
    program = jax.make_jaxpr(function)(jax.ShapeDtypeStruct((batch, *shape), np.uint8))
    graph = Graph()
    images = Tensor(source, tuple(range(1 + len(shape))))
    (result,) = _walk(graph, program.jaxpr, list(map(np.asarray, program.consts)), [images])
    graph.add("Identity", graph.natural(tensor(result)), name=target)
    return graph


def _walk(graph: Graph, program: Any, consts: Sequence[Value], args: Sequence[Value]) -> list[Any]:
    """Add the equations of a program; its results."""
    values: dict[Any, Value] = dict(zip(program.constvars, consts, strict=True))
    values |= dict(zip(program.invars, args, strict=True))

    def value_of(atom: Any) -> Value:
        if isinstance(atom, jex.Literal):
            literal: Any = atom
            return np.asarray(literal.val, literal.aval.dtype)
        return values[atom]

    for equation in program.eqns:
        inputs = [value_of(atom) for atom in equation.invars]
        results = _apply(graph, equation, inputs)
        values |= dict(zip(equation.outvars, results, strict=True))
    return [value_of(atom) for atom in program.outvars]


def _apply(graph: Graph, equation: Any, inputs: Sequence[Value]) -> list[Any]:
    """The results of one equation."""
    primitive, params = equation.primitive, equation.params
    if primitive.name in CALLS:
        inner = params[CALLS[primitive.name]]
        return _walk(graph, inner.jaxpr, list(map(np.asarray, inner.consts)), inputs)
    shapes = [variable.aval.shape for variable in equation.outvars]
    is_static = all(isinstance(side, int) for shape in shapes for side in shape)
    if is_static and all(isinstance(value, np.ndarray) for value in inputs):
        found = primitive.bind(*inputs, **params)
        return list(map(np.asarray, found if primitive.multiple_results else [found]))
    operand = equation.invars[0].aval.shape if equation.invars else ()
    call = Call(primitive.name, graph, params, shapes[0], operand)
    if primitive.name not in RULES:
        raise no_rule(call, "there is no rule for it")
    return [RULES[primitive.name](call, *inputs)]
