"""From a folder to findings, and from findings to files."""

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from emotion_jax import files
from emotion_jax.errors import UserError
from emotion_jax.evaluation.doctor import copies, findings, mislabels, oddities, page, sheets
from emotion_jax.evaluation.doctor.findings import IMBALANCE, KINDS, MISLABEL, Finding
from emotion_jax.evaluation.doctor.predictions import Predictions
from emotion_jax.evaluation.doctor.survey import Survey, list_tree, survey

TABLE, PAGE = "findings.csv", "report.html"


@dataclass(frozen=True)
class Diagnosis:
    """What was found.

    Attributes:
      findings: kind -> its findings, for every kind that was looked for.
      leaks: pairs of an image and one like it in an earlier split, more than the one that an image
        has among the findings: from ``copies.find``.
      notes: on the mislabels, for a reader.
      score: of the mislabels against votes, from ``mislabels.score``; None: not asked for.
    """

    survey: Survey
    findings: dict[str, list[Finding]]
    leaks: list[Finding]
    notes: list[str] = field(default_factory=list)
    score: dict[str, Any] | None = None

    @property
    def all(self) -> list[Finding]:
        """Every finding, in the order of ``KINDS``."""
        return [finding for kind in KINDS for finding in self.findings.get(kind, ())]


def examine(
    root: Path,
    predictions: Predictions | None = None,
    votes: Path | None = None,
    workers: int = 0,
    progress: bool = False,
) -> Diagnosis:
    """Look for everything that is wrong with the images below ``root``; nothing is changed.

    Args:
      root: ``<split>/<class>/**`` or ``<class>/**``.
      predictions: of networks that had not seen the images; None: no mislabels.
      votes: FER+ votes to score the mislabels against.
      workers: threads that read; 0 chooses.
      progress: show bars.

    Raises:
      UserError: there are no images, or the predictions or votes do not fit them.
    """
    seen = survey(list_tree(root), workers, progress)
    found: dict[str, list[Finding]] = {kind: [] for kind in KINDS if kind != MISLABEL}
    alike, leaks = copies.find(seen, oddities.is_blank(seen), progress)
    for finding in (
        *oddities.broken(seen),
        *oddities.blank(seen),
        *oddities.outliers(seen),
        *oddities.imbalance(seen),
        *alike,
    ):
        found[finding.kind].append(finding)
    if predictions is None:
        return Diagnosis(seen, found, leaks)
    ranking = mislabels.find(seen, predictions)
    score = None if votes is None else mislabels.score(ranking, votes)
    return Diagnosis(seen, found | {MISLABEL: ranking.findings}, leaks, ranking.notes, score)


def check(out: Path) -> None:
    """Refuse a folder with files that ``write`` would replace or delete, and that it did not write.

    Raises:
      UserError: names the first; or the folder cannot be read.
    """
    names = (TABLE, PAGE, *(f"{kind}.png" for kind in KINDS))
    found = [name for name in names if os.path.lexists(out / name)]
    if found and not _is_ours(out):
        raise UserError(
            f"{out} holds {found[0]} and is no report of inspect_data.py, which would replace it; "
            "choose another --out, or move it away."
        )


def _is_ours(out: Path) -> bool:
    """Whether the table that ``write`` begins with lies there."""
    try:
        with (out / TABLE).open("rb") as file:
            return file.readline() == findings.table([]).encode()
    except (FileNotFoundError, IsADirectoryError):
        return False
    except OSError as error:
        raise UserError(f"Cannot write the report to {out}: {error.strerror or error}.") from None


def write(diagnosis: Diagnosis, out: Path) -> None:
    """Write findings.csv, report.html and a PNG file for each kind of which something was found.

    What an earlier examination has left in the folder is replaced.

    Raises:
      UserError: the folder cannot be written to, or ``check`` refuses it.
    """
    check(out)
    root = diagnosis.survey.tree.root
    pictures = {IMBALANCE: sheets.balance(diagnosis.survey)}
    for kind, some in diagnosis.findings.items():
        if some and kind != IMBALANCE:
            shown = sheets.choose(some)
            pictures[kind] = sheets.contact_sheet(root, shown)
    html = page.html(diagnosis, pictures)
    try:
        out.mkdir(parents=True, exist_ok=True)
        files.write_text_atomic(out / TABLE, findings.table(diagnosis.all))
        for kind in KINDS:  # of an earlier examination
            if kind not in pictures:
                (out / f"{kind}.png").unlink(missing_ok=True)
        for kind, png in pictures.items():
            files.write_bytes_atomic(out / f"{kind}.png", png)
        files.write_text_atomic(out / PAGE, html)
    except OSError as error:
        raise UserError(f"Cannot write the report to {out}: {error.strerror or error}.") from None
