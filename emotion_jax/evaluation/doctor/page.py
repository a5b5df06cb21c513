"""The doctor's report: one HTML page that needs nothing else, and the same as text."""

import base64
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from emotion_jax.evaluation import templates
from emotion_jax.evaluation.doctor import summary
from emotion_jax.evaluation.doctor.advice import ADVICE
from emotion_jax.evaluation.doctor.findings import (
    IMBALANCE,
    KINDS,
    LABEL_CONFLICT,
    MISLABEL,
    PAIRED,
    RANKED,
    Finding,
)
from emotion_jax.evaluation.doctor.sheets import TILES

if TYPE_CHECKING:
    from emotion_jax.evaluation.doctor.examine import Diagnosis

ROWS = 20
RELATED = {LABEL_CONFLICT: "Same image", IMBALANCE: "Compared with"}  # heads of a column


def text(diagnosis: "Diagnosis") -> str:
    """A line a kind, for a terminal; no line end at the end."""
    survey = diagnosis.survey
    lines = [f"{survey.tree.root}: {summary.headline(survey)}", ""]
    for kind in KINDS:
        lines.append(f"{kind:15}{_said(diagnosis, kind)}")
    if diagnosis.notes:
        lines += ["", *diagnosis.notes]
    if diagnosis.score is not None:
        lines += ["", score_text(diagnosis.score)]
    return "\n".join(lines)


def score_text(score: Mapping[str, Any]) -> str:
    """A sentence on ``mislabels.score``."""
    if not score["precision"]:
        share = f"{score['random']:.1%} of all {score['n']:,} images"
        return f"FER+'s annotators contradict the label of {share}; none is among the mislabels."
    shares = ", ".join(f"{share:.1%} of the first {k:,}" for k, share in score["precision"].items())
    return (
        f"FER+'s annotators contradict the label of {shares} mislabels; "
        f"of {score['random']:.1%} of all {score['n']:,} images."
    )


def html(diagnosis: "Diagnosis", pictures: Mapping[str, bytes]) -> str:
    """The page: pictures and style are inside, and there is no script.

    Args:
      diagnosis: what was found.
      pictures: kind -> PNG bytes.
    """
    environment = templates.environment(Path(__file__).parent)
    survey = diagnosis.survey
    return environment.get_template("report.html.j2").render(
        root=survey.tree.root.resolve().name,
        headline=summary.headline(survey),
        sections=[_section(diagnosis, kind, pictures.get(kind)) for kind in KINDS],
        notes=diagnosis.notes,
        score=None if diagnosis.score is None else score_text(diagnosis.score),
    )


def _section(diagnosis: "Diagnosis", kind: str, picture: bytes | None) -> dict[str, Any]:
    some = diagnosis.findings.get(kind)
    advice = ADVICE[kind]
    return {
        "kind": kind,
        "advice": advice,
        "level": advice.level if some else "skipped" if some is None else "good",
        "count": len(some or ()),
        "summary": _said(diagnosis, kind),
        "rows": (some or [])[:ROWS],
        "related": RELATED.get(kind, "Copy of" if kind in PAIRED else None),
        "picture": None if picture is None else base64.b64encode(picture).decode(),
        "caption": _caption(kind, len(some or ())),
    }


def _caption(kind: str, count: int) -> str:
    if kind == IMBALANCE:
        return "Readable images of each class, by split; classes that are rare are orange."
    shown = min(count, TILES)
    if shown == count:
        which = "All of them"
    else:
        which = f"The first {shown}" if kind in RANKED else f"{shown} of {count:,}, evenly chosen"
    return f"{which}{': each pair is a copy and its original' if kind in PAIRED else ''}."


def _said(diagnosis: "Diagnosis", kind: str) -> str:
    some: list[Finding] | None = diagnosis.findings.get(kind)
    if some is None:
        return "skipped: needs --predictions, a folder that cross_validate.py has written"
    said = summary.line(diagnosis.survey, kind, some)
    if kind == MISLABEL and some:
        said += ", the likeliest first"
    return said
