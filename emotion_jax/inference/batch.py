"""Many files: images together, videos one by one, rows and pictures written as they come."""

import contextlib
import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePath

import numpy as np
from tqdm.auto import tqdm

from emotion_jax.data.preprocess import BadImage
from emotion_jax.errors import UserError
from emotion_jax.files import write_bytes_atomic
from emotion_jax.inference import annotate, images, places, video
from emotion_jax.inference.recognizer import Recognizer, Result
from emotion_jax.inference.reel import Reel
from emotion_jax.inference.rows import Output, error_row, rows_of
from emotion_jax.inference.sources import Input
from emotion_jax.inference.tracks import Track
from emotion_jax.inference.video import Seen
from emotion_jax.inference.written import Row


class Batch:
    """Work through files.

    Attributes:
      read: files that could be read, those of earlier processes included.
      bad: files that could not.
      faces: found by this process.
      known: files that were in the output already and are not done again.
    """

    def __init__(
        self,
        recognizer: Recognizer,
        output: Output,
        pictures: Path | None = None,
        fps: float = 0.0,
        smooth: float = 0.0,
    ) -> None:
        """Prepare.

        Args:
          recognizer: finds and names.
          output: takes the rows.
          pictures: folder for annotated files; none are made without.
          fps: see ``video.recognize``.
          smooth: see ``video.recognize``.
        """
        self._recognizer, self._output = recognizer, output
        self._pictures, self._fps, self._smooth = pictures, fps, smooth
        self.read = self.bad = self.faces = self.known = 0

    def run(self, inputs: Sequence[Input]) -> None:
        """Look at every file that is not in the output yet.

        Raises:
          UserError: something that is needed is not installed, a video of the output is not
            finished and not among the files, a picture would take the place of an input or of
            another's file, or one would not be drawn as the file's rows are in the output already;
            then nothing was done.
          OSError: the output or a picture cannot be written.
        """
        names, unfinished = {one.name for one in inputs}, self._output.unfinished
        if unfinished in self._output.before.done and unfinished not in names:
            raise UserError(
                f"{unfinished} is not finished in the output, and its rows stay together: name it "
                "again as well, or choose another --out."
            )
        targets = places.targets([one for one in inputs if one.error is None])
        todo, there = [], []
        for one in inputs:
            known = self._output.before.done.get(one.name)
            if known is None or self._is_open(one):
                todo.append(one)
            else:
                there.append(one)
                self.known += 1
                self._count(known)
        if self._pictures is not None:
            there, drawn = ([one for one in some if one.name in targets] for some in (there, todo))
            self._check_drawn(self._pictures, there, targets)
            places.check([self._pictures / targets[one.name] for one in drawn], drawn, inputs)
        # What was begun comes first: its rows are the last in the output.
        todo.sort(key=lambda one: not self._is_open(one))
        for is_video, group in itertools.groupby(todo, lambda one: one.is_video):
            if is_video:
                for one in group:
                    self._video(one, targets[one.name])
            else:
                self._images(list(group), targets)

    def summary(self) -> str:
        """One line."""
        bad = f", {self.bad} unreadable" if self.bad else ""
        files, faces = self.read + self.bad, self.faces
        known = f", {self.known} there already and not done again" if self.known else ""
        return (
            f"{files} file{'s'[: files != 1]}, {faces} face{'s'[: faces != 1]} found now"
            f"{bad}{known}"
        )

    def _check_drawn(
        self, folder: Path, there: Sequence[Input], targets: dict[str, PurePath]
    ) -> None:
        """Refuse to leave out pictures of files that are not looked at again."""
        for one in there:
            target = folder / targets[one.name]
            place = places.film(target) if one.is_video else places.picture(target)
            if one.name not in self._output.before.failed and not place.exists():
                raise UserError(
                    f"{one.name} is in the output already, so it would not be drawn to {place}; "
                    "choose another --out, or leave out --annotate."
                )

    def _is_open(self, one: Input) -> bool:
        """Whether it is a video that an earlier process may have stopped within."""
        last = self._output.before.last
        if not (one.is_video and last and last[0]["path"] == one.name):
            return False
        # To draw it all of its rows would be cut. To go on behind its last frame cuts nothing, and
        # brings back what a machine that lost its power has not written.
        is_finished = self._output.is_noted and self._output.unfinished != one.name
        return self._pictures is None or not is_finished

    def _images(self, inputs: Sequence[Input], targets: dict[str, PurePath]) -> None:
        results = self._recognizer.results(one.path for one in inputs if one.error is None)
        for one in tqdm(inputs, "images", unit="img"):
            result = next(results) if one.error is None else Result(error=one.error)
            if result.error is None and self._pictures is not None:
                self._picture(one, result, self._pictures / targets[one.name])
            self._result(one, result)

    def _result(self, one: Input, result: Result) -> None:
        self._count(result.error is None)
        self.faces += len(result.faces)
        if result.error is not None:
            self._output.write(error_row(one.name, result.error))
        else:
            self._output.write(rows_of(one.name, result.faces))

    def _picture(self, one: Input, result: Result, target: Path) -> None:
        # Read once more: to keep every image until its faces are named would take much memory.
        try:
            image = images.open_image(one.path, self._recognizer.preprocess)
        except BadImage:  # it was there a moment ago
            return
        picture = annotate.draw(image, result.faces)
        target.parent.mkdir(parents=True, exist_ok=True)
        write_bytes_atomic(places.picture(target), annotate.jpeg(picture))

    def _video(self, one: Input, target: PurePath) -> None:
        film = None if self._pictures is None else self._pictures / target
        after = None
        if self._is_open(one):
            before = self._output.before
            is_failed = before.last[-1].get("error") is not None
            if is_failed or (film is not None and places.film(film).exists()):
                self.known += 1
                self._count(before.done[one.name])
                self._output.note_video(None)
                return
            if film is None:
                after = _resume(before.last, before.next_track)
            else:  # half a film is of no use
                self._output.forget_last()
        if film is not None:  # it shall be there when it is finished, and not before
            places.film(film).unlink(missing_ok=True)
        self._output.note_video(one.name)
        given = 0
        try:
            for _ in self._frames(one, after, film):
                given += 1
            if not given and after is None:
                raise BadImage("no frame in it can be decoded")
            self._count(True)
        except BadImage as error:
            self._output.write(error_row(one.name, str(error)))
            self._count(given > 0 or after is not None)
        self._output.note_video(None)

    def _frames(self, one: Input, after: video.Resume | None, film: Path | None) -> Iterator[Seen]:
        seen = video.recognize(self._recognizer, one.path, self._fps, self._smooth, after)
        total = video.length(one.path, self._fps)
        reel = None if film is None else Reel(film, self._recognizer.classes)
        with reel or contextlib.nullcontext():
            for frame in tqdm(seen, one.path.name, total, unit="frame"):
                if reel is not None:
                    reel.add(frame)
                self.faces += len(frame.faces)
                where = (frame.frame.number, frame.frame.time)
                self._output.write(rows_of(one.name, frame.faces, *where, frame.tracks))
                yield frame

    def _count(self, is_read: bool) -> None:
        self.read += is_read
        self.bad += not is_read


def _resume(rows: Sequence[Row], next_track: int) -> video.Resume:
    """Where a video goes on behind these rows."""
    tracks = {}
    for row in rows:
        if row.get("track") is not None:
            probs = np.array(list(row["probs"].values()), np.float32)
            tracks[row["track"]] = Track(row["track"], tuple(row["box"]), row["time"], probs)
    return video.Resume(rows[-1]["frame"], rows[-1]["time"], tuple(tracks.values()), next_track)
