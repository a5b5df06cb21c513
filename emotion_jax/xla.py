"""What XLA is told before it starts; the one place where its flags are set."""

import importlib.metadata
import os
import re

# With the CPU backend's older emitter of loops a training step compiles in half the time and is
# no slower (docs/performance.md).
FLAGS = ("--xla_cpu_use_fusion_emitters=false",)
# Versions of jaxlib that know them: XLA ends the process at a flag that it does not know.
KNOWN = ((0, 7, 2), (0, 10, 2))


def set_flags() -> None:
    """Add ``FLAGS`` to XLA_FLAGS, but for those that the user has set; before JAX is used."""
    version = importlib.metadata.version("jaxlib")
    numbers = tuple(map(int, re.findall(r"\d+", version)[:3]))
    if not KNOWN[0] <= numbers <= KNOWN[1]:
        return
    given = os.environ.get("XLA_FLAGS", "")
    ours = [flag for flag in FLAGS if flag.partition("=")[0] not in given]
    os.environ["XLA_FLAGS"] = " ".join([given, *ours]).strip()
