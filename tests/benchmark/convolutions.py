"""Which lowering of a 3x3 convolution is fastest on the CPU: python tests/benchmark/convolutions.py

Of the layers of our networks at several batch sizes, forwards, between an activation before and
after, as in a network. The lowerings take turns in one process; what is printed is the least time
of each in microseconds, which other work on the machine disturbs least. F(m) is Winograd's with
tiles of m x m, "frozen" what ``lowering.frozen`` makes of a kernel that is known. The star is the
fastest of those that take the kernel as an argument. ``models/lowering.py`` chooses by this table.
"""

import argparse
import time

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from emotion_jax import allocator, xla
from emotion_jax.models import lowering, products, winograd

# Side of the map, input and output channels.
LAYERS = {
    "seed": ((24, 64, 128), (12, 128, 256), (6, 256, 512)),
    "fernet": ((48, 32, 32), (24, 32, 64), (24, 64, 64), (12, 128, 128), (6, 256, 256)),
    "small": ((48, 16, 16), (24, 28, 28), (12, 40, 40), (6, 56, 56)),
    "tiny maps": ((3, 64, 64), (3, 512, 512), (2, 256, 256), (1, 256, 256)),
}


def plain(x, w):
    return lax.conv_general_dilated(x, w, (1, 1), "SAME", dimension_numbers=lowering.LAYOUT)


def shifted(x, w):
    """Nine products of shifted images."""
    shifts = products._shifts(x, (1, 1), products.ONE_PIXEL)
    terms = [one.reshape(-1, x.shape[-1]) @ w[i // 3, i % 3] for i, one in enumerate(shifts)]
    return sum(terms[1:], terms[0]).reshape(*x.shape[:3], -1)


def tiled(m):
    """Winograd's with tiles of m x m, whatever is best."""

    def conv(x, w):
        x_PTC, w_PCK = winograd._tiles(x, m), winograd._kernel(w, m)
        return winograd._pixels(x_PTC @ w_PCK, x.shape, m)

    return conv


WAYS = {
    "lax": plain,
    "im2col": products.im2col,
    "9 products": shifted,
    **{f"F({m})": tiled(m) for m in winograd.POINTS},
}


def microseconds(batch, side, channels, outputs, seconds):
    """The least time of each lowering, and of the frozen one."""
    rng = np.random.default_rng(0)
    image = jnp.asarray(rng.normal(size=(batch, side, side, channels)).astype(np.float32))
    kernel = rng.normal(size=(3, 3, channels, outputs)).astype(np.float32)

    def frozen(x, w):
        del w
        with lowering.frozen():
            return lowering.conv(x, kernel, (1, 1), "SAME", dimension_numbers=lowering.LAYOUT)

    ways = {**WAYS, "frozen": frozen}
    calls = {
        name: jax.jit(lambda x, w, way=way: jax.nn.relu(way(jax.nn.relu(2 * x - 1), w)))
        for name, way in ways.items()
    }
    argument = jnp.asarray(kernel)
    least = dict.fromkeys(ways, float("inf"))
    for call in calls.values():
        call(image, argument).block_until_ready()
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        for name, call in calls.items():
            for _ in range(5):
                began = time.perf_counter()
                call(image, argument).block_until_ready()
                least[name] = min(least[name], time.perf_counter() - began)
    return {name: 1e6 * value for name, value in least.items()}


def main(batches, seconds):
    """Print the table."""
    names = [*WAYS, "frozen"]
    print(f"{'':26}{'tiles':>6}" + "".join(f"{name:>12}" for name in names))
    for network, layers in LAYERS.items():
        for batch in batches:
            for side, channels, outputs in layers:
                times = microseconds(batch, side, channels, outputs, seconds)
                best = min(WAYS, key=times.get)
                m = winograd.tile_size(side, side)
                tiles = winograd.tiles((batch, side, side, channels), m)
                row = f"{network} {batch}x{side}x{side} {channels}>{outputs}"
                cells = "".join(f"{times[n]:11.0f}{'*' if n == best else ' '}" for n in names)
                print(f"{row:26}{tiles:6}{cells}", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 2, 4, 8, 16, 64])
    parser.add_argument("--seconds", type=float, default=1.0, help="of a row")
    allocator.keep_freed_memory()
    xla.set_flags()
    arguments = parser.parse_args()
    main(arguments.batches, arguments.seconds)
