"""A checkpoint's network, compiled once for each batch size that it is asked for."""

import threading
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from emotion_jax.models import lowering
from emotion_jax.training import mesh as mesh_lib
from emotion_jax.training.predict import BATCH_SIZE, log_probabilities, make_predict
from emotion_jax.training.trained import Trained

# On a CPU more images at a time are slower: the temporaries of a program leave the caches, and
# from 32 MB on glibc maps them anew in each call (see allocator.py).
CPU_BATCH_SIZE = 32
FEW = 8  # images, up to which a CPU's program has the parameters within


def for_few(images: int) -> bool:
    """Whether a program for so many images is better ``frozen``."""
    return images <= FEW and jax.default_backend() == "cpu"


def frozen(module: nn.Module, variables: Any) -> Callable[[jax.Array], jax.Array]:
    """``module.apply`` to images, of variables (NumPy arrays) that are part of the program.

    What depends on them alone is computed when it is compiled, so few images take less time.
    """

    def apply(images: jax.Array) -> jax.Array:
        with lowering.frozen():
            return jnp.asarray(module.apply(variables, images))

    return apply


class Network:
    """Faces in, calibrated probabilities out. Any number of threads may call one at once.

    Attributes:
      batch_size: faces that the devices see at a time, at most.
    """

    def __init__(self, trained: Trained) -> None:
        """Put the checkpoint's arrays on the devices; nothing is compiled yet."""
        self._classes = len(trained.classes)
        self._mesh = mesh_lib.make()
        is_cpu = self._mesh.devices.flat[0].platform == "cpu"
        self.batch_size = CPU_BATCH_SIZE if is_cpu else BATCH_SIZE
        self._variables = mesh_lib.put(trained.variables, mesh_lib.replicated(self._mesh))
        heat = trained.temperature
        # Evaluation's own program, so that for batches of one size its bits are evaluation's too.
        self._many: Any = make_predict(trained.module, self._mesh, temperature=heat)
        logits = frozen(trained.module, trained.variables)
        self._few: Any = jax.jit(
            lambda images: log_probabilities(logits(images), heat),
            out_shardings=mesh_lib.replicated(self._mesh),
        )
        self._compiled: dict[int, Callable[[np.ndarray], jax.Array]] = {}
        self._lock = threading.Lock()

    def probabilities(self, faces: np.ndarray) -> np.ndarray:
        """Of uint8 [N, S, S, C] float64 [N, K], as evaluation has them; rows sum to 1."""
        return self.begin(faces)()

    def begin(self, faces: np.ndarray) -> Callable[[], np.ndarray]:
        """Have the devices begin; what is returned waits for them and is ``probabilities``."""
        parts = [faces[i : i + self.batch_size] for i in range(0, len(faces), self.batch_size)]
        logs: list[Any] = []
        for part in parts:
            logs.append(self._log_probabilities(part))
            if len(logs) > 1:  # one behind: two parts at a time have memory for temporaries
                logs[-2] = np.asarray(logs[-2])

        def end() -> np.ndarray:
            rows = [np.asarray(one)[: len(part)] for one, part in zip(logs, parts, strict=True)]
            rows.append(np.empty((0, self._classes), np.float32))
            probs = np.exp(np.concatenate(rows).astype(np.float64))
            return probs / probs.sum(axis=1, keepdims=True)

        return end

    def _log_probabilities(self, faces: np.ndarray) -> jax.Array:
        """Of at most ``batch_size`` faces, padded to the next power of two; so is the result."""
        size = self._bucket(len(faces))
        padded = np.zeros((size, *faces.shape[1:]), np.uint8)
        padded[: len(faces)] = faces
        with self._lock:
            if size not in self._compiled:
                self._compiled[size] = self._compile(padded)
        return self._compiled[size](padded)

    def _compile(self, faces: np.ndarray) -> Callable[[np.ndarray], jax.Array]:
        """The program for so many faces uint8 [N, S, S, C], to log-probabilities [N, K]."""
        sharding = mesh_lib.by_batch(self._mesh)
        if for_few(len(faces)):
            program = self._few.lower(jax.device_put(faces, sharding)).compile()
            return lambda images: program(jax.device_put(images, sharding))
        # The program also sums up how right it is, which is of no use here.
        unknown = (np.zeros(len(faces), np.int32), np.zeros(len(faces), bool))
        placed, *unknown = jax.device_put((faces, *unknown), sharding)
        full = self._many.lower(self._variables, placed, *unknown).compile()
        return lambda images: full(self._variables, jax.device_put(images, sharding), *unknown)[0]

    def _bucket(self, n: int) -> int:
        """The batch that is compiled for n faces: a power of two that the devices can share."""
        size = 1 << (n - 1).bit_length()
        return -(-size // self._mesh.size) * self._mesh.size
