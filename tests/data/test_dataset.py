import shutil
import zipfile
from collections import Counter

import numpy as np
import pytest
from PIL import Image

from emotion_jax.config import DataSettings
from emotion_jax.data import dataset, folder, synthetic, votes
from emotion_jax.data.ingest import image_hash
from emotion_jax.data.split import Split, normalisation
from emotion_jax.errors import UserError

TINY = 1e-9  # GiB: nothing is held in memory


def write(path, seed=0, size=8, rgb=False):
    """A picture of noise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    shape = (size, size, 3) if rgb else (size, size)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, shape, np.uint8)).save(path)


def grow(root, *splits, classes=("happy", "sad"), n=5, rgb=False):
    """A tree of pictures, no two alike."""
    seed = 0
    for split in splits:
        for name in classes:
            for i in range(n):
                write(root / split / name / f"{i}.png", seed, rgb=rgb)
                seed += 1
    return root


@pytest.fixture
def tree(tmp_path):
    return grow(tmp_path / "faces", "train", "test")


def settings(root, **more):
    return DataSettings(dir=root, **{"image_size": 8, **more})


def decoded(root, paths, mode="L", size=None):
    images = []
    for path in paths:
        with Image.open(root / path) as image:
            resized = image.convert(mode)
            if size is not None:
                resized = resized.resize((size, size), Image.Resampling.BILINEAR)
            images.append(np.asarray(resized))
    return np.stack(images).reshape(len(paths), *images[0].shape[:2], -1)


def everything(split):
    return split.images(np.arange(len(split)))


def assert_aligned(split, root, classes):
    """Images, labels, hashes and paths say the same of every example."""
    images = everything(split)
    np.testing.assert_array_equal(images, decoded(root, split.paths))
    assert images.dtype == np.uint8
    assert split.labels.dtype == np.int32
    assert split.hashes.dtype == np.uint64
    assert [classes[label] for label in split.labels] == [p.split("/")[-2] for p in split.paths]
    assert split.hashes.tolist() == [int(image_hash(image), 16) for image in images]


# load


@pytest.mark.parametrize("memory_limit", [4.0, TINY])
def test_every_image_is_in_one_split_and_all_that_is_said_of_it_is_aligned(tree, memory_limit):
    data = dataset.load(settings(tree, memory_limit=memory_limit))
    assert data.classes == ("happy", "sad")
    assert data.problems == ()
    assert [split.name for split in (data.train, data.validation, data.test)] == [
        "train", "val", "test",
    ]  # fmt: skip
    assert (len(data.train), len(data.validation)) == (8, 2)
    for split in (data.train, data.validation, data.test):
        assert_aligned(split, tree, data.classes)
        assert split.in_memory == (memory_limit == 4.0)
    of_train = sorted(p.relative_to(tree).as_posix() for p in (tree / "train").rglob("*.png"))
    assert sorted(data.train.paths + data.validation.paths) == of_train
    assert {path.split("/")[0] for path in data.test.paths} == {"test"}


def test_from_disk_as_from_memory(tree, monkeypatch):
    monkeypatch.setattr("emotion_jax.data.split.CHUNK", 3)  # the last one is not full
    memory, disk = (dataset.load(settings(tree, memory_limit=limit)) for limit in (4.0, TINY))
    assert disk.fingerprint == memory.fingerprint
    indices = np.array([3, 0, 3, 7, 1])  # in any order, and more than once
    np.testing.assert_array_equal(memory.train.images(indices), disk.train.images(indices))
    for one, other in ((memory.train, disk.train), (memory.validation, disk.validation)):
        np.testing.assert_array_equal(everything(one), everything(other))
        assert (one.paths, one.labels.tolist()) == (other.paths, other.labels.tolist())
    assert normalisation(memory.train) == normalisation(disk.train)


def test_memory_limit_counts_the_decoded_bytes(tree):
    exactly = 10 * 8 * 8 / 2**30
    assert dataset.load(settings(tree, memory_limit=exactly)).train.in_memory
    assert not dataset.load(settings(tree, memory_limit=exactly * 0.99)).train.in_memory


def test_validation_is_stratified_seeded_and_of_the_asked_for_size(tmp_path):
    root = grow(tmp_path / "faces", "train", n=20)
    for i in range(20, 40):
        write(root / "train" / "sad" / f"{i}.png", 1000 + i)
    chosen = []
    for seed in (0, 1, 0):
        data = dataset.load(settings(root, validation_fraction=0.2, split_seed=seed))
        assert Counter(data.validation.labels.tolist()) == {0: 4, 1: 8}
        assert Counter(data.train.labels.tolist()) == {0: 16, 1: 32}
        chosen.append(data.validation.paths)
    assert chosen[0] == chosen[2] != chosen[1]


def test_identical_images_lie_on_one_side(tmp_path):
    root = grow(tmp_path / "faces", "train", n=6)
    for name in ("happy", "sad"):
        for i in range(6):
            for copy in range(3):
                other = root / "train" / ("sad" if copy == 2 else name) / f"{name}{i}{copy}.png"
                shutil.copy(root / "train" / name / f"{i}.png", other)
    for seed in range(5):
        data = dataset.load(settings(root, validation_fraction=0.3, split_seed=seed))
        assert len(data.train) + len(data.validation) == 48
        assert not set(data.train.hashes.tolist()) & set(data.validation.hashes.tolist())
        assert len(data.validation) == 16  # of each class 2 groups of 4


def test_other_folders_are_ignored_whatever_is_in_them(tree):
    plain = dataset.load(settings(tree))
    grow(tree, "private_test", classes=("happy", "bored"))
    (tree / "notes" / "deep").mkdir(parents=True)
    (tree / "notes" / "deep" / "a.txt").write_text("x")
    (tree / "notes" / "b.txt").write_text("x")
    (tree / "private_test" / "happy" / "0.png").write_bytes(b"x")
    data = dataset.load(settings(tree))
    assert data.fingerprint == plain.fingerprint
    assert data.classes == ("happy", "sad")
    assert data.problems == ()
    assert data.train.paths == plain.train.paths


def test_what_is_not_usable_in_train_and_test_is_a_problem(tree):
    (tree / "train" / "sad" / "0.png").write_bytes(b"x")
    (tree / "train" / "notes.txt").write_text("x")
    (tree / "test" / "bored").mkdir()
    write(tree / "test" / "bored" / "0.png")
    data = dataset.load(settings(tree))
    assert sorted(data.problems) == [
        ("test/bored", "a class that train lacks"),
        ("train/notes.txt", "not in a class folder"),
        ("train/sad/0.png", "not an image"),
    ]
    assert len(data.train) + len(data.validation) == 9
    assert len(data.test) == 10


def test_no_test_split(tree):
    shutil.rmtree(tree / "test")
    data = dataset.load(settings(tree))
    assert data.test is None
    assert data.problems == ()


@pytest.mark.parametrize("what", ["nothing", "empty classes", "loose images", "unknown classes"])
def test_a_test_folder_without_an_image_of_a_class_is_no_test_split_and_is_said(tree, what):
    shutil.rmtree(tree / "test")
    (tree / "test").mkdir()
    expected = []
    if what == "empty classes":
        (tree / "test" / "sad").mkdir()
        expected = [("test/sad", "an empty class")]
    elif what == "loose images":
        write(tree / "test" / "1.png")
        expected = [("test/1.png", "not in a class folder")]
    elif what == "unknown classes":
        write(tree / "test" / "bored" / "1.png")
        expected = [("test/bored", "a class that train lacks")]
    data = dataset.load(settings(tree))
    assert data.test is None
    assert list(data.problems) == expected


def test_a_test_folder_of_broken_images_is_refused(tree):
    for path in (tree / "test").rglob("*.png"):
        path.write_bytes(b"x")
    with pytest.raises(UserError, match=r"None of the 10 images in the test split of .*faces"):
        dataset.load(settings(tree))


@pytest.mark.parametrize("kind", ["one a class", "all alike"])
def test_too_few_to_hold_any_out(tmp_path, kind):
    root = grow(tmp_path / "faces", "train", n=1)
    if kind == "all alike":
        for name in ("happy", "sad"):
            for i in range(1, 5):
                shutil.copy(root / "train" / name / "0.png", root / "train" / name / f"{i}.png")
    expected = r"faces: too few images in train to hold any out for validation; give each class"
    with pytest.raises(UserError, match=expected):
        dataset.load(settings(root))


def test_a_class_of_one_image_keeps_it_for_training(tmp_path):
    root = grow(tmp_path / "faces", "train")
    write(root / "train" / "angry" / "0.png", 99)
    data = dataset.load(settings(root))
    assert "train/angry/0.png" in data.train.paths
    assert set(data.validation.labels.tolist()) == {1, 2}


@pytest.mark.parametrize(("channels", "mode"), [(1, "L"), (3, "RGB")])
@pytest.mark.parametrize("side", [8, 13])
def test_image_size_and_channels(tmp_path, channels, mode, side):
    root = grow(tmp_path / "faces", "train", "test", rgb=True)
    data = dataset.load(settings(root, image_size=side, channels=channels))
    for split in (data.train, data.test):
        images = everything(split)
        assert images.shape == (len(split), side, side, channels)
        np.testing.assert_array_equal(images, decoded(root, split.paths, mode, side))


def test_the_pixel_cap_is_that_of_the_settings(tree):
    write(tree / "train" / "sad" / "large.png", size=9)
    problems = dataset.load(settings(tree, pixel_cap=80)).problems
    assert problems == (("train/sad/large.png", "over the pixel cap of 80 (9 x 9)"),)


def test_no_folder_is_the_synthetic_faces(cache, monkeypatch):
    few, write_tree = [], synthetic.write_tree
    monkeypatch.setattr(
        synthetic, "write_tree", lambda root: (few.append(root), write_tree(root, 28, 7))
    )
    data = dataset.load(DataSettings())
    assert data.classes == synthetic.CLASSES
    assert (len(data.train), len(data.validation), len(data.test)) == (21, 7, 7)
    assert everything(data.test).shape == (7, 48, 48, 1)
    assert len(few) == 1
    assert (cache / "synthetic").is_dir()


def test_fer2013_csv(tmp_path):
    rng = np.random.default_rng(0)
    rows = []
    for usage, n in (("Training", 28), ("PublicTest", 7), ("PrivateTest", 7)):
        for i in range(n):
            pixels = " ".join(map(str, rng.integers(0, 256, 48 * 48)))
            rows.append(f"{i % 7},{pixels},{usage}")
    (tmp_path / "fer2013.csv").write_text("\n".join(["emotion,pixels,Usage", *rows]))
    data = dataset.load(DataSettings(dir=tmp_path / "fer2013.csv"))
    assert data.classes == ("angry", "disgust", "fear", "happy", "neutral", "sad", "surprise")
    assert (len(data.train), len(data.validation), len(data.test)) == (21, 7, 7)
    assert data.problems == ()
    expected = np.array(rows[28].split(",")[1].split(), np.uint8).reshape(48, 48, 1)
    where = data.test.paths.index("test/angry/00028.png")
    np.testing.assert_array_equal(everything(data.test)[where], expected)
    private, _ = dataset.load_split(
        DataSettings(dir=tmp_path / "fer2013.csv"), "private_test", data.classes
    )
    assert sorted(private.labels.tolist()) == list(range(7))


@pytest.mark.parametrize("name", ["none", "~no such user/faces"])
def test_a_folder_that_is_not_there(tmp_path, name, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=rf"^There is no {name}, or it cannot be reached\.$"):
        dataset.load(settings(name))


def test_home_is_expanded(tree, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert dataset.locate(settings("~/faces")) == tree
    assert dataset.locate(settings("~/faces", stage_to="~/near")) == tmp_path / "near" / "faces"


@pytest.mark.parametrize("memory_limit", [4.0, TINY])
def test_a_flipped_bit_in_the_cache_is_found(tree, cache, memory_limit):
    dataset.load(settings(tree))
    (path,) = (cache / "datasets").rglob("*train.array_record*")
    content = bytearray(path.read_bytes())
    content[200] ^= 1  # of the compressed pixels, which end at about 800
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"^The data cache is damaged: .*; delete that folder"):
        everything(dataset.load(settings(tree, memory_limit=memory_limit)).train)


# Split


def test_a_subset_of_a_subset(tree):
    train = dataset.load(settings(tree)).train
    part = train.subset("part", np.array([6, 1, 4])).subset("less", np.array([2, 0]))
    assert (part.name, len(part)) == ("less", 2)
    assert part.paths == (train.paths[4], train.paths[6])
    np.testing.assert_array_equal(part.labels, train.labels[[4, 6]])
    np.testing.assert_array_equal(part.hashes, train.hashes[[4, 6]])
    np.testing.assert_array_equal(everything(part), everything(train)[[4, 6]])


# normalisation


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("chunk", [3, 4096])
def test_normalisation_is_that_of_numpy(tmp_path, channels, chunk, monkeypatch):
    monkeypatch.setattr("emotion_jax.data.split.CHUNK", chunk)
    root = grow(tmp_path / "faces", "train", rgb=True)
    train = dataset.load(settings(root, channels=channels)).train
    pixels = everything(train).astype(np.float64) / 255
    mean, std = normalisation(train)
    assert len(mean) == len(std) == channels
    np.testing.assert_allclose(mean, pixels.mean((0, 1, 2)), atol=6e-7)
    np.testing.assert_allclose(std, pixels.std((0, 1, 2)), atol=6e-7)
    assert all(round(value, 6) == value for value in (*mean, *std))
    assert all(type(value) is float for value in (*mean, *std))


def test_the_deviation_of_a_constant_is_not_zero():
    source = np.full((4, 8, 8, 1), 51, np.uint8)
    split = Split("x", source, np.arange(4), np.zeros(4, np.int32), None, ("",) * 4)
    assert normalisation(split) == ((0.2,), (1e-6,))


# load_split


def test_a_split_is_labelled_by_the_given_classes(tree):
    classes = ("surprise", "sad", "angry", "happy")
    split, problems = dataset.load_split(settings(tree), "test", classes)
    assert split.name == "test"
    assert Counter(split.labels.tolist()) == {1: 5, 3: 5}
    assert problems == ()
    assert_aligned(split, tree, classes)


def test_whole_train_is_a_split_too(tree):
    split, _ = dataset.load_split(settings(tree), "train", ("happy", "sad"))
    data = dataset.load(settings(tree))
    assert sorted(split.paths) == sorted(data.train.paths + data.validation.paths)


def test_a_folder_that_is_the_split(tree):
    classes = ("sad", "happy")
    bare, _ = dataset.load_split(settings(tree / "test"), "test", classes)
    split, _ = dataset.load_split(settings(tree), "test", classes)
    assert [f"test/{path}" for path in bare.paths] == list(split.paths)
    np.testing.assert_array_equal(everything(bare), everything(split))
    np.testing.assert_array_equal(bare.labels, split.labels)


def test_an_archive(tree, tmp_path):
    with zipfile.ZipFile(tmp_path / "faces.zip", "w") as archive:
        for path in sorted(tree.rglob("*.png")):
            archive.write(path, f"top/{path.relative_to(tree).as_posix()}")
    classes = ("happy", "sad")
    packed, _ = dataset.load_split(settings(tmp_path / "faces.zip"), "test", classes)
    split, _ = dataset.load_split(settings(tree), "test", classes)
    assert packed.paths == split.paths
    np.testing.assert_array_equal(everything(packed), everything(split))


@pytest.mark.parametrize("name", ["private_test", "Öffentlich-2"])
def test_a_split_of_another_name(tree, name):
    grow(tree, name, n=2)
    split, _ = dataset.load_split(settings(tree), name, ("happy", "sad"))
    assert (split.name, len(split)) == (name, 4)
    assert_aligned(split, tree, ("happy", "sad"))


def test_a_split_alone_with_fewer_classes_and_broken_files(tree):
    shutil.rmtree(tree / "train")
    shutil.rmtree(tree / "test" / "happy")
    (tree / "test" / "sad" / "0.png").write_bytes(b"")
    split, problems = dataset.load_split(settings(tree), "test", ("happy", "sad"))
    assert split.labels.tolist() == [1] * 4
    assert problems == (folder.Problem("test/sad/0.png", "zero bytes"),)


def test_bad_splits_are_refused_by_a_sentence(tree):
    with pytest.raises(UserError, match=r"has no split 'valid'; it has test, train"):
        dataset.load_split(settings(tree), "valid", ("happy", "sad"))
    with pytest.raises(UserError, match=r"does not know the class happy; it knows sad, angry"):
        dataset.load_split(settings(tree), "test", ("sad", "angry"))


def votes_file(path, rows):
    """FER+ votes: image, then neutral happiness surprise sadness anger disgust fear contempt..."""
    columns = "neutral,happiness,surprise,sadness,anger,disgust,fear,contempt,unknown,not_face"
    lines = [",".join(map(str, (name, *counts))) for name, counts in rows.items()]
    path.write_text("\n".join([f"image,{columns}", *lines]) + "\n")
    return path


@pytest.mark.parametrize("protocol", ["majority", "distribution"])
def test_votes_take_the_place_of_the_folders(tmp_path, protocol):
    tree = grow(tmp_path / "faces", "train", "test", n=24)
    for number, path in enumerate(sorted(tree.rglob("*.png"))):
        path.rename(path.with_name(f"v{number}.png"))
    happy, divided = (1, 9, *[0] * 8), (4, 0, 0, 3, 0, 3, *[0] * 4)
    no_face, sad = (*[0] * 9, 10), (0, 0, 0, 10, *[0] * 6)
    pattern = (happy, divided, no_face, sad)
    table = votes_file(tmp_path / "votes.csv", {f"v{i}": pattern[i % 4] for i in range(96)})
    more = {"votes": table, "vote_protocol": protocol, "validation_fraction": 0.3}
    data = dataset.load(settings(tree, **more))
    assert data.classes == votes.CLASSES
    names = [data.classes[label] for label in data.train.labels]
    divided_too = {"neutral"} if protocol == "distribution" else set()
    assert set(names) == {"happy", "sad"} | divided_too
    # Validation and test are by majority, which the divided ones have not.
    for split in (data.validation, data.test):
        assert {data.classes[label] for label in split.labels} == {"happy", "sad"}
        assert split.targets is split.labels
    assert len(data.test) == 24
    if protocol == "distribution":
        at = names.index("neutral")
        by_class = dict(zip(data.classes, data.train.targets[at].tolist(), strict=True))
        assert by_class == pytest.approx(
            {name: {"neutral": 0.4, "sad": 0.3, "disgust": 0.3}.get(name, 0.0) for name in by_class}
        )
    without = dataset.load(settings(tree))
    assert data.fingerprint != without.fingerprint


@pytest.mark.parametrize("protocol", ["majority", "distribution"])
def test_votes_on_the_whole_of_train_can_all_be_measured(tmp_path, protocol):
    tree = grow(tmp_path / "faces", "train", n=24)
    for number, path in enumerate(sorted(tree.rglob("*.png"))):
        path.rename(path.with_name(f"v{number}.png"))
    mostly, divided = (3, 7, *[0] * 8), (4, 0, 0, 3, 0, 3, *[0] * 4)
    rows = {f"v{i}": (mostly, divided)[i % 2] for i in range(47)}
    table = votes_file(tmp_path / "votes.csv", rows)
    whole = dataset.load_whole(settings(tree, votes=table, vote_protocol=protocol)).train
    assert {votes.CLASSES[label] for label in whole.labels} == {"happy"}
    assert len(whole) == 24
    assert whole.votes["left_out"] == {"no majority": 23, "no row": 1}
    shares = whole.targets if protocol == "distribution" else np.eye(8)[whole.targets]
    happy = 0.7 if protocol == "distribution" else 1.0
    assert shares[:, votes.CLASSES.index("happy")] == pytest.approx(np.full(24, happy))


def test_votes_that_tell_nothing_are_a_sentence(tmp_path):
    tree = grow(tmp_path / "faces", "train")
    table = votes_file(tmp_path / "votes.csv", {"other": (10, *[0] * 9)})
    for protocol in ("majority", "distribution"):
        with pytest.raises(UserError, match=r"votes\.csv"):
            dataset.load(settings(tree, votes=table, vote_protocol=protocol))
