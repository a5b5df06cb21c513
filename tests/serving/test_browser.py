"""The page in a real Chromium whose camera plays a film."""

import io
import os
import re
import shutil
import signal
import socket

import numpy as np
import pytest
from browsing import DENY, a_face_is_shown, picture_is, state_is, until
from PIL import Image
from playwright.sync_api import expect
from servers import Process, found_one, make_engine, running

from emotion_jax.inference.faces import Mtcnn
from emotion_jax.inference.recognizer import Recognizer
from emotion_jax.serving import engines, server
from emotion_jax.serving.engines import LIVE_FACE
from emotion_jax.serving.guard import Policy
from emotion_jax.serving.limits import Limits
from emotion_jax.training import trained


@pytest.fixture(scope="module")
def url(engine):
    """Of a server in this process."""
    with running({"tiny": engine, "other": make_engine()}) as port:
        yield f"http://127.0.0.1:{port}/"


def shown_shares(page):
    return [int(text.rstrip("%")) / 100 for text in page.locator("#bars b").all_inner_texts()]


def test_the_label_is_that_of_the_recognizer(open_page, url, engine, films):
    page = open_page(url)
    a_face_is_shown(page)
    film = (films / "face.mjpeg").read_bytes()
    first = film[: film.index(b"\xff\xd9") + 2]
    (face,) = Recognizer(engine.trained, Mtcnn(LIVE_FACE)).predict(first)
    expect(page.locator("#label")).to_have_text(face.label.capitalize(), ignore_case=True)
    assert page.locator("#bars span").all_inner_texts() == ["Angry", "Happy", "Sad"]
    np.testing.assert_allclose(shown_shares(page), list(face.probs.values()), atol=0.1)
    expect(page.locator("#link")).to_have_text("Connected")
    expect(page.locator("#count")).to_have_text("1")
    expect(page.locator("#fps")).to_have_text(re.compile(r"\d"))
    expect(page.locator("#latency")).to_have_text(re.compile(r"\d ms"))


def test_the_box_lies_over_the_face_and_turns_with_the_mirror(open_page, url):
    page = open_page(url)
    a_face_is_shown(page)

    def middle():
        view, box = page.locator("#view").bounding_box(), page.locator(".box").bounding_box()
        return (box["x"] + box["width"] / 2 - view["x"]) / view["width"]

    # The film's face is at 0.45 of its width, and sways by 0.03.
    assert 0.50 < middle() < 0.60
    page.get_by_role("button", name="Mirror").click()
    page.wait_for_timeout(500)
    assert 0.40 < middle() < 0.50


COUNT_FLIGHTS = """
  window.flights = {now: 0, most: 0, sent: 0};
  const send = WebSocket.prototype.send;
  WebSocket.prototype.send = function (data) {
    if (flights.sent++ === 0) this.addEventListener("message", () => flights.now--);
    flights.most = Math.max(flights.most, ++flights.now);
    send.call(this, data);
  };
"""


def test_one_frame_is_in_flight(open_page, url):
    page = open_page("about:blank")
    page.add_init_script(COUNT_FLIGHTS)
    page.goto(url)
    a_face_is_shown(page)
    page.wait_for_timeout(1500)
    flights = page.evaluate("flights")
    assert flights["sent"] > 3
    assert flights["most"] == 1


def test_nobody_is_there(open_page, url):
    page = open_page(url, film="nobody")
    expect(page.locator("#hint")).to_contain_text("No face in sight")
    expect(page.locator("#count")).to_have_text("0")
    expect(page.locator("#label")).to_have_text("–")
    expect(page.locator(".box:visible")).to_have_count(0)


def test_the_camera_is_denied_and_pictures_work_all_the_same(open_page, url, photograph):
    page = open_page(url, switches=DENY)
    state_is(page, "idle")
    page.get_by_role("button", name="Start camera").first.click()
    state_is(page, "denied")
    expect(page.get_by_role("heading", name="The camera is blocked")).to_be_visible()
    page.set_input_files("#file", {"name": "a.jpg", "mimeType": "image/jpeg", "buffer": photograph})
    state_is(page, "picture")
    expect(page.locator(".box:visible")).to_have_count(1)


def test_transparency_lies_on_white(open_page, cutout):
    received = []

    def work(images):
        received.extend(images)
        return found_one(images)

    file, image = cutout
    with running({"one": make_engine(work)}) as port:
        page = open_page(f"http://127.0.0.1:{port}/", switches=DENY)
        expect(page.locator("#link")).to_have_text("Connected")
        picture_is(page, file, image)
        page.locator(".box:visible").first.wait_for()
    sent = Image.open(io.BytesIO(received[-1])).convert("RGB")
    assert np.abs(np.asarray(sent).astype(int) - np.asarray(image)).mean() < 3


@pytest.mark.skipif(os.name != "posix", reason="names of any bytes")
def test_a_checkpoint_of_any_name(open_page, tmp_path):
    renamed = tmp_path / os.fsdecode(b"caf\xe9.safetensors")
    shutil.copy(trained.shipped()["small"], renamed)
    with running(engines.load([renamed], Limits())) as port:
        page = open_page(f"http://127.0.0.1:{port}/")
        a_face_is_shown(page)
        expect(page.locator("#checkpoint option")).to_have_text([r"caf\xe9.safetensors"])
        expect(page.locator("#link")).to_have_text("Connected")


def test_there_is_no_camera(open_page, url):
    page = open_page(url, film=None)
    page.get_by_role("button", name="Start camera").first.click()
    state_is(page, "nocamera")
    page.get_by_role("button", name="Try again").click()
    state_is(page, "nocamera")


HELD_CAMERA = """
  const ask = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
  window.held = true;
  navigator.mediaDevices.getUserMedia = async (what) => {
    if (window.held) throw new DOMException("in use", "NotReadableError");
    return ask(what);
  };
"""


def test_another_program_holds_the_camera(open_page, url):
    page = open_page("about:blank")
    page.add_init_script(HELD_CAMERA)
    page.goto(url)
    state_is(page, "busy")
    page.evaluate("window.held = false")
    page.get_by_role("button", name="Try again").click()
    a_face_is_shown(page)


SLOW_CAMERA = """
  window.streams = [];
  const ask = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
  const permitted = new Promise((resolve) => (window.permit = resolve));
  const asked = new Promise((resolve) => {
    navigator.mediaDevices.getUserMedia = async (what) => {
      resolve();
      await permitted;
      streams.push(await ask(what));
      return streams.at(-1);
    };
  });
  // A server that says first that it wants a token keeps the camera from being asked for.
  const get = window.fetch.bind(window);
  window.fetch = async (...what) => {
    await asked;
    return get(...what);
  };
"""


@pytest.mark.parametrize("state", ["picture", "token"])
def test_a_camera_that_comes_too_late_is_given_back(open_page, engine, photograph, state):
    policy = Policy(token="the-token-of-the-test" if state == "token" else None)
    with running({"tiny": engine}, policy) as port:
        page = open_page("about:blank")
        page.add_init_script(SLOW_CAMERA)
        page.goto(f"http://127.0.0.1:{port}/")
        if state == "picture":
            state_is(page, "starting")
            file = {"name": "a.jpg", "mimeType": "image/jpeg", "buffer": photograph}
            page.set_input_files("#file", file)
        state_is(page, state)
        page.evaluate("permit()")
        until(page, "window.streams.length && !window.streams[0].active")
        page.wait_for_timeout(200)
        state_is(page, state)


def test_the_camera_is_unplugged_and_comes_back(open_page, url):
    page = open_page(url)
    a_face_is_shown(page)
    track = "document.getElementById('video').srcObject.getTracks()[0]"
    page.evaluate(f"{track}.dispatchEvent(new Event('ended'))")
    state_is(page, "unplugged")
    expect(page.locator(".box:visible")).to_have_count(0)
    page.evaluate("navigator.mediaDevices.dispatchEvent(new Event('devicechange'))")
    a_face_is_shown(page)


def test_the_camera_is_stopped(open_page, url):
    page = open_page(url)
    a_face_is_shown(page)
    page.get_by_role("button", name="Stop camera").click()
    state_is(page, "stopped")
    assert page.evaluate("document.getElementById('video').srcObject") is None
    page.get_by_role("button", name="Start camera").first.click()
    a_face_is_shown(page)


def test_a_file_that_is_no_picture(open_page, url):
    page = open_page(url)
    a_face_is_shown(page)
    page.set_input_files("#file", {"name": "a.jpg", "mimeType": "image/jpeg", "buffer": b"nothing"})
    state_is(page, "broken")


def test_another_checkpoint_is_chosen(open_page, url):
    page = open_page(url)
    a_face_is_shown(page)
    page.get_by_label("Checkpoint").select_option("other")
    expect(page.locator("#bars span")).to_have_text(["sad", "happy"])
    expect(page.locator("#score")).to_have_text("75% probable")
    expect(page.locator("#label")).to_have_text("happy")


def test_a_class_has_its_colour_in_every_checkpoint(open_page, url):
    page = open_page(url)
    a_face_is_shown(page)
    hue = "({style}) => style.getPropertyValue('--hue')"
    hues = f"[...document.querySelectorAll('.bar')].map({hue})"
    first = dict(zip(("angry", "happy", "sad"), page.evaluate(hues), strict=True))
    assert len(set(first.values())) == 3
    page.get_by_label("Checkpoint").select_option("other")
    expect(page.locator("#bars span")).to_have_text(["sad", "happy"])
    assert page.evaluate(hues) == [first["sad"], first["happy"]]


def test_the_server_is_killed_and_started_anew(open_page, checkpoint):
    with Process("--checkpoint", checkpoint, "--port", 0) as first:
        page = open_page(first.url)
        a_face_is_shown(page)
        port = first.url.rstrip("/").rpartition(":")[2]
        first.process.kill()
        page.locator("#link[data-link=gone]").wait_for()
        expect(page.locator("#hint")).to_contain_text("The server is gone")
        expect(page.locator(".box:visible")).to_have_count(0)
    state_is(page, "live")  # the camera goes on
    with Process("--checkpoint", checkpoint, "--port", port) as second:
        page.locator("#link[data-link=ready]").wait_for()
        a_face_is_shown(page)
        assert second.end(signal.SIGTERM) == 143
        page.locator("#link[data-link=gone]").wait_for()


def test_a_connection_that_is_not_used_is_closed_and_opened_again(open_page, engine):
    with running({"tiny": engine}, limits=Limits(idle_seconds=0.5)) as port:
        page = open_page(f"http://127.0.0.1:{port}/")
        a_face_is_shown(page)
        page.get_by_role("button", name="Stop camera").click()
        page.wait_for_timeout(1500)
        expect(page.locator("#link")).to_have_text("Connected")
        page.get_by_role("button", name="Start camera").first.click()
        a_face_is_shown(page)


def test_the_page_asks_for_the_token(open_page, engine):
    policy = Policy(token="the-token-of-the-test")
    with running({"tiny": engine}, policy) as port:
        page = open_page(f"http://127.0.0.1:{port}/")
        for text in ("wrong", policy.token):
            state_is(page, "token")
            page.get_by_label("Token", exact=True).fill(text)
            page.get_by_role("button", name="Enter").click()
            page.wait_for_load_state()
            if text == "wrong":
                expect(page.locator("#notice-text")).to_contain_text("is not the one")
        a_face_is_shown(page)
        assert page.url == f"http://127.0.0.1:{port}/"


def test_a_dropped_picture_does_not_hide_the_question_for_the_token(open_page, engine, photograph):
    with running({"tiny": engine}, Policy(token="the-token-of-the-test")) as port:
        page = open_page(f"http://127.0.0.1:{port}/")
        state_is(page, "token")
        file = {"name": "a.jpg", "mimeType": "image/jpeg", "buffer": photograph}
        page.set_input_files("#file", file)
        page.wait_for_timeout(300)
        state_is(page, "token")
        expect(page.get_by_label("Token", exact=True)).to_be_visible()


def test_a_picture_brings_the_question_for_the_token_back(open_page, engine, photograph):
    policy = Policy(token="the-token-of-the-test")
    with running({"tiny": engine}, policy) as port:
        page = open_page(f"http://127.0.0.1:{port}/?token={policy.token}", switches=DENY)
        expect(page.locator("#link")).to_have_text("Connected")
        page.context.clear_cookies()
        file = {"name": "a.jpg", "mimeType": "image/jpeg", "buffer": photograph}
        page.set_input_files("#file", file)
        state_is(page, "token")
        page.wait_for_timeout(300)
        state_is(page, "token")
        expect(page.get_by_label("Token", exact=True)).to_be_visible()


def test_a_picture_finds_the_checkpoints_of_a_server_that_was_started_anew(open_page, photograph):
    engines = {"one": make_engine()}
    with running(engines) as port:
        page = open_page(f"http://127.0.0.1:{port}/", switches=DENY)
        expect(page.locator("#link")).to_have_text("Connected")
        engines["other"] = engines.pop("one")
        file = {"name": "a.jpg", "mimeType": "image/jpeg", "buffer": photograph}
        page.set_input_files("#file", file)
        expect(page.locator("#label")).to_have_text("happy")
        state_is(page, "picture")
        expect(page.locator("#checkpoint option")).to_have_text(["other"])


def test_the_server_has_too_many_clients(open_page, engine):
    with running({"tiny": engine}, limits=Limits(clients=1)) as port:
        first = open_page(f"http://127.0.0.1:{port}/")
        a_face_is_shown(first)
        second = open_page(f"http://127.0.0.1:{port}/")
        expect(second.locator("#link")).to_have_text("Server full, trying again")
        first.close()
        a_face_is_shown(second)


def test_the_answer_to_an_older_picture_is_not_shown(open_page, url, photograph):
    page = open_page(url)
    a_face_is_shown(page)
    held = []
    page.route("**/api/predict?*", lambda route: held.append(route))
    file = {"name": "a.jpg", "mimeType": "image/jpeg", "buffer": photograph}
    page.set_input_files("#file", file)
    until(page, "document.body.dataset.state === 'picture'")
    page.get_by_role("button", name="Start camera").click()
    a_face_is_shown(page)
    for route in held:
        route.fulfill(status=503, body="full")
    page.wait_for_timeout(300)
    state_is(page, "live")


def test_https_gives_the_camera_to_other_machines(open_page, checkpoint):
    with Process("--checkpoint", checkpoint, "--port", 0, "--host", "0.0.0.0") as process:
        assert process.url.startswith("https://localhost:")
        page = open_page(process.url, ignore_https_errors=True)
        a_face_is_shown(page)
        assert page.evaluate("isSecureContext")


def test_without_https_another_machine_is_told_why_there_is_no_camera(open_page, engine):
    addresses = sorted(server._addresses("localhost", socket.AF_INET))
    if not addresses:
        pytest.skip("this machine has no address but the loopback's")
    policy = Policy(frozenset(addresses))
    with running({"tiny": engine}, policy, host="0.0.0.0") as port:
        page = open_page(f"http://{addresses[0]}:{port}/", switches=())
        page.get_by_role("button", name="Start camera").first.click()
        state_is(page, "insecure")


def test_everything_is_reached_by_the_keyboard(open_page, url):
    page = open_page(url)
    a_face_is_shown(page)
    reached = []
    for _ in range(12):
        page.keyboard.press("Tab")
        reached.append(
            page.evaluate("document.activeElement.id || document.activeElement.className")
        )
    assert {"checkpoint", "box", "camera", "mirror", "open", "docs"} <= set(reached)
    page.locator("#camera").focus()
    page.keyboard.press("Enter")
    state_is(page, "stopped")


@pytest.mark.parametrize("width", [320, 390, 768, 1280])
def test_nothing_is_wider_than_the_window(open_page, url, width):
    page = open_page(url, viewport={"width": width, "height": 800})
    a_face_is_shown(page)
    for path in ("", "docs"):
        page.goto(url + path)
        assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_motion_is_reduced(open_page, url):
    for motion, seconds in (("no-preference", "0.12s"), ("reduce", "0s")):
        page = open_page(url, reduced_motion=motion)
        page.locator(".bar").first.wait_for()
        duration = "getComputedStyle(document.querySelector('.bar'), '::before').transitionDuration"
        assert page.evaluate(duration) == seconds


def test_the_documentation_is_drawn_and_tries_a_picture(open_page, url, photograph):
    page = open_page(f"{url}docs")
    expect(page.locator("code", has_text="/api/predict").first).to_be_visible()
    page.set_input_files("#file", {"name": "a.jpg", "mimeType": "image/jpeg", "buffer": photograph})
    expect(page.locator("#answer")).to_contain_text('"label"')


def test_a_smile_is_happy(open_page):
    """By the weights that the command takes without being told."""
    with Process("--port", 0) as process:
        page = open_page(process.url)
        a_face_is_shown(page)
        expect(page.locator("#label")).to_have_text("happy", ignore_case=True)
