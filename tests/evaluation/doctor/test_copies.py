import numpy as np
from PIL import Image

from emotion_jax.data import synthetic
from emotion_jax.evaluation.doctor import copies, oddities, survey


def find(root, layout):
    """Findings of a tree of drawn faces: path -> number of the face, or a finished image."""
    for path, face in layout.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        if isinstance(face, int):
            face = Image.fromarray(synthetic.draw(face % 7, np.random.default_rng([3, face])))
        face.save(root / path)
    seen = survey.survey(survey.list_tree(root))
    found, _ = copies.find(seen, oddities.is_blank(seen))
    return [(f.kind, f.path, f.related) for f in found]


def drawn(face):
    return Image.fromarray(synthetic.draw(face % 7, np.random.default_rng([3, face])))


def test_different_faces(tmp_path):
    assert find(tmp_path, {f"train/a/{i}.png": i for i in range(8)}) == []


def test_copies_within_a_split_are_of_its_first(tmp_path):
    layout = {"train/a/1.png": 1, "train/a/2.png": 1, "train/a/3.png": 1, "train/a/4.png": 4}
    assert find(tmp_path, layout) == [
        ("duplicate", "train/a/2.png", "train/a/1.png"),
        ("duplicate", "train/a/3.png", "train/a/1.png"),
    ]


def test_every_copy_in_another_split_is_a_leak_from_the_first(tmp_path):
    layout = {"test/a/1.png": 1, "test/a/2.png": 1, "train/a/8.png": 1, "train/a/9.png": 1}
    assert find(tmp_path, layout) == [
        ("duplicate", "train/a/9.png", "train/a/8.png"),
        ("duplicate", "test/a/2.png", "test/a/1.png"),
        ("leak", "test/a/1.png", "train/a/8.png"),
        ("leak", "test/a/2.png", "train/a/8.png"),
    ]


def test_conflicts_name_an_image_of_each_other_label(tmp_path):
    layout = {"train/a/1.png": 1, "train/b/1.png": 1, "train/b/2.png": 1, "test/c/1.png": 1}
    conflicts = [finding for finding in find(tmp_path, layout) if finding[0] == "label_conflict"]
    assert conflicts == [
        ("label_conflict", "train/b/1.png", "train/a/1.png"),
        ("label_conflict", "train/b/2.png", "train/a/1.png"),
        ("label_conflict", "test/c/1.png", "train/a/1.png"),
    ]


def test_near_copies_of_copies(tmp_path):
    darker = drawn(1).point(lambda v: v * 0.7)
    layout = {
        "train/a/1.png": 1,
        "train/a/2.png": 1,
        "train/b/3.png": darker,
        "test/a/4.png": darker,
        "test/a/5.png": darker,
    }
    assert sorted(find(tmp_path, layout)) == [
        ("duplicate", "test/a/5.png", "test/a/4.png"),
        ("duplicate", "train/a/2.png", "train/a/1.png"),
        ("label_conflict", "test/a/4.png", "train/b/3.png"),
        ("label_conflict", "test/a/5.png", "train/b/3.png"),
        ("label_conflict", "train/b/3.png", "train/a/1.png"),
        ("leak", "test/a/4.png", "train/b/3.png"),
        ("leak", "test/a/5.png", "train/b/3.png"),
        ("near_duplicate", "train/b/3.png", "train/a/1.png"),
    ]


def test_the_nearest_is_named(tmp_path):
    little, much = (drawn(1).point(lambda v, k=k: v * k) for k in (0.95, 0.3))
    layout = {"train/a/1.png": much, "train/a/2.png": 1, "train/a/3.png": little}
    found = find(tmp_path, layout)
    assert ("near_duplicate", "train/a/3.png", "train/a/2.png") in found
    assert len(found) == 2


def test_blank_images_are_copies_only_of_equal_ones(tmp_path):
    noise = np.random.default_rng(0)
    blanks = [noise.integers(120, 123, (48, 48), dtype=np.uint8) for _ in range(2)]
    layout = {f"train/a/{i}.png": Image.fromarray(blank) for i, blank in enumerate(blanks)}
    layout["train/a/9.png"] = Image.fromarray(blanks[0])
    assert find(tmp_path, layout) == [("duplicate", "train/a/9.png", "train/a/0.png")]
