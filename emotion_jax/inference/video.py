"""Video: frames with their time, the faces in them, and who is who from frame to frame."""

import contextlib
import math
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from emotion_jax.inference.decoding import behind, pyav
from emotion_jax.inference.face import Face
from emotion_jax.inference.recognizer import Recognizer
from emotion_jax.inference.tracks import PATIENCE, Track, Tracker

# Frames that are in memory at a time: 4 * WORKERS + 2 * CHUNK (see Recognizer.results).
WORKERS, CHUNK = 2, 4


class Frame(NamedTuple):
    """A frame: its number in the file, its presentation time in seconds, uint8 RGB [H, W, 3]."""

    number: int
    time: float
    image: np.ndarray


@dataclass(frozen=True)
class Seen:
    """A frame, its faces (largest first) and the number of each one's track."""

    frame: Frame
    faces: tuple[Face, ...]
    tracks: tuple[int, ...]


@dataclass(frozen=True)
class Resume:
    """Where an earlier process stopped: the last frame that it has given, and its tracks."""

    number: int
    time: float
    tracks: tuple[Track, ...] = ()
    next_track: int = 0


def recognize(
    recognizer: Recognizer,
    path: Path,
    fps: float = 0.0,
    smooth: float = 0.0,
    after: Resume | None = None,
) -> Iterator[Seen]:
    """The faces of a video, frame by frame; memory does not grow with its length.

    Args:
      recognizer: finds and names.
      path: of the video.
      fps: frames a second that are looked at; 0: every one.
      smooth: time constant of the smoothing of a track's probabilities, seconds; 0: none.
      after: go on behind this frame.

    Raises:
      BadImage: it cannot be read.
      UserError: PyAV is not installed.
    """
    tracker = Tracker(smooth, max(PATIENCE, 2 / fps) if fps else PATIENCE)
    if after is not None:
        tracker.restore(after.tracks, after.next_track)
    pending: deque[Frame] = deque()

    def images() -> Iterator[np.ndarray]:
        for frame in frames(path, fps, after):
            pending.append(frame)
            yield frame.image

    for result in recognizer.results(images(), CHUNK, WORKERS):
        frame = pending.popleft()
        probs = np.array([list(face.probs.values()) for face in result.faces], np.float32)
        tracks = tracker.update(frame.time, [face.box for face in result.faces], probs)
        faces = (
            recognizer.face(face.box, face.det_score, face.landmarks, track.probs)
            for face, track in zip(result.faces, tracks, strict=True)
        )
        yield Seen(frame, tuple(faces), tuple(track.number for track in tracks))


def frames(path: Path, fps: float = 0.0, after: Resume | None = None) -> Iterator[Frame]:
    """Decode a video, upright, one frame at a time.

    The time is the frame's own presentation timestamp, so that it is right where frames come at a
    variable rate; AVI with B-frames has none, there frames are counted at the mean rate. Packets
    that are damaged are passed over.

    Args:
      path: of the video.
      fps: of the frames in each 1/fps of a second the first is given; 0: every one.
      after: go on behind this frame.

    Raises:
      BadImage: it cannot be read.
      UserError: PyAV is not installed.
    """
    number, last = (after.number, after.time) if after else (-1, -math.inf)
    slot = None
    for frame, time, start in behind(path, last):
        number += 1
        if fps:
            slot = _slot(last, start, fps) if slot is None else slot
            if _slot(time, start, fps) <= slot:
                continue
            slot = _slot(time, start, fps)
        yield Frame(number, time, _upright(frame))


def length(path: Path, fps: float = 0.0) -> int | None:
    """About how many frames ``frames`` gives; None where the file does not say."""
    av = pyav()
    name = str(path.absolute())  # as in decoding
    with contextlib.suppress(av.error.FFmpegError, OSError, ValueError), av.open(name) as file:
        if file.streams.video:
            stream = file.streams.video[0]
            seconds = float(file.duration or 0) / av.time_base
            all_frames = stream.frames or seconds * float(stream.average_rate or 0)
            return int(min(all_frames, seconds * fps) if fps else all_frames) or None
    return None


def _slot(time: float, start: float, fps: float) -> float:
    if not fps or math.isinf(time):
        return -math.inf
    return math.floor((time - start) * fps + 1e-6)


def _upright(frame: Any) -> np.ndarray:
    """RGB, turned as the file says: telephones store portraits lying on their side."""
    image = frame.to_ndarray(format="rgb24")
    turns = round(frame.rotation / 90) % 4
    return np.ascontiguousarray(np.rot90(image, turns)) if turns else image
