"""The C library's allocator, told to keep what a step frees for the next step."""

import ctypes
import os
import platform

# From glibc's malloc.h.
M_TRIM_THRESHOLD, M_MMAP_MAX, M_ARENA_MAX = -1, -4, -8
VARIABLES = ("GLIBC_TUNABLES", "MALLOC_ARENA_MAX", "MALLOC_MMAP_MAX_", "MALLOC_TRIM_THRESHOLD_")


def keep_freed_memory() -> bool:
    """Have glibc give no memory back to the system; call it before threads are started.

    XLA's CPU backend allocates the temporary buffers of a program at each call. glibc maps blocks
    of that size anew each time, and the system clears every page of them at its first touch: a
    quarter of a training step (docs/performance.md). So: no mapped blocks, no trimming, and one
    arena, for the others map too. A process then keeps the most that it ever used.

    Left alone: other C libraries, and settings of the user's own (``VARIABLES``; an empty
    MALLOC_ARENA_MAX is enough).

    Returns:
      Whether it was set.
    """
    if platform.libc_ver()[0] != "glibc" or any(name in os.environ for name in VARIABLES):
        return False
    mallopt = ctypes.CDLL(None).mallopt
    settings = ((M_ARENA_MAX, 1), (M_MMAP_MAX, 0), (M_TRIM_THRESHOLD, 2**31 - 1))
    return all(mallopt(parameter, value) == 1 for parameter, value in settings)
