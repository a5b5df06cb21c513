"""How much was found, in a line a kind."""

from collections import Counter
from collections.abc import Mapping, Sequence

from emotion_jax.errors import listed
from emotion_jax.evaluation.doctor.copies import IDENTICAL
from emotion_jax.evaluation.doctor.findings import (
    BROKEN,
    IMBALANCE,
    LABEL_CONFLICT,
    LEAK,
    Finding,
)
from emotion_jax.evaluation.doctor.survey import Survey

ACROSS = "across splits"


def headline(survey: Survey) -> str:
    """What the data set is."""
    tree = survey.tree
    sizes = Counter(survey.split.tolist())
    parts = [f"{tree.splits[split]} {n:,}" for split, n in sorted(sizes.items())]
    splits = "" if tree.splits == ("",) else f" ({', '.join(parts)})"
    classes = "1 class" if len(tree.classes) == 1 else f"{len(tree.classes)} classes"
    return f"{len(survey):,} images of {classes}{splits}"


def line(survey: Survey, kind: str, findings: Sequence[Finding]) -> str:
    """What was found of one kind."""
    if not findings:
        return "none"
    split = dict(zip(survey.paths, survey.split.tolist(), strict=True))
    places = _placed(survey, Counter(split.get(finding.path) for finding in findings))
    same = [finding for finding in findings if finding.detail.startswith(IDENTICAL)]
    if kind == BROKEN:
        return _joined(Counter(finding.detail for finding in findings))
    if kind == IMBALANCE:
        return listed([f"{finding.path}: {finding.detail}" for finding in findings], 5)
    if kind == LEAK:
        near = len(findings) - len(same)
        return f"{places}: {len(same):,} with the same pixels, {near:,} near-identical"
    if kind == LABEL_CONFLICT:
        near = len(findings) - len(same)
        return f"{_groups(survey, split, same)}; {near:,} near-identical images"
    return places


def _groups(survey: Survey, split: Mapping[str, int], same: Sequence[Finding]) -> str:
    """Identical images with conflicting labels, by where the conflict is."""
    groups: dict[str, set[int]] = {}  # the first image -> splits of those that contradict it
    for finding in same:
        groups.setdefault(finding.related, set()).add(split[finding.path])
    where: Counter[int | None] = Counter(
        split[first] if split[first] in others else -1 for first, others in groups.items()
    )
    parts = f" ({_placed(survey, where)})" if groups else ""
    plural = "" if len(groups) == 1 else "s"
    return f"{len(groups):,} group{plural} of identical images{parts}"


def _placed(survey: Survey, counts: Mapping[int | None, int]) -> str:
    """``1,236 in train, 26 in test``; number -1 is across splits, None no split at all."""
    names = survey.tree.splits
    named = Counter(
        {
            ACROSS if split == -1 else f"in {names[split]}" if split is not None else "": n
            for split, n in counts.items()
        }
    )
    return _joined(named) if names != ("",) else f"{sum(counts.values()):,}"


def _joined(counts: Mapping[str, int]) -> str:
    ordered = sorted(counts.items(), key=lambda entry: (-entry[1], entry[0]))
    return listed([f"{n:,} {what}".strip() for what, n in ordered], 5)
