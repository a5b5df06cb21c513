"""Limits on what an archive may unpack to."""

import tarfile
from pathlib import Path
from typing import Protocol

from emotion_jax.errors import UserError

MAX_BYTES = 200 * 2**30  # unpacked
MAX_MEMBERS = 2_000_000
MAX_RATIO = 100  # unpacked to packed; images hardly shrink
FREE_BYTES = 64 * 2**20  # unpacked before the ratio counts: blank images do shrink
MAX_READ = 2**20  # of a tar header; tarfile would take one of any size into memory
CHUNK = 2**16


class Readable(Protocol):
    """What is read piece by piece."""

    def read(self, size: int = -1, /) -> bytes:
        """At most ``size`` bytes; none at the end."""
        ...


class Budget:
    """Counts what is unpacked from ``archive`` and refuses too much."""

    def __init__(self, archive: Path) -> None:
        self.archive, self.packed = archive, archive.stat().st_size
        self.bytes = self.members = 0

    def take(self, count: int) -> None:
        """Note that ``count`` bytes were unpacked.

        Raises:
          UserError: they are too many.
        """
        self.bytes += count
        if self.bytes > min(MAX_BYTES, max(FREE_BYTES, MAX_RATIO * self.packed)):
            raise UserError(
                f"{self.archive} unpacks to more than {self.bytes / 2**20:.0f} MiB, "
                f"{self.bytes / max(1, self.packed):.0f} times its size, which is over the limit: "
                "unpack it by hand if you trust it."
            )

    def member(self) -> None:
        """Note one more member.

        Raises:
          UserError: they are too many.
        """
        self.members += 1
        if self.members > MAX_MEMBERS:
            raise UserError(
                f"{self.archive} has more than {MAX_MEMBERS} members: unpack it by hand."
            )


class Counted:
    """A file that is read forward only, and by way of the budget.

    ``last`` is what the last read gave.
    """

    def __init__(self, file: Readable, budget: Budget) -> None:
        self.file, self.budget, self.position = file, budget, 0
        self.last = b""

    def read(self, size: int = -1) -> bytes:
        """At most ``size`` bytes; none at the end.

        Raises:
          tarfile.ReadError: more than MAX_READ are asked for.
          UserError: the budget is spent.
        """
        if not 0 <= size <= MAX_READ:
            raise tarfile.ReadError(f"a header of {size} bytes")
        self.last = data = self.file.read(size)
        self.position += len(data)
        self.budget.take(len(data))
        return data

    def tell(self) -> int:
        """Bytes read so far."""
        return self.position

    def seekable(self) -> bool:
        """As far as tarfile needs to know."""
        return True

    def seek(self, position: int) -> None:
        """Read on to ``position``.

        Raises:
          tarfile.ReadError: it lies behind.
        """
        if position < self.position:
            raise tarfile.ReadError("a member that overlaps another")
        while self.position < position and self.read(min(CHUNK, position - self.position)):
            pass
