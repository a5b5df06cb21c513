"""What the doctor finds: one kind, one path, one line."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from emotion_jax import files

BROKEN, BLANK, OUTLIER, IMBALANCE = "broken", "blank", "outlier", "imbalance"
DUPLICATE, NEAR_DUPLICATE = "duplicate", "near_duplicate"
LEAK, LABEL_CONFLICT, MISLABEL = "leak", "label_conflict", "mislabel"
# In the order in which they are reported: what spoils a result first.
KINDS = (
    LEAK,
    LABEL_CONFLICT,
    MISLABEL,
    DUPLICATE,
    NEAR_DUPLICATE,
    BROKEN,
    BLANK,
    OUTLIER,
    IMBALANCE,
)
RANKED = (MISLABEL, OUTLIER, BROKEN)  # the first matter most
PAIRED = (LEAK, LABEL_CONFLICT, DUPLICATE, NEAR_DUPLICATE)


class Finding(NamedTuple):
    """A line of findings.csv.

    Attributes:
      kind: one of ``KINDS``.
      path: what it is about, below the root: an image, or a class folder for ``imbalance``.
      related: what it is compared with: the image of which ``path`` is a copy; the largest class.
      detail: the reason, for a reader.
    """

    kind: str
    path: str
    related: str
    detail: str


def table(findings: Iterable[NamedTuple], fields: Sequence[str] = Finding._fields) -> str:
    """CSV with LF line ends: the names of the fields, then a line a finding."""
    return files.csv_text([fields, *findings])
