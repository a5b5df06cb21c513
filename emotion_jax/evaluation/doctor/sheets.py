"""Contact sheets: what was found, to look at."""

import textwrap
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import FuncFormatter

from emotion_jax.data.preprocess import BadImage, Preprocess
from emotion_jax.evaluation.doctor.findings import PAIRED, RANKED, Finding
from emotion_jax.evaluation.doctor.oddities import RARE, counts
from emotion_jax.evaluation.doctor.survey import Survey
from emotion_jax.evaluation.plots import BLUE, INK, MUTED, ORANGE, png

TILES = 40
SIDE = 96  # pixels of an image on a sheet
COLUMNS = {True: 5, False: 8}  # of pairs, of single images
LINE = 15  # characters of a caption's line an image

# The parts of a tile in units of an image's side.
GAP, CAPTION = 0.14, 0.52


def choose(findings: Sequence[Finding], limit: int = TILES) -> list[Finding]:
    """Of one kind the first few, or, where all are worth the same, some from the whole list."""
    if len(findings) <= limit or findings[0].kind in RANKED:
        return list(findings[:limit])
    places = np.linspace(0, len(findings) - 1, limit).round().astype(int)
    return [findings[i] for i in places]


@png
def contact_sheet(root: Path, findings: Sequence[Finding]) -> Figure:
    """The images of findings of one kind, copies beside what they are copies of.

    Args:
      root: of the tree.
      findings: at least one; from ``choose``.

    Returns:
      The PNG file's bytes.
    """
    paired = findings[0].kind in PAIRED
    columns = min(COLUMNS[paired], len(findings))
    rows = -(-len(findings) // columns)
    wide, high = (2.04 if paired else 1) + GAP, 1 + CAPTION
    width, height = columns * wide - GAP, rows * high
    scale = 0.92 if paired else 1.12  # inches an image
    figure = Figure(figsize=(max(width, 2) * scale, height * scale))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, max(width, 2)), ylim=(height, 0))
    axes.set_axis_off()
    for i, finding in enumerate(findings):
        x, y = i % columns * wide, i // columns * high
        shown = [finding.path, finding.related] if paired else [finding.path]
        for k, path in enumerate(shown):
            pixels, left = _pixels(root, path), x + 1.04 * k
            if pixels is None:
                box = Rectangle((left, y), 1, 1, facecolor="#f2f4f7", edgecolor="#d0d5dd")
                axes.add_patch(box)
                text = "\n".join(textwrap.wrap(finding.detail, LINE)[:5])
                middle: dict[str, Any] = {
                    "ha": "center",
                    "va": "center",
                    "color": MUTED,
                    "fontsize": 6,
                }
                axes.text(left + 0.5, y + 0.5, text, **middle)
            else:
                axes.imshow(pixels, extent=(left, left + 1, y + 1, y), interpolation="nearest")
            lines = _caption(finding, path, bool(k))
            axes.text(left, y + 1.03, lines, va="top", fontsize=5.5, color=INK, linespacing=1.25)
    axes.set(xlim=(0, max(width, 2)), ylim=(height, 0), aspect="equal")
    return figure


@png
def balance(survey: Survey) -> Figure:
    """Images by split and class; rare classes stand out.

    Returns:
      The PNG file's bytes.
    """
    table, tree = counts(survey), survey.tree
    figure = Figure(figsize=(9.2, 0.9 + 0.3 * len(tree.classes)), layout="constrained")
    panels = figure.subplots(1, len(tree.splits), squeeze=False, sharey=True)[0]
    names = [_short(name, 18) for name in tree.classes]
    for axes, split, row in zip(panels, tree.splits, table, strict=True):
        rare = row < RARE * row.max()
        axes.barh(names, row, color=np.where(rare, ORANGE, BLUE), height=0.72)
        for place, n in enumerate(row.tolist()):
            axes.annotate(f"{n:,}", (n, place), (4, 0), textcoords="offset points", va="center")
        axes.set(title=f"{split or 'all'}: {row.sum():,} images", xlim=(0, row.max() * 1.18))
        axes.grid(visible=False, axis="y")
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
        axes.locator_params(axis="x", nbins=4)
    panels[0].invert_yaxis()
    return figure


def _pixels(root: Path, path: str) -> np.ndarray | None:
    try:
        return Preprocess(SIDE, 3).decode((root / path).read_bytes(), path)
    except (BadImage, OSError):
        return None


def _caption(finding: Finding, path: str, is_related: bool) -> str:
    """Folder and file name; below the first image of a tile what is special about it."""
    name = PurePosixPath(path)
    lines = [_short(name.parent.as_posix(), 20), _short(name.name, 20)]
    if not is_related:
        lines.append(_short(_remark(finding), 26))
    return "\n".join(lines)


def _remark(finding: Finding) -> str:
    match finding.kind:
        case "mislabel":
            return finding.detail.partition("looks ")[2]
        case "outlier":
            return finding.detail.partition(":")[0]
        case "blank" | "broken":
            return ""
    return finding.detail.partition(", labelled")[0].removeprefix("near-identical, ")


def _short(name: str, limit: int) -> str:
    shown = " ".join(name.encode("utf-8", "replace").decode().split())
    return shown if len(shown) <= limit else f"…{shown[1 - limit :]}"
