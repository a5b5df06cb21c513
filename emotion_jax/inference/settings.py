"""What an output of scripts/predict.py was made with, kept beside it: FILE.settings.json."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from emotion_jax.errors import UserError
from emotion_jax.files import write_text_atomic
from emotion_jax.training.trained import Trained

CHECKPOINT = "--checkpoint"
NETWORK = "network"
UNFINISHED = "unfinished"  # the video whose rows are being written


def fingerprint(trained: Trained) -> str:
    """SHA-256 of all that the probabilities depend on, wherever the checkpoint lies.

    The network with its variables and temperature, and how an image becomes its input.
    """
    names = ("image_size", "channels", "mean", "std", "crop")
    about = {name: trained.description.get(name) for name in names}
    # As it is written in the checkpoint: a later version of this program knows more settings.
    about["model"] = (trained.description.get("config") or {}).get("model")
    about |= {"classes": trained.classes, "variables": trained.digest}
    return hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()


def path_of(out: Path) -> Path:
    """Of the settings of an output."""
    return out.with_name(f"{out.name}.settings.json")


def write(out: Path, settings: Mapping[str, Any]) -> None:
    """Keep the settings of an output that is begun.

    Raises:
      UserError: another's file is in their place.
      OSError: they cannot be written.
    """
    _read(out)
    write_text_atomic(path_of(out), json.dumps(settings, indent=2) + "\n")


def is_beside(out: Path) -> bool:
    """Whether an output has settings beside it, so that this program has begun it.

    Raises:
      UserError: another's file is in their place.
    """
    return _read(out) is not None


def unfinished(out: Path) -> tuple[bool, str | None]:
    """Whether it is noted how the last video ended, and the one that a process was stopped within.

    Raises:
      UserError: another's file is in the place of the settings.
    """
    before = _read(out) or {}
    return UNFINISHED in before, before.get(UNFINISHED)


def check(out: Path, settings: Mapping[str, Any]) -> bool:
    """Whether it is known that an output was made with these settings.

    Raises:
      UserError: it was made with others; names the first that differs.
    """
    before = _read(out)
    if before is None:
        return False
    for name in sorted((before.keys() | settings.keys()) - {CHECKPOINT, NETWORK, UNFINISHED}):
        was, now = before.get(name), settings.get(name)
        if was != now:
            raise _differs(out, f"{name} {_plain(was)}, not {_plain(now)}")
    # The same network may lie elsewhere, and a workdir's best step may have changed.
    if before[NETWORK] != settings[NETWORK]:
        was, now = before.get(CHECKPOINT), settings[CHECKPOINT]
        what = f"{CHECKPOINT} {was}, not {now}" if was != now else f"an earlier state of {now}"
        raise _differs(out, what)
    return True


def _read(out: Path) -> dict[str, Any] | None:
    path = path_of(out)
    try:
        settings = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except (ValueError, OSError):
        settings = None
    if not isinstance(settings, dict) or NETWORK not in settings:
        raise UserError(
            f"{path} is not what was written beside {out.name}; move it away or choose another "
            "--out."
        )
    return settings


def _differs(out: Path, what: str) -> UserError:
    return UserError(
        f"{out} was made with {what}; go on with the same settings or choose another --out."
    )


def _plain(value: Any) -> str:
    if isinstance(value, list):
        return " ".join(map(str, value)) or "nothing"
    return str(value)
