"""PyTorch: eager, channels_last, or torch.compile."""

import time
from typing import Any

import numpy as np
import torch
from torch import nn

from emotion_jax.benchmark.network import Arrays, Network


class Normalise(nn.Module):
    """Grey values in [0, 255] to zero mean and unit variance by channel."""

    def __init__(self, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        super().__init__()
        for name, values in (("mean", mean), ("std", std)):
            self.register_buffer(name, torch.tensor(values)[None, :, None, None])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """uint8 [N, C, H, W] to float32."""
        return (x.float() / 255.0 - self.mean) / self.std


def build(network: Network) -> nn.Sequential:
    """The network with its parameters."""
    layers: list[nn.Module] = [Normalise(network.mean, network.std)]
    values = iter(network.layers)
    channels = network.channels
    for block in network.convolution_widths:
        for width in block:
            convolution = nn.Conv2d(channels, width, 3, padding=1, bias=False)
            _fill(convolution.weight, next(values)["kernel"].transpose(3, 2, 0, 1))
            layers += [convolution, _norm(nn.BatchNorm2d(width), next(values)), nn.ReLU()]
            channels = width
        layers += [nn.MaxPool2d(2), nn.Dropout(network.dropout)]
    side = network.image_size >> len(network.widths)
    layers += [nn.Flatten()]
    features = channels * side * side
    for number, units in enumerate(network.dense):
        kernel = next(values)["kernel"]
        if number == 0:  # Flax flattens [H, W, C], torch [C, H, W]
            kernel = _by_channel(kernel, side, channels)
        dense = nn.Linear(features, units, bias=False)
        _fill(dense.weight, kernel.T)
        norm = _norm(nn.BatchNorm1d(units), next(values))
        layers += [dense, norm, nn.ReLU(), nn.Dropout(network.dense_dropout)]
        features = units
    last = next(values)
    logits = nn.Linear(features, network.classes)
    kernel = last["kernel"] if network.dense else _by_channel(last["kernel"], side, channels)
    _fill(logits.weight, kernel.T)
    _fill(logits.bias, last["bias"])
    return nn.Sequential(*layers, logits)


def _by_channel(kernel: np.ndarray, side: int, channels: int) -> np.ndarray:
    by_place = kernel.reshape(side, side, channels, -1)
    return by_place.transpose(2, 0, 1, 3).reshape(kernel.shape)


def _fill(parameter: torch.Tensor, values: np.ndarray) -> None:
    with torch.no_grad():
        parameter.copy_(torch.from_numpy(np.ascontiguousarray(values)))


def _norm(norm: Any, values: Arrays) -> nn.Module:
    _fill(norm.weight, values["scale"])
    _fill(norm.bias, values["bias"])
    _fill(norm.running_mean, values["mean"])
    _fill(norm.running_var, values["var"])
    return norm


class Contender:
    """See ``emotion_jax.benchmark.worker``; ``variant`` is eager, channels_last or compile."""

    def __init__(self, network: Network, variant: str, threads: int) -> None:
        torch.set_num_threads(threads)
        torch.manual_seed(0)
        gpu = network.platform == "gpu" and torch.cuda.is_available()
        self._device = torch.device("cuda" if gpu else "cpu")
        self._network = network
        last = variant == "channels_last"
        self._format = torch.channels_last if last else torch.contiguous_format
        self._module = build(network).to(self._device, memory_format=self._format)
        self._model = torch.compile(self._module) if variant == "compile" else self._module
        parameters = self._module.parameters()
        self._optimizer = torch.optim.Adam(parameters, network.learning_rate, fused=True)
        self._batches: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}

    def describe(self) -> dict[str, Any]:
        """What it is and runs on."""
        gpu = self._device.type == "cuda"
        return {
            "version": torch.__version__,
            "device": torch.cuda.get_device_name() if gpu else "cpu",
            "parameters": sum(p.numel() for p in self._module.parameters()),
        }

    def logits(self, images: np.ndarray) -> np.ndarray:
        """uint8 [N, H, W, C] to float32 [N, K]."""
        self._module.eval()
        with torch.inference_mode():
            return self._module(self._put(images)).cpu().numpy()

    def train(self, batch: int, steps: int) -> float:
        """Seconds of that many steps."""
        self._module.train()
        images, labels = self._batch(batch)
        began = time.perf_counter()
        for _ in range(steps):
            self._optimizer.zero_grad(set_to_none=True)
            loss = nn.functional.cross_entropy(self._model(images), labels)
            loss.backward()
            self._optimizer.step()
        self._wait()
        return time.perf_counter() - began

    def evaluate(self, batch: int, steps: int) -> float:
        """Seconds of that many batches."""
        self._module.eval()
        images, _ = self._batch(batch)
        with torch.inference_mode():
            began = time.perf_counter()
            for _ in range(steps):
                self._model(images)
            self._wait()
            return time.perf_counter() - began

    def _wait(self) -> None:
        if self._device.type == "cuda":
            torch.cuda.synchronize()

    def _put(self, images: np.ndarray) -> torch.Tensor:
        tensor = torch.from_numpy(images.transpose(0, 3, 1, 2).copy()).to(self._device)
        return tensor.contiguous(memory_format=self._format)

    def _batch(self, batch: int) -> tuple[torch.Tensor, torch.Tensor]:
        if batch not in self._batches:
            images, labels = self._network.sample(batch)
            labels_N = torch.from_numpy(labels.astype(np.int64)).to(self._device)
            self._batches[batch] = self._put(images), labels_N
        return self._batches[batch]
