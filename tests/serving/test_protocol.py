import contextlib
import socket
import ssl
import time

import pytest
from servers import ask, running, send_raw, wait_for

from emotion_jax.serving import certificate, server
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


@pytest.fixture(params=["http", "https"])
def certified(request, tmp_path):
    """A certificate, or None."""
    return certificate.ensure(tmp_path, ["127.0.0.1"]) if request.param == "https" else None


@contextlib.contextmanager
def narrow(size, certified, send_seconds=0.5):
    """Connects to a server whose answers go by buffers of this many bytes, one client at a time."""
    bind = server.bind
    context = certified and ssl.create_default_context(cafile=certified)

    def bind_narrow(*where):
        address = bind(*where)
        address.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, size)  # those accepted too
        return address

    with contextlib.ExitStack() as stack:
        stack.enter_context(pytest.MonkeyPatch.context()).setattr(server, "bind", bind_narrow)
        # Uvicorn counts tasks too, and a connection may have several: fewer would be too few.
        limits = Limits(head_seconds=60, send_seconds=send_seconds, connections=8)
        port = stack.enter_context(running(limits=limits, certificate=certified))

        def connect():
            connection = stack.enter_context(socket.socket())
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, size)
            connection.settimeout(20)
            connection.connect(("127.0.0.1", port))
            if context is None:
                return connection
            return stack.enter_context(context.wrap_socket(connection, server_hostname="127.0.0.1"))

        for _ in range(6):  # with the one that asks another is too many
            connect()
        yield connect


GET = b"GET /main.js HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
LAST = GET[:-2] + b"Connection: close\r\n\r\n"
UPGRADE = (
    GET[:-2].replace(b"/main.js", b"/ws?checkpoint=none")
    + b"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    + b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)


@pytest.mark.parametrize(
    "said",
    [GET * 100, GET * 3 + LAST, GET * 4, GET * 4 + UPGRADE],
    ids=["under way", "closed", "kept alive", "refused"],
)
def test_answers_that_are_not_taken(certified, said):
    with narrow(4096, certified) as connect:

        def is_free():
            with connect() as other:
                other.sendall(LAST)
                return other.recv(12) == b"HTTP/1.1 200"

        connect().sendall(said)
        time.sleep(0.2)
        assert not is_free()
        wait_for(is_free, 12)  # 5 of them until uvicorn closes what is kept alive


def test_answers_that_are_taken_slowly(certified):
    with narrow(65536, certified, send_seconds=3) as connect:
        connection, start = connect(), time.monotonic()
        connection.sendall(GET * 199 + LAST)
        size = 0
        while part := connection.recv(16384):
            size += len(part)
            time.sleep(max(0, size / 500_000 - (time.monotonic() - start)))  # bytes a second
        assert size > 199 * 10_000
        assert time.monotonic() - start > 3.5


def test_refusals_are_no_errors(port, capfd):
    head = HEAD.replace(b"POST /api/predict", b"GET /ws?checkpoint=none")
    upgrade = b"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    answer = send_raw(port, head + upgrade + b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 404 ")
    assert capfd.readouterr().err == ""
