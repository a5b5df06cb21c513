from math import prod

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emotion_jax.benchmark import scaling
from emotion_jax.benchmark.chips import CHIPS, TPUS
from emotion_jax.benchmark.collectives import Collective

V5E = CHIPS["v5e"]


def all_reduce(size):
    return Collective("all-reduce", ("f32",), 1, size // 4, size, "", 0, "")


@pytest.mark.parametrize(
    ("name", "n", "shape"),
    [
        ("v5e", 1, (1, 1)),
        ("v5e", 8, (2, 4)),
        ("v5e", 64, (8, 8)),
        ("v5e", 256, (16, 16)),
        ("v5p", 1, (1, 1, 1)),
        ("v5p", 8, (2, 2, 2)),
        ("v5p", 64, (4, 4, 4)),
        ("v5p", 256, (4, 8, 8)),
    ],
)
def test_a_slice_is_as_even_as_it_can_be(name, n, shape):
    assert scaling.torus(CHIPS[name], n) == shape


def test_an_all_reduce_on_a_whole_torus_uses_every_link():
    # 16 x 16 chips of v5e, four links of 50 GB/s, rings both ways: half of 16 hops, there and back.
    seconds = scaling.all_reduce_seconds(V5E, (16, 16), 11_000_000)
    assert seconds == pytest.approx(2 * 255 / 256 * 11e6 / 200e9 + 2 * 16 * 1e-6)


def test_an_all_reduce_on_lines_uses_half_of_them():
    # 2 x 4 does not wrap: a link an axis, 1 + 3 hops, there and back.
    seconds = scaling.all_reduce_seconds(V5E, (2, 4), 11_000_000)
    assert seconds == pytest.approx(2 * 7 / 8 * 11e6 / 100e9 + 2 * 4 * 1e-6)


def test_one_chip_scales_perfectly():
    (alone,) = scaling.predict(V5E, 0.02, [all_reduce(11_000_000)], [all_reduce(512)], (1,))
    assert (alone.efficiency, alone.efficiency_overlapped) == (1.0, 1.0)


def test_the_gradients_hide_behind_the_backward_pass_and_batchnorm_does_not():
    gradients, small = [all_reduce(11_000_000)], [all_reduce(512)] * 10
    p = scaling.predict(V5E, 0.02, gradients, small, (256,))[0]
    assert p.batchnorm_seconds == pytest.approx(10 * 32e-6, rel=0.01)  # nearly all of it hops
    assert p.efficiency == pytest.approx(0.02 / (0.02 + p.batchnorm_seconds + p.gradient_seconds))
    assert p.efficiency_overlapped == pytest.approx(0.02 / (0.02 + p.batchnorm_seconds))


def test_gradients_that_outlast_the_backward_pass_show():
    p = scaling.predict(V5E, 3e-6, [all_reduce(11_000_000)], [], (256,))[0]
    assert p.efficiency_overlapped == pytest.approx(3 / (3 + 1e6 * p.gradient_seconds - 2))


@given(
    name=st.sampled_from(TPUS),
    step=st.floats(1e-4, 1.0),
    sizes=st.lists(st.integers(4, 10**9), max_size=5),
    n=st.integers(0, 8).map(lambda power: 2**power),
)
def test_predictions_are_of_the_chips_asked_for_and_never_better_than_perfect(name, step, sizes, n):
    gradients = [all_reduce(size) for size in sizes]
    p = scaling.predict(CHIPS[name], step, gradients, [all_reduce(8)], (n,))[0]
    assert prod(p.shape) == p.chips == n
    assert 0 < p.efficiency <= p.efficiency_overlapped <= 1
