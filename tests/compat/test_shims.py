"""Result shapes of the packages fer (25.10) and deepface (0.0.9x), by our own network."""

import base64
import io

import numpy as np
import pytest
import skimage.data
from networks import make_trained
from PIL import ExifTags, Image

from emotion_jax.compat import deepface
from emotion_jax.compat.deepface import DeepFace
from emotion_jax.compat.fer import FER
from emotion_jax.errors import UserError
from emotion_jax.inference.faces import Detection, Haar
from emotion_jax.inference.recognizer import Recognizer
from emotion_jax.training import trained as trained_lib

CLASSES = ("sad", "happy", "angry")


@pytest.fixture(scope="module")
def photograph():
    """As cv2.imread gives it: BGR."""
    return np.ascontiguousarray(skimage.data.astronaut()[..., ::-1])


@pytest.fixture(autouse=True)
def checkpoint(monkeypatch):
    """Every name of a checkpoint is that of a drawn network for colours."""
    network = make_trained(channels=3)
    monkeypatch.setattr(trained_lib, "resolve", lambda path: path)
    monkeypatch.setattr(trained_lib, "load", lambda step: network)
    deepface._recognizer.cache_clear()
    yield network
    deepface._recognizer.cache_clear()


@pytest.mark.parametrize("mtcnn", [False, True])
def test_fer(photograph, mtcnn, checkpoint, tmp_path):
    detector = FER(mtcnn=mtcnn)
    (found,) = detector.detect_emotions(photograph)
    assert list(found) == ["box", "emotions"]
    x, y, width, height = found["box"]
    assert all(isinstance(edge, int) for edge in found["box"])
    assert 170 < x < 190
    assert 55 < y < 75
    assert 80 < width < 100 < height + 10 < 130
    assert tuple(found["emotions"]) == CLASSES
    assert sum(found["emotions"].values()) == pytest.approx(1, abs=0.02)
    assert all(value == round(value, 2) for value in found["emotions"].values())
    top, score = detector.top_emotion(photograph)
    assert (top, score) == max(found["emotions"].items(), key=lambda item: item[1])
    # Colours are in the right order: those of RGB are the recognizer's.
    (face,) = Recognizer(checkpoint, detector.recognizer._detector).predict(photograph[..., ::-1])
    assert {name: round(p, 2) for name, p in face.probs.items()} == found["emotions"]
    Image.fromarray(photograph[..., ::-1]).save(tmp_path / "a.png")
    assert detector.detect_emotions(str(tmp_path / "a.png")) == [found]
    empty = np.zeros((90, 100, 3), np.uint8)
    assert detector.batch_detect_emotions([photograph, empty]) == [[found], []]


def test_small_faces_of_a_large_photograph(photograph):
    """Both packages search the image in its own size."""
    wide = np.full((520, 4000, 3), 90, np.uint8)
    wide[4:516, 2000:2512] = photograph
    (found,) = FER().detect_emotions(wide)
    assert 2170 < found["box"][0] < 2190
    wide[:] = 90
    wide[4:260, 2000:2256] = Image.fromarray(photograph).resize((256, 256))
    (found,) = DeepFace.analyze(wide)
    assert 2080 < found["region"]["x"] < 2100


def test_fer_without_a_face_and_with_boxes_of_ones_own(photograph):
    detector = FER()
    empty = np.zeros((100, 100, 3), np.uint8)
    assert detector.detect_emotions(empty) == []
    assert detector.top_emotion(empty) == (None, None)
    boxes = [[170, 60, 100, 110], [0, 0, 40, 40]]
    found = detector.detect_emotions(photograph, face_rectangles=boxes)
    assert [face["box"] for face in found] == boxes
    with pytest.raises(UserError, match="unreadable"):
        detector.detect_emotions("gone.jpg")


@pytest.mark.parametrize("backend", ["opencv", "mtcnn", "skip"])
def test_deepface(photograph, backend):
    (found,) = DeepFace.analyze(img_path=photograph, actions=["emotion"], detector_backend=backend)
    assert list(found) == ["emotion", "dominant_emotion", "region", "face_confidence"]
    assert tuple(found["emotion"]) == CLASSES
    assert sum(found["emotion"].values()) == pytest.approx(100, abs=1e-3)
    assert found["dominant_emotion"] == max(found["emotion"], key=found["emotion"].get)
    region = found["region"]
    assert list(region) == ["x", "y", "w", "h", "left_eye", "right_eye"]
    if backend == "skip":
        assert [region[name] for name in "xywh"] == [0, 0, 512, 512]
        assert found["face_confidence"] == 0
    else:
        assert 170 < region["x"] < 190
        assert 0.9 < found["face_confidence"] <= 1
    if backend == "mtcnn":  # the person's left eye is on the right of the picture
        assert region["left_eye"][0] - region["right_eye"][0] == pytest.approx(43, abs=3)


def test_deepface_regions_lie_within_the_image(photograph):
    (region,) = (one["region"] for one in DeepFace.analyze(photograph, detector_backend="mtcnn"))
    x, y = region["x"] + region["w"] // 7, region["y"]
    edge = photograph[y:, x:]
    faces = DeepFace.analyze(edge, detector_backend="mtcnn", enforce_detection=False)
    for part in (face["region"] for face in faces):
        assert 0 <= part["x"] < part["x"] + part["w"] <= edge.shape[1]
        assert 0 <= part["y"] < part["y"] + part["h"] <= edge.shape[0]
    assert faces[0]["face_confidence"] > 0  # one was found


def test_a_photograph_by_a_telephone_is_turned_once(photograph, tmp_path):
    portrait = np.ascontiguousarray(photograph[:, 80:380])
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    turned = Image.fromarray(portrait[..., ::-1]).transpose(Image.Transpose.ROTATE_90)
    turned.save(tmp_path / "a.png", exif=exif)
    for backend in ("skip", "opencv"):
        wanted = DeepFace.analyze(portrait, detector_backend=backend)
        assert DeepFace.analyze(tmp_path / "a.png", detector_backend=backend) == wanted
    boxes = [[90, 60, 100, 110]]
    wanted = FER().detect_emotions(portrait, face_rectangles=boxes)
    assert FER().detect_emotions(tmp_path / "a.png", face_rectangles=boxes) == wanted


def test_deepface_without_a_face():
    empty = np.zeros((60, 80, 3), np.uint8)
    with pytest.raises(ValueError, match="Face could not be detected in"):
        DeepFace.analyze(empty, actions=["emotion"])
    (found,) = DeepFace.analyze(empty, actions="emotion", enforce_detection=False)
    assert (found["region"]["w"], found["region"]["h"], found["face_confidence"]) == (80, 60, 0)


def test_deepface_takes_what_deepface_takes(photograph, tmp_path):
    buffer = io.BytesIO()
    Image.fromarray(photograph[..., ::-1]).save(buffer, "PNG")
    path = tmp_path / "a.png"
    path.write_bytes(buffer.getvalue())
    uri = "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
    expected = DeepFace.analyze(photograph)
    with path.open("rb") as file:
        for source in (path, str(path), uri, file):
            assert DeepFace.analyze(source) == expected
    assert DeepFace.analyze([path, photograph]) == [expected, expected]
    assert DeepFace.analyze((path,)) == [expected]
    with pytest.raises(ValueError, match="base64"):
        DeepFace.analyze("data:image/png;base64,###")
    assert DeepFace.analyze(np.stack([photograph] * 2)) == [expected, expected]


@pytest.mark.parametrize("source", ["gone.jpg", "https://example.com/a.jpg", b"text", None, 0.5])
def test_deepface_has_valueerrors_of_images_as_deepface_has(photograph, source):
    source = photograph * source if isinstance(source, float) else source
    with pytest.raises(ValueError, match=r"unreadable|not an image|not NoneType|not float64"):
        DeepFace.analyze(source)


@pytest.mark.parametrize(("score", "wanted"), [(-0.42, 0), (0.876, 0.88), (7.1, 1)])
def test_deepface_confidence_is_a_share(photograph, monkeypatch, score, wanted):
    asked = []

    def found(detector, images):
        asked.append(detector._settings["minNeighbors"])
        return [[Detection((9.0, 9.0, 90.0, 90.0), score)]]

    monkeypatch.setattr(Haar, "detect", found)
    (face,) = DeepFace.analyze(photograph)
    assert face["face_confidence"] == wanted
    assert asked == [10]  # theirs


@pytest.mark.parametrize("arguments", [{"actions": ["age"]}, {"detector_backend": "retinaface"}])
def test_deepface_has_no_more_than_expressions(photograph, arguments):
    with pytest.raises(ValueError, match="here there"):
        DeepFace.analyze(photograph, **arguments)
