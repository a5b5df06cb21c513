import errno
import io
import os
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from emotion_jax.errors import UserError
from emotion_jax.inference import annotate
from emotion_jax.inference import reel as reel_lib
from emotion_jax.inference.face import Face
from emotion_jax.inference.reel import Reel
from emotion_jax.inference.timeline import BINS, FACES, Timeline
from emotion_jax.inference.video import Frame, Seen, frames

CLASSES = ("sad", "happy")


def face(box, label="happy", **more):
    row = {"sad": 0.2, "happy": 0.8}
    return Face(box, 1.0, None, label, row[label], row, **more)


def seen(number, time, *faces, size=(63, 81)):
    image = np.full((*size, 3), 100, np.uint8)
    return Seen(Frame(number, time, image), faces, tuple(range(len(faces))))


def test_faces_are_framed_and_the_image_stays():
    image = Image.new("RGB", (400, 300), (90, 90, 90))
    picture = annotate.draw(image, [face((100, 100, 80, 90))])
    assert np.ptp(np.asarray(image)) == 0
    changed = (np.asarray(picture) != 90).any(axis=2)
    assert changed[145, 99:104].any()  # the left side of the frame
    assert changed[70:100, 100:180].mean() > 0.4  # its name above
    assert not changed[110:180, 110:170].any()
    assert not changed[220:].any()


@pytest.mark.parametrize(
    "box", [(-50, -50, 80, 90), (380, 280, 60, 60), (0, 0, 400, 300), (9, 9, 1, 1)]
)
@pytest.mark.parametrize("mode", ["L", "RGB", "P"])
def test_faces_at_the_edges(box, mode):
    image = Image.new("RGB", (400, 300), (90, 90, 90)).convert(mode)
    changed = np.asarray(annotate.draw(image, [face(box)])) != 90
    assert changed.any()


def test_who_is_unsure_is_grey_and_tracks_are_numbered():
    image = Image.new("RGB", (400, 300))
    sure = annotate.draw(image, [face((100, 100, 80, 90))])
    unsure = annotate.draw(image, [face((100, 100, 80, 90), abstained=True)])
    numbered = annotate.draw(image, [face((100, 100, 80, 90))], [7])
    assert (
        np.ptp(np.asarray(unsure)[145, 101].astype(int))
        < 40
        < np.ptp(np.asarray(sure)[145, 101].astype(int))
    )
    assert (np.asarray(numbered) != np.asarray(sure)).any()


def test_a_film_has_the_times_of_its_frames(tmp_path):
    times = [3.0, 3.04, 3.5, 3.503, 9.0]
    with Reel(tmp_path / "sub" / "film", CLASSES) as reel:
        for i, time in enumerate(times):
            reel.add(seen(i, time, face((10, 20, 30, 30))))
        assert not (tmp_path / "sub" / "film.mp4").exists()
    made = list(frames(tmp_path / "sub" / "film.mp4"))
    np.testing.assert_allclose([f.time for f in made], np.array(times) - 3.0, atol=1e-4)
    assert made[0].image.shape == (62, 80, 3)
    assert sorted(p.name for p in (tmp_path / "sub").iterdir()) == [
        "film-timeline.png", "film.mp4",
    ]  # fmt: skip
    with Image.open(tmp_path / "sub" / "film-timeline.png") as chart:
        assert chart.width > 800


def test_a_film_that_fails_leaves_nothing(tmp_path):
    def fail():
        with Reel(tmp_path / "film", CLASSES) as reel:
            reel.add(seen(0, 0.0))
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert list(tmp_path.iterdir()) == []
    with Reel(tmp_path / "none", CLASSES):
        pass
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["12:30/film", os.fsdecode(b"f\xff")])
def test_a_film_of_any_name(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    target = Path(name)
    with Reel(target, CLASSES) as made:
        made.add(seen(0, 0.0, face((10, 20, 30, 30))))
    assert len(list(frames(target.with_name(f"{target.name}.mp4")))) == 1
    assert sorted(os.listdir(target.parent)) == [
        f"{target.name}-timeline.png",
        f"{target.name}.mp4",
    ]


def test_what_ffmpeg_says_is_a_sentence_about_the_film(tmp_path, monkeypatch):
    def fail(*args):
        raise av.error.ExternalError(1, "Generic error in an external library")

    class Broken:
        """A container that takes nothing, not even its end."""

        mux = close = fail

    def make():
        with Reel(tmp_path / "film", CLASSES) as made:
            made.add(seen(0, 0.0))
            monkeypatch.setattr(made._film, "_file", Broken())
            made.add(seen(1, 0.1))

    with pytest.raises(UserError, match=r"Cannot write the film .*film\.mp4: Generic error in an"):
        make()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("size", [(70_000, 20), (3, 70_000), (1_000_000, 1)])
def test_a_picture_that_is_longer_than_jpeg(size):
    width, height = size
    image = Image.new("RGB", size, (90, 90, 90))
    drawn = annotate.draw(image, [face((0, 0, width, height)), face((width / 2, height / 2, 9, 9))])
    with Image.open(io.BytesIO(annotate.jpeg(drawn))) as picture:
        assert max(picture.size) == 65_500
        ratio = picture.width / width, picture.height / height
        assert ratio[width < height] == pytest.approx(65_500 / max(size))
    assert np.ptp(np.asarray(drawn)) > 50
    assert image.size == size


def test_faces_are_framed_where_they_are_in_what_was_shrunk():
    image = Image.new("RGB", (4000, 3000), (90, 90, 90))
    picture = annotate.draw(image, [face((1000, 1000, 800, 900))], side=400)
    same = annotate.draw(Image.new("RGB", (400, 300), (90, 90, 90)), [face((100, 100, 80, 90))])
    np.testing.assert_array_equal(picture, same)


@pytest.mark.parametrize("is_mpeg4", [False, True])
@pytest.mark.parametrize("size", [(16, 17_000), (17_000, 3)])
def test_a_film_that_is_longer_than_its_codec(tmp_path, monkeypatch, size, is_mpeg4):
    if is_mpeg4:
        monkeypatch.setattr(av, "codecs_available", {"mpeg4"})
    with Reel(tmp_path / "film", CLASSES) as reel:
        for i in range(3):
            reel.add(seen(i, i / 25, face((0, 0, *size[::-1])), size=size))
    shapes = {frame.image.shape for frame in frames(tmp_path / "film.mp4")}
    assert shapes == {(4, 4096, 3) if size[0] < size[1] else (4096, 2, 3)}


@pytest.mark.parametrize("what", ["film", "chart", "timeline"])
def test_a_full_disk_at_the_end_leaves_nothing(tmp_path, monkeypatch, what):
    def full(*args):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    class FullFile:
        """A container that takes frames, and whose end does not fit the disk any more."""

        mux = close = full

    if what == "chart":
        monkeypatch.setattr(reel_lib, "write_bytes_atomic", full)
    if what == "timeline":
        monkeypatch.setattr(Timeline, "png", full)
    monkeypatch.setattr(av, "codecs_available", {"mpeg4"})  # writes without looking ahead

    def make():
        with Reel(tmp_path / "film", CLASSES) as made:
            made.add(seen(0, 0.0))
            assert len(list(tmp_path.iterdir())) == 1
            if what == "film":
                monkeypatch.setattr(made._film, "_file", FullFile())

    with pytest.raises(OSError, match="No space left"):
        make()
    assert list(tmp_path.iterdir()) == []


def test_a_source_that_changes_its_size(tmp_path):
    with Reel(tmp_path / "film", CLASSES) as reel:
        for i, size in enumerate([(63, 81), (63, 81), (200, 300), (10, 12)]):
            reel.add(seen(i, i / 25, size=size))
    assert [f.image.shape for f in frames(tmp_path / "film.mp4")] == [(62, 80, 3)] * 4


def test_without_x264(tmp_path, monkeypatch):
    monkeypatch.setattr(av, "codecs_available", {"mpeg4"})
    with Reel(tmp_path / "film", CLASSES) as reel:
        for i in range(5):
            reel.add(seen(i, i / 25))
    assert len(list(frames(tmp_path / "film.mp4"))) == 5


def test_a_timeline_is_the_mean_of_its_bins():
    timeline = Timeline(CLASSES)
    for i in range(100):
        timeline.add(10 + (i + 0.5) / 40, 0, [i % 2, 1 - i % 2])  # four in a tenth of a second
    ((track, times, probs),) = timeline.longest()
    assert track == 0
    assert times[:2] == pytest.approx([10.0625, 10.1625])
    np.testing.assert_array_equal(probs[:25], 0.5)
    assert np.isnan(probs[25:]).all()


def test_a_timelines_memory_does_not_grow():
    timeline = Timeline(CLASSES)
    for i in range(4000):
        timeline.add(i * 0.9, i // 20, [0.25, 0.75])
    assert timeline.width * BINS >= 3600
    assert len(timeline._sums) <= 16 * FACES
    assert all(sums.shape == (BINS, 3) for sums in timeline._sums.values())
    for _, _, probs in timeline.longest():
        known = probs[~np.isnan(probs[:, 0])]
        np.testing.assert_allclose(known, np.tile([0.25, 0.75], (len(known), 1)))


def test_faces_that_come_together_into_a_full_timeline_are_both_kept():
    timeline = Timeline(CLASSES)
    for track in range(16 * FACES):
        for frame in range(2):
            timeline.add(track + frame / 25, track, [0.25, 0.75])
    for frame in range(50):
        for track in (100, 101):
            timeline.add(100 + frame / 25, track, [0.5, 0.5])
    assert {track for track, *_ in timeline.longest()[:2]} == {100, 101}


@pytest.mark.parametrize("tracks", [0, 1, 6])
def test_the_chart_is_drawn_for_any_number_of_faces(tracks):
    timeline = Timeline(CLASSES)
    for track in range(tracks):
        for i in range(10 + track):
            timeline.add(i / 30, track, [0.5, 0.5])
    data = timeline.png("film $x$")
    assert data.startswith(b"\x89PNG")
    assert data == timeline.png("film $x$")
    assert len(timeline.longest()) == min(tracks, FACES)
    if tracks == 6:
        assert [track for track, _, _ in timeline.longest()] == [5, 4, 3, 2]
