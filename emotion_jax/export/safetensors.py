"""safetensors: the arrays and the description, for programs that build the network themselves."""

from pathlib import Path

from emotion_jax.export import function
from emotion_jax.export.function import Runner
from emotion_jax.training import trained as trained_lib
from emotion_jax.training import weights
from emotion_jax.training.trained import Trained

PARTS = ("",)  # ends of the names of the files
write = weights.write
is_ours = weights.is_weights


def reference(trained: Trained) -> Trained:
    """What the file is compared with: the checkpoint."""
    return trained


def load(path: Path) -> Runner:
    """The network that the file describes, with the arrays that it holds."""
    return function.runner(trained_lib.load(path))
