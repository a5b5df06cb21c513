"""Real mounts, for tests that run as root."""

import contextlib
import os
import shutil
import subprocess

import pytest


def mount(*arguments):
    done = subprocess.run(["mount", *map(str, arguments)], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"mounting is not permitted here: {done.stderr.strip()}")


def fill(disk, but=0):
    """Leave no more than ``but`` bytes of it; gives the file that takes the room."""
    path = disk / "filler"
    with path.open("wb") as file, contextlib.suppress(OSError):
        os.posix_fallocate(file.fileno(), 0, shutil.disk_usage(disk).free - but)
    return path
