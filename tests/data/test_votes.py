import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emotion_jax.data import votes
from emotion_jax.data.dataset import relabelled
from emotion_jax.data.split import Split
from emotion_jax.errors import UserError

HEADER = "image,neutral,happiness,surprise,sadness,anger,disgust,fear,contempt,unknown,not_face\n"


def split_of(*paths):
    n = len(paths)
    return Split(
        name="test",
        source=np.arange(n * 4, dtype=np.uint8).reshape(n, 2, 2, 1),
        rows=np.arange(n),
        labels=np.zeros(n, np.int32),
        hashes=np.arange(n, dtype=np.uint64),
        paths=paths,
    )


def relabel(split, path, classes):
    new = relabelled(split, votes.read(path), classes, str(path))
    return new, new.votes


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ((10, 0, 0, 0, 0, 0, 0, 0, 0, 0), "neutral"),
        ((0, 0, 0, 0, 6, 4, 0, 0, 0, 0), "angry"),
        ((5, 5, 0, 0, 0, 0, 0, 0, 0, 0), None),  # half is not more than half
        ((5, 1, 1, 1, 1, 1, 0, 0, 0, 0), "neutral"),  # single votes do not count
        ((4, 3, 3, 0, 0, 0, 0, 0, 0, 0), None),
        ((0, 0, 0, 0, 0, 0, 0, 8, 2, 0), "contempt"),
        ((1, 1, 0, 0, 0, 0, 0, 0, 8, 0), "unknown"),
        ((0, 0, 0, 0, 0, 0, 0, 0, 1, 9), "not_face"),
        ((1,) * 10, None),
    ],
)
def test_majority(counts, expected):
    assert votes.majority(counts) == expected


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ((10, 0, 0, 0, 0, 0, 0, 0, 0, 0), {"neutral": 1.0}),
        ((6, 0, 0, 4, 0, 0, 0, 0, 0, 0), {"neutral": 0.6, "sad": 0.4}),
        ((8, 0, 0, 2, 0, 0, 0, 0, 0, 0), {"neutral": 1.0}),  # three quarters are enough
        ((5, 1, 0, 1, 0, 0, 0, 0, 1, 2), {"neutral": 1.0}),  # single votes are dropped: 5 of 7
        ((0, 4, 2, 2, 2, 0, 0, 0, 0, 0), None),  # those of equal votes go together: four emotions
        ((0, 3, 3, 2, 2, 0, 0, 0, 0, 0), None),  # and here
        ((0, 4, 3, 0, 0, 0, 0, 0, 3, 0), {"happy": 4 / 7, "surprise": 3 / 7}),
        ((0, 4, 0, 0, 0, 0, 0, 0, 6, 0), None),  # what leads is no emotion
        ((0, 5, 0, 0, 0, 0, 0, 0, 5, 0), None),  # half is not more than half
        ((2, 2, 0, 0, 0, 0, 0, 0, 3, 3), None),
        ((1,) * 10, None),
        ((0, 0, 0, 0, 0, 0, 0, 7, 0, 3), {"contempt": 1.0}),
    ],
)
def test_distribution(counts, expected):
    found = votes.distribution(counts)
    if expected is None:
        assert found is None
    else:
        wanted = [expected.get(name, 0.0) for name in votes.CLASSES]
        np.testing.assert_allclose(found, wanted, rtol=1e-6)


@given(st.lists(st.integers(0, 10), min_size=10, max_size=10))
def test_distribution_agrees_with_the_published_code(counts):
    expected = published(counts)
    found = votes.distribution(counts)
    assert (found is None) == (expected is None)
    if found is not None:
        by_class = dict(zip(votes.EMOTIONS.values(), expected, strict=True))
        np.testing.assert_allclose(found, [by_class[name] for name in votes.CLASSES], rtol=1e-6)


def published(counts):
    """FERPlus' ``_process_data`` in its mode "probability", step by step."""
    raw = [float(count) if count > 1 else 0.0 for count in counts]
    total, part, count, valid, emotion = sum(raw), 0.0, 0, True, [0.0] * 10
    while part < 0.75 * total and count < 3 and valid:
        largest = max(raw)
        for i in range(10):
            if raw[i] == largest:
                emotion[i], raw[i] = largest, 0.0
                part += emotion[i]
                count += 1
                if i >= 8:
                    valid = False
                    if sum(emotion) > largest:
                        emotion[i] = 0.0
                        count -= 1
                    break
    if sum(emotion) <= 0.5 * total or count > 3 or np.argmax(emotion) >= 8:
        return None
    return np.array(emotion[:8]) / sum(emotion[:8])


def test_relabel(tmp_path):
    table = tmp_path / "votes.csv"
    table.write_text(
        HEADER + "a,0,9,0,0,0,0,0,0,0,1\nb,5,5,0,0,0,0,0,0,0,0\nc,0,0,0,0,0,0,0,9,0,0\n"
        "d,9,0,0,0,0,0,0,0,0,0\nother,9,0,0,0,0,0,0,0,0,0\n"
    )
    split = split_of("test/sad/d.png", "test/sad/a.jpg", "test/sad/b.png", "c.png", "e.png")
    new, note = relabel(split, table, ["happy", "neutral", "sad"])
    assert new.paths == ("test/sad/d.png", "test/sad/a.jpg")
    assert new.labels.tolist() == [1, 0]
    np.testing.assert_array_equal(new.images(np.arange(2)), split.source[:2])
    assert new.hashes.tolist() == [0, 1]
    assert note["left_out"] == {"contempt": 1, "no majority": 1, "no row": 1}
    with_contempt, _ = relabel(split, table, ["contempt", "happy", "neutral"])
    assert with_contempt.labels.tolist() == [2, 1, 0]


def test_the_file_that_came_with_fer_plus(tmp_path):
    table = tmp_path / "fer2013new.csv"
    table.write_text(
        "Usage,Image name,neutral,happiness,surprise,sadness,anger,disgust,fear,contempt,"
        "unknown,NF\n"
        "Training,fer0000000.png,4,0,0,1,3,2,0,0,0,0\nTraining,,0,0,0,0,0,0,0,0,0,10\n"
        "PublicTest,fer0000002.png,0,9,0,0,0,0,0,0,1,0\n"
    )
    read = votes.read(table)
    assert read.of("train/angry/fer0000000.png") == (4, 0, 0, 1, 3, 2, 0, 0, 0, 0)
    assert read.of("train/angry/00000.png") == read.of("x/fer0000000.png")
    assert read.of("test/angry/00000.png") is None
    assert read.of("train/sad/00001.png") == (0,) * 9 + (10,)
    assert read.of("test/happy/00002.png") == (0, 9, 0, 0, 0, 0, 0, 0, 1, 0)
    assert read.of("train/sad/fer0000001.png") is None
    assert read.of("train/sad/.png") is None


def test_images_that_are_called_the_same_are_a_sentence(tmp_path):
    table = tmp_path / "votes.csv"
    table.write_text(HEADER + "a,0,9,0,0,0,0,0,0,0,1\n")
    same = split_of("train/sad/a.png", "train/sad/b.png", "train/happy/a.png")
    with pytest.raises(
        UserError, match=r"train/sad/a\.png and train/happy/a\.png are called the same"
    ):
        relabel(same, table, ["happy"])
    with pytest.raises(UserError, match="called the same"):
        votes.distributions(votes.read(table), same.paths)
    unknown = split_of("train/sad/a.png", "train/sad/b.png", "train/happy/b.png")
    assert relabel(unknown, table, ["happy"])[0].paths == ("train/sad/a.png",)


def test_names_with_dots(tmp_path):
    table = tmp_path / "votes.csv"
    table.write_text(HEADER + "a.1,9,0,0,0,0,0,0,0,0,1\n")
    assert votes.read(table).of("train/sad/a.1.png") == (9, 0, 0, 0, 0, 0, 0, 0, 0, 1)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("image,neutral\na,1\n", "no column anger, contempt"),
        ("", "no column"),
        (HEADER + "a,x,0,0,0,0,0,0,0,0,0\n", "whole numbers"),
        (HEADER + "a,1\n", "whole numbers"),
        (HEADER, "none of the 1 images"),
    ],
)
def test_bad_tables(tmp_path, text, sentence):
    (tmp_path / "votes.csv").write_text(text)
    with pytest.raises(UserError, match=sentence):
        relabel(split_of("a.png"), tmp_path / "votes.csv", ["happy"])


def test_missing_table(tmp_path):
    with pytest.raises(UserError, match="Cannot read the votes"):
        votes.read(tmp_path / "none.csv")
