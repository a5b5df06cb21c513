"""Video: frames with their time, the faces in them, and who is who from frame to frame."""

import contextlib
import math
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from emotion_jax.data.preprocess import BadImage
from emotion_jax.errors import UserError
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
    variable rate. Packets that are damaged are passed over.

    Args:
      path: of the video.
      fps: of the frames in each 1/fps of a second the first is given; 0: every one.
      after: go on behind this frame.

    Raises:
      BadImage: it cannot be read.
      UserError: PyAV is not installed.
    """
    av = pyav()
    try:
        container = av.open(str(path))
    except (av.error.FFmpegError, OSError, ValueError) as error:
        raise BadImage(f"not a video that can be read ({_reason(error)})") from None
    with container:
        if not container.streams.video:
            raise BadImage("no video in it")
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        start = float((stream.start_time or 0) * (stream.time_base or 0))
        number, last = (after.number, after.time) if after else (-1, -math.inf)
        slot = _slot(last, start, fps)
        if after is not None:
            _seek(av, container, stream, last)
        for frame in _decoded(av, container, stream):
            time = _time(frame, stream, number + 1)
            if time <= last:
                continue
            number += 1
            if fps:
                if _slot(time, start, fps) <= slot:
                    continue
                slot = _slot(time, start, fps)
            yield Frame(number, time, _upright(frame))


def length(path: Path, fps: float = 0.0) -> int | None:
    """About how many frames ``frames`` gives; None where the file does not say."""
    av = pyav()
    with contextlib.suppress(av.error.FFmpegError, OSError, ValueError), av.open(str(path)) as file:
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


def _time(frame: Any, stream: Any, number: int) -> float:
    if frame.pts is not None:
        return float(frame.pts * Fraction(frame.time_base))
    return float(number / (stream.average_rate or 25))  # a raw stream, without timestamps


def _decoded(av: Any, container: Any, stream: Any) -> Iterator[Any]:
    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets, None)
            if packet is None:
                return
            yield from packet.decode()
        except av.error.EOFError:
            return
        except av.error.InvalidDataError:
            continue
        except (av.error.FFmpegError, ValueError) as error:
            raise BadImage(f"a damaged video ({_reason(error)})") from None


def _seek(av: Any, container: Any, stream: Any, time: float) -> None:
    with contextlib.suppress(av.error.FFmpegError):  # then it is decoded from its beginning
        container.seek(int(time / stream.time_base), stream=stream)


def _upright(frame: Any) -> np.ndarray:
    """RGB, turned as the file says: telephones store portraits lying on their side."""
    image = frame.to_ndarray(format="rgb24")
    turns = round(frame.rotation / 90) % 4
    return np.ascontiguousarray(np.rot90(image, turns)) if turns else image


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)


def pyav() -> Any:
    """The module ``av``.

    Raises:
      UserError: it is not installed.
    """
    try:
        import av
    except ImportError:
        raise UserError(
            'Reading video needs PyAV; install it: pip install "emotion-jax[video]".'
        ) from None
    return av
