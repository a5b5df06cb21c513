import numpy as np
import pytest
from PIL import Image

from emotion_jax.data.preprocess import CONVENTION
from emotion_jax.errors import UserError
from emotion_jax.inference import faces, framing
from emotion_jax.inference.faces import Detection

FRAME = framing.of_convention(CONVENTION)


def test_the_square_that_is_cut_out():
    grey = np.zeros((100, 100), np.uint8)
    grey[30:50, 20:40] = 200
    image = Image.fromarray(grey)
    view = np.asarray(framing.cut(image, Detection((20, 30, 20, 20), 1.0), FRAME))
    assert view.shape == (20, 20)
    assert (view == 200).all()
    # MTCNN's boxes are narrow: a square of the same area, a little larger.
    eyes = np.array([[25, 35], [35, 35], [30, 40], [27, 45], [33, 45]], np.float32)
    view = np.asarray(framing.cut(image, Detection((22, 28, 16, 24), 1.0, eyes), FRAME))
    assert view.shape == (21, 21)
    outside = np.asarray(framing.cut(image, Detection((-10, -10, 20, 20), 1.0), FRAME))
    assert outside.shape == (20, 20)
    assert framing.cut(image, Detection((0, 0, 100, 100), 1.0, None, True), FRAME) is image


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
    wanted = framing.cut(image, straight, FRAME).convert("L").resize(size)
    view = framing.cut(turned, straight._replace(landmarks=marks), FRAME).convert("L").resize(size)
    lying = framing.cut(turned, straight._replace(landmarks=None), FRAME).convert("L").resize(size)
    near, far = (np.corrcoef(np.ravel(wanted), np.ravel(other))[0, 1] for other in (view, lying))
    assert near > 0.97
    assert far < near - 0.02


def test_a_large_face_is_shrunk_before_it_is_turned():
    rng = np.random.default_rng(0)
    small = rng.integers(0, 256, (60, 60), np.uint8)
    image = Image.fromarray(small.repeat(100, 0).repeat(100, 1))  # 6,000 x 6,000
    eyes = np.float64([[2000, 2400], [4000, 2500], [3000, 3000], [2500, 4000], [3500, 4000]])
    views = []
    for scale in (1.0, 0.25):
        shown = image.resize((round(6000 * scale),) * 2, Image.Resampling.BOX)
        box = tuple(edge * scale for edge in (600.0, 600.0, 4800.0, 4800.0))
        view = framing.cut(shown, Detection(box, 1.0, eyes * scale), framing.FRAMINGS[CONVENTION])
        assert max(view.size) <= framing.LARGEST + 1
        views.append(np.asarray(view.resize((48, 48), Image.Resampling.BILINEAR), np.float64))
    assert np.abs(views[0] - views[1]).mean() < 2


def test_a_convention_of_another_version():
    with pytest.raises(UserError, match="the checkpoint's crop: 'round'"):
        framing.of_convention("round")
