"""What is drawn of a video: the film with its faces framed and named, and their timeline."""

import contextlib
import secrets
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any, Self

import numpy as np
from PIL import Image

from emotion_jax.errors import UserError
from emotion_jax.files import write_bytes_atomic
from emotion_jax.inference import annotate, places
from emotion_jax.inference.timeline import Timeline
from emotion_jax.inference.video import Seen, pyav

SIDE = 4096  # pixels of the film at most: what players decode, and far less than x264 takes
TIME_BASE = Fraction(1, 60_000)  # of the film: holds all usual frame rates exactly


class Reel:
    """``TARGET.mp4`` and ``TARGET-timeline.png``; a context, and nothing is left where it fails."""

    def __init__(self, target: Path, classes: tuple[str, ...]) -> None:
        """Name the files; they appear when the context is left."""
        self._target = target
        self._timeline = Timeline(classes)
        self._film: Film | None = None
        self._start = 0.0

    def add(self, seen: Seen) -> None:
        """Draw a frame.

        Raises:
          UserError: FFmpeg does not make the film.
          OSError: it cannot be written.
        """
        image = Image.fromarray(seen.frame.image)
        picture = annotate.draw(image, seen.faces, seen.tracks, SIDE)
        with _reported(places.film(self._target)):
            if self._film is None:
                self._target.parent.mkdir(parents=True, exist_ok=True)
                self._film = Film(places.film(self._target), *picture.size)
                self._start = seen.frame.time
            self._film.add(picture, seen.frame.time - self._start)
        for face, track in zip(seen.faces, seen.tracks, strict=True):
            self._timeline.add(seen.frame.time, track, list(face.probs.values()))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: Any, *rest: Any) -> None:
        if self._film is None:
            return
        if kind is not None:
            self._film.abandon()
            return
        try:
            chart = annotate.marked_png(self._timeline.png(self._target.name))
            write_bytes_atomic(places.chart(self._target), chart)
            with _reported(places.film(self._target)):
                self._film.close()  # last: where there is a film, all of it is there
        except BaseException:
            self._film.abandon()
            places.chart(self._target).unlink(missing_ok=True)
            raise


class Film:
    """A video of annotated frames, H.264 where there is an encoder, at the times of the source."""

    def __init__(self, path: Path, width: int, height: int) -> None:
        """Begin ``path``, which appears when the film is closed; sizes are made even."""
        self._av = pyav()
        self._path = path
        self._temporary = path.with_name(f".{secrets.token_hex(8)}.tmp")
        self._size = max(2, width // 2 * 2), max(2, height // 2 * 2)
        name = str(self._temporary.absolute())  # as in decoding
        self._file = self._av.open(name, "w", format="mp4")
        self._file.metadata["comment"] = annotate.MARK
        codec = "libx264" if "libx264" in self._av.codecs_available else "mpeg4"
        stream: Any = self._file.add_stream(codec, rate=30)
        stream.width, stream.height = self._size
        stream.pix_fmt = "yuv420p"
        stream.codec_context.time_base = TIME_BASE
        self._stream, self._last = stream, -1

    def add(self, picture: Image.Image, time: float) -> None:
        """Add a frame, ``time`` seconds from the beginning."""
        if picture.size != self._size:
            # An odd row or column less; or the source has changed its size.
            even = (picture.width // 2 * 2, picture.height // 2 * 2)
            is_odd = even == self._size
            picture = picture.crop((0, 0, *even)) if is_odd else picture.resize(self._size)
        frame = self._av.VideoFrame.from_ndarray(np.asarray(picture), format="rgb24")
        self._last = max(round(time / TIME_BASE), self._last + 1)
        frame.pts, frame.time_base = self._last, TIME_BASE
        self._file.mux(self._stream.encode(frame))

    def close(self) -> None:
        """Finish the file and give it its name."""
        self._file.mux(self._stream.encode())
        self._file.close()
        self._temporary.replace(self._path)

    def abandon(self) -> None:
        """Delete what there is of it."""
        # A full disk, which was why.
        with contextlib.suppress(self._av.error.FFmpegError, OSError, ValueError):
            self._file.close()
        self._temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def _reported(film: Path) -> Iterator[None]:
    """FFmpeg's own errors as a sentence about the film; OSErrors stay, which some of them are."""
    try:
        yield
    except OSError:
        raise
    except pyav().error.FFmpegError as error:
        raise UserError(
            f"Cannot write the film {film}: {error.strerror or error}; leave out --annotate, or "
            "choose another folder for it."
        ) from None
