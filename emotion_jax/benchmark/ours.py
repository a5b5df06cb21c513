"""Our own contender: the training step and the network as training and evaluation use them."""

import resource
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import flax
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding

from emotion_jax import config as config_lib
from emotion_jax import models
from emotion_jax.benchmark import chips, end_to_end
from emotion_jax.benchmark import network as network_lib
from emotion_jax.data import dataset
from emotion_jax.data.split import normalisation
from emotion_jax.inference import network as inference
from emotion_jax.models import lowering
from emotion_jax.training import mesh as mesh_lib
from emotion_jax.training import optimizer, state, step


@dataclass
class Program:
    """A compiled training step with what it is fed; ``state`` moves on with every step."""

    step: Callable[..., Any]
    state: state.TrainState
    fed: Any
    compile_seconds: float
    bytes: float


class Contender:
    """See ``emotion_jax.benchmark.worker``. Reads config.toml in ``folder``, writes the network."""

    def __init__(self, folder: Path) -> None:
        self._config = config = config_lib.load(folder / "config.toml")
        self._data = data = dataset.load(config.data)
        self._mesh = mesh_lib.make()
        mesh_lib.check_batch(self._mesh, config.training.batch_size)
        self._classes, size = len(data.classes), config.data.image_size
        mean, std = normalisation(data.train)
        self._module = models.build(config.model, self._classes, size, mean, std)
        rate = optimizer.schedule(config.training, steps_per_epoch=1000)
        self._tx = optimizer.optimizer(config.training, rate)
        self._variables = self._new_state().variables
        platform = jax.default_backend()
        about = network_lib.of(
            config, self._classes, mean, std, self._module, self._variables, platform
        )
        network_lib.save(about, folder)
        self._network = about
        self._programs: dict[int, Program] = {}
        self._predict = jax.jit(self._module.apply)
        constants = jax.tree.map(np.asarray, self._variables)
        self._predict_few = jax.jit(inference.frozen(self._module, constants))

    def describe(self) -> dict[str, Any]:
        """What it is and runs on."""
        device = jax.devices()[0]
        chip = chips.of(device)
        name = str(device.device_kind)
        return {
            "version": f"jax {jax.__version__}, flax {flax.__version__}",
            "device": name if jax.device_count() == 1 else f"{jax.device_count()} x {name}",
            "platform": self._network.platform,
            "parameters": sum(a.size for a in jax.tree.leaves(self._variables["params"])),
            "peak_flops_per_second": chip and self._mesh.size * chip.peak(self._config.model.dtype),
            "devices": self._mesh.size,
        }

    def flops_per_image(self) -> float:
        """Of the logits, as lax counts, however they are lowered."""
        image = np.zeros((1, *self._shape), np.uint8)
        with lowering.plain():
            plain = jax.jit(lambda *args: self._module.apply(*args)).lower(self._variables, image)
            return _entry(plain.cost_analysis(), "flops")

    def logits(self, images: np.ndarray) -> np.ndarray:
        """uint8 [N, H, W, C] to float32 [N, K]."""
        return np.asarray(self._inference(len(images))(self._put(images)))

    def train(self, batch: int, steps: int) -> float:
        """Seconds of that many steps."""
        program = self._program(batch)
        began = time.perf_counter()
        for _ in range(steps):
            program.state, _ = program.step(program.state, program.fed, self._key)
        jax.block_until_ready(program.state)
        return time.perf_counter() - began

    def evaluate(self, batch: int, steps: int) -> float:
        """Seconds of that many batches."""
        images, predict = self._put(self._network.sample(batch)[0]), self._inference(batch)
        began = time.perf_counter()
        for _ in range(steps):
            logits = predict(images)
        jax.block_until_ready(logits)
        return time.perf_counter() - began

    def matmul(self, size: int, steps: int) -> float:
        """Seconds of that many products of two square matrices on one device."""
        dtype = self._config.model.dtype
        a, b = (jax.random.normal(jax.random.key(i), (size, size), dtype) for i in (0, 1))
        product = jax.jit(jnp.matmul)
        jax.block_until_ready(product(a, b))
        began = time.perf_counter()
        for _ in range(steps):
            c = product(a, b)
        jax.block_until_ready(c)
        return time.perf_counter() - began

    def program(self, batch: int) -> dict[str, Any]:
        """The compiled step's figures, over all devices.

        ``flops`` are those of the plain lax program before XLA changes it: what the network asks
        for, however it is lowered. ``bytes`` are those that the compiled program accesses.
        """
        program = self._program(batch)
        with lowering.plain():
            plain = self._jitted().lower(program.state, program.fed, self._key).cost_analysis()
        return {
            "compile_seconds": program.compile_seconds,
            "flops": _entry(plain, "flops"),
            "bytes": program.bytes,
        }

    def memory(self) -> int:
        """The most that was in use so far: of the fullest device, or of this process; bytes."""
        peaks = [(d.memory_stats() or {}).get("peak_bytes_in_use") for d in jax.local_devices()]
        known = [peak for peak in peaks if peak is not None]
        if known:
            return max(known)
        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit

    def end_to_end(self, rounds: int, seconds: float) -> dict[str, list[float]]:
        """See ``end_to_end.measure``."""
        batch = self._config.training.batch_size
        self.train(batch, 1)
        # Two steps at least: one alone would be all overhead on an accelerator.
        step_seconds = self.train(batch, 2) / 2
        steps = max(4, round(seconds / step_seconds) + 1)
        return end_to_end.measure(
            self._config, self._data, lambda n: self.train(batch, n), steps, rounds
        )

    @property
    def _shape(self) -> tuple[int, int, int]:
        size = self._config.data.image_size
        return size, size, self._config.data.channels

    @property
    def _key(self) -> jax.Array:
        if not hasattr(self, "_run_key"):
            self._run_key = state.make_key(self._config.training.seed, self._mesh)
        return self._run_key

    def _inference(self, images: int) -> Callable[[jax.Array], jax.Array]:
        """The program of ``inference.network`` for so few images, of an evaluation for more."""
        if inference.for_few(images):
            return self._predict_few
        return partial(self._predict, self._variables)

    def _put(self, array: np.ndarray) -> jax.Array:
        return mesh_lib.put(array, self._sharding(len(array)))

    def _sharding(self, batch: int) -> NamedSharding:
        shared = batch % self._mesh.size == 0
        return mesh_lib.by_batch(self._mesh) if shared else mesh_lib.replicated(self._mesh)

    def _new_state(self) -> state.TrainState:
        seed = self._config.training.seed
        return state.create(self._module, self._tx, self._shape, self._classes, seed, self._mesh)

    def _jitted(self) -> Any:
        weights = np.ones(self._classes, np.float32)
        training = self._config.training
        return step.make_train_step(
            self._module, self._tx, training, weights, lambda fed, key: fed, self._mesh
        )

    def _program(self, batch: int) -> Program:
        if batch not in self._programs:
            images, labels = self._network.sample(batch)
            fed, before = (self._put(images), self._put(labels)), self._new_state()
            settings: Any = jax.config
            caching = settings.jax_enable_compilation_cache
            jax.config.update("jax_enable_compilation_cache", False)
            began = time.perf_counter()
            compiled = self._jitted().lower(before, fed, self._key).compile()
            seconds = time.perf_counter() - began
            jax.config.update("jax_enable_compilation_cache", caching)
            accessed = _entry(compiled.cost_analysis(), "bytes accessed") * self._mesh.size
            self._programs[batch] = Program(compiled, before, fed, seconds, accessed)
        return self._programs[batch]


def _entry(analysis: Any, name: str) -> float:
    """Of XLA's cost analysis; NaN where the backend tells nothing."""
    return float((analysis or {}).get(name, float("nan")))
