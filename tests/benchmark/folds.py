"""Five folds' training steps, one after another against vmapped: python tests/benchmark/folds.py

Both are compiled once, take turns in one process, and what is printed is the median time of five
folds' steps and the ratio.
"""

import argparse
import statistics
import time

import jax
import jax.numpy as jnp
import numpy as np

from emotion_jax import allocator, xla

FOLDS, BATCH = 5, 64
WIDTHS = {"the baseline": (32, 64, 128, 256), "a small one": (8, 16, 32, 64)}


def programs(widths):
    """Two functions that take a step of each fold."""
    from emotion_jax.cli.benchmark import DEFAULT
    from emotion_jax.models import cnn
    from emotion_jax.training import mesh, optimizer, state, step

    training, devices = DEFAULT.training, mesh.make()
    settings = DEFAULT.model.model_copy(update={"widths": widths})
    module = cnn.CNN(7, settings, (0.5,), (0.25,))
    tx = optimizer.optimizer(training, optimizer.schedule(training, 1000))
    rng = np.random.default_rng(0)
    images = jnp.asarray(rng.integers(0, 256, (FOLDS, BATCH, 48, 48, 1), np.uint8))
    labels = jnp.asarray(rng.integers(0, 7, (FOLDS, BATCH), np.int32))
    key = state.make_key(0, devices)
    weights = np.ones(7, np.float32)
    jitted = step.make_train_step(module, tx, training, weights, lambda fed, key: fed, devices)
    states = [state.create(module, tx, (48, 48, 1), 7, fold, devices) for fold in range(FOLDS)]
    together = jax.tree.map(lambda *leaves: jnp.stack(leaves), *states)
    vmapped = jax.jit(jax.vmap(lambda one, fed: jitted(one, fed, key)[0]), donate_argnums=0)

    def in_turn():
        states[:] = [
            jitted(one, (images[fold], labels[fold]), key)[0] for fold, one in enumerate(states)
        ]
        jax.block_until_ready(states)

    def at_once():
        nonlocal together
        together = jax.block_until_ready(vmapped(together, (images, labels)))

    return in_turn, at_once


def main(rounds):
    """Time both and print the table."""
    for name, widths in WIDTHS.items():
        ways = programs(widths)
        times = [[], []]
        for turn in range(rounds + 1):
            for way, seconds in zip(ways, times, strict=True):
                began = time.perf_counter()
                way()
                if turn:
                    seconds.append(time.perf_counter() - began)
        ratio = statistics.median(a / b for a, b in zip(*times, strict=True))
        one, other = (1000 * statistics.median(seconds) for seconds in times)
        print(f"{name}: in turn {one:.0f} ms, vmapped {other:.0f} ms, gain {ratio:.2f}x")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=11)
    allocator.keep_freed_memory()
    xla.set_flags()
    main(parser.parse_args().rounds)
