import base64
import io

import numpy as np
import pytest
import skimage.data
from PIL import Image

from emotion_jax import config
from emotion_jax.compat import deepface
from emotion_jax.compat.deepface import DeepFace
from emotion_jax.compat.fer import FER
from emotion_jax.data import dataset
from emotion_jax.training import loop, workdir

CLASSES = {"angry", "happy", "sad"}
BGR = skimage.data.astronaut()[..., ::-1]  # as cv2.imread has it
WALL = np.full((100, 100, 3), 120, np.uint8)


@pytest.fixture(scope="module")
def checkpoint(tiny_tree, tmp_path_factory):
    settings = config.from_mapping(
        {
            "data": {"dir": tiny_tree, "pipeline": "resident", "image_size": 12},
            "model": {"widths": (4,), "dense": (8,)},
            "training": {"epochs": 1, "batch_size": 8},
            "logging": {"progress": False, "tensorboard": False},
        },
        "tests",
    )
    folder = tmp_path_factory.mktemp("shims")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EMOTION_JAX_CACHE", str(folder / "cache"))
        with workdir.opened(folder / "run", settings):
            loop.train(settings, folder / "run", dataset.load(settings.data))
    return folder / "run"


@pytest.mark.parametrize("mtcnn", [True, False])
def test_fer(checkpoint, mtcnn):
    fer = FER(mtcnn=mtcnn, checkpoint=checkpoint)
    (face,) = fer.detect_emotions(BGR)[:1]
    assert all(isinstance(edge, int) for edge in face["box"])
    x, y, width, height = face["box"]
    assert 140 < x < 225 < x + width
    assert 20 < y < 110 < y + height
    assert set(face["emotions"]) == CLASSES
    name, score = fer.top_emotion(BGR)
    assert face["emotions"][name] == score == max(face["emotions"].values())
    assert fer.detect_emotions(WALL) == []
    assert fer.top_emotion(WALL) == (None, None)
    (given,) = fer.detect_emotions(BGR, [[180, 60, 90, 110]])
    assert given["box"] == [180, 60, 90, 110]


def test_deepface(checkpoint, tmp_path, monkeypatch):
    monkeypatch.setattr(DeepFace, "checkpoint", str(checkpoint))
    deepface._recognizer.cache_clear()
    (face,) = DeepFace.analyze(BGR, actions=["emotion"], detector_backend="mtcnn")
    assert sum(face["emotion"].values()) == pytest.approx(100, abs=1e-3)
    assert set(face["emotion"]) == CLASSES
    assert face["emotion"][face["dominant_emotion"]] == max(face["emotion"].values())
    region = face["region"]
    assert region["left_eye"][0] > region["right_eye"][0]  # the person's left
    assert 0.9 < face["face_confidence"] <= 1
    path = tmp_path / "a.png"
    Image.fromarray(skimage.data.astronaut()).save(path)
    buffer = io.BytesIO(path.read_bytes())
    uri = "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode()
    for other in (str(path), buffer, uri):
        (same,) = DeepFace.analyze(other, ["emotion"], detector_backend="mtcnn")
        assert same["emotion"] == face["emotion"]
    both = DeepFace.analyze([BGR, BGR], "emotion", detector_backend="mtcnn")
    assert [one[0]["dominant_emotion"] for one in both] == [face["dominant_emotion"]] * 2


def test_deepface_without_a_face(checkpoint, monkeypatch):
    monkeypatch.setattr(DeepFace, "checkpoint", str(checkpoint))
    deepface._recognizer.cache_clear()
    with pytest.raises(ValueError, match="Face could not be detected"):
        DeepFace.analyze(WALL, ["emotion"])
    (whole,) = DeepFace.analyze(WALL, ["emotion"], enforce_detection=False)
    assert (whole["face_confidence"], whole["region"]["w"]) == (0, 100)
    with pytest.raises(ValueError, match="actions is"):
        DeepFace.analyze(WALL, ["age"])
    with pytest.raises(ValueError, match="detector_backend"):
        DeepFace.analyze(WALL, ["emotion"], detector_backend="retinaface")
