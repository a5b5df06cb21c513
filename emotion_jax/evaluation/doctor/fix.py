"""A clean copy of a tree: hard links to what is good, and a list of what was left out."""

import contextlib
import errno
import os
import shutil
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from tqdm.auto import tqdm

from emotion_jax import files
from emotion_jax.errors import UserError
from emotion_jax.evaluation.doctor.findings import (
    BLANK,
    BROKEN,
    DUPLICATE,
    LABEL_CONFLICT,
    LEAK,
    Finding,
    table,
)
from emotion_jax.evaluation.doctor.survey import Survey

RECORD = "fixed.csv"
# What a file system without hard links says, or one that has enough of them, or another disk.
NO_LINK = {errno.EXDEV, errno.EPERM, errno.EMLINK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EACCES}


class LeftOut(NamedTuple):
    """A line of fixed.csv: an image that is not in the copy."""

    path: str
    reason: str
    related: str
    detail: str


def check(target: Path, root: Path, out: Path) -> None:
    """Refuse a place for the copy before any work is done.

    Args:
      target: the place.
      root: of the original.
      out: where the report goes.

    Raises:
      UserError: ``target`` holds something, or lies in one of the others or they in it.
    """
    place = target.resolve()
    for name, other in (("the data", root), ("the report", out)):
        taken = other.resolve()
        if place.is_relative_to(taken) or taken.is_relative_to(place):
            raise UserError(
                f"--fix: {target} and {name} {other} lie in each other; choose a folder elsewhere."
            )
    if os.path.lexists(target) and not (target.is_dir() and not any(target.iterdir())):
        raise UserError(f"--fix: {target} exists and is not an empty folder; choose a new one.")


def plan(survey: Survey, findings: Iterable[Finding], leaks: Iterable[Finding]) -> list[LeftOut]:
    """What to leave out, sorted by path; an image that is wrong twice has its first reason.

    ``leaks`` are from ``copies.find``, with every image of train that another split has as well: of
    ``findings`` each image has one, however many it is a copy of.

    From every split: files that cannot be read. From train alone (or the one nameless split), so
    that a test split stays what others report on: blank images, images that also occur in another
    split, identical images with conflicting labels (all of them), and redundant copies. What
    takes a human eye stays: near-duplicates within a split, outliers, likely mislabels.
    """
    out: dict[str, LeftOut] = {}

    def leave(path: str, reason: str, related: str, detail: str) -> None:
        out.setdefault(path, LeftOut(path, reason, related, detail))

    split = dict(zip(survey.paths, survey.split.tolist(), strict=True))
    home = 0 if survey.tree.splits[0] in ("train", "") else -1
    copies = _same_pixels(survey)
    by_kind: dict[str, list[Finding]] = {}
    for finding in findings:
        by_kind.setdefault(finding.kind, []).append(finding)
    for f in by_kind.get(BROKEN, ()):
        leave(f.path, BROKEN, "", f.detail)
    for f in by_kind.get(BLANK, ()):
        if split[f.path] == home:
            leave(f.path, BLANK, "", f.detail)
    for f in leaks:
        if split[f.related] == home:
            for path in copies[f.related]:
                if split[path] == home:
                    leave(path, LEAK, f.path, f.detail)
    for f in by_kind.get(LABEL_CONFLICT, ()):
        if f.path in copies[f.related]:
            for path in copies[f.related]:
                if split[path] == home:
                    leave(
                        path, LABEL_CONFLICT, f.related if path != f.related else f.path, f.detail
                    )
    for f in by_kind.get(DUPLICATE, ()):
        if split[f.path] == home:
            leave(f.path, DUPLICATE, f.related, f.detail)
    return sorted(out.values())


def write(
    target: Path, survey: Survey, left_out: Sequence[LeftOut], progress: bool = False
) -> tuple[int, int]:
    """Link everything else below ``target``, or copy what cannot be linked, and write fixed.csv.

    The folder appears under its name when it is complete. The original is only read.

    Returns:
      How many images were linked, and how many copied.

    Raises:
      UserError: the copy cannot be written, another process writes it, or nothing would be left
        in it of a split or of a class in a split.
    """
    without = {entry.path for entry in left_out}
    kept = [path for path in survey.paths if path not in without]
    if not kept:
        raise UserError(f"--fix: of {survey.tree.root} no image would be left.")
    _check_left(survey, without)
    target = Path(os.path.abspath(target))
    making = target.with_name(f".{target.name}.fixing")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with _alone(target):
            shutil.rmtree(making, ignore_errors=True)  # of a process that was killed
            try:
                making.mkdir()
                copied = _fill(making, survey.tree.root, kept, progress)
                files.write_text_atomic(making / RECORD, table(left_out, LeftOut._fields))
                making.rename(target)  # also over an empty folder
            except BaseException:
                shutil.rmtree(making, ignore_errors=True)
                raise
    except OSError as error:
        raise UserError(
            f"--fix: cannot write {target}: {error.strerror or error}; "
            "make room, or choose another folder."
        ) from None
    return len(kept) - copied, copied


def _check_left(survey: Survey, without: Collection[str]) -> None:
    """Refuse a copy that lacks a split, or a class of a split, of which the original has images.

    Raises:
      UserError: names the first.
    """
    tree = survey.tree
    places = list(zip(survey.split.tolist(), survey.label.tolist(), strict=True))
    left = {place for path, place in zip(survey.paths, places, strict=True) if path not in without}
    for split in sorted({split for split, _ in places} - {split for split, _ in left}):
        raise UserError(
            f"--fix: every image of {tree.root} would be left out of {tree.splits[split] or 'it'}; "
            "look at the findings first."
        )
    for split, label in sorted(set(places) - left):
        name, where = tree.classes[label], tree.splits[split]
        raise UserError(
            f"--fix: every image of the class {name}{f' of {where}' if where else ''} would be "
            f"left out of {tree.root}, and a network could not learn it; look at the findings "
            "first, and delete the copies of these images that are too many, or the whole class."
        )


@contextlib.contextmanager
def _alone(target: Path) -> Iterator[None]:
    """Let no other process write the copy at the same time.

    Raises:
      UserError: one does.
    """
    busy = f"--fix: another process writes {target}; wait for it or choose another folder."
    path = target.with_name(f".{target.name}.fixing.lock")
    lock = files.locked(path, busy)
    try:
        yield
    finally:
        if lock is not None:
            path.unlink(missing_ok=True)  # while it is held: afterwards it may be another's
            lock.close()


def text(target: Path, left_out: Sequence[LeftOut], linked: int, copied: int) -> str:
    """What was written and what was not, for a terminal."""
    reasons = Counter(entry.reason for entry in left_out)
    why = ", ".join(f"{n:,} {reason}" for reason, n in reasons.most_common()) or "nothing"
    how = f"{linked:,} images linked" + (f", {copied:,} copied" if copied else "")
    return f"Clean copy: {target} ({how}); left out: {why} ({target / RECORD})"


def _fill(making: Path, root: Path, paths: Sequence[str], progress: bool) -> int:
    """Link or copy; the number of copies."""
    copied, folders = 0, set()
    for path in tqdm(paths, desc="linking", unit="img", disable=not progress, leave=False):
        place = making / path
        if place.parent not in folders:
            place.parent.mkdir(parents=True, exist_ok=True)
            folders.add(place.parent)
        source = (root / path).resolve()  # of a symlink the file, for links may not reach here
        try:
            os.link(source, place)
        except OSError as error:
            if error.errno not in NO_LINK:
                raise
            shutil.copy2(source, place)
            copied += 1
    return copied


def _same_pixels(survey: Survey) -> dict[str, list[str]]:
    """Path -> the paths of all images with its pixels, itself among them."""
    groups: dict[int, list[str]] = {}
    for path, digest in zip(survey.paths, survey.hashes.tolist(), strict=True):
        groups.setdefault(digest, []).append(path)
    return {path: group for group in groups.values() for path in group}
