"""Who is shown on an image: by a table, or by the file's name."""

import csv
import re
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from emotion_jax.errors import UserError


def subjects(spec: str, paths: Sequence[str]) -> list[str]:
    """The subject of each image.

    Args:
      spec: a CSV file with the columns ``path,group``, its paths like ``paths``; or a regular
        expression that is searched for in the file's name, and whose first group is the subject.
      paths: relative to the data's root, posix.

    Raises:
      UserError: the table cannot be read, the expression is none, or an image has no subject.
    """
    if Path(spec).is_file():
        table = _read(Path(spec))
        found = [table.get(path) for path in paths]
    elif spec.lower().endswith(".csv"):
        raise UserError(f"--groups: there is no file {spec}.")
    else:
        expression = _compile(spec)
        matches = (expression.search(PurePosixPath(path).name) for path in paths)
        found = [match and match[1] for match in matches]
    missing = [path for path, subject in zip(paths, found, strict=True) if not subject]
    if missing:
        raise UserError(
            f"--groups: {spec} gives no subject for {len(missing)} of {len(paths)} images, "
            f"such as {missing[0]}."
        )
    return [subject for subject in found if subject]


def _read(path: Path) -> dict[str, str]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = csv.DictReader(file)
            if not {"path", "group"} <= set(rows.fieldnames or ()):
                raise UserError(f"--groups: {path} has no columns path and group.")
            return {row["path"]: row["group"] for row in rows}
    except OSError as error:
        raise UserError(f"--groups: cannot read {path}: {error.strerror}.") from None
    except (csv.Error, UnicodeDecodeError) as error:
        raise UserError(f"--groups: {path} is not a table: {error}.") from None


def _compile(spec: str) -> re.Pattern[str]:
    try:
        expression = re.compile(spec)
    except re.error as error:
        raise UserError(
            f"--groups: {spec} is no file, and no regular expression either: {error}."
        ) from None
    if not expression.groups:
        raise UserError(
            f"--groups: {spec} is no file, and as a regular expression it has no (group) that "
            "names the subject."
        )
    return expression
