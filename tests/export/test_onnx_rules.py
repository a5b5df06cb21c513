import jax
import jax.numpy as jnp
import numpy as np
import onnx
import onnxruntime
import pytest
from jax import lax
from onnx import TensorProto, helper

from emotion_jax.errors import UserError
from emotion_jax.export.translate import translate

SHAPE = (6, 5, 2)
RNG = np.random.default_rng(0)
KERNEL = RNG.normal(size=(3, 3, 2, 4)).astype(np.float32)
DEPTHWISE = RNG.normal(size=(3, 3, 1, 4)).astype(np.float32)
MATRIX = RNG.normal(size=(60, 3)).astype(np.float32)
BY_CHANNEL = np.array([2.0, -3.0, 0.5, 1.5], np.float32).reshape(1, 1, 1, 4)
BY_PIXEL = RNG.normal(size=(1, 6, 5, 4)).astype(np.float32)
PADDED = [(1, 1), (1, 1)]
BY_SIDE = RNG.normal(size=(1, 1, 5, 1)).astype(np.float32)


def conv(x, kernel=KERNEL, strides=(1, 1), padding="SAME", layout="NHWC", **options):
    numbers = (layout, "HWIO", layout)
    return lax.conv_general_dilated(
        x, kernel, strides, padding, dimension_numbers=numbers, **options
    )


def pool(x, window=(2, 2), strides=(2, 2), padding="VALID"):
    init = -jnp.inf
    return lax.reduce_window(x, init, lax.max, (1, *window, 1), (1, *strides, 1), padding)


def graph_of(function):
    """Of an input uint8 [N, 6, 5, 2], of which ``function`` gets float32 in [0, 1]."""
    return translate(lambda x: function(x.astype(jnp.float32) / 255), SHAPE, "x", "y")


def run(graph, images, rank):
    model = helper.make_model(
        helper.make_graph(
            graph.nodes,
            "test",
            [helper.make_tensor_value_info("x", TensorProto.UINT8, ["N", *SHAPE])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None] * rank)],
            list(graph.constants.values()),
        ),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=8,
    )
    onnx.checker.check_model(model, full_check=True)
    session = onnxruntime.InferenceSession(model.SerializeToString())
    return session.run(None, {"x": images})[0]


def kinds(graph):
    return [node.op_type for node in graph.nodes]


FUNCTIONS = {
    "abs": lambda x: abs(x - 0.5),
    "erf": lax.erf,
    "exp and log": lambda x: jnp.log(jnp.exp(x) + 1),
    "powers": lambda x: x**3 - x**2,
    "roots": lambda x: jnp.sqrt(x) + lax.rsqrt(x + 1),
    "minus": lambda x: -x,
    "a constant first": lambda x: 2 / (1 - x * 0.5),
    "tanh and sigmoid": lambda x: jnp.tanh(x) * jax.nn.sigmoid(x),
    "maximum of two": lambda x: jnp.maximum(x, x * x + 0.1),
    "minimum": lambda x: jnp.minimum(x, 0.5),
    "gelu": jax.nn.gelu,
    "exact gelu": lambda x: jax.nn.gelu(x, approximate=False),
    "swish": jax.nn.swish,
    "log-softmax": lambda x: jax.nn.log_softmax(x),
    "transposed": lambda x: x.transpose(0, 3, 1, 2) * 2 + 1,
    "transposed after a convolution": lambda x: conv(x).transpose(3, 0, 2, 1) + 1,
    "flattened": lambda x: conv(x).reshape(x.shape[0], -1),
    "sums": lambda x: conv(x).sum((1, 3)) + conv(x).max((1, 3)),
    "sum over the images": lambda x: x.sum(0),
    "padded": lambda x: jnp.pad(conv(x), ((0, 0), (1, 2), (0, 3), (2, 0)), constant_values=0.5),
    "joined": lambda x: jnp.concatenate([conv(x), x, conv(x)], axis=-1),
    "joined sums": lambda x: jnp.concatenate([conv(x).sum((1, 2)), x.sum((1, 2))], axis=1),
    "strided": lambda x: conv(x, strides=(2, 1)),
    "padded unevenly": lambda x: conv(x, padding=((0, 2), (1, 0))),
    "dilated": lambda x: conv(x, rhs_dilation=(2, 1)),
    "depthwise": lambda x: conv(conv(x), DEPTHWISE, feature_group_count=4),
    "as torch lays out": lambda x: conv(x.transpose(0, 3, 1, 2), layout="NCHW"),
    "product": lambda x: x.reshape(-1, 60) @ MATRIX + 1.5,
    "product with a transpose": lambda x: lax.dot_general(
        x.reshape(-1, 60), MATRIX.T, (((1,), (1,)), ((), ()))
    ),
    "pool": lambda x: pool(x),
    "pool with overlap": lambda x: pool(x, (3, 2), (2, 1), ((0, 0), (1, 1), (0, 1), (0, 0))),
    "a factor after two pools": lambda x: pool(pool(conv(x), strides=(1, 1)) * BY_CHANNEL),
    "by channel": lambda x: (conv(x) * BY_CHANNEL - BY_CHANNEL) / BY_CHANNEL + BY_CHANNEL,
    "by channel behind a pool": lambda x: pool(conv(x) * BY_CHANNEL) * abs(BY_CHANNEL) + BY_CHANNEL,
    "a factor below 0 behind a pool": lambda x: pool(conv(x)) * BY_CHANNEL + BY_CHANNEL,
    "two signs that cancel behind a pool": lambda x: (pool(conv(x)) * BY_CHANNEL - 1) * BY_CHANNEL,
    "by pixel": lambda x: conv(x) * BY_PIXEL + BY_PIXEL,
    "by side": lambda x: conv(x) * BY_SIDE - BY_SIDE,
    "a scalar": lambda x: (conv(x) + 1) / 3,
    "used twice": lambda x: (lambda y: (y + 1) * (y - BY_CHANNEL))(conv(x)),
    "gated": lambda x: (lambda y: y * jax.nn.sigmoid(y.mean((1, 2)))[:, None, None, :])(conv(x)),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_gives_what_it_gives_in_jax(name):
    function = FUNCTIONS[name]
    graph = graph_of(function)
    for n in (1, 3):
        images = np.random.default_rng(n).integers(0, 256, (n, *SHAPE), np.uint8)
        expected = np.asarray(jax.jit(function)(images.astype(np.float32) / 255))
        found = run(graph, images, expected.ndim)
        assert found.shape == expected.shape
        assert expected.std() > 0
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "nodes"),
    [
        ("by channel", ["Transpose", "Conv", "Transpose"]),
        ("by channel behind a pool", ["Transpose", "Conv", "MaxPool", "Transpose"]),
        ("two signs that cancel behind a pool", ["Transpose", "Conv", "MaxPool", "Transpose"]),
        ("product", ["Reshape", "Gemm"]),
        ("depthwise", ["Transpose", "Conv", "Conv", "Transpose"]),
    ],
)
def test_what_a_product_takes_in_is_no_node(name, nodes):
    assert kinds(graph_of(FUNCTIONS[name])) == ["Cast", "Div", *nodes, "Identity"]


def test_constants_are_computed_and_shared():
    def function(x):
        scale = jnp.where(jnp.arange(2) < 1, jnp.cumsum(jnp.ones(2)), 7.0)
        return x * scale.reshape(1, 1, 1, 2) + scale.reshape(1, 1, 1, 2) + 255

    graph = graph_of(function)
    assert kinds(graph) == ["Cast", "Div", "Mul", "Add", "Add", "Identity"]
    assert len(graph.constants) == 2


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (lambda x: jnp.cumsum(x, axis=1), "uses JAX's cumsum, and there is no rule for it"),
        (lambda x: lax.sort(x), "uses JAX's sort,"),
        (lambda x: x @ x.swapaxes(-1, -2), "dot_general, and .* with a constant matrix"),
        (lambda x: conv(x, padding=PADDED, lhs_dilation=(2, 2)), "dilated, and .* transposes"),
        (lambda x: conv(x, x.sum(0).reshape(6, 5, 1, 2), feature_group_count=2), "kernels alone"),
        (lambda x: lax.pad(x, 0.0, [(0, 0, 0), (0, 0, 1), (0, 0, 0), (0, 0, 0)]), "pad, .* edges"),
        (lambda x: jnp.broadcast_to(x[:, None], (x.shape[0], 4, *SHAPE)), "that repeats values"),
        (lambda x: pool(x.reshape(x.shape[0], 60, 1, 1), (3, 1), (2, 1)), "pools over the two"),
    ],
)  # fmt: skip
def test_what_has_no_rule_is_named(function, words):
    with pytest.raises(UserError, match=rf"cannot become ONNX: .*{words}.*--format stablehlo"):
        graph_of(function)
