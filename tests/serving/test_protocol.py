import contextlib
import socket
import time

import pytest
from servers import ask, running, send_raw, wait_for

from emotion_jax.serving.limits import Limits

HEAD = b"POST /api/predict HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: image/png\r\n"


@pytest.fixture(scope="module")
def port():
    limits = Limits(head_seconds=0.5, body_seconds=0.5, connections=8)
    with running(limits=limits) as port:
        yield port


@pytest.mark.parametrize("said", [b"", b"GE", b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX: "])
def test_a_head_that_does_not_come(port, said):
    start = time.monotonic()
    assert send_raw(port, said) == b""
    assert 0.3 < time.monotonic() - start < 10


def test_a_head_that_comes_letter_by_letter(port):
    start = time.monotonic()
    with (
        socket.create_connection(("127.0.0.1", port), timeout=20) as connection,
        contextlib.suppress(ConnectionResetError, BrokenPipeError),
    ):
        while time.monotonic() - start < 10:
            connection.sendall(b"G")
            time.sleep(0.05)
    assert time.monotonic() - start < 9


def test_a_handshake_that_is_not_understood(port):
    head = b"GET /ws HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    for bad in (b"X: \x13\r\n", b"X: y\r\n" * 200, b"X: " + b"y" * 9000 + b"\r\n"):
        assert send_raw(port, head + bad + b"\r\n", 5) == b""


def test_the_second_head_of_a_connection_is_timed_as_well(port):
    start = time.monotonic()
    answer = send_raw(port, b"GET /icon.svg HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\nGET /")
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert time.monotonic() - start < 4  # uvicorn's own limit, of idle connections, is 5 seconds


def test_a_body_that_does_not_come(port):
    answer = send_raw(port, HEAD + b"Content-Length: 100\r\n\r\nabc")
    assert answer.startswith(b"HTTP/1.1 408 ")


def test_the_rest_of_a_body_that_was_answered_already(port):
    head = HEAD.replace(b"image/png", b"text/html") + b"Content-Length: 100\r\n\r\n"
    with socket.create_connection(("127.0.0.1", port), timeout=8) as connection:
        connection.sendall(head)
        assert connection.recv(1000).startswith(b"HTTP/1.1 415 ")
        connection.sendall(b"a")
        while connection.recv(1000):  # raises TimeoutError where the server keeps it open
            pass


def test_a_body_that_comes_in_time(port):
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        connection.sendall(HEAD + b"Content-Length: 4\r\n\r\n")
        time.sleep(0.3)
        connection.sendall(b"abcd")
        assert connection.recv(100).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize(
    "said",
    [
        b"\0" * 50,
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX: " + b"x" * 20_000,
        HEAD + b"Content-Length: -1\r\n\r\n",
        HEAD + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nxx",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\nZZ\r\n",
    ],
)
def test_what_is_no_http(port, said):
    assert send_raw(port, said).startswith(b"HTTP/1.1 4")


def test_connections_are_capped(port):
    idle = [socket.create_connection(("127.0.0.1", port)) for _ in range(8)]
    assert ask(port)[0] == 503
    for connection in idle:
        connection.close()
    wait_for(lambda: ask(port)[0] == 200)


def test_refusals_are_no_errors(port, capfd):
    head = HEAD.replace(b"POST /api/predict", b"GET /ws?checkpoint=none")
    upgrade = b"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    answer = send_raw(port, head + upgrade + b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 404 ")
    assert capfd.readouterr().err == ""
