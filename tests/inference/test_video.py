import os
import resource
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from emotion_jax.data.preprocess import BadImage
from emotion_jax.errors import UserError
from emotion_jax.inference import decoding, video


def pictures(n, height=32, width=48):
    """Frames whose grey tells which they are."""
    return [np.full((height, width, 3), 6 * i % 256, np.uint8) for i in range(n)]


def resume_at(seen):
    """What ``recognize`` needs to go on behind the last of these."""
    last = seen[-1]
    tracks = tuple(
        video.Track(number, face.box, last.frame.time, np.float32(list(face.probs.values())))
        for face, number in zip(last.faces, last.tracks, strict=True)
    )
    most = max((number for one in seen for number in one.tracks), default=-1)
    return video.Resume(last.frame.number, last.frame.time, tracks, most + 1)


def variable(n, seed=0):
    """Times in milliseconds with gaps of 5 to 400."""
    return np.cumsum(np.random.default_rng(seed).integers(5, 400, n))


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.mov", "a.avi"])
def test_every_frame_at_its_own_time(film, name):
    times = np.arange(40) * 40 if name == "a.avi" else variable(40)  # avi has no other
    base = Fraction(1, 25) if name == "a.avi" else Fraction(1, 1000)
    units = np.arange(40) if name == "a.avi" else times
    path = film(name, pictures(40), units, base)
    frames = list(video.frames(path))
    assert [frame.number for frame in frames] == list(range(40))
    np.testing.assert_allclose([frame.time for frame in frames], times / 1000, atol=1e-6)
    greys = [frame.image.mean() for frame in frames]
    np.testing.assert_allclose(greys, 6 * np.arange(40), atol=5)
    assert frames[0].image.shape == (32, 48, 3)


def test_a_moving_gif_is_a_video(tmp_path):
    stills = [Image.new("RGB", (32, 32), (60 * i, 0, 0)) for i in range(4)]
    stills[0].save(
        tmp_path / "a.gif", save_all=True, append_images=stills[1:], duration=[100, 250, 40, 100]
    )
    frames = list(video.frames(tmp_path / "a.gif"))
    assert [frame.time for frame in frames] == pytest.approx([0, 0.1, 0.35, 0.39])


def test_the_first_frame_need_not_be_at_zero(film):
    path = film("late.mkv", pictures(3), [5000, 5040, 9000])
    assert [frame.time for frame in video.frames(path)] == [5.0, 5.04, 9.0]


@pytest.mark.parametrize("fps", [0.5, 3.0, 24.0, 1000.0])
def test_sampling_takes_the_first_frame_of_each_slot(film, fps):
    times = variable(60) / 1000
    path = film("a.mkv", pictures(60), variable(60))
    start = times[0]
    slots, expected = set(), []
    for i, time in enumerate(times):
        slot = np.floor((time - start) * fps + 1e-6)
        if slot not in slots:
            expected.append(i)
            slots.add(slot)
    frames = list(video.frames(path, fps))
    assert [frame.number for frame in frames] == expected
    np.testing.assert_allclose([frame.time for frame in frames], times[expected])


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
@pytest.mark.parametrize("fps", [0.0, 4.0])
@pytest.mark.parametrize("stop", [0, 17, 58])
def test_going_on_behind_any_frame(film, name, fps, stop):
    path = film(name, pictures(60), variable(60))
    whole = [(frame.number, frame.time) for frame in video.frames(path, fps)]
    done = [one for one in whole if one[0] <= stop]
    rest = video.frames(path, fps, video.Resume(*done[-1]))
    assert done + [(frame.number, frame.time) for frame in rest] == whole


@pytest.mark.parametrize(
    ("name", "codec", "b_frames"),
    [
        ("a.mpg", "mpeg1video", 2), ("a.m2ts", "libx264", 3), ("a.mts", "mpeg2video", 2),
        ("a.avi", "mpeg4", 0), ("b.avi", "mpeg4", 2), ("c.avi", "libx264", 3),
        ("a.mp4", "libx264", 3), ("a.flv", "libx264", 3),
    ],
)  # fmt: skip
@pytest.mark.parametrize("fps", [0.0, 5.0])
def test_going_on_in_any_container_loses_no_frame(film, name, codec, b_frames, fps):
    more = {"codec": codec, "b_frames": b_frames, "gop": 12}
    moving = np.zeros((60, 120, 160, 3), np.uint8)  # plain grey has few B-frames
    for i, picture in enumerate(moving):
        picture[:, : 2 * i + 1] = 200
    path = film(name, moving, np.arange(60), Fraction(1, 25), **more)
    assert len(list(video.frames(path))) == 60
    whole = list(video.frames(path, fps))
    greys = [frame.image.mean() for frame in whole]
    np.testing.assert_allclose(greys, [moving[frame.number].mean() for frame in whole], atol=2)
    times = np.array([frame.time for frame in whole]) - whole[0].time
    np.testing.assert_allclose(times, [frame.number / 25 for frame in whole], atol=1e-3)
    for stop in range(0, len(whole), 5 if fps else 9):
        after = video.Resume(whole[stop].number, whole[stop].time)
        rest = list(video.frames(path, fps, after))
        assert [one[:2] for one in rest] == [one[:2] for one in whole[stop + 1 :]]
        for one, other in zip(rest, whole[stop + 1 :], strict=True):
            assert one.image.mean() == pytest.approx(other.image.mean(), abs=1)


def test_faces_tracks_and_smoothing(finder, astronaut, film):
    views = [astronaut[20:220, 80 + 4 * i : 320 + 4 * i] for i in range(8)]
    views[4] = np.zeros_like(views[4])
    path = film("a.mp4", views, np.arange(8) * 100)
    plain = list(video.recognize(finder, path))
    smooth = list(video.recognize(finder, path, smooth=0.3))
    assert [one.tracks for one in plain] == [(0,)] * 4 + [()] + [(0,)] * 3
    assert [one.tracks for one in smooth] == [one.tracks for one in plain]
    before, time = None, 0.0
    for rough, even in zip(plain, smooth, strict=True):
        if rough.faces:
            row = np.array(list(rough.faces[0].probs.values()))
            if before is not None:
                row = before + (1 - np.exp(-(rough.frame.time - time) / 0.3)) * (row - before)
            before, time = row, rough.frame.time
            np.testing.assert_allclose(list(even.faces[0].probs.values()), row, atol=1e-5)
            assert even.faces[0].score == max(even.faces[0].probs.values())
    part = smooth[:3]
    rest = list(video.recognize(finder, path, smooth=0.3, after=resume_at(part)))
    assert [one.frame.number for one in part + rest] == list(range(8))
    for one, other in zip(part + rest, smooth, strict=True):
        assert one.tracks == other.tracks
        for face, wanted in zip(one.faces, other.faces, strict=True):
            np.testing.assert_allclose(
                list(face.probs.values()), list(wanted.probs.values()), atol=1e-5
            )


def test_portraits_are_stored_lying_on_their_side(film, monkeypatch):
    picture = np.zeros((32, 48, 3), np.uint8)
    picture[:, :16] = 255
    path = film("a.mp4", [picture], [0])

    class Turned:
        def __init__(self, frame):
            self.pts, self.time_base, self.rotation = frame.pts, frame.time_base, 90
            self.to_ndarray = frame.to_ndarray

    decoded = decoding._decoded
    monkeypatch.setattr(decoding, "_decoded", lambda *args: map(Turned, decoded(*args)))
    (frame,) = video.frames(path)
    assert frame.image.shape == (48, 32, 3)
    # Turned counter-clockwise the left side comes to lie at the bottom.
    assert frame.image[-8:].mean() > 240
    assert frame.image[:24].mean() < 15


def test_a_length_for_the_progress_bar(film):
    path = film("a.mp4", pictures(50), np.arange(50) * 40)
    assert video.length(path) == 50
    assert video.length(path, fps=5.0) == 10
    assert video.length(path.with_name("gone.mp4")) is None


def test_a_relative_path_with_a_colon_is_no_protocol(film, tmp_path, monkeypatch):
    film("part2:a.mp4", pictures(3), [0, 40, 80])
    monkeypatch.chdir(tmp_path)
    assert len(list(video.frames(Path("part2:a.mp4")))) == 3
    assert video.length(Path("part2:a.mp4")) == 3


@pytest.mark.parametrize("data", [b"", b"hello", b"\0" * 1000, b"RIFF\0\0\0\0AVI "])
def test_no_video(tmp_path, data):
    path = tmp_path / "a.mp4"
    path.write_bytes(data)
    with pytest.raises(BadImage, match="not a video that can be read"):
        list(video.frames(path))


def test_a_cut_or_damaged_video_gives_what_is_left(film):
    path = film("a.mkv", pictures(60), np.arange(60) * 40)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) * 2 // 3])
    frames = list(video.frames(path))
    assert 20 < len(frames) < 60
    np.testing.assert_allclose([f.time for f in frames], np.arange(len(frames)) * 0.04, atol=1e-3)
    rng = np.random.default_rng(0)
    outcomes = []
    for _ in range(20):
        data = bytearray(whole)
        for place in rng.integers(0, len(data), 20):
            data[place] = rng.integers(256)
        path.write_bytes(data)
        try:
            frames = list(video.frames(path))
        except BadImage as error:
            outcomes.append(str(error))
        else:
            # A time that is itself damaged is reported as it is written there.
            assert [frame.number for frame in frames] == list(range(len(frames)))
            outcomes.append("read")
    assert "read" in outcomes
    assert all(0 < len(outcome) < 200 for outcome in outcomes)


def test_without_pyav_a_sentence(monkeypatch, tmp_path):
    monkeypatch.setitem(__import__("sys").modules, "av", None)
    with pytest.raises(UserError, match=r"emotion-jax\[video\]"):
        list(video.frames(tmp_path / "a.mp4"))


def test_few_frames_are_in_memory_at_a_time(of_faces, film, monkeypatch):
    path = film("a.mp4", pictures(200), np.arange(200) * 40)
    decoded, frames = [], video.frames
    monkeypatch.setattr(
        video, "frames", lambda *args: (decoded.append(0) or one for one in frames(*args))
    )
    ahead = [len(decoded) - given for given, _ in enumerate(video.recognize(of_faces, path))]
    assert len(ahead) == 200
    assert max(ahead) <= 4 * video.WORKERS + 2 * video.CHUNK


@pytest.mark.slow
def test_memory_is_flat_over_an_hour_and_every_time_is_right(of_faces, film):
    """36,000 frames at a variable rate, ten a second; memory after the first tenth and later."""
    n = 36_000
    times = np.cumsum(np.random.default_rng(0).integers(60, 142, n))
    path = film("long.mkv", (pictures(256) * (n // 256 + 1))[:n], times)
    assert times[-1] > 3_600_000

    def resident():
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    levels = []
    for i, seen in enumerate(video.recognize(of_faces, path)):
        assert seen.frame.time == pytest.approx(times[i] / 1000, abs=1e-6)
        assert len(seen.faces) == 1
        if i % 3600 == 3599:
            levels.append(resident())
    assert i == n - 1
    print([round(level / 2**20) for level in levels], resource.getrusage(resource.RUSAGE_SELF))
    assert max(levels) - levels[0] < 20 * 2**20
