"""The figures of a benchmark as one picture."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from emotion_jax.benchmark.worker import OURS
from emotion_jax.evaluation.plots import BLUE, INK, MUTED, ORANGE, SKY, png

PEER = "#c3cad5"


@png
def figure(content: dict[str, Any]) -> Figure:
    """Training and inference against the peers, step time by batch size, the loop's share.

    Args:
      content: from ``results.assemble``.

    Returns:
      The PNG file's bytes.
    """
    details = content["details"]
    contenders = len(details["contenders"])
    batch, dtype = content["batch_size"], details["config"]["model"]["dtype"]
    what = f"emotion_jax on {content['device']}: batch {batch}, {dtype},"
    canvas = _canvas(5.6 + 0.36 * contenders, what, details["rounds"])
    (training, inference), (steps, share) = canvas.subplots(
        2, 2, height_ratios=[1.6 + 0.36 * contenders, 3.2]
    )
    ratio = content["ratio_to_fastest_peer"]
    claim = "" if ratio is None else f": {ratio:.2f}x the fastest peer"
    train = details["train"]
    _bars(training, train, [BLUE if name == OURS else PEER for name in train])
    training.set_title(f"Training{claim}")
    training.set_xlabel("images/s")
    _inference(inference, details["eval"])
    _steps(steps, details["step_seconds"], batch)
    _share(share, content)
    return canvas


@png
def side_by_side(content: dict[str, Any]) -> Figure:
    """Images a second of several networks.

    Args:
      content: from ``side_by_side.run``.

    Returns:
      The PNG file's bytes.
    """
    networks = content["networks"]
    canvas = _canvas(1.6 + 0.42 * len(networks), f"{content['device']}:", content["rounds"])
    titles = {"train": "Training", "evaluate": "Inference"}
    for axes, (task, title) in zip(canvas.subplots(1, 2), titles.items(), strict=True):
        rates = {name: network[task] for name, network in networks.items()}
        _bars(axes, rates, [BLUE] * len(rates))
        axes.set_title(title)
        axes.set_xlabel("images/s")
    return canvas


def _canvas(height: float, what: str, rounds: int) -> Figure:
    """An empty figure with what it shows, and how that was measured, above it."""
    canvas = Figure(figsize=(11, height), layout="constrained")
    measured = f"median of {rounds} rounds in turns, bars to the quartiles"
    canvas.suptitle(f"{what} {measured}", x=0.01, ha="left", fontsize=9, color=MUTED)
    return canvas


def _bars(axes: Axes, rates: dict[str, Any], colours: list[str]) -> None:
    names = list(rates)
    medians = np.array([rates[name]["median"] for name in names])
    quartiles = np.array([rates[name]["quartiles"] for name in names]).T
    errors = np.abs(quartiles - medians)
    bars = axes.barh(names, medians, color=colours, xerr=errors.tolist(), ecolor=MUTED, height=0.68)
    inside = [f"{value:,.0f}" for value in medians]
    axes.bar_label(bars, inside, padding=6, color=INK, fontsize=8.5)
    axes.invert_yaxis()
    axes.margins(x=0.16)
    axes.grid(visible=False, axis="y")
    axes.tick_params(axis="y", length=0, labelcolor=INK)


def _inference(axes: Axes, by_batch: dict[str, Any]) -> None:
    """How many times as fast ours is as each peer, by batch size: rates alone differ too much."""
    shades = dict(zip(by_batch, (SKY, BLUE, "#00466e", ORANGE), strict=False))
    names = [name for name in next(iter(by_batch.values())) if name != OURS]
    axes.set_title("Inference: ours against each peer")
    if not names:
        axes.set_title("Inference")
        ours = {f"batch {size}": rates[OURS] for size, rates in by_batch.items()}
        _bars(axes, ours, [BLUE] * len(ours))
        axes.set_xlabel("images/s")
        return
    height = 0.8 / len(by_batch)
    for number, (size, rates) in enumerate(by_batch.items()):
        shown = [name for name in names if name in rates]
        times = [rates[name]["ours_is_times_as_fast"]["of_medians"] for name in shown]
        places = np.array([names.index(name) for name in shown])
        places = places + (number - (len(by_batch) - 1) / 2) * height
        widths = np.array(times) - 1.0  # from "as fast as", either way
        label = f"batch {size}"
        bars = axes.barh(places, widths, height * 0.9, 1.0, color=shades[size], label=label)
        axes.bar_label(bars, [f"{t:.2f}x" for t in times], padding=3, color=INK, fontsize=7.5)
    axes.axvline(1, color=INK, linewidth=1)
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter("{x:g}x")
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.margins(x=0.2)
    axes.grid(visible=False, axis="y")
    axes.tick_params(axis="y", length=0, labelcolor=INK)
    axes.set_xlabel("times as fast as the peer")
    axes.legend(loc="best")


def _steps(axes: Axes, seconds: dict[str, Any], batch: int) -> None:
    sizes = np.array([int(size) for size in seconds])
    milliseconds = 1e3 * np.array([step["median"] for step in seconds.values()])
    axes.plot(sizes, milliseconds, "o-", color=BLUE)
    for size, value in zip(sizes, milliseconds, strict=True):
        axes.annotate(
            f"{size / value * 1e3:,.0f}/s",
            (size, value),
            (7, -7),
            textcoords="offset points",
            va="top",
            fontsize=7.5,
            color=MUTED,
        )
    axes.axvline(batch, color=MUTED, linestyle="--", linewidth=1)
    axes.set_xscale("log", base=2)
    axes.set_yscale("log", base=2)
    axes.set_xticks(sizes, [str(size) for size in sizes])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter("{x:g}")
    axes.margins(0.12)
    axes.set(title="Step time by batch size, with images/s", xlabel="Batch size", ylabel="ms")


def _share(axes: Axes, content: dict[str, Any]) -> None:
    pairs = content["details"]["end_to_end"]
    _bars(axes, {"step alone": pairs["alone"], "end to end": pairs["whole"]}, [PEER, BLUE])
    axes.set_title(f"The whole loop: {pairs['ratio']['paired']:.1%} of the step alone")
    axes.set_xlabel("images/s")
