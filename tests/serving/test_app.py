import json
import re

import pytest
from conftest import encoded
from PIL import Image
from pydantic import TypeAdapter
from servers import ask, found_one, make_engine, running

from emotion_jax.inference.recognizer import Recognizer
from emotion_jax.serving.guard import PAGE
from emotion_jax.serving.limits import Limits
from emotion_jax.serving.schema import FaceAnswer

JPEG = {"Content-Type": "image/jpeg"}


@pytest.fixture(scope="module")
def port(engine):
    with running({"tiny": engine, "other": make_engine()}) as port:
        yield port


def test_a_picture_gets_the_faces_that_the_recognizer_finds(port, checkpoint, photograph):
    status, headers, body = ask(port, "POST", "/api/predict", photograph, JPEG)
    assert (status, headers.get_content_type()) == (200, "application/json")
    faces = json.loads(body)
    assert faces == [face.to_dict() for face in Recognizer.load(checkpoint).predict(photograph)]
    assert len(faces) == 1
    x, y, width, height = faces[0]["box"]
    assert x < 224 < x + width  # the nose
    assert y < 130 < y + height
    TypeAdapter(list[FaceAnswer]).validate_python(faces, extra="forbid")


def test_no_face_is_an_empty_list(port):
    blank = encoded(Image.new("RGB", (64, 64)), "PNG")
    status, _, body = ask(port, "POST", "/api/predict", blank, {"Content-Type": "image/png"})
    assert (status, json.loads(body)) == (200, [])


def test_checkpoints_are_chosen_by_name(port, photograph):
    listed = json.loads(ask(port, path="/api/checkpoints")[2])
    assert [one["name"] for one in listed] == ["tiny", "other"]
    assert listed[0]["classes"] == ["angry", "happy", "sad"]
    body = ask(port, "POST", "/api/predict?checkpoint=other", photograph, JPEG)[2]
    assert json.loads(body)[0]["probs"] == {"sad": 0.25, "happy": 0.75}
    status, _, body = ask(port, "POST", "/api/predict?checkpoint=none", photograph, JPEG)
    assert status == 404
    assert json.loads(body)["detail"] == "There is no checkpoint 'none', only tiny, other."


@pytest.mark.parametrize(
    ("body", "kind", "status"),
    [
        (b"", "image/jpeg", 400),
        (b"nothing", "image/jpeg", 400),
        (b"GIF89a....", "image/gif", 400),
        (b"x", "text/plain", 415),
        (b"x", "multipart/form-data; boundary=x", 415),
    ],
)
def test_what_is_no_picture(port, body, kind, status):
    answer = ask(port, "POST", "/api/predict", body, {"Content-Type": kind})
    assert answer[0] == status
    assert json.loads(answer[2])["detail"].endswith(".")


def test_a_truncated_picture(port, photograph):
    assert ask(port, "POST", "/api/predict", photograph[:5000], JPEG)[0] == 400


def test_a_bomb_is_not_decoded(port):
    bomb = encoded(Image.new("1", (30_000, 30_000)), "PNG")  # 900 million pixels
    assert len(bomb) < 200_000
    status, _, body = ask(port, "POST", "/api/predict", bomb, {"Content-Type": "image/png"})
    assert status == 413
    assert "pixel cap" in json.loads(body)["detail"]


def test_bodies_are_capped_with_and_without_a_length():
    looks = []

    def work(images):
        looks.extend(images)
        return found_one(images)

    with running({"one": make_engine(work)}, limits=Limits(body=1000)) as port:
        assert ask(port, "POST", "/api/predict", b"x" * 1000, JPEG)[0] == 200
        assert ask(port, "POST", "/api/predict", b"x" * 1001, JPEG)[0] == 413
        pieces = (b"x" * 100 for _ in range(11))  # chunked
        assert ask(port, "POST", "/api/predict", pieces, JPEG)[0] == 413
        lie = {**JPEG, "Content-Length": "99999999999999999999"}
        assert ask(port, "POST", "/api/predict", b"x", lie)[0] == 413
    assert [len(body) for body in looks] == [1000]


def test_other_methods_and_paths(port):
    assert ask(port, "GET", "/api/predict")[0] == 404
    assert ask(port, "DELETE", "/api/checkpoints")[0] == 405
    assert ask(port, "GET", "/nothing")[0] == 404
    for path in ("/../app.py", "/..%2fapp.py", "/%2e%2e/app.py", "//etc/passwd", "/%00"):
        assert ask(port, "GET", path)[0] == 404


def test_openapi_says_how_to_ask(port):
    document = json.loads(ask(port, path="/openapi.json")[2])
    assert set(document["paths"]) == {"/api/checkpoints", "/api/predict"}
    predict = document["paths"]["/api/predict"]["post"]
    assert list(predict["requestBody"]["content"]) == ["image/*"]
    assert {"200", "400", "401", "413", "503"} <= set(predict["responses"])
    answer = predict["responses"]["200"]["content"]["application/json"]["schema"]
    assert answer["items"] == {"$ref": "#/components/schemas/FaceAnswer"}


def test_no_page_needs_anything_from_elsewhere():
    files = sorted(PAGE.iterdir())
    assert {"index.html", "main.js", "engine.js", "docs.html", "style.css"} <= {
        p.name for p in files
    }
    for path in files:
        text = path.read_text().replace("http://www.w3.org/2000/svg", "")
        assert not re.search(r"(https?:)?//[\w-]+\.\w", text), path.name
        # Inline code and styles would need a weaker policy.
        assert not re.search(r"\son\w+=|\sstyle=|<style|<script(?! type=\"module\" src=)", text)
        for name in re.findall(
            r"(?:src|href|from) ?=? ?\"(?:\./)?([\w.]+\.(?:js|css|svg))\"", text
        ):
            assert (PAGE / name).is_file(), f"{path.name}: {name}"
