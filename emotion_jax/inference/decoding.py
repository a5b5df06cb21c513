"""The frames of a video file as PyAV gives them, each with its time."""

import contextlib
import math
from collections.abc import Generator, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

from emotion_jax.data.preprocess import BadImage
from emotion_jax.errors import UserError

# Containers where a jump may land between two keyframes, and what is decoded there be damaged.
UNINDEXED = frozenset(("avi", "mpeg", "mpegts"))


class Timed(NamedTuple):
    """A frame of PyAV, its presentation time and that at which the video starts, seconds."""

    frame: Any
    time: float
    start: float


def behind(path: Path, last: float) -> Iterator[Timed]:
    """The frames behind a time; what lies before it is jumped over where the file can do that.

    Raises:
      BadImage: it cannot be read.
      UserError: PyAV is not installed.
    """
    if not math.isinf(last):
        is_seen = False
        with contextlib.closing(_timed(path, last)) as sought:
            for one in sought:
                if one.time > last and not is_seen:
                    break
                is_seen = is_seen or abs(one.time - last) < 1e-4
                if one.time > last:
                    yield one
        if is_seen:
            return
        # The jump went too far, or there was none.
    yield from (one for one in _timed(path) if one.time > last)


def _timed(path: Path, seek: float | None = None) -> Generator[Timed, None, None]:
    """All frames, or with ``seek`` some that come before that time and all behind, or none."""
    av = pyav()
    try:
        # Absolute: of a relative path FFmpeg takes what is before a colon for a protocol.
        container = av.open(str(path.absolute()))
    except (av.error.FFmpegError, OSError, ValueError) as error:
        raise BadImage(f"not a video that can be read ({_reason(error)})") from None
    with container:
        if not container.streams.video:
            raise BadImage("no video in it")
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        start = float((stream.start_time or 0) * (stream.time_base or 0))
        # AVI knows the order of decoding alone; frames come out in that of presentation.
        is_counted = container.format.name == "avi" and stream.codec_context.has_b_frames
        if seek is not None:
            if container.format.name in UNINDEXED:
                return
            with contextlib.suppress(av.error.FFmpegError):  # then it goes from its beginning
                container.seek(int(seek / stream.time_base), stream=stream)
        for number, frame in enumerate(_decoded(av, container, stream)):
            if is_counted or frame.pts is None:  # or a raw stream, without timestamps
                if seek is not None:
                    return
                yield Timed(frame, start + float(number / (stream.average_rate or 25)), start)
            else:
                yield Timed(frame, float(frame.pts * Fraction(frame.time_base)), start)


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
