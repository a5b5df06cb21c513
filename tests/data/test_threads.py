import threading
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emotion_jax.data.threads import in_order


@settings(deadline=None, max_examples=20)
@given(items=st.lists(st.integers(), max_size=50), workers=st.integers(1, 5))
def test_results_in_the_order_of_the_items(items, workers):
    assert list(in_order(lambda x: x * 2, items, workers)) == [x * 2 for x in items]


def test_order_holds_when_early_items_take_longer():
    def slow(i):
        time.sleep(0.02 * (5 - i))
        return i

    assert list(in_order(slow, range(5), 5)) == list(range(5))


def test_a_bounded_number_in_flight():
    taken = 0

    def items():
        nonlocal taken
        for i in range(1000):
            taken += 1
            yield i

    results = in_order(lambda x: x, items(), 2)
    next(results)
    assert taken == 8
    results.close()


def test_an_error_comes_at_its_turn_and_ends_the_rest():
    done, stop = [], threading.Event()

    def work(i):
        if i == 3:
            raise ValueError("three")
        if i > 3:
            stop.wait(20)
        done.append(i)
        return i

    results = in_order(work, range(1000), 2, stop)
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(ValueError, match="three"):
        next(results)
    assert stop.is_set()
    assert len(done) < 20
