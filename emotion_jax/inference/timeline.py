"""The expressions of a video's faces over time, as one chart."""

from collections.abc import Iterator, Sequence

import numpy as np
from matplotlib.figure import Figure

from emotion_jax.evaluation import plots
from emotion_jax.inference.annotate import colour
from emotion_jax.inference.tracks import PATIENCE

BINS = 600  # points in time, at most; two neighbours become one when there are more
FACES = 4  # that are drawn: those that are longest in sight


class Timeline:
    """Mean probabilities of every track in bins of equal time; memory does not grow with time."""

    def __init__(self, classes: Sequence[str]) -> None:
        self.classes = tuple(classes)
        self.width = 0.1  # of a bin, seconds; doubled whenever the bins are full
        self.start: float | None = None
        self._sums: dict[int, np.ndarray] = {}  # track -> [BINS, K + 1], the last column a count
        self._seen: dict[int, float] = {}  # track -> when it was last in sight

    def add(self, time: float, track: int, probs: Sequence[float]) -> None:
        """Take in a face: its frame's time in seconds, its track, its probabilities [K]."""
        if self.start is None:
            self.start = time
        place = max(0.0, time - self.start)
        while place >= BINS * self.width:
            self._sums = {number: _halved(sums) for number, sums in self._sums.items()}
            self.width *= 2
        if track not in self._sums:
            self._drop_shortest(time)
            self._sums[track] = np.zeros((BINS, len(self.classes) + 1))
        self._sums[track][int(place / self.width)] += [*probs, 1.0]
        self._seen[track] = time

    def longest(self) -> list[tuple[int, np.ndarray, np.ndarray]]:
        """Track, times [BINS], probabilities [BINS, K] (NaN out of sight); the longest first."""
        ranked = sorted(self._sums.items(), key=lambda item: (-_frames(item[1]), item[0]))
        times = (self.start or 0.0) + (np.arange(BINS) + 0.5) * self.width
        with np.errstate(invalid="ignore"):
            return [(n, times, sums[:, :-1] / sums[:, -1:]) for n, sums in ranked[:FACES]]

    def png(self, title: str) -> bytes:
        """The chart; every band is the probability of a class."""
        return _draw(self.longest(), self.classes, title)

    def _drop_shortest(self, time: float) -> None:
        # A crowd of passers-by shall not fill the memory. Who is in sight may become the longest.
        if len(self._sums) < 16 * FACES:
            return
        gone = [number for number, last in self._seen.items() if last < time - PATIENCE]
        dropped = min(gone or self._sums, key=lambda number: _frames(self._sums[number]))
        del self._sums[dropped], self._seen[dropped]


def _frames(sums: np.ndarray) -> float:
    return float(sums[:, -1].sum())


def _halved(sums: np.ndarray) -> np.ndarray:
    pairs = sums.reshape(BINS // 2, 2, -1).sum(axis=1)
    return np.concatenate([pairs, np.zeros_like(pairs)])


@plots.png
def _draw(
    tracks: Sequence[tuple[int, np.ndarray, np.ndarray]], classes: Sequence[str], title: str
) -> Figure:
    n = max(1, len(tracks))
    figure = Figure(figsize=(9, 1.1 + 1.7 * n), layout="constrained")
    panels = figure.subplots(n, 1, sharex=True, squeeze=False)[:, 0]
    figure.suptitle(plots.label(title, 80), x=0.01, ha="left", weight="bold", size=11)
    colours = [colour(place) for place in range(len(classes))]
    for axes, (number, times, probs) in zip(panels, tracks, strict=False):
        for start, shares in _stretches(times, probs):
            axes.stackplot(start, shares.T, colors=colours, linewidth=0)
        axes.set(ylim=(0, 1), yticks=[0, 0.5, 1])
        axes.set_title(f"face #{number}")
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
        axes.grid(visible=False)
    if not tracks:
        panels[0].text(0.5, 0.5, "no face", ha="center", transform=panels[0].transAxes)
    panels[-1].set_xlabel("seconds")
    handles = [
        panels[0].fill_between([], [], [], color=shade, label=name)
        for shade, name in zip(colours, classes, strict=True)
    ]
    figure.legend(handles=handles, loc="outside right center", reverse=True)
    return figure


def _stretches(times: np.ndarray, probs: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Times and probabilities where the face was in sight; short gaps are bridged."""
    known = np.flatnonzero(~np.isnan(probs[:, 0]))
    gaps = np.diff(times[known])
    longest = max(PATIENCE, 3 * float(np.median(gaps))) if len(gaps) else 0.0
    for part in np.split(known, np.flatnonzero(gaps > longest) + 1):
        half = (times[1] - times[0]) / 2
        ends = [times[part[0]] - half, *times[part], times[part[-1]] + half]
        yield np.array(ends), probs[[part[0], *part, part[-1]]]
