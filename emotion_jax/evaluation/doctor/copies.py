"""Images that are there more than once: within a split, across splits, under two labels."""

from collections.abc import Iterator, Sequence

import numpy as np

from emotion_jax.evaluation.doctor.findings import (
    DUPLICATE,
    LABEL_CONFLICT,
    LEAK,
    NEAR_DUPLICATE,
    Finding,
)
from emotion_jax.evaluation.doctor.near import Pairs, near_pairs
from emotion_jax.evaluation.doctor.survey import Survey

IDENTICAL = "identical pixels"  # how the detail of an exact copy begins


def find(
    survey: Survey, blank: np.ndarray, progress: bool = False
) -> tuple[list[Finding], list[Finding]]:
    """Findings of the kinds ``leak label_conflict duplicate near_duplicate``; and more leaks.

    Of the first an image has at most one line of a kind. The image that it is related to comes
    before it in the order of splits (train first) and paths. Exact copies come first, then by
    likeness. Of the leaks there are enough that an image of train that any other split has one like
    is in one of them, or has the pixels of one that is.

    Args:
      survey: the images.
      blank: bool [n], those that are like each other without being copies: they are compared by
        their exact pixels alone.
      progress: show a bar.
    """
    contents = _contents(survey)
    groups = sorted(images for splits in contents for images in splits.values())
    groups = [images for images in groups if not blank[images[0]]]
    looked = np.array([images[0] for images in groups], np.int64)
    # By split: likeness is not quite symmetric, and what train loses is not to change the order.
    pairs = near_pairs(survey.thumbs[looked], survey.split[looked], progress)
    first: dict[tuple[str, str], Finding] = {}
    leaks = []
    for finding in (*_exact(survey, contents), *_near(survey, groups, pairs)):
        first.setdefault((finding.kind, finding.path), finding)
        leaks += [finding] * (finding.kind == LEAK)
    return list(first.values()), leaks


def _contents(survey: Survey) -> list[dict[int, list[int]]]:
    """Images by their pixels, in the order of the first of each: split -> its images, rising."""
    found: dict[int, dict[int, list[int]]] = {}
    for image, (digest, split) in enumerate(
        zip(survey.hashes.tolist(), survey.split.tolist(), strict=True)
    ):
        found.setdefault(digest, {}).setdefault(split, []).append(image)
    return list(found.values())


def _exact(survey: Survey, contents: Sequence[dict[int, list[int]]]) -> Iterator[Finding]:
    for splits in contents:
        home, *others = splits
        first = splits[home][0]
        for images in splits.values():
            for image in images[1:]:
                yield _finding(survey, DUPLICATE, image, images[0], IDENTICAL)
        for split in others:
            for image in splits[split]:
                yield _finding(survey, LEAK, image, first, IDENTICAL)
        for images in splits.values():
            for image in images:
                if survey.label[image] != survey.label[first]:
                    yield _finding(survey, LABEL_CONFLICT, image, first, IDENTICAL)


def _near(survey: Survey, groups: Sequence[list[int]], pairs: Pairs) -> Iterator[Finding]:
    """Of all pairs of groups of equal images, those of the highest correlation first.

    Within a split one finding of a pair, across splits one of each image of the later group.
    """
    for k in np.lexsort((pairs.earlier, pairs.later, -pairs.correlation)).tolist():
        later, earlier = groups[pairs.later[k]], groups[pairs.earlier[k]]
        if survey.hashes[later[0]] == survey.hashes[earlier[0]]:
            continue
        like = f"near-identical, correlation {pairs.correlation[k]:.3f}"
        like += ", mirrored" if pairs.mirrored[k] else ""
        is_leak = survey.split[later[0]] != survey.split[earlier[0]]
        for image in later if is_leak else later[:1]:
            kinds = [LEAK if is_leak else NEAR_DUPLICATE]
            kinds += [LABEL_CONFLICT] * bool(survey.label[image] != survey.label[earlier[0]])
            for kind in kinds:
                yield _finding(survey, kind, image, earlier[0], like)


def _finding(survey: Survey, kind: str, image: int, related: int, detail: str) -> Finding:
    one, other = (survey.tree.classes[survey.label[i]] for i in (image, related))
    if one != other:
        detail += f", labelled {one} and {other}"
    return Finding(kind, survey.paths[image], survey.paths[related], detail)
