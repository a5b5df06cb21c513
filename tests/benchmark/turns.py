"""Variants of a measurement in processes of their own, which take turns."""

import itertools
import os
import subprocess
import sys
import time


def answer(step):
    """Warm up for two seconds, then answer each line on stdin with the seconds of a ``step()``."""
    for seconds in itertools.chain([2.0], (1.0 for _ in sys.stdin)):
        began, steps = time.perf_counter(), 0
        while time.perf_counter() - began < seconds:
            step()
            steps += 1
        print((time.perf_counter() - began) / steps, flush=True)


def measure(script, variants, rounds):
    """Seconds of a step by variant, a value a round; ``script --variant NAME`` is to ``answer``."""
    environment = {k: v for k, v in os.environ.items() if k != "XLA_FLAGS"} | {
        "JAX_PLATFORMS": "cpu"
    }
    children = {}
    times = {variant: [] for variant in variants}
    try:
        for variant in variants:
            children[variant] = subprocess.Popen(
                [sys.executable, script, "--variant", variant],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                env=environment,
            )
        for child in children.values():
            child.stdout.readline()  # warm
        for _ in range(rounds):
            for variant, child in children.items():
                print(file=child.stdin, flush=True)
                times[variant].append(float(child.stdout.readline()))
    finally:
        for child in children.values():
            child.stdin.close()
            child.wait()
    return times
