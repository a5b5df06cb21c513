"""What tests of the page share."""

import time

import numpy as np
from playwright.sync_api import expect

NAMES = ("chromium", "chromium-browser", "google-chrome")
PERMIT = ("--use-fake-ui-for-media-stream",)
DENY = ("--deny-permission-prompts",)
SECONDS = 60.0

expect.set_options(timeout=1000 * SECONDS)


def state_is(page, state):
    page.locator(f"body[data-state={state}]").wait_for()


def until(page, expression):
    """Waits for it; ``wait_for_function`` evaluates in the page, whose policy forbids it."""
    deadline = time.monotonic() + SECONDS
    while not page.evaluate(expression):
        assert time.monotonic() < deadline, expression
        page.wait_for_timeout(50)


CANVAS = """() => {
  const { width, height } = picture;
  return [...picture.getContext("2d").getImageData(0, 0, width, height).data];
}"""


def picture_is(page, file, image):
    """Opens a PNG file; what the networks are to look at has the image's pixels, all opaque."""
    page.set_input_files("#file", {"name": "a.png", "mimeType": "image/png", "buffer": file})
    state_is(page, "picture")
    until(page, f"picture.width === {image.width} && picture.height === {image.height}")
    made = np.array(page.evaluate(CANVAS), np.uint8).reshape(image.height, image.width, 4)
    expected = np.asarray(image.convert("RGBA"))
    assert np.abs(made.astype(int) - expected).max() <= 2


def a_face_is_shown(page):
    state_is(page, "live")
    page.locator(".box:visible").first.wait_for()
