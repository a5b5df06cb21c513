import jax
import pytest

from emotion_jax.training import clock
from emotion_jax.training.clock import AHEAD, Clock


@pytest.fixture
def waited(monkeypatch):
    """What was waited for, in order."""
    found = []
    monkeypatch.setattr(jax, "block_until_ready", found.append)
    return found


@pytest.fixture
def time(monkeypatch):
    """A clock that a test turns itself."""
    now = [100.0]
    monkeypatch.setattr(clock.time, "monotonic", lambda: now[0])
    return now


def test_the_host_runs_ahead_by_a_few_dispatches(waited):
    timer = Clock(0, 0.0)
    for step in range(1, 8):
        timer.step(step, step)
        unanswered = step - max(waited)
        assert unanswered <= AHEAD
    assert waited[0] == 1
    assert waited[1:] == sorted(waited[1:])


def test_the_rate_is_that_of_the_steps_after_the_first_dispatch(waited, time):
    timer = Clock(40, 7.0)
    time[0] += 30  # it is compiled
    timer.step(45, None)
    assert timer.steps_per_second(45) == pytest.approx(5 / 30)
    time[0] += 2
    timer.step(50, None)
    time[0] += 2
    timer.step(55, None)
    assert timer.steps_per_second(55) == pytest.approx(10 / 4)
    assert timer.seconds() == pytest.approx(7 + 34)
