import pytest

from emotion_jax.benchmark import startup
from emotion_jax.errors import UserError

# Trains with a step of no time, after a second in which it compiles if it has not before.
MAKE = "from emotion_jax.training import step; step.make_train_step = lambda: lambda state: state"
PROGRAM = """
import os, time
from emotion_jax.training import step
train_step = step.make_train_step()
if not os.path.exists(os.environ["JAX_COMPILATION_CACHE_DIR"]):
    time.sleep(1.0)
    os.mkdir(os.environ["JAX_COMPILATION_CACHE_DIR"])
train_step(1)
raise SystemExit("a second step")
"""


def test_it_ends_with_the_first_step_and_begins_with_an_empty_cache(monkeypatch):
    monkeypatch.setattr(startup, "CODE", f"{MAKE}; {startup.CODE}")
    seconds = startup.measure(f"exec({PROGRAM!r})", [])
    assert seconds["cold"] > 1.0
    assert seconds["warm"] > 0


def test_a_command_that_ends_before_is_told_with_its_arguments():
    program = "import sys; sys.exit(' '.join(sys.argv[1:-1]))"
    with pytest.raises(UserError, match="before its first step: --data faces --workdir"):
        startup.measure(program, ["--data", "faces"])
