"""What each change to the training step on the CPU is worth: python tests/benchmark/ablation.py

Every variant leaves one change out. Each has a process of its own; they take turns, a second each,
and what is printed is the median time of a step and its ratio to the whole.
"""

import argparse
import statistics

import turns

VARIANTS = (
    "everything",
    "without the allocator's settings",
    "without XLA's flags",
    "without lowering (lax)",
    "without tiles of 3 and 4 (F(2x2) alone)",
    "without the first block's form (its map)",
    "without the pool before BatchNorm (Flax)",
    "without the hashed dropout masks (Flax)",
    "without any",
)


def work(variant):
    """Answer each line on stdin with the seconds of a step."""
    every = variant == VARIANTS[-1]

    def without(part):
        return every or variant == f"without {part}"

    from emotion_jax import allocator, xla

    if not without("the allocator's settings"):
        allocator.keep_freed_memory()
    if not without("XLA's flags"):
        xla.set_flags()

    import contextlib

    import jax
    import jax.numpy as jnp
    import numpy as np
    from flax import linen as nn

    from emotion_jax.cli.benchmark import DEFAULT
    from emotion_jax.models import cnn, grey, lowering, winograd
    from emotion_jax.training import mesh, optimizer, state, step

    class FlaxNorm(nn.Module):
        use_running_average: bool
        pool: bool = False
        dtype: object = jnp.float32

        @nn.compact
        def __call__(self, x, source=None):
            del source
            x = nn.relu(nn.BatchNorm(self.use_running_average, momentum=0.9)(x))
            return lowering.max_pool_2x2(x) if self.pool else x

    class FlaxDropout(nn.Module):
        rate: float

        @nn.compact
        def __call__(self, x, deterministic):
            return nn.Dropout(self.rate)(x, deterministic=deterministic)

    if without("tiles of 3 and 4 (F(2x2) alone)"):
        winograd.POINTS = {2: winograd.POINTS[2]}
    if without("the first block's form (its map)"):
        grey.applies = lambda x, w: False
    if without("the pool before BatchNorm (Flax)"):
        cnn.BatchNorm = FlaxNorm
    if without("the hashed dropout masks (Flax)"):
        cnn.Dropout = FlaxDropout
    plain = lowering.plain() if without("lowering (lax)") else contextlib.nullcontext()

    training, devices = DEFAULT.training, mesh.make()
    module = cnn.CNN(7, DEFAULT.model, (0.5,), (0.25,))
    tx = optimizer.optimizer(training, optimizer.schedule(training, 1000))
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (64, 48, 48, 1), np.uint8)
    fed = (jnp.asarray(images), jnp.asarray(rng.integers(0, 7, 64, np.int32)))
    with plain:
        current = state.create(module, tx, (48, 48, 1), 7, 0, devices)
        weights = np.ones(7, np.float32)
        jitted = step.make_train_step(module, tx, training, weights, lambda fed, key: fed, devices)
        key = state.make_key(0, devices)
        compiled = jitted.lower(current, fed, key).compile()

    def one():
        nonlocal current
        current, _ = compiled(current, fed, key)
        jax.block_until_ready(current)

    turns.answer(one)


def main(rounds):
    """Run every variant in turn and print the table."""
    times = turns.measure(__file__, VARIANTS, rounds)
    whole = times[VARIANTS[0]]
    print(f"{'':42} {'ms a step':>10} {'ratio':>8}   (batch 64, median of {rounds} rounds)")
    for variant, seconds in times.items():
        ratio = statistics.median(a / b for a, b in zip(seconds, whole, strict=True))
        print(f"{variant:42} {1000 * statistics.median(seconds):10.1f} {ratio:7.2f}x")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--variant")
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    work(arguments.variant) if arguments.variant else main(arguments.rounds)
