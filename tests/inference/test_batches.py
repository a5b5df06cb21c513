"""How images reach the network: the same pixels as in training, in batches, in order."""

import io

import numpy as np
import pytest
from networks import SIZE, make_trained
from PIL import ExifTags, Image, ImageOps

from emotion_jax.data.preprocess import Preprocess
from emotion_jax.inference.network import CPU_BATCH_SIZE, Network
from emotion_jax.inference.recognizer import Recognizer


def noise(n, seed=0, shape=(SIZE, SIZE)):
    return np.random.default_rng(seed).integers(0, 256, (n, *shape), np.uint8)


def png(image, **options):
    buffer = io.BytesIO()
    image.save(buffer, "PNG", **options)
    return buffer.getvalue()


@pytest.fixture
def watched(monkeypatch):
    """A function from a recognizer to the list of what its network begins and ends, in order."""

    def watch(recognizer):
        events, begin = [], recognizer._network.begin

        def watched_begin(faces):
            events.append(("begin", faces))
            end = begin(faces)
            return lambda: events.append(("end", faces)) or end()

        monkeypatch.setattr(recognizer._network, "begin", watched_begin)
        return events

    return watch


@pytest.fixture(scope="module", params=[1, 3])
def of_channels(request):
    """A recognizer of grey, and one of coloured faces."""
    return Recognizer(make_trained(channels=request.param), "none")


@pytest.mark.parametrize("side", [SIZE, 31])
@pytest.mark.parametrize("orientation", [1, 6])
@pytest.mark.parametrize("mode", ["L", "RGB", "1", "P", "LA"])
def test_the_network_sees_the_pixels_of_training(of_channels, watched, side, orientation, mode):
    events, channels = watched(of_channels), of_channels.preprocess.channels
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    data = png(Image.fromarray(noise(1, shape=(side, side, 3))[0]).convert(mode), exif=exif)
    of_channels.predict(data)
    ((_, seen), _) = events
    np.testing.assert_array_equal(seen, Preprocess(SIZE, channels).decode(data)[None])
    if mode != "LA":  # transparent
        # The steps in full, none of them left out where it would change nothing.
        image = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
        image = image.convert("L" if channels == 1 else "RGB")
        plain = np.asarray(image.resize((SIZE, SIZE), Image.Resampling.BILINEAR))
        np.testing.assert_array_equal(seen[0], plain.reshape(SIZE, SIZE, channels))


def test_the_next_batch_is_begun_before_one_is_waited_for(trained, watched):
    recognizer = Recognizer(trained, "none")
    events = watched(recognizer)
    images = list(noise(20))
    results = list(recognizer.results(images, chunk=8))
    assert [kind for kind, _ in events] == ["begin", "begin", "end", "begin", "end", "end"]
    begun = np.concatenate([faces for kind, faces in events if kind == "begin"])
    np.testing.assert_array_equal(begun[..., 0], images)
    probs = [list(result.faces[0].probs.values()) for result in results]
    np.testing.assert_allclose(probs, recognizer.probabilities(begun), rtol=1e-5)


def test_what_cannot_be_read_keeps_its_place(of_faces):
    good = [png(Image.fromarray(pixels)) for pixels in noise(150)]
    is_good = np.random.default_rng(1).random(150) < 0.5
    is_good[32:64] = False  # a whole batch
    sources = [data if ok else data[:60] for data, ok in zip(good, is_good, strict=True)]
    results = list(of_faces.results(sources))
    assert [result.error for result in results] == [None if ok else "truncated" for ok in is_good]
    kept = [good[i] for i in np.flatnonzero(is_good)]
    found = [result.faces[0].probs for result in results if result.faces]
    for ours, (face,) in zip(found, of_faces.predict(kept), strict=True):
        np.testing.assert_allclose(list(ours.values()), list(face.probs.values()), rtol=1e-5)


def test_batches_on_a_cpu_are_small(trained):
    network = Network(trained)
    faces = noise(2 * CPU_BATCH_SIZE + 9)[..., None]
    probs = network.probabilities(faces)
    assert list(network._compiled) == [CPU_BATCH_SIZE, 16]
    np.testing.assert_array_equal(probs[32:64], network.probabilities(faces[32:64]))
    assert network.probabilities(faces[:0]).shape == (0, 3)
