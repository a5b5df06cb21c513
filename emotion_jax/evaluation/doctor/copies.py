"""Images that are there more than once: within a split, across splits, under two labels."""

import itertools
from collections.abc import Iterator

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
    """Findings of the kinds ``leak label_conflict duplicate near_duplicate``; and every leak.

    Of the first an image has at most one line of a kind. The image that it is related to comes
    before it in the order of splits (train first) and paths. Exact copies come first, then by
    likeness.

    Args:
      survey: the images.
      blank: bool [n], those that are like each other without being copies: they are compared by
        their exact pixels alone.
      progress: show a bar.
    """
    contents = _Contents(survey)
    looked = np.flatnonzero(~blank[contents.first])
    pairs = near_pairs(survey.thumbs[contents.first[looked]], progress)
    first: dict[tuple[str, str], Finding] = {}
    leaks = []
    for finding in (*_exact(survey, contents), *_near(survey, contents, pairs, looked)):
        first.setdefault((finding.kind, finding.path), finding)
        leaks += [finding] * (finding.kind == LEAK)
    return list(first.values()), leaks


class _Contents:
    """Images by their pixels.

    Attributes:
      first: int64 [contents], the first image of each, rising.
      splits: of each content, split -> its images in that split, rising.
    """

    def __init__(self, survey: Survey) -> None:
        _, first, inverse = np.unique(survey.hashes, return_index=True, return_inverse=True)
        self.first = np.sort(first)
        place = np.argsort(np.argsort(first))[inverse.reshape(-1)]
        self.splits: list[dict[int, list[int]]] = [{} for _ in first]
        for image, content in enumerate(place.tolist()):
            self.splits[content].setdefault(int(survey.split[image]), []).append(image)


def _exact(survey: Survey, contents: _Contents) -> Iterator[Finding]:
    for splits in contents.splits:
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


def _near(
    survey: Survey, contents: _Contents, pairs: Pairs, looked: np.ndarray
) -> Iterator[Finding]:
    """All pairs, those of the highest correlation first."""
    for k in np.lexsort((pairs.earlier, pairs.later, -pairs.correlation)).tolist():
        two = contents.splits[looked[pairs.later[k]]], contents.splits[looked[pairs.earlier[k]]]
        like = f"near-identical, correlation {pairs.correlation[k]:.3f}"
        like += ", mirrored" if pairs.mirrored[k] else ""
        for image, other in _couples(*two):
            same_split = survey.split[image] == survey.split[other]
            kinds = [NEAR_DUPLICATE if same_split else LEAK]
            kinds += [LABEL_CONFLICT] * bool(survey.label[image] != survey.label[other])
            for kind in kinds:
                yield _finding(survey, kind, image, other, like)


def _couples(a: dict[int, list[int]], b: dict[int, list[int]]) -> Iterator[tuple[int, int]]:
    """Of two contents' images, (later, earlier): one pair in a split, all copies across splits."""
    for (split, here), (other, there) in itertools.product(a.items(), b.items()):
        if split == other:
            yield max(here[0], there[0]), min(here[0], there[0])
        else:
            late, early = (here, there) if split > other else (there, here)
            yield from ((image, early[0]) for image in late)


def _finding(survey: Survey, kind: str, image: int, related: int, detail: str) -> Finding:
    one, other = (survey.tree.classes[survey.label[i]] for i in (image, related))
    if one != other:
        detail += f", labelled {one} and {other}"
    return Finding(kind, survey.paths[image], survey.paths[related], detail)
