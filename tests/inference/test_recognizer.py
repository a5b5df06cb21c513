import itertools
import json
import math
import os
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import CLASSES, SIZE, make_trained
from PIL import ExifTags, Image, PngImagePlugin

from emotion_jax.data.preprocess import Preprocess
from emotion_jax.errors import UserError
from emotion_jax.inference.face import to_frame
from emotion_jax.inference.recognizer import Recognizer


def noise(n, seed=0, shape=(SIZE, SIZE)):
    return np.random.default_rng(seed).integers(0, 256, (n, *shape), np.uint8)


def rows(results):
    """Probabilities [n, K] of the only face of each image."""
    return np.array([list(face.probs.values()) for (face,) in results])


def softmax(trained, images, temperature=1.0):
    logits = np.asarray(trained.module.apply(trained.variables, images), np.float64) / temperature
    powers = np.exp(logits - logits.max(1, keepdims=True))
    return powers / powers.sum(1, keepdims=True)


def test_probabilities_are_the_networks_in_the_order_of_its_classes(trained, of_faces):
    images = noise(5)
    wanted = softmax(trained, images[..., None])
    assert np.ptp(wanted, axis=0).min() > 0.01  # the images differ
    faces = of_faces.predict(list(images))
    np.testing.assert_allclose(rows(faces), wanted, rtol=1e-5)
    np.testing.assert_allclose(of_faces.probabilities(images[..., None]), wanted, rtol=1e-5)
    assert of_faces.classes == CLASSES
    for (face,), row in zip(faces, wanted, strict=True):
        assert tuple(face.probs) == CLASSES
        assert face.label == CLASSES[row.argmax()]
        assert face.score == face.probs[face.label] == max(face.probs.values())
        assert (face.box, face.det_score, face.landmarks) == ((0, 0, SIZE, SIZE), 1.0, None)


def test_the_checkpoints_temperature():
    warm = make_trained(temperature=2.5)
    faces = Recognizer(warm, "none").predict(list(noise(4)))
    np.testing.assert_allclose(rows(faces), softmax(warm, noise(4)[..., None], 2.5), rtol=1e-5)


@pytest.mark.parametrize("n", [0, 1, 2, 7, 33])
def test_a_batch_is_its_images_one_by_one(of_faces, n):
    images = list(noise(n))
    singly = [of_faces.predict(image) for image in images]
    assert all(len(faces) == 1 for faces in singly)
    batch = of_faces.predict(images)
    streamed = of_faces.predict(iter(images))
    assert isinstance(batch, list)
    assert not isinstance(streamed, list)
    for results in (batch, list(streamed)):
        assert len(results) == n
        if n:
            np.testing.assert_allclose(rows(results), rows(singly), rtol=1e-5)
            assert [f.label for (f,) in results] == [f.label for (f,) in singly]


def test_more_faces_than_a_batch_holds(trained, of_faces):
    images = noise(300)[..., None]
    np.testing.assert_allclose(of_faces.probabilities(images), softmax(trained, images), rtol=1e-5)


def test_a_path_bytes_pixels_and_a_pillow_image_are_the_same(of_faces, tmp_path):
    pixels = noise(1, shape=(40, 30, 3))[0]
    path = tmp_path / "face.png"
    Image.fromarray(pixels).save(path)
    kinds = [path, str(path), path.read_bytes(), pixels, Image.fromarray(pixels), Image.open(path)]
    results = of_faces.predict(kinds)
    assert len({json.dumps(face.to_dict()) for (face,) in results}) == 1
    wanted = of_faces.probabilities(Preprocess(SIZE).decode(path.read_bytes())[None])
    np.testing.assert_allclose(rows(results), np.repeat(wanted, len(kinds), 0), rtol=1e-5)
    assert results[0][0].box == (0, 0, 30, 40)


def test_a_misnamed_photograph_is_read_all_the_same(of_faces, tmp_path):
    path = tmp_path / "face.jpg"
    Image.fromarray(noise(1)[0]).save(path, "WEBP", lossless=True)
    assert len(of_faces.predict(path)) == 1


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "CMYK", "LA", "I;16", "I", "F"])
@pytest.mark.parametrize("detector", ["none", "haar"])
def test_every_mode(trained, of_faces, mode, detector):
    grey = noise(1, shape=(30, 30))[0]
    if mode == "I;16":
        image = Image.fromarray(grey.astype(np.uint16) * 257)
    else:
        image = Image.fromarray(grey if mode in ("1", "L", "I", "F") else np.stack([grey] * 3, 2))
        image = image.convert(mode)
    recognizer = of_faces if detector == "none" else Recognizer(trained, detector)
    found = recognizer.predict(image)
    assert len(found) == (detector == "none")
    if found and mode not in ("1", "P"):
        plain = of_faces.predict(Image.fromarray(grey))
        np.testing.assert_allclose(rows([found]), rows([plain]), atol=0.05)


def test_grey_and_transparent_arrays_and_what_is_none(of_faces):
    grey = noise(1)[0]
    kinds = [grey, grey[..., None], np.dstack([grey] * 3), np.dstack([grey] * 3 + [grey * 0 + 255])]
    assert len({str(of_faces.predict(kind)) for kind in kinds}) == 1
    for wrong in (grey / 255, grey.astype(int), grey[0], np.zeros((4, 4, 2), np.uint8), grey[:0]):
        with pytest.raises(UserError, match="uint8 array"):
            of_faces.predict(wrong)
    with pytest.raises(UserError, match="not int"):
        of_faces.predict(3)
    with pytest.raises(UserError, match="not NoneType"):
        of_faces.predict([grey, None])
    with pytest.raises(UserError, match=r"uint8 \[N, 12, 12, 1\]"):
        of_faces.probabilities(noise(1))


def test_an_array_of_images_is_a_list_of_them(of_faces):
    assert len(of_faces.predict(noise(3, shape=(20, 20, 3)))) == 3


def test_one_compilation_a_bucket(trained):
    recognizer = Recognizer(trained, "none")
    compile_, compiled = recognizer._network._compile, []
    recognizer._network._compile = lambda faces: compiled.append(len(faces)) or compile_(faces)
    for n in (1, 3, 8, 9, 16, 30, 2, 12):
        recognizer.predict(list(noise(n)))
    assert compiled == [8, 16, 32]  # powers of two, at least the eight devices


def test_threads_share_a_recognizer(trained, astronaut):
    images = [np.ascontiguousarray(astronaut[i : 300 + i, 100:350]) for i in range(0, 48, 4)]
    expected = [str(faces) for faces in map(Recognizer(trained, "mtcnn").predict, images)]
    shared = Recognizer(trained, "mtcnn")
    start = threading.Barrier(6)

    def work(number):
        start.wait()
        order = np.random.default_rng(number).permutation(len(images))
        return {i: str(shared.predict(images[i])) for i in order}

    with ThreadPoolExecutor(6) as pool:
        for seen in pool.map(work, range(6)):
            assert [seen[i] for i in range(len(images))] == expected
    assert list(shared._network._compiled) == [8]


def test_an_iterator_is_read_ahead_of_no_further_than_promised(of_faces):
    taken = itertools.count()
    images = (noise(1, next(taken))[0] for _ in range(10_000))
    results = of_faces.results(images, chunk=8, workers=2)
    for _ in range(20):
        next(results)
    results.close()
    assert next(taken) <= 24 + 8 + 4 * 2


def test_a_threshold_to_abstain(trained):
    images = list(noise(40))
    scores = [face.score for (face,) in Recognizer(trained, "none").predict(images)]
    middle = float(np.median(scores))
    faces = Recognizer(trained, "none", abstain_below=middle).predict(images)
    abstained = [face.abstained for (face,) in faces]
    assert abstained == [score < middle for score in scores]
    assert 0 < sum(abstained) < 40
    with pytest.raises(UserError, match="abstain_below"):
        Recognizer(trained, "none", abstain_below=1.5)


@pytest.mark.parametrize("detector", ["mtcnn", "haar"])
def test_no_face_is_no_exception(trained, detector):
    recognizer = Recognizer(trained, detector)
    blanks = [(1, 1), (1, 500), (500, 1), (11, 11), (12, 13), (64, 64), (200, 300)]
    images = [np.zeros((*size, 3), np.uint8) for size in blanks]
    images += list(noise(3, shape=(70, 90, 3)))
    assert recognizer.predict(images) == [[]] * len(images)


@settings(max_examples=30)
@given(height=st.integers(1, 90), width=st.integers(1, 90), seed=st.integers(0, 9))
def test_any_size_of_noise(finder, height, width, seed):
    assert isinstance(finder.predict(noise(1, seed, (height, width, 3))[0]), list)


def test_what_cannot_be_read_is_named_or_passed_over(of_faces, tmp_path):
    good, bad, gone = tmp_path / "good.png", tmp_path / "bad.png", tmp_path / "gone.png"
    Image.fromarray(noise(1)[0]).save(good)
    bad.write_bytes(good.read_bytes()[:60])
    reasons = ["truncated", r"unreadable \(No such file", "zero bytes", "unreadable"]
    for source, reason in zip((bad, gone, b"", tmp_path), reasons, strict=True):
        with pytest.raises(UserError, match=reason):
            of_faces.predict(source)
    with pytest.raises(UserError, match=r"Cannot use .*bad\.png: truncated"):
        of_faces.predict([good, bad])
    results = list(of_faces.results([good, bad, gone, good]))
    assert [len(result.faces) for result in results] == [1, 0, 0, 1]
    assert [result.error for result in results] == [
        None, "truncated", "unreadable (No such file or directory)", None,
    ]  # fmt: skip


def test_a_photograph_by_a_telephone_held_upright(finder, astronaut, tmp_path):
    upright = finder.predict(astronaut)
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    turned = Image.fromarray(astronaut).transpose(Image.Transpose.ROTATE_90)
    turned.save(tmp_path / "portrait.png", exif=exif)
    assert [f.to_dict() for f in finder.predict(tmp_path / "portrait.png")] == [
        f.to_dict() for f in upright
    ]
    assert len(upright) == 1


@pytest.mark.parametrize("kind", ["exif", "xmp"])
def test_boxes_in_a_photograph_by_a_telephone(of_faces, tmp_path, kind):
    pixels = noise(1, shape=(60, 40, 3))[0]
    more = {"exif": Image.Exif()}
    if kind == "exif":
        more["exif"][ExifTags.Base.Orientation] = 6
    else:
        more = {"pnginfo": PngImagePlugin.PngInfo()}
        more["pnginfo"].add_itxt("XML:com.adobe.xmp", '<x tiff:Orientation="6"/>')
    turned = Image.fromarray(pixels).transpose(Image.Transpose.ROTATE_90)
    turned.save(tmp_path / "portrait.png", **more)
    boxes = [(5, 30, 20, 25), (0, 0, 40, 60)]
    wanted = of_faces.predict_boxes(pixels, boxes)
    assert of_faces.predict_boxes(tmp_path / "portrait.png", boxes) == wanted
    np.testing.assert_array_equal(of_faces.open(tmp_path / "portrait.png"), pixels)
    with Image.open(tmp_path / "portrait.png") as image:
        assert of_faces.predict_boxes(image, boxes) == wanted
        assert image.getexif()[ExifTags.Base.Orientation] == 6  # the user's image is as it was


def test_boxes_of_ones_own(finder, astronaut):
    (face,) = finder.predict(astronaut)
    ours = finder.predict_boxes(astronaut, [face.box, (0, 0, 50, 50)])
    assert [one.box for one in ours] == [face.box, (0, 0, 50, 50)]
    assert finder.predict_boxes(astronaut, []) == []


@pytest.mark.parametrize(
    "box", [(0, 0, -5, 10), (0, 0, 0, 10), (math.nan, 0, 5, 5), (512, 0, 5, 5), (-6, 0, 5, 5)]
)
def test_a_box_with_nothing_of_the_image(finder, astronaut, box):
    with pytest.raises(UserError, match=r"^Box 1 is .* which has 512 x 512 pixels\.$"):
        finder.predict_boxes(astronaut, [(0, 0, 50, 50), box])


def test_a_box_far_larger_than_the_image(finder, astronaut):
    (face,) = finder.predict_boxes(astronaut, [(-1e9, -1e9, 2e9, 2e9)])
    assert 0 < face.score <= 1


def test_a_pillow_image_that_was_opened_and_not_read(of_faces, tmp_path):
    Image.fromarray(noise(1, shape=(64, 64))[0]).save(tmp_path / "whole.png")
    data = (tmp_path / "whole.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(data[: len(data) // 2])
    with Image.open(tmp_path / "cut.png") as cut:
        sources = [cut, Image.new("La", (9, 9)), Image.new("LAB", (9, 9)), noise(1)[0]]
        errors = [result.error or "" for result in of_faces.results(sources)]
    assert [error.startswith("damaged") for error in errors] == [True, True, False, False]


@pytest.mark.parametrize("orientation", [None, 6])
def test_a_pillow_image_that_is_given_many_times(of_faces, tmp_path, orientation):
    exif = Image.Exif()
    if orientation:
        exif[ExifTags.Base.Orientation] = orientation
    Image.fromarray(noise(1, shape=(600, 900, 3))[0]).save(tmp_path / "a.png", exif=exif)
    wanted = of_faces.predict(tmp_path / "a.png")
    for _ in range(5):
        with Image.open(tmp_path / "a.png") as image:
            assert of_faces.predict([image] * 8) == [wanted] * 8


def test_a_file_that_is_larger_than_memory(of_faces, tmp_path):
    (tmp_path / "huge.jpg").touch()
    os.truncate(tmp_path / "huge.jpg", 2**40)
    with pytest.raises(UserError, match=r"huge\.jpg: over the size cap of 1073741824 bytes \(1099"):
        of_faces.predict(tmp_path / "huge.jpg")


def test_a_table(of_faces):
    results = of_faces.predict(list(noise(3)))
    frame = to_frame([*results, []], ["a", "b", "c", "d"])
    assert list(frame["image"]) == ["a", "b", "c"]
    assert list(frame.columns)[-3:] == list(CLASSES)
    np.testing.assert_array_equal(frame[list(CLASSES)].to_numpy(), rows(results))
    assert to_frame([[]]).empty


def test_what_is_not_installed_gets_a_sentence(trained, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "cv2", None)
    for detector in ("mtcnn", "haar"):
        with pytest.raises(UserError, match=r"emotion-jax\[video\]"):
            Recognizer(trained, detector)
    assert len(Recognizer(trained, "none").predict(noise(1)[0])) == 1
    monkeypatch.setitem(__import__("sys").modules, "pandas", None)
    with pytest.raises(UserError, match="pip install pandas"):
        to_frame([])


def test_bad_arguments(trained, tmp_path):
    with pytest.raises(UserError, match="the detector: 'retina' is not one of haar, mtcnn, none"):
        Recognizer(trained, "retina")
    with pytest.raises(UserError, match="no checkpoint"):
        Recognizer.load(tmp_path / "nothing", "none")
