import csv

import numpy as np
import pytest
from PIL import Image, ImageOps

from emotion_jax.data import synthetic
from emotion_jax.evaluation.doctor import survey

CLASSES = synthetic.CLASSES


def plant(root):
    """A tree of drawn faces with a fault of every kind.

    Returns:
      (kind, path, related) of every finding that it deserves, but for mislabels.
    """
    synthetic.write_tree(root, train=140, test=42, seed=5)

    def face(path):
        return Image.open(root / path)

    def save(image, path):
        (root / path).parent.mkdir(exist_ok=True)
        image.save(root / path)

    (root / "train/happy/zero.png").touch()
    (root / "train/happy/notes.txt").write_text("a loose note")
    whole = (root / "train/sad/00005.png").read_bytes()
    (root / "train/sad/cut.png").write_bytes(whole[: len(whole) // 2])
    save(face("train/happy/00003.png"), "train/happy/same.bmp")
    save(face("train/disgust/00001.png").convert("RGB"), "train/angry/conflict.png")
    save(face("train/fear/00002.png"), "test/fear/leak.png")
    save(face("train/surprise/00006.png").point(lambda v: v * 0.8), "test/surprise/near.png")
    save(ImageOps.mirror(face("train/sad/00005.png")), "train/sad/mirror.png")
    save(face("train/neutral/00004.png"), "train/neutral/small.jpg")
    save(Image.new("L", (48, 48), 128), "train/neutral/blank.png")
    drawn = [Image.fromarray(synthetic.draw(4, np.random.default_rng(i))) for i in range(5)]
    save(drawn[0].resize((200, 200)), "train/neutral/large.png")
    save(drawn[1].point(lambda v: v * 0.1), "train/neutral/night.png")
    for i in (2, 3):
        save(drawn[i], f"train/contempt/{i}.png")
    (root / "train/none").mkdir()
    return {
        ("broken", "train/happy/zero.png", ""),
        ("broken", "train/happy/notes.txt", ""),
        ("broken", "train/sad/cut.png", ""),
        ("duplicate", "train/happy/same.bmp", "train/happy/00003.png"),
        ("duplicate", "train/disgust/00001.png", "train/angry/conflict.png"),
        ("label_conflict", "train/disgust/00001.png", "train/angry/conflict.png"),
        ("leak", "test/fear/leak.png", "train/fear/00002.png"),
        ("leak", "test/surprise/near.png", "train/surprise/00006.png"),
        ("near_duplicate", "train/sad/mirror.png", "train/sad/00005.png"),
        ("near_duplicate", "train/neutral/small.jpg", "train/neutral/00004.png"),
        ("blank", "train/neutral/blank.png", ""),
        ("outlier", "train/neutral/large.png", ""),
        ("outlier", "train/neutral/night.png", ""),
        ("imbalance", "train/contempt", "train/neutral"),
        ("imbalance", "test/contempt", "train/contempt"),
        ("imbalance", "train/none", ""),
    }


def predict(path, images, wrong=()):
    """Write predictions.csv: sure of every image's folder, but of ``wrong`` that it is the next."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "label", "fold", "predicted", *CLASSES])
        for i, image in enumerate(images):
            label = image.split("/")[-2]
            place = (CLASSES.index(label) + (image in wrong)) % len(CLASSES)
            rest = 0.02 + 0.001 * (i % 5)
            probs = [1 - 6 * rest if k == place else rest for k in range(len(CLASSES))]
            writer.writerow([image, label, 1 + i % 2, CLASSES[place], *probs])
    return path


@pytest.fixture(scope="session")
def planted(tmp_path_factory):
    """A tree with planted faults, and what is to be found in it."""
    root = tmp_path_factory.mktemp("planted") / "faces"
    return root, plant(root)


@pytest.fixture(scope="session")
def surveyed(planted):
    """The survey of that tree."""
    return survey.survey(survey.list_tree(planted[0]))


@pytest.fixture
def predictions():
    """Writes a file of predictions."""
    return predict
