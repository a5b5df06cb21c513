"""Every setting: one strict, frozen tree, from defaults <- TOML file <- command line.

A misspelt key, a wrong type or a value out of range is an error that names the setting.
"""

import contextlib
import io
import json
import os
import re
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePath
from typing import Any

import pydantic
import tomli_w
import tyro

from emotion_jax.errors import UserError
from emotion_jax.settings import (
    AugmentSettings,
    Config,
    DataSettings,
    LoggingSettings,
    ModelSettings,
    TrainingSettings,
)

__all__ = [
    "AugmentSettings",
    "Config",
    "DataSettings",
    "LoggingSettings",
    "ModelSettings",
    "TrainingSettings",
    "cache_dir",
    "dumps",
    "flatten",
    "from_mapping",
    "load",
    "parse",
    "unboxed",
]

_SECTIONS = {
    "AugmentSettings": "data.augment.",
    "DataSettings": "data.",
    "ModelSettings": "model.",
    "TrainingSettings": "training.",
    "LoggingSettings": "logging.",
}
_PREFIX = "Value error, "  # of pydantic's, before the message of a validator
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")


def from_mapping(values: Mapping[str, Any], source: str) -> Config:
    """Build a Config from plain nested values.

    Raises:
      UserError: an unknown key, a wrong type or a value out of range; names ``source`` and the key.
    """
    try:
        # By way of JSON, where strict still lets a list be a tuple and a text be a path.
        return Config.model_validate_json(json.dumps(values, default=_plain), strict=True)
    except pydantic.ValidationError as error:
        raise UserError(f"{source}: {_sentence(error)}.") from None


def load(path: Path) -> Config:
    """Read a TOML file.

    Raises:
      UserError: there is no such file, it is no TOML, or it does not hold a valid Config.
    """
    try:
        # Windows' editors begin a file with a byte order mark.
        values = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise UserError(f"Cannot read the config {path}: {error.strerror}.") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"The config {path} is not valid TOML: {error}.") from None
    return from_mapping(values, str(path))


def dumps(config: Config) -> str:
    """The TOML text that ``load`` reads back to an equal Config (None is left out)."""
    return tomli_w.dumps(config.model_dump(mode="json", exclude_none=True))


def parse(
    overrides: Sequence[str], default: Config, prog: str = "", description: str = ""
) -> Config:
    """Apply command-line overrides (``--section.key VALUE``) to ``default``.

    Raises:
      UserError: an override that is not understood.
      SystemExit: ``--help`` was asked for.
    """
    errors = io.StringIO()
    try:
        with contextlib.redirect_stderr(errors):
            return tyro.cli(
                Config,
                prog=prog,
                description=description,
                args=list(overrides),
                default=default,
                use_underscores=True,
                config=(tyro.conf.FlagConversionOff,),
            )
    except SystemExit as stop:
        if not stop.code:
            raise
        raise UserError(unboxed(errors.getvalue())) from None


def unboxed(text: str) -> str:
    """Reduce an error box of tyro's to its first sentence."""
    text = _COLOUR.sub("", text)  # a terminal gets them, whatever stderr is
    # Rules divide title, message and help; where the output is ASCII the title is no part of one.
    has_box = text.startswith("╭")
    lines = [line.strip("│ " if has_box else " ") for line in text.splitlines()]
    parts = re.split(r"\n(?:[╭╰].*|[─-]{3,}(?=\n|$))", "\n".join(["", *lines]))
    bodies = [" ".join(part.split()) for part in parts if part.strip()] or [""]
    message = bodies[0] if has_box or len(bodies) == 1 else bodies[1]
    if invalid := re.search(r"validation error.* for (\w+) (\S+) (.*?) \[type=", message):
        reason = invalid[3].removeprefix(_PREFIX)
        message = f"--{_SECTIONS.get(invalid[1], '')}{invalid[2]}: {reason}"
    return f"{message.rstrip('. ')}. See --help."


def _plain(value: object) -> Any:
    # TOML has dates and times, no setting has: an object is refused wherever it stands.
    return str(value) if isinstance(value, PurePath) else {"date or time": str(value)}


def _sentence(error: pydantic.ValidationError) -> str:
    """The first of pydantic's complaints, on one line."""
    first = error.errors()[0]
    where = ".".join(map(str, first["loc"]))
    if first["type"] == "extra_forbidden":
        return f"{where}: there is no such setting"
    return f"{where}: {first['msg'].removeprefix(_PREFIX)} (got {first['input']!r})"


def flatten(config: Config, exclude_defaults: bool = False) -> dict[str, Any]:
    """Plain values by dotted name, e.g. ``{"training.batch_size": 64, ...}``.

    With ``exclude_defaults``, of the settings that are not the default.
    """

    def walk(prefix: str, node: Any) -> dict[str, Any]:
        if not isinstance(node, dict):
            return {prefix: node}
        return {k: v for key, sub in node.items() for k, v in walk(f"{prefix}.{key}", sub).items()}

    tree = config.model_dump(mode="json", exclude_defaults=exclude_defaults)
    return {k: v for key, sub in tree.items() for k, v in walk(key, sub).items()}


def cache_dir() -> Path:
    """Where derived data is kept: ``EMOTION_JAX_CACHE``, or the user's cache directory.

    Raises:
      UserError: its name is not UTF-8.
    """
    import platformdirs

    from emotion_jax import files

    path = os.environ.get("EMOTION_JAX_CACHE") or platformdirs.user_cache_dir("emotion_jax")
    try:
        # A notebook or a Dockerfile leaves ~ as it is.
        return files.utf8(Path(os.path.expanduser(path)))
    except UserError as error:
        raise UserError(f"EMOTION_JAX_CACHE: {error}") from None
