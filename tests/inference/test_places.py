import os
from pathlib import Path, PurePath

import numpy as np
import pytest
from PIL import Image

from emotion_jax.errors import UserError
from emotion_jax.inference import annotate, places, reel, sources
from emotion_jax.inference.video import Frame, Seen


def touch(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"original")
    return path


def check(inputs, folder, todo=None):
    targets = places.targets(inputs)
    todo = inputs if todo is None else todo
    places.check([folder / targets[one.name] for one in todo], todo, inputs)


def test_every_input_has_its_own_place(tmp_path):
    for name in ("a.png", "a.jpg", "sub/a.jpg", "a.mp4"):
        touch(tmp_path / name)
    found = places.targets(sources.collect([tmp_path]))
    assert list(found.values()) == [
        PurePath("a"), PurePath("a-2"), PurePath("a-3"), PurePath("sub/a"),
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["a.jpg", "a.mp4"])
def test_an_input_is_not_written_over_under_any_name(tmp_path, name, monkeypatch):
    touch(tmp_path / "photos" / name)
    inputs = sources.collect([tmp_path / "photos"])
    os.symlink(tmp_path / "photos", tmp_path / "linked")
    (tmp_path / "hard").mkdir()
    os.link(tmp_path / "photos" / name, tmp_path / "hard" / name)
    monkeypatch.chdir(tmp_path / "photos")
    for folder in (tmp_path / "photos", tmp_path / "linked", tmp_path / "hard", Path()):
        with pytest.raises(UserError, match="would take the place of an input"):
            check(inputs, folder)
    check(inputs, tmp_path / "elsewhere")


def test_an_input_that_is_done_is_not_written_over_either(tmp_path):
    touch(tmp_path / "a.png")
    done = touch(tmp_path / "drawn" / "a.jpg")
    inputs = sources.collect([tmp_path / "a.png", done])
    with pytest.raises(UserError, match="would take the place of an input"):
        check(inputs, tmp_path / "drawn", inputs[:1])


@pytest.mark.parametrize(
    ("name", "taken"), [("a.png", "a.jpg"), ("a.avi", "a.mp4"), ("a.avi", "a-timeline.png")]
)
def test_what_we_have_not_drawn_stays(tmp_path, name, taken):
    inputs = sources.collect([touch(tmp_path / name)])
    touch(tmp_path / "drawn" / taken)
    with pytest.raises(UserError, match=f"{taken} is there already"):
        check(inputs, tmp_path / "drawn")
    check(inputs, tmp_path / "drawn", [])


def test_what_we_have_drawn_is_drawn_again(tmp_path):
    inputs = sources.collect([touch(tmp_path / "a.png"), touch(tmp_path / "film.avi")])
    picture = Image.fromarray(np.full((40, 40, 3), 9, np.uint8))
    places.picture(tmp_path / "drawn" / "a").parent.mkdir()
    places.picture(tmp_path / "drawn" / "a").write_bytes(annotate.jpeg(picture))
    rng = np.random.default_rng(0)  # a film that is longer than what is searched at its ends
    with reel.Reel(tmp_path / "drawn" / "film", ("sad", "happy")) as film:
        for i in range(40):
            noise = rng.integers(0, 256, (96, 96, 3), np.uint8)
            film.add(Seen(Frame(i, i / 25, noise), (), ()))
    assert places.film(tmp_path / "drawn" / "film").stat().st_size > 2 * annotate.REACH
    check(inputs, tmp_path / "drawn")
