import errno
import fcntl
import json
import os
import shutil
import tarfile
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from emotion_jax.config import DataSettings
from emotion_jax.data import archives, dataset, folder, ingest, mirror, staging, synthetic
from emotion_jax.data.preprocess import Preprocess
from emotion_jax.errors import UserError

PATHS = ("train/happy/1.png", "train/sad/1.png", "test/happy/1.png", "test/sad/1.png")


@pytest.fixture
def tree(tmp_path):
    return write(tmp_path / "faces", *PATHS)


def write(root, *paths):
    for i, path in enumerate(paths):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((8, 8), i, np.uint8)).save(root / path, "PNG")
    return root


def pack(root, path, prefix=""):
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w") as archive:
            for file in root.rglob("*.*"):
                archive.write(file, f"{prefix}{file.relative_to(root)}")
    else:
        with tarfile.open(path, "w:gz") as archive:
            archive.add(root, prefix or ".")
    return path


def csv(path, n=4, broken=0):
    pixels = " ".join(["7"] * 48**2)
    rows = [f"{i % 2 * 3},{pixels},{'Training' if i < n - 1 else 'PublicTest'}" for i in range(n)]
    path.write_text("\n".join(["emotion,pixels,Usage", *rows, *["0,1,Training"] * broken]))
    return path


def images_in(root):
    return {file.path for file in folder.list_tree(root).images}


def resolve(source, cache):
    return staging.resolve(source, cache, progress=False)


# stage


def test_stage_names_the_copy_after_the_source(tree, tmp_path):
    copy = staging.stage(tree, tmp_path / "local", progress=False)
    assert copy == tmp_path / "local" / "faces"
    assert images_in(copy) == set(PATHS)
    archive = pack(tree, tmp_path / "faces.zip")
    copy = staging.stage(archive, tmp_path / "local", progress=False)
    assert copy == tmp_path / "local" / "faces.zip"
    assert copy.read_bytes() == archive.read_bytes()


def test_stage_by_a_relative_name_and_by_a_link(tree, tmp_path, monkeypatch):
    monkeypatch.chdir(tree)
    (tmp_path / "link").symlink_to(tree)
    for source in (".", "../faces", tmp_path / "link"):
        copy = staging.stage(tree / source, tmp_path / "local", progress=False)
        assert copy == tmp_path / "local" / "faces"


def test_the_copy_has_the_problems_of_the_source(tree, tmp_path):
    write(tmp_path, "outside.png")
    (tree / "train/sad/out.png").symlink_to(tmp_path / "outside.png")
    (tree / "train/sad/in.png").symlink_to(tree / "train/happy/1.png")
    (tree / "train/sad/zero.png").write_bytes(b"")
    (tree / "train/sad/a.txt").write_bytes(b"x")
    (tree / "train/angry").mkdir()
    copy = staging.stage(tree, tmp_path / "local", progress=False)
    here, there = (
        ingest.ingest(folder.list_tree(root), Preprocess(8), tmp_path / "cache")
        for root in (tree, copy)
    )
    assert there.fingerprint == here.fingerprint
    assert there.problems == here.problems
    assert len(there.problems) == 4


def test_a_copy_has_the_fingerprint_of_its_source(tree, tmp_path):
    copy = staging.stage(tree, tmp_path / "local", progress=False)
    fingerprints = {folder.fingerprint(folder.list_tree(root)) for root in (tree, copy)}
    assert len(fingerprints) == 1  # times are kept


def test_a_missing_source(tmp_path):
    with pytest.raises(UserError, match=r"There is no .*none, or it cannot be reached"):
        staging.stage(tmp_path / "none", tmp_path / "local", progress=False)
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(UserError, match="There is no"):
        staging.stage(tmp_path / "loop", tmp_path / "local", progress=False)


@pytest.mark.parametrize("place", [".", "sub", "train/happy", ".."])
def test_source_and_place_in_each_other(tree, place):
    with pytest.raises(UserError, match="lie in each other"):
        staging.stage(tree, tree / place, progress=False)
    assert images_in(tree) == set(PATHS)
    assert sorted(os.listdir(tree)) == ["test", "train"]


def test_the_source_inside_the_copy(tree, tmp_path):
    inner = write(tmp_path / "faces/deep/faces", *PATHS)
    with pytest.raises(UserError, match="lie in each other"):
        staging.stage(inner, tmp_path, progress=False)


def test_what_was_left_out_is_one_line(tree, tmp_path, monkeypatch, capsys):
    chunks = mirror._chunks

    def fail(path):
        return iter([None]) if "sad" in path.parts else chunks(path)

    monkeypatch.setattr(mirror, "_chunks", fail)
    for _ in range(2):  # said again, since it is tried again
        staging.stage(tree, tmp_path / "local", progress=False)
        assert capsys.readouterr().err == (
            f"2 paths of {tree} cannot be read or copied and were left out; "
            "the first is test/sad/1.png.\n"
        )


def test_a_full_disk_is_a_sentence(tree, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(mirror.os, "fsync", full)
    with pytest.raises(UserError, match=r"Cannot copy .*: No space left on device; make room"):
        staging.stage(tree, tmp_path / "local", progress=False)


def test_a_place_that_is_a_file(tree, tmp_path):
    (tmp_path / "local").write_bytes(b"mine")
    with pytest.raises(UserError, match="Cannot copy"):
        staging.stage(tree, tmp_path / "local", progress=False)


def test_a_bar_of_bytes(tree, tmp_path, capsys):
    staging.stage(tree, tmp_path / "local", progress=True)
    shown = capsys.readouterr().err
    assert "staging: 100%" in shown
    assert "B/s" in shown


# resolve


def test_a_tree_is_its_own_place(tree, cache):
    assert resolve(tree, cache) == tree
    assert not cache.exists()


def test_the_one_sub_folder_with_train(tree, tmp_path, cache):
    (tmp_path / "wrap").mkdir()
    tree.rename(tmp_path / "wrap/faces")
    (tmp_path / "wrap/docs").mkdir()
    write(tmp_path / "wrap/.hidden", *PATHS)
    write(tmp_path / "wrap/__MACOSX", *PATHS)
    assert resolve(tmp_path / "wrap", cache) == tmp_path / "wrap/faces"


def test_not_one_of_two_sub_folders(tree, tmp_path, cache):
    write(tmp_path / "wrap/a", *PATHS)
    write(tmp_path / "wrap/b", *PATHS)
    assert resolve(tmp_path / "wrap", cache) == tmp_path / "wrap"


@pytest.mark.parametrize("own", ["test/happy/1.png", "happy/1.JPG"])
@pytest.mark.parametrize("beside", ["old", "table", "table inside"])
def test_own_images_go_before_what_lies_beside_them(tmp_path, cache, own, beside):
    root = write(tmp_path / "data", own)
    if beside == "old":
        write(root / "old", *PATHS)
    else:
        place = root / "fer2013" if beside == "table inside" else root
        place.mkdir(exist_ok=True)
        csv(place / "fer2013.csv")
    write(root, "look.png")  # no class of anything
    assert resolve(root, cache) == root


def test_the_test_split_beside_an_old_copy_is_what_is_evaluated(tmp_path, cache):
    root = write(tmp_path / "data", "test/happy/mine.png", "test/sad/mine.png")
    write(root / "old", *PATHS)
    split, _ = dataset.load_split(DataSettings(dir=root), "test", ("happy", "sad"))
    assert split.paths == ("test/happy/mine.png", "test/sad/mine.png")


def test_a_link_to_a_split_in_the_tree_is_of_the_folders_own(tmp_path, cache):
    root = write(tmp_path / "data/old", *PATHS).parent
    (root / "test").symlink_to("old/test")
    assert resolve(root, cache) == root


def test_a_class_called_train_is_no_split(tmp_path, cache):
    root = write(tmp_path / "data", "test/bus/1.png", "test/train/1.png")
    assert resolve(root, cache) == root


def test_images_beside_train_are_the_sub_folders(tmp_path, cache):
    root = write(tmp_path / "wrap", *(f"faces/{path}" for path in PATHS), "look.png")
    write(root / "faces", "look.png", "figures/a.png")
    write(root / "docs", ".hidden.png").joinpath("a.txt").write_text("x")
    (root / "loop").symlink_to("loop")
    assert resolve(root, cache) == root / "faces"


def test_no_more_is_listed_than_is_needed(tree, tmp_path, cache, monkeypatch):
    listed, scandir = [], os.scandir
    monkeypatch.setattr(os, "scandir", lambda path: (listed.append(Path(path)), scandir(path))[1])
    assert resolve(tree, cache) == tree
    assert listed == []
    assert resolve(tree / "test", cache) == tree / "test"
    assert listed == [tree / "test"]
    listed.clear()
    write(tmp_path / "more", *(f"old/{path}" for path in PATHS), "test/a/1.png", "val/a/1.png")
    assert resolve(tmp_path / "more", cache) == tmp_path / "more"
    assert len(listed) <= 4  # itself, old/train, and one split with one class


def test_a_folder_beside_that_cannot_be_read_is_not_taken_for_empty(
    tree, tmp_path, cache, monkeypatch
):
    scandir = os.scandir

    def fail(path):
        if Path(path) == tmp_path / "test":
            raise OSError(5, "Input/output error")
        return scandir(path)

    write(tmp_path, "test/happy/1.png")
    monkeypatch.setattr(os, "scandir", fail)
    with pytest.raises(UserError, match=r"folder .*test: Input/output error; make it readable"):
        resolve(tmp_path, cache)


def test_class_folders_directly_inside_stay(tree, cache):
    assert resolve(tree / "test", cache) == tree / "test"


def test_a_link_to_a_tree_elsewhere_is_not_followed(tree, tmp_path, cache):
    (tmp_path / "wrap").mkdir()
    (tmp_path / "wrap/faces").symlink_to(tree)
    assert resolve(tmp_path / "wrap", cache) == tmp_path / "wrap"


@pytest.mark.parametrize("name", ["x.zip", "x.tar", "x.tar.gz", "X.TGZ", "x.ZIP"])
@pytest.mark.parametrize("prefix", ["", "wrapped/"])
def test_an_archive_is_unpacked_once(tree, tmp_path, cache, name, prefix, monkeypatch):
    archive = pack(tree, tmp_path / name, prefix)
    if name == "x.ZIP":
        shutil.copy(pack(tree, tmp_path / "low.zip", prefix), archive)
    found = resolve(archive, cache)
    assert found.is_relative_to(cache / "unpacked")
    assert found.name == "wrapped" or not prefix
    assert images_in(found) == set(PATHS)
    with monkeypatch.context() as patch:
        patch.setattr(archives, "unpack", None)
        assert resolve(archive, cache) == found
    os.utime(archive, ns=(1, 1))
    assert resolve(archive, cache) != found


def test_notes_are_repeated(tree, tmp_path, cache, capsys):
    (tree / "README.md").write_text("x")
    archive = pack(tree, tmp_path / "x.zip")
    for _ in range(2):
        resolve(archive, cache)
        expected = f"{archive}: 1 files that are no images were not unpacked.\n"
        assert capsys.readouterr().err == expected


def test_a_failed_unpacking_leaves_nothing(tree, tmp_path, cache):
    archive = pack(tree, tmp_path / "x.zip")
    archive.write_bytes(archive.read_bytes()[:-60])
    with pytest.raises(UserError, match="is damaged"):
        resolve(archive, cache)
    assert [p for p in (cache / "unpacked").iterdir() if p.suffix != ".lock"] == []


@pytest.mark.parametrize(
    ("stop", "comes_out"),
    [(KeyboardInterrupt("stop"), KeyboardInterrupt), (OSError(28, "No space left"), UserError)],
)
def test_a_stopped_unpacking_leaves_nothing(tree, tmp_path, cache, stop, comes_out, monkeypatch):
    archive = pack(tree, tmp_path / "x.tar.gz")

    def unpack(archive, folder, progress):
        (folder / "half").mkdir()
        raise stop

    with monkeypatch.context() as patch:
        patch.setattr(archives, "unpack", unpack)
        with pytest.raises(comes_out, match=r"stop|No space left"):
            resolve(archive, cache)
    assert [p for p in (cache / "unpacked").iterdir() if p.suffix != ".lock"] == []
    assert images_in(resolve(archive, cache)) == set(PATHS)


def test_what_a_killed_process_left_is_removed(tree, tmp_path, cache):
    archive = pack(tree, tmp_path / "x.zip")
    final = resolve(archive, cache)
    shutil.rmtree(final)
    write(final.with_name(f"{final.name}-dead"), PATHS[0])
    assert resolve(archive, cache) == final
    assert images_in(final) == set(PATHS)
    assert not final.with_name(f"{final.name}-dead").exists()


def test_a_cache_that_cannot_be_written(tree, tmp_path, cache):
    cache.write_bytes(b"a file")
    with pytest.raises(UserError, match=r"Cannot unpack .*x.zip into the cache"):
        resolve(pack(tree, tmp_path / "x.zip"), cache)


def test_fer2013(tmp_path, cache, capsys):
    table = csv(tmp_path / "fer2013.csv", broken=2)
    found = resolve(table, cache)
    assert images_in(found) == {
        "train/angry/00000.png",
        "train/happy/00001.png",
        "train/angry/00002.png",
        "test/happy/00003.png",
    }
    assert capsys.readouterr().err == (
        f"{table}: 2 of 6 rows are broken and were left out (row 4: 1 pixels instead of 2304).\n"
    )
    assert resolve(table, cache) == found


@pytest.mark.parametrize("prefix", ["", "fer2013/"])
def test_fer2013_in_an_archive_or_a_folder(tmp_path, cache, prefix):
    root = tmp_path / "data"
    (root / prefix).mkdir(parents=True)
    csv(root / prefix / "fer2013.csv")
    archive = pack(root, tmp_path / "fer2013.zip")
    for source in (root, archive):
        assert len(images_in(resolve(source, cache))) == 4


def test_images_go_before_a_table_beside_them(tree, cache):
    csv(tree / "fer2013.csv")
    assert resolve(tree, cache) == tree


def refuse_locks(monkeypatch, code):
    def refuse(*_):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "flock", refuse)


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS])
def test_a_disk_without_locks(tmp_path, monkeypatch, code):
    refuse_locks(monkeypatch, code)
    monkeypatch.setattr(synthetic, "write_tree", lambda root: write(root, *PATHS))
    table = csv(tmp_path / "fer2013.csv")
    lock = tmp_path / "local/.fer2013.csv.staging/lock"
    lock.parent.mkdir(parents=True)
    lock.touch()  # of a process that was killed
    for _ in range(2):
        staged = DataSettings(dir=table, stage_to=tmp_path / "local", image_size=8)
        assert len(dataset.load_whole(staged).train) == 3
        assert len(dataset.load_whole(DataSettings(image_size=8)).train) == 2  # the drawn ones
    assert (tmp_path / "local/fer2013.csv").is_file()


def test_a_lock_that_cannot_be_made_is_a_sentence(tree, tmp_path, cache, monkeypatch):
    refuse_locks(monkeypatch, errno.EIO)
    with pytest.raises(UserError, match=r"Cannot unpack .*: Input/output error; make room"):
        resolve(pack(tree, tmp_path / "x.zip"), cache)


def test_two_processes_unpack_once(tree, tmp_path, cache, monkeypatch):
    archive, unpacked, unpack = pack(tree, tmp_path / "x.zip"), [], archives.unpack

    def slow(*args):
        unpacked.append(args)
        time.sleep(0.3)
        return unpack(*args)

    monkeypatch.setattr(archives, "unpack", slow)
    with ThreadPoolExecutor() as pool:  # a lock is of the open file: threads are as good
        found = list(pool.map(lambda _: resolve(archive, cache), range(3)))
    assert len(set(found)) == len(unpacked) == 1


def test_what_is_neither(tmp_path, cache):
    with pytest.raises(UserError, match=r"There is no .*none"):
        resolve(tmp_path / "none", cache)
    for name in ("a.rar", "a.png", "noextension", "a.zip.part"):
        (tmp_path / name).write_bytes(b"x")
        with pytest.raises(UserError, match="is neither a folder, nor an archive"):
            resolve(tmp_path / name, cache)
    os.mkfifo(tmp_path / "a.zip")
    with pytest.raises(UserError, match="There is no"):
        resolve(tmp_path / "a.zip", cache)


def test_staged_then_unpacked_by_the_settings(tree, tmp_path, cache):
    archive = pack(tree, tmp_path / "x.tar.gz", "wrapped")
    data = DataSettings(dir=archive, stage_to=tmp_path / "local")
    found = dataset.locate(data)
    assert found.parent.parent == cache / "unpacked"
    assert images_in(found) == set(PATHS)
    assert (tmp_path / "local/x.tar.gz").is_file()
    assert json.loads((found.parent / staging.NOTES).read_text()) == []
