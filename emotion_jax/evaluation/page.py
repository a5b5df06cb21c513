"""The page of an evaluation, from ``report.html.j2``."""

import base64
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from emotion_jax.evaluation import templates


def html(
    report: Mapping[str, Any], wrong: Sequence[Mapping[str, Any]], figures: Mapping[str, bytes]
) -> str:
    """One page that needs nothing else: figures and style are inside, and there is no script.

    Args:
      report: as for ``report.write``; ``checkpoint`` and ``protocol`` may have any keys.
      wrong: from ``report.mistakes``.
      figures: PNG bytes of ``confusion_matrix``, ``reliability`` and what else there is.
    """
    environment = templates.environment(Path(__file__).parent)
    environment.filters |= {"percent": _percent, "show": _show, "worst": _worst}
    checkpoint = dict(report["checkpoint"])
    config = checkpoint.pop("config", None)
    per_class = report["per_class"]
    return environment.get_template("report.html.j2").render(
        report=report,
        protocol=report["protocol"],
        checkpoint=checkpoint,
        config=_config_text(config),
        largest=max(per_class, key=lambda name: per_class[name]["support"]),
        present=sum(row["support"] > 0 for row in per_class.values()),
        uniform_loss=math.log(len(report["classes"])),
        mistakes=wrong,
        figures={k: base64.b64encode(png).decode() for k, png in figures.items()},
    )


def _percent(share: float | None, digits: int = 1) -> str:
    return "–" if share is None else f"{100 * share:.{digits}f}%"


def _worst(values: Mapping[str, float]) -> str:
    name = max(values, key=lambda key: values[key])
    return f"{name} {_percent(values[name])}"


def _show(value: Any) -> str:
    """A plain value for a reader."""
    match value:
        case None:
            return "none"
        case bool():
            return "yes" if value else "no"
        case float():
            return f"{value:.6g}"
        case list() | tuple():
            return ", ".join(map(_show, value)) or "none"
        case dict():
            return ", ".join(f"{k} {_show(v)}" for k, v in _flat(value)) or "none"
        case _:
            return str(value)


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Nested mappings as dotted names."""
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _config_text(config: Any) -> str:
    if not isinstance(config, Mapping):
        return "" if config is None else str(config)
    return "\n".join(
        f"{key} = {json.dumps(value, ensure_ascii=False)}" for key, value in _flat(config)
    )
