"""ONNX: for ONNX Runtime on any device, browsers, phones, and what else reads it.

``images`` uint8 [N, S, S, C] to ``probabilities`` float32 [N, K], any N: the normalisation and the
temperature are in the graph. NHWC is how an image lies in memory once it is decoded (Pillow,
OpenCV, a canvas), so the bytes go in as they are; within the graph images are NCHW, as ONNX has
them.
"""

import importlib
import json
from pathlib import Path
from typing import Any

from emotion_jax import files
from emotion_jax.errors import UserError
from emotion_jax.export import function
from emotion_jax.export.function import INPUT, OUTPUT, PRODUCER, Runner
from emotion_jax.models import lowering
from emotion_jax.training.trained import Trained

OPSET = 17
PARTS = ("",)  # ends of the names of the files
IR_VERSION = 8  # goes with that opset: older runtimes refuse newer ones


def write(path: Path, trained: Trained) -> None:
    """Write the file; it computes in float32.

    Raises:
      UserError: onnx is not installed, the network has no counterpart, or it cannot be written.
    """
    with files.reported(path):
        files.write_bytes_atomic(path, build(trained).SerializeToString())


def reference(trained: Trained) -> Trained:
    """What the file computes: in float32, as few runtimes have kernels for bfloat16."""
    return function.in_float32(trained)


def load(path: Path) -> Runner:
    """The file in ONNX Runtime, on the CPU."""
    onnxruntime = _imported("onnxruntime")
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return lambda images: session.run([OUTPUT], {INPUT: images})[0]


def is_ours(path: Path) -> bool:
    """Whether ``write`` wrote the file."""
    onnx = _imported("onnx")
    try:
        return onnx.load(path, load_external_data=False).producer_name == PRODUCER
    except Exception:  # whatever protobuf meets in other bytes
        return False


def build(trained: Trained) -> Any:
    """The ``onnx.ModelProto``.

    Raises:
      UserError: as for ``write``.
    """
    onnx = _imported("onnx")
    from emotion_jax.export.translate import translate

    trained = reference(trained)
    shape = function.image_shape(trained)
    with lowering.plain():
        graph = translate(function.probabilities(trained), shape, INPUT, OUTPUT)
    about = function.describe(trained)
    make, kinds = onnx.helper.make_tensor_value_info, onnx.TensorProto
    model = onnx.helper.make_model(
        onnx.helper.make_graph(
            graph.nodes,
            PRODUCER,
            [make(INPUT, kinds.UINT8, ["N", *shape])],
            [make(OUTPUT, kinds.FLOAT, ["N", len(trained.classes)])],
            list(graph.constants.values()),
        ),
        opset_imports=[onnx.helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name=PRODUCER,
        producer_version=about["versions"]["emotion_jax"],
    )
    texts = {k: v if isinstance(v, str) else json.dumps(v) for k, v in about.items()}
    onnx.helper.set_model_props(model, texts)
    onnx.checker.check_model(model, full_check=True)
    return model


def _imported(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError:
        raise UserError(f'--format onnx needs {name}: pip install "emotion-jax[export]".') from None
