import os
import platform
import subprocess
import sys

import pytest

from emotion_jax import allocator

CODE = """
import resource
from emotion_jax import allocator
print(allocator.keep_freed_memory())
import jax, jax.numpy as jnp
x = jnp.ones((4096, 16))
step = jax.jit(lambda x: (x @ x.T) @ x)  # the first product takes 64 MB
for _ in range(10):
    step(x).block_until_ready()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    step(x).block_until_ready()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def run(**variables):
    environment = {k: v for k, v in os.environ.items() if k not in allocator.VARIABLES}
    environment |= {"JAX_PLATFORMS": "cpu", **variables}
    ended = subprocess.run(
        [sys.executable, "-c", CODE], env=environment, capture_output=True, text=True, check=True
    )
    was_set, faults = ended.stdout.split()
    return was_set == "True", int(faults)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="of glibc")
def test_a_step_touches_no_new_pages():
    kept, faults = run()
    left, more = run(MALLOC_ARENA_MAX="")
    assert (kept, left) == (True, False)
    assert faults < 0.5 * more
