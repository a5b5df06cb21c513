"""ONNX Runtime, for inference: an ONNX graph of the network, optimised by the runtime itself."""

import time
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from emotion_jax.benchmark.network import Arrays, Network

OPSET = 17
EPSILON = 1e-5  # of BatchNorm, as in Flax


class _Graph:
    """Nodes in a row, each fed by the one before."""

    def __init__(self, first: str) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self.last = first

    def add(self, kind: str, *constants: np.ndarray, **attributes: Any) -> None:
        """A node of that operator on the last result and these constants."""
        number = len(self.nodes)
        names = [f"c{number}_{i}" for i in range(len(constants))]
        self.constants += [
            numpy_helper.from_array(np.ascontiguousarray(value), name)
            for name, value in zip(names, constants, strict=True)
        ]
        output = f"x{number}"
        self.nodes.append(helper.make_node(kind, [self.last, *names], [output], **attributes))
        self.last = output


def build(network: Network) -> onnx.ModelProto:
    """``images`` uint8 [N, H, W, C] to ``logits`` float32 [N, K]."""
    graph = _Graph("images")
    mean, std = (np.asarray(v, np.float32) for v in (network.mean, network.std))
    graph.add("Cast", to=TensorProto.FLOAT)
    graph.add("Div", np.full(1, 255.0, np.float32))
    graph.add("Sub", mean)
    graph.add("Div", std)
    graph.add("Transpose", perm=[0, 3, 1, 2])
    layers = iter(network.layers)
    for block in network.convolution_widths:
        for _ in block:
            kernel = next(layers)["kernel"].transpose(3, 2, 0, 1)
            graph.add("Conv", kernel, kernel_shape=[3, 3], pads=[1, 1, 1, 1])
            _norm(graph, next(layers))
        graph.add("MaxPool", kernel_shape=[2, 2], strides=[2, 2])
    graph.add("Transpose", perm=[0, 2, 3, 1])  # Flax flattens [H, W, C]
    graph.add("Flatten")
    for _ in network.dense:
        graph.add("MatMul", next(layers)["kernel"])
        _norm(graph, next(layers))
    last = next(layers)
    graph.add("Gemm", last["kernel"], last["bias"])
    side = network.image_size
    model = helper.make_model(
        helper.make_graph(
            graph.nodes,
            "emotion_jax",
            [
                helper.make_tensor_value_info(
                    "images", TensorProto.UINT8, ["N", side, side, network.channels]
                )
            ],
            [helper.make_tensor_value_info(graph.last, TensorProto.FLOAT, ["N", network.classes])],
            graph.constants,
        ),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=8,  # the one that goes with this opset: older runtimes refuse newer ones
    )
    onnx.checker.check_model(model)
    return model


def _norm(graph: _Graph, values: Arrays) -> None:
    order = (values[key] for key in ("scale", "bias", "mean", "var"))
    graph.add("BatchNormalization", *order, epsilon=EPSILON)
    graph.add("Relu")


def _parameters(model: onnx.ModelProto) -> int:
    """Numbers that are trained: of BatchNorm's four inputs the first two."""
    trained = {"Conv": 1, "MatMul": 1, "Gemm": 2, "BatchNormalization": 2}
    sizes = {c.name: int(np.prod(c.dims)) for c in model.graph.initializer}
    nodes = model.graph.node
    return sum(sizes[name] for n in nodes for name in n.input[1 : 1 + trained.get(n.op_type, 0)])


class Contender:
    """See ``emotion_jax.benchmark.worker``; it has one variant, and does not train."""

    def __init__(self, network: Network, variant: str, threads: int) -> None:
        del variant
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        self._network = network
        model = build(network)
        self._parameters = _parameters(model)
        self._session = onnxruntime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )

    def describe(self) -> dict[str, Any]:
        """What it is and runs on."""
        return {
            "version": onnxruntime.__version__,
            "device": "cpu",
            "parameters": self._parameters,
        }

    def logits(self, images: np.ndarray) -> np.ndarray:
        """uint8 [N, H, W, C] to float32 [N, K]."""
        return self._session.run(None, {"images": images})[0]

    def evaluate(self, batch: int, steps: int) -> float:
        """Seconds of that many batches."""
        images, _ = self._network.sample(batch)
        began = time.perf_counter()
        for _ in range(steps):
            self.logits(images)
        return time.perf_counter() - began
