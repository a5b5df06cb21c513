import os
import socket
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emotion_jax.data import tree
from emotion_jax.data.tree import Problem
from emotion_jax.errors import UserError


@pytest.fixture
def root(tmp_path):
    return write(tmp_path / "root", "happy/1.png", "sad/1.png")


def write(root, *paths):
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(b"")
    return root


def walk(root, folder=None):
    problems = []
    return tree.class_folders(root, folder or root, problems), problems


def test_images_by_class_below_the_root(tmp_path):
    root = write(tmp_path, "train/sad/b.JPG", "train/sad/a.jpeg", "train/happy/x/y/z.webp")
    found, problems = walk(root, root / "train")
    assert found == {
        "happy": ["train/happy/x/y/z.webp"],
        "sad": ["train/sad/a.jpeg", "train/sad/b.JPG"],
    }
    assert list(found) == ["happy", "sad"]
    assert problems == []


def test_nothing_is_opened(root, monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("a file was opened")

    monkeypatch.setattr("io.open", refuse)
    monkeypatch.setattr("builtins.open", refuse)
    assert len(walk(root)[0]) == 2


def test_hidden_names_and_litter_are_ignored(root):
    write(root, "happy/.DS_Store", "happy/._1.png", ".git/a/1.png", "happy/.cache/2.png")
    write(root, "happy/Thumbs.db", "happy/desktop.ini", "__MACOSX/happy/1.png")
    assert walk(root) == ({"happy": ["happy/1.png"], "sad": ["sad/1.png"]}, [])


def test_other_extensions_are_problems(root):
    write(root, "happy/notes.txt", "happy/README", "happy/a.gif")
    found, problems = walk(root)
    assert found["happy"] == ["happy/1.png"]
    assert sorted(problems) == [
        Problem("happy/README", "not an image file (no extension)"),
        Problem("happy/a.gif", "not an image file (.gif)"),
        Problem("happy/notes.txt", "not an image file (.txt)"),
    ]


def test_files_beside_class_folders(root):
    write(root, "train/happy/1.png", "train/stray.png", "loose.csv")
    assert walk(root, root / "train")[1] == [Problem("train/stray.png", "not in a class folder")]
    assert walk(root)[1] == []


@pytest.mark.parametrize("name", ["怒り", "سعيد", "радость", "naïve é", "a b\tc", "🙂", "q'\"%"])
def test_names_in_any_script(root, name):
    write(root, f"{name}/{name}.png")
    assert walk(root)[0][name] == [f"{name}/{name}.png"]


def test_a_name_that_is_not_utf8(root):
    os.close(os.open(os.fsencode(root / "happy") + b"/\xff\xfe.png", os.O_CREAT))
    os.mkdir(os.fsencode(root) + b"/\xe9")
    found, problems = walk(root)
    assert set(found) == {"happy", "sad"}
    assert sorted(problems) == [
        Problem(r"\udce9", "its name is not valid UTF-8"),
        Problem(r"happy/\udcff\udcfe.png", "its name is not valid UTF-8"),
    ]


def test_a_symlink_inside_the_tree_is_followed(root):
    (root / "happy/2.png").symlink_to(root / "sad/1.png")
    (root / "joy").symlink_to("happy")
    found, problems = walk(root)
    assert found["happy"] == ["happy/1.png", "happy/2.png"]
    assert found["joy"] == ["joy/1.png", "joy/2.png"]
    assert problems == []


def test_symlinks_out_of_the_tree_are_problems(root, tmp_path):
    write(tmp_path, "elsewhere/9.png")
    (root / "happy/out.png").symlink_to(tmp_path / "elsewhere/9.png")
    (root / "happy/more").symlink_to(tmp_path / "elsewhere")
    (root / "class").symlink_to("../elsewhere")
    found, problems = walk(root)
    assert found == {"happy": ["happy/1.png"], "sad": ["sad/1.png"]}
    assert {p.path for p in problems} == {"happy/out.png", "happy/more", "class"}
    assert {p.reason for p in problems} == {"a symlink out of the tree"}


def test_a_sibling_whose_name_begins_alike_is_outside(root, tmp_path):
    write(tmp_path, "root2/1.png")
    (root / "happy/2.png").symlink_to(tmp_path / "root2/1.png")
    assert walk(root)[1] == [Problem("happy/2.png", "a symlink out of the tree")]


def test_symlinks_to_nothing(root):
    (root / "happy/gone.png").symlink_to("nowhere.png")
    (root / "happy/self.png").symlink_to("self.png")
    (root / "happy/a").symlink_to("b")
    (root / "happy/b").symlink_to("a")
    found, problems = walk(root)
    assert found["happy"] == ["happy/1.png"]
    assert len(problems) == 4
    assert {p.reason for p in problems} == {"a symlink to nothing"}


@pytest.mark.parametrize("target", [".", "..", "../.."])
def test_a_symlink_to_a_folder_above(root, target):
    write(root, "happy/deep/2.png")
    (root / "happy/deep/loop").symlink_to(target)
    found, problems = walk(root)
    assert found["happy"] == ["happy/1.png", "happy/deep/2.png"]
    assert problems == [Problem("happy/deep/loop", "a symlink to a folder above it")]


def test_a_class_that_is_a_symlink_to_the_root(root):
    (root / "all").symlink_to(".")
    found, problems = walk(root)
    assert set(found) == {"happy", "sad"}
    assert problems == [Problem("all", "a symlink to a folder above it")]


def test_symlinks_in_a_circle_end(root):
    (root / "happy/x").symlink_to("../sad")
    (root / "sad/y").symlink_to("../happy")
    found, problems = walk(root)
    assert found == {
        "happy": ["happy/1.png", "happy/x/1.png"],
        "sad": ["sad/1.png", "sad/y/1.png"],
    }
    assert sorted(problems) == [
        Problem("happy/x/y", "a folder that is listed already"),
        Problem("sad/y/x", "a folder that is listed already"),
    ]


def test_a_symlink_to_a_neighbour_does_not_double_its_images(root):
    write(root, "happy/real/2.png")
    (root / "happy/alias").symlink_to("real")
    found, problems = walk(root)
    assert found["happy"] == ["happy/1.png", "happy/real/2.png"]
    assert problems == [Problem("happy/alias", "a folder that is listed already")]


def test_neither_a_file_nor_a_folder(root):
    os.mkfifo(root / "happy/pipe.png")
    here = os.getcwd()
    os.chdir(root / "happy")  # a socket's path has to be short
    try:
        with socket.socket(socket.AF_UNIX) as server:
            server.bind("socket.png")
    finally:
        os.chdir(here)
    assert {tuple(p) for p in walk(root)[1]} == {
        ("happy/pipe.png", "neither a file nor a folder"),
        ("happy/socket.png", "neither a file nor a folder"),
    }


def test_an_unreadable_folder_costs_that_folder_alone(root, monkeypatch):
    write(root, "happy/bad/2.png", "happy/good/3.png")
    scandir = os.scandir

    def fail(path):
        if Path(path).name == "bad":
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", fail)
    found, problems = walk(root)
    assert found["happy"] == ["happy/1.png", "happy/good/3.png"]
    assert problems == [Problem("happy/bad", "unreadable (Permission denied)")]


def test_an_entry_that_cannot_be_looked_at_costs_itself_alone(root, monkeypatch):
    (root / "happy/link.png").symlink_to("1.png")
    (root / "happy/other.png").symlink_to("1.png")
    exists = os.path.exists

    def fail(path):
        if Path(path).name == "link.png":
            raise OSError(5, "Input/output error")
        return exists(path)

    monkeypatch.setattr(os.path, "exists", fail)
    found, problems = walk(root)
    assert found["happy"] == ["happy/1.png", "happy/other.png"]
    assert problems == [Problem("happy/link.png", "unreadable (Input/output error)")]


@pytest.mark.parametrize(
    ("name", "sentence"), [("none", "There is no folder"), ("file", "is not a folder")]
)
def test_no_folder_at_all(tmp_path, name, sentence):
    write(tmp_path, "file")
    with pytest.raises(UserError, match=sentence):
        tree.folders_in(tmp_path / name, tmp_path / name, [])


def test_a_root_that_cannot_be_read(root, monkeypatch):
    def fail(_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "scandir", fail)
    with pytest.raises(UserError, match=r"Cannot read the folder .*root: Permission denied\."):
        tree.folders_in(root, root, [])


def test_the_root_may_itself_be_a_symlink(root, tmp_path):
    (tmp_path / "link").symlink_to(root)
    (root / "happy/2.png").symlink_to("1.png")
    assert walk(tmp_path / "link") == (
        {"happy": ["happy/1.png", "happy/2.png"], "sad": ["sad/1.png"]},
        [],
    )


names = st.sampled_from(
    ["a", "b.png", "c.JPG", "d.txt", ".h.png", "Thumbs.db", "é.bmp", "__macosx"]
)


@settings(deadline=None, max_examples=60)
@given(paths=st.lists(st.lists(names, min_size=1, max_size=4), max_size=12))
def test_every_file_is_an_image_a_problem_or_ignored(paths):
    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory)
        for parts in paths:
            place = root.joinpath(*parts)
            if not any(parent.is_file() for parent in [*place.parents]) and not place.exists():
                place.parent.mkdir(parents=True, exist_ok=True)
                place.write_bytes(b"")
        found, problems = walk(root)
        listed = [path for images in found.values() for path in images]
        everything = [p.relative_to(root) for p in root.rglob("*") if p.is_file()]
        expected = {
            path.as_posix()
            for path in everything
            if len(path.parts) > 1 and not any(tree.ignored(part) for part in path.parts)
        }
        assert len(listed) == len(set(listed))
        assert set(listed).isdisjoint({problem.path for problem in problems})
        assert set(listed) | {problem.path for problem in problems} == expected
        assert all(Path(path).suffix.lower() in tree.FORMATS for path in listed)
        assert all(path.startswith(f"{name}/") for name, images in found.items() for path in images)
