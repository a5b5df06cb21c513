"""Flax Linen modules, and nothing else."""

from collections.abc import Callable

from flax import linen as nn

from emotion_jax.config import ModelSettings
from emotion_jax.errors import UserError, choose
from emotion_jax.models.cnn import CNN

# A backbone takes (classes, settings, mean, std), maps images [N, H, W, C] to logits [N, classes].
MODELS: dict[str, Callable[..., nn.Module]] = {
    "cnn": CNN,
}


def build(
    settings: ModelSettings,
    classes: int,
    image_size: int,
    mean: tuple[float, ...],
    std: tuple[float, ...],
) -> nn.Module:
    """The module that ``settings`` name.

    Raises:
      UserError: there is no such backbone, or it cannot take images of this size.
    """
    backbone = choose(MODELS, settings.name, "model.name")
    if image_size >> len(settings.widths) < 1:
        raise UserError(
            f"model.widths: {len(settings.widths)} blocks halve {image_size} pixels to nothing; "
            "use fewer blocks or a larger data.image_size."
        )
    return backbone(classes=classes, settings=settings, mean=mean, std=std)
