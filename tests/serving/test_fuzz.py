"""Whatever is sent, the answer is 200, a 4xx or a close, and the server goes on."""

import json
from urllib.parse import quote

import pytest
from conftest import encoded
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from servers import ask, running, send_raw
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from emotion_jax.serving.limits import Limits

CLOSES = {None, 1003, 1007, 1009}  # None: it was answered
TRIALS = {"": 200, "long": 4500}  # of bodies and of frames; heads, which wait, have fewer


@pytest.fixture(scope="module")
def port(engine):
    limits = Limits(body=200_000, frame=200_000, pixels=300_000, head_seconds=0.3, body_seconds=0.3)
    with running({"tiny": engine}, limits=limits) as port:
        yield port


@pytest.fixture(scope="module")
def seeds(astronaut):
    """Small files of every format, with a face."""
    face = astronaut.crop((150, 30, 300, 200))
    palette = face.convert("P")
    files = [encoded(face, kind) for kind in ("JPEG", "PNG", "WEBP", "BMP")]
    return [*files, encoded(palette, "PNG"), encoded(Image.new("1", (2000, 2000)), "PNG")]


@st.composite
def mutations(draw):
    """A function from a file to a broken one."""
    edits = draw(
        st.lists(
            st.tuples(st.sampled_from(["set", "cut", "insert", "repeat"]), st.floats(0, 1),
                      st.binary(min_size=1, max_size=12)),
            max_size=6,
        )
    )  # fmt: skip

    def mutate(data):
        for kind, place, more in edits:
            at = int(place * min(len(data), 2000 if kind == "set" else len(data)))
            if kind == "set":
                data = data[:at] + more + data[at + len(more) :]
            elif kind == "cut":
                data = data[:at]
            elif kind == "insert":
                data = data[:at] + more + data[at:]
            else:
                data = data[:at] + data[at // 2 :]
        return data

    return mutate


KINDS = st.sampled_from(["image/jpeg", "image/png", "image/", "IMAGE/X; q=1", "text/html", ""])
QUERIES = st.text(max_size=20)


def is_alive(port):
    assert ask(port, path="/api/checkpoints")[0] == 200


def bodies(port, seeds, mutate, which, kind, query):
    body = mutate(seeds[which])
    path = f"/api/predict?{quote(query, safe='&=%')}"
    status, _, answer = ask(port, "POST", path, body, {"Content-Type": kind} if kind else {})
    assert status == 200 or 400 <= status < 500, (status, answer)
    json.loads(answer)


def frames(port, seeds, mutate, which, is_text):
    data = mutate(seeds[which])
    code = None
    with connect(f"ws://127.0.0.1:{port}/ws", compression=None) as socket:
        try:
            socket.send(data.decode("latin-1") if is_text else data)
            assert isinstance(json.loads(socket.recv(timeout=30))["faces"], list)
        except ConnectionClosed as end:
            code = end.rcvd.code if end.rcvd else 1006
    assert code in CLOSES


HEAD = (
    b"GET /ws HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
POST = (
    b"POST /api/predict?checkpoint=tiny HTTP/1.1\r\nHost: 127.0.0.1\r\n"
    b"Content-Type: image/png\r\nContent-Length: 5\r\nConnection: close\r\n\r\nabcde"
)


def heads(port, mutate, start, tail):
    try:
        answer = send_raw(port, mutate(start) + tail)
    except ConnectionError:
        return
    first = answer.split(b"\r\n")[0]
    codes = (b"HTTP/1.1 4", b"HTTP/1.1 101", b"HTTP/1.1 200", b"HTTP/1.1 3")
    assert not answer or first.startswith(codes), answer


TESTED = {
    bodies: {"mutate": mutations(), "which": st.integers(0, 5), "kind": KINDS, "query": QUERIES},
    frames: {"mutate": mutations(), "which": st.integers(0, 5), "is_text": st.booleans()},
    heads: {"mutate": mutations(), "start": st.sampled_from([HEAD, POST]),
            "tail": st.binary(max_size=40)},
}  # fmt: skip


def run(test, trials, **fixed):
    @settings(max_examples=trials)
    @given(**TESTED[test])
    def trial(**drawn):
        test(**fixed, **drawn)

    trial()
    is_alive(fixed["port"])


@pytest.mark.parametrize("length", ["", pytest.param("long", marks=pytest.mark.slow)])
class TestFuzz:
    def test_bodies(self, port, seeds, length):
        run(bodies, TRIALS[length], port=port, seeds=seeds)

    def test_frames(self, port, seeds, length):
        run(frames, TRIALS[length], port=port, seeds=seeds)

    def test_heads(self, port, length):
        run(heads, TRIALS[length] * 2 // 9, port=port)
