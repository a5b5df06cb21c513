"""The network that is compared, told without a framework: its shape and its parameters."""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from emotion_jax.config import Config
from emotion_jax.errors import UserError

SAMPLE = 16  # images whose logits all frameworks must agree on
Arrays = Mapping[str, np.ndarray]
TOLERANCE = 1e-3  # of the largest logit; float32 sums in another order differ by far less


@dataclass(frozen=True)
class Network:
    """What a peer builds its model from. See ``emotion_jax.models.cnn.CNN``.

    Attributes:
      widths, convolutions, dense, dropout, dense_dropout: as in the model's settings.
      classes, image_size, channels: of the data.
      mean, std: by channel, in units of [0, 1].
      learning_rate: of Adam.
      platform: where ours runs: "cpu", "gpu" or "tpu".
      layers: those with parameters in the order in which they are applied, float32: convolutions
        (kernel [3, 3, C, K]), BatchNorms (scale, bias, mean, var [K]), dense ones (kernel [F, K];
        the last one also has a bias [K]).
    """

    widths: tuple[int, ...]
    convolutions: int
    dense: tuple[int, ...]
    dropout: float
    dense_dropout: float
    classes: int
    image_size: int
    channels: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    learning_rate: float
    platform: str
    layers: tuple[Arrays, ...]

    @property
    def parameters(self) -> int:
        """How many numbers are trained."""
        trained = ("kernel", "scale", "bias")
        return sum(layer[name].size for layer in self.layers for name in trained if name in layer)

    @property
    def convolution_widths(self) -> tuple[tuple[int, ...], ...]:
        """Output channels of each convolution, by block."""
        return tuple((width,) * self.convolutions for width in self.widths)

    def sample(self, batch: int) -> tuple[np.ndarray, np.ndarray]:
        """Images uint8 [batch, H, W, C] and labels int32 [batch]; the same for everyone."""
        rng = np.random.default_rng(0)
        shape = (batch, self.image_size, self.image_size, self.channels)
        images = rng.integers(0, 256, shape, dtype=np.uint8)
        return images, rng.integers(0, self.classes, batch, dtype=np.int32)


def of(
    config: Config,
    classes: int,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    module: nn.Module,
    variables: Mapping[str, Any],
    platform: str,
) -> Network:
    """The network of ``config``, which ``module`` is, with its params and batch_stats."""
    model = config.model
    size, channels = config.data.image_size, config.data.channels
    return Network(
        widths=model.widths,
        convolutions=model.convolutions,
        dense=model.dense,
        dropout=model.dropout,
        dense_dropout=model.dense_dropout,
        classes=classes,
        image_size=size,
        channels=channels,
        mean=mean,
        std=std,
        learning_rate=config.training.learning_rate,
        platform=platform,
        layers=_layers(module, variables, (1, size, size, channels)),
    )


def _layers(
    module: nn.Module, variables: Mapping[str, Any], shape: tuple[int, ...]
) -> tuple[Arrays, ...]:
    """The arrays of each submodule that has some, in the order of their calls."""
    layers: list[Arrays] = []

    def note(call: Callable[..., Any], args: Any, kwargs: Any, context: Any) -> Any:
        if context.method_name == "__call__" and context.module.path:
            arrays: dict[str, np.ndarray] = {}
            for collection in variables.values():
                node: Any = collection
                for name in context.module.path:
                    node = node.get(name, {})
                arrays |= {k: np.asarray(a) for k, a in node.items() if not hasattr(a, "items")}
            layers.extend([arrays] if arrays else [])
        return call(*args, **kwargs)

    with nn.intercept_methods(note):
        jax.eval_shape(module.apply, variables, jnp.zeros(shape, jnp.uint8))
    return tuple(layers)


def save(network: Network, folder: Path) -> None:
    """Write network.json and network.npz."""
    shape = {key: value for key, value in asdict(network).items() if key != "layers"}
    (folder / "network.json").write_text(json.dumps(shape))
    arrays: dict[str, Any] = {
        f"{number}/{name}": array
        for number, layer in enumerate(network.layers)
        for name, array in layer.items()
    }
    np.savez(folder / "network.npz", **arrays)


def load(folder: Path) -> Network:
    """Read what ``save`` wrote."""
    shape = json.loads((folder / "network.json").read_text())
    values: dict[str, Any] = {
        key: tuple(v) if isinstance(v, list) else v for key, v in shape.items()
    }
    layers: dict[int, dict[str, np.ndarray]] = {}
    with np.load(folder / "network.npz", allow_pickle=False) as arrays:
        for key, array in arrays.items():
            number, name = key.split("/")
            layers.setdefault(int(number), {})[name] = array
    return Network(**values, layers=tuple(layers[number] for number in sorted(layers)))


def check_comparable(config: Config) -> None:
    """Refuse settings that the peers do not build.

    Raises:
      UserError: names the setting.
    """
    training = config.training
    wants: dict[str, tuple[Any, tuple[Any, ...]]] = {
        "model.name": (config.model.name, ("cnn",)),
        "model.dtype": (config.model.dtype, ("float32",)),
        "training.optimizer": (training.optimizer, ("adam", "adamw")),
        "training.weight_decay": (training.weight_decay, (0.0,)),
        "training.clip_norm": (training.clip_norm, (0.0,)),
        "training.label_smoothing": (training.label_smoothing, (0.0,)),
    }
    for name, (value, allowed) in wants.items():
        if value not in allowed:
            raise UserError(
                f"{name} is {value}, but the peers are built with {allowed[0]}; use "
                f"--{name} {allowed[0]} or leave out --peers."
            )
