"""Keras on TensorFlow: as it compiles by default, or one of its two ways by name."""

import os
import time
from typing import Any

os.environ.setdefault("KERAS_BACKEND", "tensorflow")

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from emotion_jax.benchmark.network import Network

# How keras.Model.compile is told to build the step: by XLA, or by TensorFlow's own kernels.
JIT = {"default": "auto", "no_jit": False}


def build(network: Network) -> keras.Model:
    """The network with its parameters; uint8 [N, H, W, C] to logits [N, K]."""
    side = network.image_size
    inputs = keras.Input((side, side, network.channels), dtype="uint8")
    mean, std = (np.asarray(v, np.float32) for v in (network.mean, network.std))
    x = layers.Rescaling(1.0 / (255.0 * std), -mean / std)(inputs)
    trained: list[layers.Layer] = []

    def add(layer: layers.Layer) -> Any:
        trained.append(layer)
        return layer(x)

    for block in network.convolution_widths:
        for width in block:
            x = add(layers.Conv2D(width, 3, padding="same", use_bias=False))
            x = layers.ReLU()(add(_norm()))
        x = layers.Dropout(network.dropout)(layers.MaxPooling2D()(x))
    x = layers.Flatten()(x)
    for units in network.dense:
        x = add(layers.Dense(units, use_bias=False))
        x = layers.ReLU()(add(_norm()))
        x = layers.Dropout(network.dense_dropout)(x)
    x = add(layers.Dense(network.classes))
    for layer, values in zip(trained, network.layers, strict=True):
        order = ("kernel", "scale", "bias", "mean", "var")
        layer.set_weights([values[key] for key in order if key in values])
    return keras.Model(inputs, x)


def _norm() -> layers.Layer:
    return layers.BatchNormalization(momentum=0.9, epsilon=1e-5)


class Contender:
    """See ``emotion_jax.benchmark.worker``; ``variant`` is a key of ``JIT``."""

    def __init__(self, network: Network, variant: str, threads: int) -> None:
        del threads  # TF_NUM_INTRAOP_THREADS says it
        if network.platform != "gpu" and tf.config.list_physical_devices("GPU"):
            tf.config.set_visible_devices([], "GPU")
        keras.utils.set_random_seed(0)
        self._network = network
        self._model = build(network)
        self._model.compile(
            optimizer=keras.optimizers.Adam(network.learning_rate),
            loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            jit_compile=JIT[variant],
        )
        jit = self._model.jit_compile
        self._train = tf.function(lambda x, y: self._model.train_step((x, y)), jit_compile=jit)
        self._predict = tf.function(lambda x: self._model(x, training=False), jit_compile=jit)
        self._batches: dict[int, tuple[Any, Any]] = {}

    def describe(self) -> dict[str, Any]:
        """What it is and runs on."""
        gpus = tf.config.get_visible_devices("GPU")
        return {
            "version": f"{keras.__version__} on TensorFlow {tf.__version__}",
            "device": "gpu" if gpus else "cpu",
            "parameters": sum(int(np.prod(w.shape)) for w in self._model.trainable_weights),
            "jit_compile": bool(self._model.jit_compile),
        }

    def logits(self, images: np.ndarray) -> np.ndarray:
        """uint8 [N, H, W, C] to float32 [N, K]."""
        return self._predict(tf.constant(images)).numpy()

    def train(self, batch: int, steps: int) -> float:
        """Seconds of that many steps."""
        images, labels = self._batch(batch)
        began = time.perf_counter()
        for _ in range(steps):
            logs = self._train(images, labels)
        float(logs["loss"])
        return time.perf_counter() - began

    def evaluate(self, batch: int, steps: int) -> float:
        """Seconds of that many batches."""
        images, _ = self._batch(batch)
        began = time.perf_counter()
        for _ in range(steps):
            logits = self._predict(images)
        logits.numpy()
        return time.perf_counter() - began

    def _batch(self, batch: int) -> tuple[Any, Any]:
        if batch not in self._batches:
            images, labels = self._network.sample(batch)
            self._batches[batch] = tf.constant(images), tf.constant(labels)
        return self._batches[batch]
