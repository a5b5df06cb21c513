import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emotion_jax.benchmark import rounds
from emotion_jax.benchmark.rounds import Samples

rates = st.floats(0.1, 1e4)


def test_everyone_runs_once_a_round_and_each_begins_in_turn_and_the_first_round_does_not_count():
    log = []

    def block(name):
        def run(steps):
            log.append((name, steps))
            rested = 100 if len(log) <= 3 else 1
            return rested * steps * {"a": 1.0, "b": 2.0, "c": 4.0}[name]

        return run

    shown = []
    blocks = {name: block(name) for name in "abc"}
    steps = {"a": 4, "b": 2, "c": 1}
    result = rounds.interleave(blocks, steps, 4, shown.append, settle=0)
    assert "".join(name for name, _ in log) == "cababcbcacababc"
    assert shown == [name for name, _ in log]
    assert all(n == steps[name] for name, n in log)
    assert {name: s.values for name, s in result.items()} == {
        "a": (1.0,) * 4,
        "b": (0.5,) * 4,
        "c": (0.25,) * 4,
    }


@given(names=st.lists(st.text(), min_size=1, unique=True), by=st.integers(0, 100))
def test_rotation_keeps_everyone_and_their_order(names, by):
    turned = rounds.rotate(names, by)
    assert sorted(turned) == sorted(names)
    assert turned[0] == names[by % len(names)]
    assert rounds.rotate(turned, len(names) - by % len(names)) == tuple(names)


@given(step=st.floats(1e-5, 3.0), seconds=st.floats(0.01, 5.0))
def test_calibration_fills_a_block_after_two_steps_that_do_not_count(step, seconds):
    asked = []

    def block(steps):
        asked.append(steps)
        return 100.0 if len(asked) == 1 else step * steps  # the first one compiles

    steps = rounds.calibrate(block, seconds)
    assert asked[:2] == [1, 1]
    assert steps * step >= 0.999 * seconds
    assert steps == 1 or (steps - 1) * step < 1.001 * seconds


def test_who_fails_in_the_warm_up_is_left_out_where_that_is_tolerated(monkeypatch):
    monkeypatch.setattr(rounds.time, "sleep", lambda seconds: None)

    def fails(steps):
        raise ZeroDivisionError

    blocks = {"slow": lambda steps: 2.0 * steps, "broken": fails, "fast": lambda steps: 1.0 * steps}
    rates = rounds.compare(
        blocks, 1.0, 3, tolerated=lambda name: contextlib.suppress(ZeroDivisionError)
    )
    assert {name: samples.values for name, samples in rates.items()} == {
        "slow": (0.5, 0.5, 0.5),
        "fast": (1.0, 1.0, 1.0),
    }
    with pytest.raises(ZeroDivisionError):
        rounds.compare(blocks, 1.0, 3)


def test_a_median_with_its_spread():
    spread = Samples((4.0, 1.0, 2.0, 3.0, 100.0)).times(2.0).as_dict()
    assert spread == {
        "median": 6.0,
        "quartiles": [4.0, 8.0],
        "range": [2.0, 200.0],
        "rounds": [8.0, 2.0, 4.0, 6.0, 200.0],
    }
    assert Samples((7.0,)).as_dict()["quartiles"] == [7.0, 7.0]


def test_a_ratio_of_medians_and_the_median_of_the_rounds_ratios():
    ratio = rounds.ratio(Samples((2.0, 6.0, 8.0)), Samples((1.0, 2.0, 8.0)))
    assert ratio == {"of_medians": 3.0, "paired": 2.0, "range": [1.0, 3.0]}


@given(pairs=st.lists(st.tuples(rates, rates), min_size=1), drift=st.floats(0.1, 10.0))
def test_a_drift_that_both_share_leaves_the_paired_ratio(pairs, drift):
    ours, other = (tuple(values) for values in zip(*pairs, strict=True))
    steady = rounds.ratio(Samples(ours), Samples(other))
    shaken = [drift if i % 2 else 1.0 for i in range(len(pairs))]
    drifted = rounds.ratio(
        Samples(tuple(a * d for a, d in zip(ours, shaken, strict=True))),
        Samples(tuple(b * d for b, d in zip(other, shaken, strict=True))),
    )
    assert drifted["paired"] == pytest.approx(steady["paired"], rel=1e-9)
