"""Facial emotion recognition in JAX."""

from typing import Any

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    # Recognizer takes seconds to import, which "from emotion_jax import errors" need not wait for.
    if name == "Recognizer":
        from emotion_jax.inference.recognizer import Recognizer

        return Recognizer
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
