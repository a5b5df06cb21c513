"""The tests of this folder share its script."""

import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import disks


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 4 MiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    disks.mount("-t", "tmpfs", "-o", "size=4m", "none", disk)
    yield disk
    subprocess.run(["umount", "--lazy", str(disk)], check=True)
