"""What the weights of a run come from, as a checkpoint tells it."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np


class Seen(NamedTuple):
    """What the weights of a run come from.

    Attributes:
      hashes: sorted uint64, of the images that were learnt from or chose a checkpoint.
      complete: whether that is all of them: hashes are of images at the size that a network sees,
        so those of networks of another size cannot be compared.
      validation_unseen: whether no weights have learnt from the validation split, as far as is
        known.
    """

    hashes: np.ndarray
    complete: bool = True
    validation_unseen: bool = True

    @classmethod
    def of(cls, hashes: np.ndarray, description: Mapping[str, Any]) -> "Seen":
        """As a checkpoint tells it; those of earlier versions do not tell all."""
        training = description["config"]["training"]
        alone = not (training.get("init_from") or training.get("teachers"))
        complete = description.get("seen_complete", True)
        return cls(hashes, complete, description.get("validation_unseen", alone))

    def described(self) -> dict[str, bool]:
        """What a checkpoint's description says of it."""
        return {"seen_complete": self.complete, "validation_unseen": self.validation_unseen}
