"""Images that grow while a network trains: small ones are cheap and teach it most of it.

Progressive resizing, as in Tan & Le 2021 (EfficientNetV2, arXiv:2104.00298).
"""

from emotion_jax.config import Config
from emotion_jax.errors import UserError
from emotion_jax.models import HALVED_BY_EVERY_WIDTH, smallest

QUANTUM = 8  # pixels; each size is a program of its own to compile


def side(config: Config, epoch: int) -> int | None:
    """Side of the images of an epoch (from 0), pixels; None: as they are.

    Raises:
      UserError: the network takes images of one size alone, or none so small, or they would have to
        shrink.
    """
    start, size = config.training.start_size, config.data.image_size
    if not start or epoch >= config.training.grow_epochs:
        return None
    if config.model.name in HALVED_BY_EVERY_WIDTH:
        raise UserError(
            f"training.start_size: {config.model.name} takes images of one size alone; use 0, or "
            "a network that ends with a mean over the image."
        )
    if start > size:
        raise UserError(
            f"training.start_size: {start} is larger than data.image_size, {size}; use a smaller."
        )
    if start < smallest(config.model):
        raise UserError(
            f"training.start_size: {len(config.model.widths)} blocks halve {start} pixels to "
            f"nothing; use {smallest(config.model)} or more."
        )
    steps = -(-(size - start) // QUANTUM)
    grown = start + QUANTUM * int(steps * epoch / config.training.grow_epochs)
    return grown if grown < size else None
