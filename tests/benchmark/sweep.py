"""A training step against image size and simulated devices: python tests/benchmark/sweep.py

The seed's network, 64 images a step over all devices, which share this machine's cores: what more
of them cost is what sharding costs. Each variant has a process of its own; they take turns, a
second each, and what is printed is the median time of a step and its ratio to the usual one.
"""

import argparse
import statistics

import turns

BATCH = 64
SIZES = {f"{side} x {side} pixels": (side, 1) for side in (32, 48, 64, 96)}
DEVICES = {f"{n} device{'s' * (n > 1)}": (48, n) for n in (1, 2, 4, 8)}
TABLES = {"48 x 48 pixels": SIZES, "1 device": DEVICES}


def work(side, count):
    """Answer with the seconds of a step on images of this side, split over so many devices."""
    from emotion_jax import allocator, xla

    allocator.keep_freed_memory()
    xla.set_flags()

    import jax
    import numpy as np

    jax.config.update("jax_num_cpu_devices", count)

    from emotion_jax import models
    from emotion_jax.cli.benchmark import DEFAULT
    from emotion_jax.training import mesh, optimizer, state, step

    training, devices = DEFAULT.training, mesh.make()
    module = models.build(DEFAULT.model, 7, side, (0.5,), (0.25,))
    tx = optimizer.optimizer(training, optimizer.schedule(training, 1000))
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (BATCH, side, side, 1), np.uint8)
    labels = rng.integers(0, 7, BATCH, np.int32)
    fed = mesh.put((images, labels), mesh.by_batch(devices))
    current = state.create(module, tx, (side, side, 1), 7, 0, devices)
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
    """Both tables, one after the other."""
    for usual, variants in TABLES.items():
        times = turns.measure(__file__, variants, rounds)
        print(f"{'':20} {'ms a step':>10} {'images/s':>10} {'ratio':>7}")
        for variant, seconds in times.items():
            median = statistics.median(seconds)
            pairs = zip(seconds, times[usual], strict=True)
            ratio = statistics.median(a / b for a, b in pairs)
            print(f"{variant:20} {1000 * median:10.1f} {BATCH / median:10.1f} {ratio:6.2f}x")
        print(f"(batch {BATCH}, median of {rounds} rounds)\n", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--variant")
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    if arguments.variant:
        work(*(SIZES | DEVICES)[arguments.variant])
    else:
        main(arguments.rounds)
