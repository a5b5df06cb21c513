"""From what was measured to the figures: plain values for JSON, and a table to read."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from emotion_jax.benchmark import rounds
from emotion_jax.benchmark.pool import members
from emotion_jax.benchmark.rounds import Samples
from emotion_jax.benchmark.worker import OURS
from emotion_jax.config import Config


@dataclass(frozen=True)
class Measured:
    """One run of the benchmark. Rates are by contender, images a second where not said otherwise.

    Attributes:
      config: of the run.
      about: what each contender says of itself.
      skipped: contenders that could not run, with the reason.
      train: at the given batch size.
      evaluate: by batch size.
      scaled: ours, training steps a second by batch size.
      matmul: FLOP/s of a large matrix product on all devices.
      program: compile_seconds, flops and bytes of the compiled step.
      memory: peak, bytes.
      end_to_end, alone: the loop and its step in turns in one process.
      first_step: seconds, cold and warm.
      peers: from ``pool.parse_peers``.
      machine: what it ran on.
      rounds, seconds: how it was measured.
    """

    config: Config
    about: Mapping[str, Mapping[str, Any]]
    skipped: Mapping[str, str]
    train: Mapping[str, Samples]
    evaluate: Mapping[int, Mapping[str, Samples]]
    scaled: Mapping[int, Samples]
    matmul: Samples
    program: Mapping[str, float]
    memory: int
    end_to_end: Samples
    alone: Samples
    first_step: Mapping[str, float]
    peers: tuple[str, ...]
    machine: Mapping[str, Any]
    rounds: int
    seconds: float


def assemble(m: Measured) -> dict[str, Any]:
    """The JSON file's content; ``None`` where a backend does not tell a figure."""
    batch = m.config.training.batch_size
    ours = m.train[OURS].median
    # The best round: what the machine can do, undisturbed.
    matmul = max(m.matmul.values)
    work = m.program["flops"] * ours / batch  # FLOP/s of the network's own arithmetic
    peak = m.about[OURS]["peak_flops_per_second"]
    peers = {name: _peer(m, name) for name in m.peers}
    trained = [p["train_images_per_second"] for p in peers.values()]
    fastest = max((rate for rate in trained if rate is not None), default=None)
    content = {
        "device": m.about[OURS]["device"],
        "batch_size": batch,
        "train_images_per_second": ours,
        "eval_images_per_second": m.evaluate[batch][OURS].median,
        "end_to_end_images_per_second": m.end_to_end.median,
        "compile_seconds": m.program["compile_seconds"],
        "first_step_seconds": m.first_step["cold"],
        "flops_per_step": m.program["flops"],
        "bytes_per_step": m.program["bytes"],
        "utilisation": work / matmul,
        "matmul_flops_per_second": matmul,
        "peak_memory_bytes": m.memory,
        "peers": peers,
        "ratio_to_fastest_peer": ours / fastest if fastest else None,
        "details": {
            "utilisation_of_peak": work / peak if peak else None,
            "first_step_seconds": dict(m.first_step),
            "train": _rates(m.train),
            "eval": {str(size): _rates(rates) for size, rates in m.evaluate.items()},
            "step_seconds": {
                str(size): {"median": 1 / s.median, "rounds": [1 / v for v in s.values]}
                for size, s in m.scaled.items()
            },
            "end_to_end": {
                "whole": m.end_to_end.as_dict(),
                "alone": m.alone.as_dict(),
                "ratio": rounds.ratio(m.end_to_end, m.alone),
            },
            "contenders": {name: dict(about) for name, about in m.about.items()},
            "skipped": dict(m.skipped),
            "machine": dict(m.machine),
            "rounds": m.rounds,
            "seconds": m.seconds,
            "config": m.config.model_dump(mode="json"),
        },
    }
    return finite(content)


def _peer(m: Measured, name: str) -> dict[str, float | None]:
    """The medians of the peer's fastest contenders, training and inference apart."""
    batch = m.config.training.batch_size

    def best(rates: Mapping[str, Samples]) -> float | None:
        medians = [rates[c].median for c in members(name) if c in rates]
        return max(medians, default=None)

    return {
        "train_images_per_second": best(m.train),
        "eval_images_per_second": best(m.evaluate[batch]),
    }


def _rates(rates: Mapping[str, Samples]) -> dict[str, Any]:
    """Each contender's rates, and how many times as fast as it ours is."""
    ours = rates[OURS]
    return {
        name: samples.as_dict()
        | ({} if name == OURS else {"ours_is_times_as_fast": rounds.ratio(ours, samples)})
        for name, samples in rates.items()
    }


def finite(value: Any) -> Any:
    """Without NaN and infinity, which JSON does not know."""
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
