"""What goes wrong, in one sentence each, and the exit status that goes with it."""

from collections.abc import Collection, Mapping
from typing import TypeVar

T = TypeVar("T")


class UserError(Exception):
    """Bad input or a bad environment: the message is one sentence (what, where, what to do)."""

    exit_code = 2


class NonFiniteError(UserError):
    """Training produced a NaN or an infinity; the message names the step."""

    exit_code = 1


class Interrupted(BaseException):
    """A signal asked the process to stop; exit status 128 + its number (130 Ctrl-C, 143 SIGTERM).

    Not an ``Exception``, like KeyboardInterrupt: nothing but the outermost frame may swallow it.
    """

    def __init__(self, signum: int) -> None:
        super().__init__(f"stopped by signal {signum}")
        self.exit_code = 128 + signum


def listed(names: Collection[str], limit: int = 10) -> str:
    """Join names for a sentence, cutting a long list short."""
    shown = ", ".join(list(names)[:limit])
    return shown if len(names) <= limit else f"{shown} and {len(names) - limit} more"


def choose(table: Mapping[str, T], name: str, setting: str) -> T:
    """Look ``name`` up in ``table``.

    Raises:
      UserError: it is not there; names the setting and what there is.
    """
    if name not in table:
        raise UserError(f"{setting}: {name!r} is not one of {', '.join(sorted(table))}.")
    return table[name]
