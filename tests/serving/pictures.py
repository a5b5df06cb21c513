"""Screenshots of the page in all its states, light and dark, wide and narrow, to be looked at.

Example: python tests/serving/pictures.py /tmp/pictures

``--docs`` makes the pictures of docs/webcam.md of some of them.
"""

import argparse
import contextlib
import io
import math
import shutil
import tempfile
from pathlib import Path

import skimage.data
from measure import CAMERA
from PIL import Image
from playwright.sync_api import sync_playwright
from servers import ROOT, running

from emotion_jax.serving import engines
from emotion_jax.serving.guard import Policy
from emotion_jax.serving.limits import Limits

SIZES = {
    "wide": {"viewport": {"width": 1280, "height": 860}},
    "phone": {"viewport": {"width": 390, "height": 844}, "device_scale_factor": 2},
    "turned": {"viewport": {"width": 780, "height": 360}, "device_scale_factor": 2},
}
SCHEMES = ("light", "dark")
CAMERAS = {  # name -> Chromium's switches, and whether it has a film
    "face": (CAMERA, True),
    "nobody": (CAMERA, True),
    "denied": ((*CAMERA[::2], "--deny-permission-prompts"), True),
    "none": (CAMERA[1:], False),
}
TOKEN = "the-token-of-the-pictures"
FULL = 31_000  # milliseconds until the timeline is


def film(is_empty):
    """A face before a camera, that sways; or the wall behind it."""
    photograph = Image.fromarray(skimage.data.astronaut())
    left, width = (0, 100) if is_empty else (70, 360)
    for i in range(60):
        sway = 8 * math.sin(2 * math.pi * i / 60)
        box = (left + sway + 8, 0, left + sway + 8 + width, 0.75 * width)
        yield photograph.resize((640, 480), Image.Resampling.BICUBIC, box)


def encoded(image):
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def start(page, state):
    page.get_by_role("button", name="Start camera").first.click()
    page.locator(f"body[data-state={state}]").wait_for()


def live(page, save):
    page.locator(".box:visible").first.wait_for()
    page.wait_for_timeout(FULL)
    save("live")


def stopped(page, save):
    page.get_by_role("button", name="Stop camera").click()
    save("stopped")


def picture(page, save):
    data = encoded(Image.fromarray(skimage.data.astronaut()))
    file = {"name": "a.jpg", "mimeType": "image/jpeg", "buffer": data}
    page.set_input_files("#file", file)
    page.locator(".box:visible").first.wait_for()
    save("picture")
    page.set_input_files("#file", file | {"buffer": b"nothing"})
    page.locator("body[data-state=broken]").wait_for()
    save("broken")


def unplugged(page, save):
    page.evaluate("video.srcObject.getTracks()[0].dispatchEvent(new Event('ended'))")
    save("unplugged")


def nobody(page, save):
    page.locator("#hint:not(:empty)").wait_for()
    page.wait_for_timeout(2000)
    save("nobody")


def denied(page, save):
    page.wait_for_timeout(500)
    save("idle")
    start(page, "denied")
    save("denied")


def none(page, save):
    start(page, "nocamera")
    save("nocamera")


def documentation(page, save):
    page.goto(f"{page.url}docs")
    page.locator("#schemas table").first.wait_for()
    save("docs")


VISITS = {
    "face": (live, stopped, picture, documentation),
    "nobody": (nobody, unplugged),
    "denied": (denied,),
    "none": (none,),
}


def take(folder, checkpoints, wanted):
    offered = engines.load(checkpoints, Limits())
    with sync_playwright() as playwright, tempfile.TemporaryDirectory() as films:
        path = shutil.which("chromium") or shutil.which("google-chrome")
        for camera in wanted:
            switches, has_film = CAMERAS[camera]
            if has_film:
                file = Path(films) / f"{camera}.mjpeg"
                file.write_bytes(b"".join(map(encoded, film(camera == "nobody"))))
                switches = (*switches, f"--use-file-for-fake-video-capture={file}")
            with playwright.chromium.launch(executable_path=path, args=switches) as browser:
                for name, context in contexts(browser):
                    visit(folder, offered, camera, name, context)


def contexts(browser):
    for size, settings in SIZES.items():
        for scheme in SCHEMES:
            with browser.new_context(color_scheme=scheme, **settings) as context:
                context.set_default_timeout(60_000)
                yield f"{size}_{scheme}", context


def visit(folder, offered, camera, name, context):
    page = context.new_page()

    def save(state):
        page.wait_for_timeout(400)
        page.screenshot(path=folder / f"{state}_{name}.png", full_page=True)

    with contextlib.ExitStack() as stack:
        port = stack.enter_context(running(offered))
        page.goto(f"http://127.0.0.1:{port}/")
        for look in VISITS[camera]:
            look(page, save)
        if camera != "face":
            return
        page.goto(f"http://127.0.0.1:{port}/")
        page.locator(".box:visible").first.wait_for()
    page.locator("#link[data-link=gone]").wait_for()
    save("gone")
    with running(offered, Policy(token=TOKEN)) as port:
        page.goto(f"http://127.0.0.1:{port}/?token=wrong")
        page.locator("body[data-state=token]").wait_for()
        save("token")


def document(folder):
    """docs/images/webcam.jpg, and three states of a phone side by side."""
    images = ROOT / "docs" / "images"
    wide = Image.open(folder / "live_wide_light.png").convert("RGB")
    wide.save(images / "webcam.jpg", quality=85, optimize=True)
    phones = [
        Image.open(folder / f"{state}_phone_{scheme}.png").convert("RGB").crop((0, 0, 780, 1688))
        for state, scheme in (("live", "dark"), ("denied", "light"), ("gone", "light"))
    ]
    row = Image.new("RGB", (3 * 780 + 2 * 40, 1688), "white")
    for i, phone in enumerate(phones):
        row.paste(phone, (i * 820, 0))
    row.resize((row.width // 2, row.height // 2), Image.Resampling.LANCZOS).save(
        images / "webcam_states.jpg", quality=82, optimize=True
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--checkpoint", type=Path, nargs="*", default=[Path("ferplus")])
    parser.add_argument("--cameras", nargs="*", default=list(VISITS), choices=list(VISITS))
    parser.add_argument("--docs", action="store_true")
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    take(args.folder, args.checkpoint, args.cameras)
    if args.docs:
        document(args.folder)


if __name__ == "__main__":
    main()
