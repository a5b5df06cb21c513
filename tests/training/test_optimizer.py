import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from emotion_jax.config import TrainingSettings
from emotion_jax.errors import UserError
from emotion_jax.training.optimizer import OPTIMIZERS, SCHEDULES, optimizer, schedule

PEAK, EPOCHS, STEPS = 0.1, 4, 10


def rates(name, **settings):
    rate = schedule(
        TrainingSettings(epochs=EPOCHS, learning_rate=PEAK, schedule=name, **settings), STEPS
    )
    return np.array([float(rate(i)) for i in range(EPOCHS * STEPS + 1)])


@pytest.mark.parametrize(
    ("name", "middle", "end"),
    [
        ("constant", PEAK, PEAK),
        ("cosine", PEAK / 2, 0.0),
        ("linear", PEAK / 2, 0.0),
        ("exponential", PEAK * 0.1, PEAK * 0.01),
    ],
)
def test_schedule(name, middle, end):
    found = rates(name)
    assert found[[0, 20, 40]] == pytest.approx([PEAK, middle, end], abs=1e-8)
    assert (np.diff(found) <= 0).all()


@pytest.mark.parametrize("name", SCHEDULES)
def test_warm_up_rises_to_the_peak_and_leaves_the_rest_to_the_schedule(name):
    found, whole = rates(name, warmup_epochs=1.5), rates(name)
    assert found[:16] == pytest.approx(PEAK * np.arange(16) / 15, abs=1e-8)
    assert found[-1] == pytest.approx(whole[-1], abs=1e-8)
    assert (np.diff(found[15:]) <= 0).all()


def test_warm_up_longer_than_the_run_still_ends_in_a_schedule():
    found = rates("cosine", warmup_epochs=100.0)
    assert found[39] == pytest.approx(PEAK)
    assert found[40] == pytest.approx(0.0, abs=1e-8)


def test_a_warm_up_without_end():
    settings = TrainingSettings(schedule="constant", learning_rate=PEAK, warmup_epochs=1e12)
    assert 0 < float(schedule(settings, 10)(1000)) < PEAK / 1e5


def test_a_constant_rate_is_the_same_however_long_the_run():
    short = TrainingSettings(epochs=1, learning_rate=PEAK, schedule="constant", warmup_epochs=3.0)
    longer = short.model_copy(update={"epochs": 9})
    first, second = (schedule(settings, 10) for settings in (short, longer))
    assert [first(i) for i in range(40)] == [second(i) for i in range(40)]
    assert first(9) < first(29) < first(30) == pytest.approx(PEAK)


def weights(seed):
    rng = np.random.default_rng(seed)

    def normal(*shape):
        return rng.normal(size=shape).astype(np.float32)

    return {
        "Dense_0": {"kernel": normal(3, 2), "bias": normal(2)},
        "BatchNorm_0": {"scale": normal(2), "bias": normal(2)},
    }


def run(steps=3, rate=0.1, **settings):
    """Parameters after each step, with the gradients ``weights(1)``, ``weights(2)``, ..."""
    tx = optimizer(TrainingSettings(**settings), optax.constant_schedule(rate))
    params = jax.tree.map(jnp.asarray, weights(0))
    state = tx.init(params)
    update = jax.jit(tx.update)
    found = []
    for i in range(steps):
        updates, state = update(weights(i + 1), state, params)
        params = optax.apply_updates(params, updates)
        found.append(params)
    return found


def close(found, wanted):
    for f, w in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
        np.testing.assert_allclose(f, w, rtol=1e-5, atol=1e-5)


def adam(steps, decay=None):
    """Kingma & Ba 2015, algorithm 1; with decay as in Loshchilov & Hutter 2019, algorithm 2."""
    p = jax.tree.map(np.float64, weights(0))
    m = v = jax.tree.map(np.zeros_like, p)
    decay = decay or jax.tree.map(lambda _: 0.0, p)
    for t in range(1, steps + 1):
        g = weights(t)
        m = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, m, g)
        v = jax.tree.map(lambda v, g: 0.999 * v + 0.001 * np.square(g, dtype=np.float64), v, g)

        def change(p, m, v, d, t=t):
            step = m / (1 - 0.9**t) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)
            return p - 0.1 * (step + d * p)

        p = jax.tree.map(change, p, m, v, decay)
    return p


def test_adam_as_published():
    for i, found in enumerate(run(optimizer="adam")):
        close(found, adam(i + 1))


def test_adamw_decays_kernels_alone():
    decay = {"Dense_0": {"kernel": 0.5, "bias": 0.0}, "BatchNorm_0": {"scale": 0.0, "bias": 0.0}}
    close(run(optimizer="adamw", weight_decay=0.5)[-1], adam(3, decay))


def test_sgd_with_nesterov_momentum():
    p, velocity = weights(0), jax.tree.map(np.zeros_like, weights(0))
    for i, found in enumerate(run(optimizer="sgd", momentum=0.8)):
        g = weights(i + 1)
        velocity = jax.tree.map(lambda v, g: 0.8 * v + g, velocity, g)
        p = jax.tree.map(lambda p, v, g: p - 0.1 * (g + 0.8 * v), p, velocity, g)
        close(found, p)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_decay_does_not_pass_through_the_momentum(name):
    plain, decayed = (run(1, optimizer=name, weight_decay=d)[0] for d in (0.0, 0.25))
    before = weights(0)
    kernel = plain["Dense_0"]["kernel"] - 0.1 * 0.25 * before["Dense_0"]["kernel"]
    close(decayed, {**plain, "Dense_0": {**plain["Dense_0"], "kernel": kernel}})


def test_clipping_by_the_global_norm():
    g = weights(1)
    norm = np.sqrt(sum(np.square(leaf).sum() for leaf in jax.tree.leaves(g)))
    settings = {"steps": 1, "optimizer": "sgd", "momentum": 0.0}
    clipped = jax.tree.map(lambda p, g: p - 0.1 * g / norm / 2, weights(0), g)
    close(run(clip_norm=0.5, **settings)[0], clipped)
    close(run(clip_norm=float(2 * norm), **settings)[0], run(**settings)[0])


def test_rate_follows_the_schedule():
    tx = optimizer(
        TrainingSettings(optimizer="sgd", momentum=0.0), optax.linear_schedule(1.0, 0.0, 2)
    )
    params = {"kernel": jnp.ones(1)}
    state = tx.init(params)
    found = []
    for _ in range(3):
        updates, state = tx.update({"kernel": jnp.ones(1)}, state, params)
        found.append(float(updates["kernel"][0]))
    assert found == [-1.0, -0.5, 0.0]


def test_unknown_names():
    with pytest.raises(UserError, match=r"training\.schedule: 'step' is not one of constant, cos"):
        schedule(TrainingSettings(schedule="step"), 10)
    with pytest.raises(UserError, match=r"training\.optimizer: 'lion' is not one of adam, adamw"):
        optimizer(TrainingSettings(optimizer="lion"), optax.constant_schedule(0.1))
