import numpy as np
import pytest
from PIL import Image

from emotion_jax.data import fer2013, folder
from emotion_jax.errors import UserError

HEADER = "emotion,pixels,Usage"


def pixels(seed):
    return np.random.default_rng(seed).integers(0, 256, (48, 48), dtype=np.uint8)


def row(emotion, seed, usage):
    return f"{emotion},{' '.join(map(str, pixels(seed).ravel()))},{usage}"


def table(path, *lines, header=HEADER, end="\n"):
    path.write_bytes(end.join((header, *lines, "")).encode())
    return path


def images_in(root):
    return {p.relative_to(root).as_posix(): np.asarray(Image.open(p)) for p in root.rglob("*.png")}


GOOD = [
    *(row(emotion, emotion, "Training") for emotion in range(7)),
    row(3, 7, "PublicTest"),
    row(6, 8, "PrivateTest"),
]


def test_every_row_in_its_place_and_pixel_for_pixel(tmp_path):
    out = tmp_path / "out"
    assert fer2013.write_tree(table(tmp_path / "t.csv", *GOOD), out) == []
    images = images_in(out)
    assert set(images) == {
        "train/angry/00000.png",
        "train/disgust/00001.png",
        "train/fear/00002.png",
        "train/happy/00003.png",
        "train/sad/00004.png",
        "train/surprise/00005.png",
        "train/neutral/00006.png",
        "test/happy/00007.png",
        "private_test/neutral/00008.png",
    }
    for path, image in images.items():
        assert image.dtype == np.uint8
        np.testing.assert_array_equal(image, pixels(int(path[-9:-4])))
    assert len(folder.list_tree(out).images) == 9


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("header", ["\ufeffemotion,pixels,Usage", "emotion, pixels, Usage"])
def test_other_line_ends_a_mark_and_spaces(tmp_path, end, header):
    fer2013.write_tree(table(tmp_path / "t.csv", *GOOD, header=header, end=end), tmp_path / "out")
    assert len(images_in(tmp_path / "out")) == 9


def test_columns_in_another_order_and_quotes(tmp_path):
    values = " ".join(map(str, pixels(1).ravel()))
    lines = [f'Training,"{values}",{emotion}' for emotion in (0, 1)]
    path = table(tmp_path / "t.csv", *lines, header="Usage,pixels,emotion")
    assert fer2013.write_tree(path, tmp_path / "out") == []
    assert set(images_in(tmp_path / "out")) == {"train/angry/00000.png", "train/disgust/00001.png"}


BROKEN = {
    "too few": ("0,1 2 3,Training", "3 pixels instead of 2304"),
    "too many": (row(0, 0, "Training").replace(",Training", " 5,Training"), "2305 pixels"),
    "out of range": (f"0,{'256 ' * 2304},Training", "no whole numbers from 0 to 255"),
    "negative": (f"0,{'-1 ' * 2304},Training", "no whole numbers from 0 to 255"),
    "words": (f"0,{'x ' * 2304},Training", "no whole numbers from 0 to 255"),
    "no emotion": (row("", 0, "Training"), "no such emotion: ''"),
    "emotion 7": (row(7, 0, "Training"), "no such emotion: '7'"),
    "emotion -1": (row(-1, 0, "Training"), "no such emotion: '-1'"),
    "usage": (row(0, 0, "Nothing"), "no such Usage: 'Nothing'"),
    "no usage": ("0,1 2 3", "no such Usage: ''"),
    "blank": ("", "no such Usage: ''"),
    "a stray quote": ('"' + row(0, 0, "Training"), "no such Usage: ''"),
    "no text": ("\0\udcff\udcfe".encode("utf-8", "surrogateescape").decode("latin-1"), "no such"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_row_is_counted_and_costs_no_other(tmp_path, kind):
    line, why = BROKEN[kind]
    path = table(tmp_path / "t.csv", *GOOD[:3], line, *GOOD[3:])
    [note] = fer2013.write_tree(path, tmp_path / "out")
    assert note.startswith("1 of 10 rows are broken and were left out (row 3: ")
    assert why in note
    assert {p[-9:-4] for p in images_in(tmp_path / "out")} == {
        f"{i:05d}" for i in range(10) if i != 3
    }


def test_a_cut_file(tmp_path):
    path = table(tmp_path / "t.csv", *GOOD)
    path.write_bytes(path.read_bytes()[:-500])
    [note] = fer2013.write_tree(path, tmp_path / "out")
    assert note.startswith("1 of 9 rows")


def test_a_line_without_end_does_not_fill_the_memory(tmp_path):
    path = table(tmp_path / "t.csv", *GOOD, "7" * 300_000)
    [note] = fer2013.write_tree(path, tmp_path / "out")
    assert len(images_in(tmp_path / "out")) == 9
    assert note.startswith("5 of 14 rows")  # pieces of 65,536 characters


@pytest.mark.parametrize(
    "header", ["", "emotion,pixels", "a,b,c", "path,label", "\0\0\0", "Emotion,Pixels,usage"]
)
def test_another_table(tmp_path, header):
    with pytest.raises(UserError, match=r"is not Kaggle's fer2013.csv"):
        fer2013.write_tree(table(tmp_path / "t.csv", *GOOD, header=header), tmp_path / "out")


@pytest.mark.parametrize("lines", [(), ("0,1 2 3,Training",)])
def test_no_usable_row(tmp_path, lines):
    with pytest.raises(UserError, match=r"has no row that can be used \((it is emp|row 0: 3)"):
        fer2013.write_tree(table(tmp_path / "t.csv", *lines), tmp_path / "out")
