"""Flax Linen modules, and nothing else."""

from collections.abc import Callable, Iterable

from flax import linen as nn

from emotion_jax.config import ModelSettings
from emotion_jax.errors import UserError, choose
from emotion_jax.models.cnn import CNN
from emotion_jax.models.fernet import FerNet
from emotion_jax.models.mini_xception import MiniXception
from emotion_jax.models.resnet import ResNet
from emotion_jax.models.vgg import VGG

# A backbone takes (classes, settings, mean, std), maps images [N, H, W, C] to logits [N, classes].
MODELS: dict[str, Callable[..., nn.Module]] = {
    "cnn": CNN,
    "vgg": VGG,
    "resnet": ResNet,
    "mini_xception": MiniXception,
    "fernet": FerNet,
}
HALVED_BY_EVERY_WIDTH = ("cnn", "vgg")  # the others halve between widths


def last_layer(params: Iterable[str]) -> str:
    """Name of the layer that makes the logits, the last dense one of a backbone's parameters."""
    dense = (name for name in params if name.startswith("Dense_"))
    return max(dense, key=lambda name: int(name.removeprefix("Dense_")))


def smallest(settings: ModelSettings) -> int:
    """Side of the smallest images that the network can take, pixels."""
    return 2 ** (len(settings.widths) - (settings.name not in HALVED_BY_EVERY_WIDTH))


def build(
    settings: ModelSettings,
    classes: int,
    image_size: int,
    mean: tuple[float, ...],
    std: tuple[float, ...],
) -> nn.Module:
    """The module that ``settings`` name.

    Raises:
      UserError: there is no such backbone, it cannot take images of this size, or its widths do
        not fit together.
    """
    backbone = choose(MODELS, settings.name, "model.name")
    if image_size < smallest(settings):
        raise UserError(
            f"model.widths: {len(settings.widths)} blocks halve {image_size} pixels to nothing; "
            "use fewer blocks or a larger data.image_size."
        )
    if settings.name in ("fernet", "mini_xception") and len(settings.widths) < 2:
        raise UserError(
            f"model.widths: {settings.name} needs two or more, of its stem and of each stage."
        )
    if settings.name == "mini_xception" and list(settings.widths) != sorted(settings.widths):
        raise UserError(
            "model.widths: those of mini_xception must not fall, as its shortcuts widen."
        )
    return backbone(classes=classes, settings=settings, mean=mean, std=std)
