import io
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import ExifTags, Image

from emotion_jax.data.preprocess import BadImage, Preprocess

EXTENSIONS = {"JPEG": ".jpg", "PNG": ".png", "BMP": ".bmp", "WEBP": ".webp"}
NOISE = np.random.default_rng(0).integers(0, 256, (30, 20, 3), dtype=np.uint8)


def encode(image, kind="PNG", **options):
    if isinstance(image, np.ndarray):
        image = Image.fromarray(image)
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def reason(data, name="face.png", **options):
    with pytest.raises(BadImage) as caught:
        Preprocess(**options).decode(data, name)
    return str(caught.value)


def decode(data, name="", size=8, channels=1):
    return Preprocess(size, channels).decode(data, name)


def outcome(data, name=""):
    try:
        return decode(data, name), ""
    except BadImage as error:
        return None, str(error)


def test_a_grey_png_of_the_right_size_comes_out_as_it_is():
    grey = NOISE[:8, :8, 0]
    np.testing.assert_array_equal(decode(encode(grey), "a.png")[..., 0], grey)


def test_colour_is_kept_with_three_channels_and_weighted_with_one():
    data = encode(np.full((8, 8, 3), (200, 100, 50), np.uint8))
    assert decode(data, channels=3).reshape(-1, 3).tolist() == [[200, 100, 50]] * 64
    luma = round(0.299 * 200 + 0.587 * 100 + 0.114 * 50)
    assert np.unique(decode(data)).tolist() == [luma]


@pytest.mark.parametrize("kind", EXTENSIONS)
def test_reads_every_format(kind):
    data = encode(np.full((9, 7, 3), 120, np.uint8), kind)
    image = decode(data, "x" + EXTENSIONS[kind])
    assert image.shape == (8, 8, 1)
    assert image.dtype == np.uint8
    assert np.abs(image.astype(int) - 120).max() <= 2


def test_the_extension_in_capitals_and_jpeg_in_full():
    decode(encode(NOISE, "JPEG"), "A.JPG")
    decode(encode(NOISE, "JPEG"), "A.Jpeg")


def test_not_square_is_squeezed_not_cropped():
    wide = np.zeros((8, 16), np.uint8)
    wide[:, 8:] = 255
    image = decode(encode(wide))[..., 0]
    assert image[:, 0].tolist() == [0] * 8
    assert image[:, -1].tolist() == [255] * 8


def test_reduction_is_antialiased():
    stripes = np.tile(np.array([0, 255], np.uint8), (64, 32))
    assert np.abs(decode(encode(stripes)).astype(int) - 127).max() <= 8


@pytest.mark.parametrize("values", [(0, 0), (65535, 255), (257 * 100, 100), (300, 1)])
def test_16_bit_grey_is_scaled_whatever_the_image_holds(values):
    deep, expected = values
    data = encode(np.full((8, 8), deep, np.uint16))
    assert np.unique(decode(data)).tolist() == [expected]


def test_palette_with_transparency_lies_on_white():
    image = Image.new("P", (8, 8), 0)
    image.putpalette([10, 10, 10, 60, 60, 60])
    image.paste(1, (0, 0, 8, 4))
    opaque = decode(encode(image))
    assert sorted(np.unique(opaque)) == [10, 60]
    half = decode(encode(image, transparency=0))
    assert sorted(np.unique(half)) == [60, 255]


def test_transparency_lies_on_white():
    rgba = np.zeros((8, 8, 4), np.uint8)
    rgba[:4, :, 3] = 255
    image = decode(encode(rgba))[..., 0]
    assert image[0].tolist() == [0] * 8
    assert image[-1].tolist() == [255] * 8
    grey_alpha = decode(encode(Image.fromarray(rgba).convert("LA")))[..., 0]
    np.testing.assert_array_equal(grey_alpha, image)


def test_cmyk_jpeg():
    light = Image.new("RGB", (16, 16), (230, 230, 230)).convert("CMYK")
    assert np.abs(decode(encode(light, "JPEG"), "a.jpg").astype(int) - 230).max() <= 4


def test_one_bit():
    bits = np.zeros((8, 8), bool)
    bits[2] = True
    image = decode(encode(bits))[..., 0]
    assert image[2].tolist() == [255] * 8
    assert image.sum() == 8 * 255


@pytest.mark.parametrize("mode", ["L", "P", "RGB", "RGBA", "CMYK", "YCbCr", "HSV", "I", "F", "LA"])
@pytest.mark.parametrize("channels", [1, 3])
def test_converts_every_mode(mode, channels):
    grey = np.full((8, 8), 102, np.uint8)  # in the palette that P gets
    source = Image.fromarray(grey) if mode in "LIF" else Image.fromarray(np.stack([grey] * 3, 2))
    image = Preprocess(8, channels).convert(source.convert(mode))
    assert image.shape == (8, 8, channels)
    assert np.abs(image.astype(int) - 102).max() <= 1


@pytest.mark.parametrize(("top", "scale"), [(1.0, 255.0), (200.0, 1.0), (65535.0, 1 / 257)])
def test_float_images_are_taken_in_the_range_that_they_fill(top, scale):
    ramp = np.linspace(0, top, 64, dtype=np.float32).reshape(8, 8)
    ramp[0, 0] = np.nan
    image = Preprocess(8).convert(Image.fromarray(ramp))[..., 0]
    np.testing.assert_allclose(image, np.nan_to_num(ramp) * scale, atol=1)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_by_exif(orientation):
    upright = np.zeros((8, 8), np.uint8)
    upright[:4, :4], upright[:4, 4:], upright[4:, :4] = 250, 170, 90
    stored = {  # as EXIF defines it: where the stored row 0 and column 0 are in the picture
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.T,
        6: np.rot90(upright, 1),
        7: np.rot90(upright, 2).T,
        8: np.rot90(upright, -1),
    }[orientation]
    image = Image.fromarray(np.ascontiguousarray(stored))
    exif = image.getexif()
    exif[ExifTags.Base.Orientation] = orientation
    np.testing.assert_array_equal(decode(encode(image, exif=exif))[..., 0], upright)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF:UserWarning")
@pytest.mark.parametrize(
    "exif",
    [b"nonsense", b"II*\0\xff\xff\xff\xff", b"MM\0*\0\0\0\x08\0\x05\x01\x12", b"II*\0\x08\0\0\0\1"],
)
def test_broken_exif_does_not_cost_the_image(exif):
    data = encode(NOISE, "JPEG", exif=b"Exif\0\0" + exif)
    assert decode(data, "a.jpg").tobytes() == decode(encode(NOISE, "JPEG")).tobytes()


def test_a_camera_file_of_several_jpegs_is_a_jpeg():
    data = encode(NOISE, "MPO", save_all=True, append_images=[Image.new("RGB", (4, 4))])
    assert Image.open(io.BytesIO(data)).format == "MPO"
    np.testing.assert_array_equal(decode(data, "a.jpg"), decode(encode(NOISE, "JPEG"), "a.jpg"))


def test_the_first_frame_of_an_animation():
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("white", "black")]
    data = encode(frames[0], "WEBP", save_all=True, append_images=frames[1:], lossless=True)
    assert decode(data, "a.webp").min() == 255


def test_zero_bytes():
    assert reason(b"") == "zero bytes"


@pytest.mark.parametrize(
    "data",
    [b"hello", b"<html>404</html>", b"BMW is a car, and this is a text", b"\0" * 100, b"\xff"],
)
def test_not_an_image(data):
    assert reason(data) == "not an image"


@pytest.mark.parametrize("kind", EXTENSIONS)
@pytest.mark.parametrize("share", [0.01, 0.3, 0.6, 0.9])
def test_truncated(kind, share):
    data = encode(NOISE, kind)
    assert reason(data[: max(16, int(share * len(data)))], "x" + EXTENSIONS[kind]) == "truncated"


@pytest.mark.parametrize("kind", EXTENSIONS)
@pytest.mark.parametrize("extension", EXTENSIONS.values())
def test_wrong_format_for_its_extension(kind, extension):
    data = encode(NOISE, kind)
    if EXTENSIONS[kind] == extension:
        decode(data, "x" + extension)
    else:
        expected = f"wrong format for its extension ({kind} in {extension})"
        assert reason(data, "x" + extension) == expected


@pytest.mark.parametrize("kind", ["GIF", "TIFF"])
def test_a_format_that_is_not_read(kind):
    data = encode(NOISE, kind)
    assert reason(data, "x.jpg") == f"wrong format for its extension ({kind} in .jpg)"
    assert reason(data, "") == f"a format that is not read ({kind})"


def test_over_the_pixel_cap():
    data = encode(NOISE)
    assert reason(data, pixel_cap=599) == "over the pixel cap of 599 (20 x 30)"
    Preprocess(pixel_cap=600).decode(data)


@pytest.mark.parametrize("side", [10_000, 15_000, 60_000])
def test_a_bomb_is_refused_by_its_header(side):
    def chunk(kind, body):
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    header = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    data = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")
    assert reason(data).startswith("over the pixel cap of 40000000")


def test_a_flipped_byte_inside_a_png_is_damage():
    data = bytearray(encode(NOISE))
    data[len(data) // 2] ^= 1
    assert reason(bytes(data)).startswith("damaged (")


@pytest.mark.filterwarnings("ignore::UserWarning")
@settings(deadline=None, max_examples=60)
@given(
    kind=st.sampled_from(list(EXTENSIONS)),
    cut=st.floats(0, 1),
    flips=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(1, 255)), max_size=3),
)
def test_broken_bytes_give_an_image_or_a_reason_and_nothing_else(kind, cut, flips):
    data = bytearray(encode(NOISE, kind))
    for place, change in flips:
        data[int(place * len(data))] ^= change
    data = bytes(data[: int(cut * len(data))])
    image, problem = outcome(data, "x" + EXTENSIONS[kind])
    assert 0 < len(problem) < 200 if image is None else image.shape == (8, 8, 1)


@settings(deadline=None, max_examples=60)
@given(kind=st.sampled_from(["PNG", "BMP", "WEBP"]), missing=st.integers(1, 2000))
def test_a_cut_file_is_refused_unless_all_its_pixels_are_there(kind, missing):
    data = encode(NOISE, kind, **({"lossless": True} if kind == "WEBP" else {}))
    image, problem = outcome(data[:-missing])
    if image is None:
        assert problem in {"truncated", "not an image", "zero bytes"}
    else:
        np.testing.assert_array_equal(image, decode(data))


@settings(deadline=None, max_examples=40)
@given(data=st.binary(max_size=300))
def test_random_bytes_are_no_image(data):
    with pytest.raises(BadImage):
        decode(data)
