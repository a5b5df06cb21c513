"""Images that are wrong by themselves, and classes that are out of balance."""

from collections.abc import Iterator

import numpy as np

from emotion_jax.evaluation.doctor.findings import BLANK, BROKEN, IMBALANCE, OUTLIER, Finding
from emotion_jax.evaluation.doctor.survey import Survey

BLANK_STD = 3.0  # grey levels of 255: a compressed plain area has less, the dullest photo 10
FAR = 4.5  # robust standard deviations
FEWEST = 20  # images: of fewer nothing can be said
RARE = 0.2  # of the largest class


def broken(survey: Survey) -> list[Finding]:
    """A ``broken`` finding for everything that is no image, with the reason."""
    return [Finding(BROKEN, problem.path, "", problem.reason) for problem in survey.problems]


def is_blank(survey: Survey) -> np.ndarray:
    """Images without contrast: bool [n]."""
    return survey.std < BLANK_STD


def blank(survey: Survey) -> list[Finding]:
    """A ``blank`` finding for every image without contrast."""
    return [
        Finding(
            BLANK,
            survey.paths[i],
            "",
            f"grey {survey.mean[i]:.0f} of 255 all over (standard deviation {survey.std[i]:.1f})",
        )
        for i in np.flatnonzero(is_blank(survey))
    ]


def outliers(survey: Survey) -> list[Finding]:
    """An ``outlier`` finding for every image of unusual size, shape, brightness or contrast.

    Unusual: more than 4.5 robust standard deviations (1.4826 median absolute deviations; Iglewicz
    and Hoaglin 1993) from the median of all images that are not blank, and also so far that one
    sees it, for where all images agree any difference is many deviations. The farthest come first.
    """
    looked = np.flatnonzero(~is_blank(survey))
    if len(looked) < FEWEST:
        return []
    width, height = survey.size[looked].T.astype(np.float64)
    median = f"{np.median(width):.0f} x {np.median(height):.0f}"
    measures = [  # values, smallest difference that counts, what to say
        (np.log(width * height), np.log(2.0), "small", "large"),
        (np.log(width / height), np.log(1.5), "narrow", "wide"),
        (survey.mean[looked], 40.0, "dark", "bright"),
        (np.log(survey.std[looked]), np.log(2.0), "low contrast", "high contrast"),
    ]
    reasons: dict[int, list[str]] = {}
    excess = np.zeros(len(looked))
    for values, least, low, high in measures:
        off = values - np.median(values)
        limit = max(FAR * 1.4826 * float(np.median(np.abs(off))), least)
        excess = np.maximum(excess, np.abs(off) / limit)
        for i in np.flatnonzero(np.abs(off) > limit).tolist():
            reasons.setdefault(i, []).append(high if off[i] > 0 else low)
    middle = f"{median}, {np.median(survey.mean[looked]):.0f}, {np.median(survey.std[looked]):.0f}"
    return [
        Finding(
            OUTLIER,
            survey.paths[looked[i]],
            "",
            f"{' and '.join(reasons[i])}: {width[i]:.0f} x {height[i]:.0f} pixels, mean "
            f"{survey.mean[looked[i]]:.0f}, standard deviation {survey.std[looked[i]]:.0f} "
            f"(median {middle})",
        )
        for i in sorted(reasons, key=lambda i: (-excess[i], i))
    ]


def counts(survey: Survey) -> np.ndarray:
    """Readable images by split and class: int64 [splits, classes]."""
    tree = survey.tree
    table = np.zeros((len(tree.splits), len(tree.classes)), np.int64)
    np.add.at(table, (survey.split, survey.label), 1)
    return table


def imbalance(survey: Survey) -> list[Finding]:
    """An ``imbalance`` finding for every rare, empty, missing or lonely class of a split.

    Rare: fewer than a fifth of the images of the split's largest class.
    """
    tree, table = survey.tree, counts(survey)
    return [
        Finding(IMBALANCE, _folder(tree.splits[split], tree.classes[label]), related, detail)
        for split, row in enumerate(table)
        for label, related, detail in _imbalance(survey, table, split, row)
    ]


def _imbalance(
    survey: Survey, table: np.ndarray, split: int, row: np.ndarray
) -> Iterator[tuple[int, str, str]]:
    tree = survey.tree
    largest = int(row.argmax())
    related = _folder(tree.splits[split], tree.classes[largest])
    for label, n in enumerate(row.tolist()):
        elsewhere = [tree.splits[s] for s in np.flatnonzero(table[:, label]) if s != split]
        if n == 0 and tree.sizes[split, label] >= 0:
            yield label, "", "no readable image in this class folder"
        elif n == 0 and elsewhere:
            yield label, _folder(elsewhere[0], tree.classes[label]), "a class that this split lacks"
        elif n and n < RARE * row[largest]:
            share = f"{n / row[largest]:.1%} of the largest class ({row[largest]:,})"
            yield label, related, f"{n:,} images, {share}"
    if split == 0 and np.count_nonzero(row) == 1:
        yield largest, "", "the only class with images; a classifier needs two"


def _folder(split: str, name: str) -> str:
    return f"{split}/{name}" if split else name
