import pytest
from servers import ask, make_engine, running
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from emotion_jax.serving.guard import LOOPBACK, Policy

TOKEN = "a-token-of-the-test"


@pytest.fixture(scope="module")
def local():
    with running() as port:
        yield port


@pytest.fixture(scope="module")
def abroad():
    policy = Policy(LOOPBACK | {"laptop"}, any_address=True, token=TOKEN, port=9000)
    with running({"one": make_engine()}, policy) as port:
        yield port


def handshake(port, path="/ws", host=None, **headers):
    """Status of an attempt to open a WebSocket; 101 if it worked."""
    headers = {name.title(): value for name, value in headers.items()}
    origin = headers.pop("Origin", None)
    url = f"ws://{host or f'127.0.0.1:{port}'}{path}"
    try:
        # sock: the name in the address goes to the Host header only.
        import socket

        sock = socket.create_connection(("127.0.0.1", port))
        with connect(url, sock=sock, origin=origin, additional_headers=headers):
            return 101
    except InvalidStatus as refusal:
        return refusal.response.status_code


@pytest.mark.parametrize(
    ("host", "known"),
    [
        ("127.0.0.1:{}", True),
        ("localhost:{}", True),
        ("LOCALHOST.:{}", True),
        ("[::1]:{}", True),
        ("localhost", True),
        ("evil.example", False),
        ("evil.example:{}", False),
        ("localhost.evil.example", False),
        ("127.0.0.1.evil.example", False),
        ("192.168.1.7:{}", False),
        ("localhost@evil.example", False),
        ("[::1", False),
        ("", False),
    ],
)
def test_hosts(local, host, known):
    host = host.format(local)
    for method, path in (("GET", "/"), ("GET", "/api/checkpoints"), ("POST", "/api/predict")):
        status, _, _ = ask(local, method, path, b"x", {"Host": host, "Content-Type": "image/png"})
        assert (status == 421) is not known, (path, status)
    if host.strip("["):
        assert (Policy().knows(host)) is known


def test_a_foreign_host_cannot_open_a_websocket(local):
    assert handshake(local, host="evil.example") == 421
    assert handshake(local, host=f"localhost:{local}") == 101


@pytest.mark.parametrize(
    ("origin", "same"),
    [
        ("http://127.0.0.1:{}", True),
        ("http://localhost:{}", False),  # another origin than the Host of the request
        ("http://127.0.0.1:1", False),
        ("http://127.0.0.1", False),
        ("https://evil.example", False),
        ("http://127.0.0.1:{}.evil.example", False),
        ("null", False),
        ("file://", False),
        ("http://[", False),
        ("http://127.0.0.1:99999999", False),
    ],
)
def test_origins(local, origin, same):
    origin = origin.format(local)
    status, _, _ = ask(local, "GET", "/api/checkpoints", headers={"Origin": origin})
    assert status == (200 if same else 403)
    assert handshake(local, origin=origin) == (101 if same else 403)


def test_clients_that_are_no_browsers_have_no_origin(local):
    assert handshake(local) == 101


@pytest.mark.parametrize("path", ["/", "/ws", "/api/checkpoints", "/openapi.json", "/docs"])
@pytest.mark.parametrize(
    "shown",
    [{}, {"Authorization": "Bearer wrong"}, {"Authorization": TOKEN},
     {"Cookie": "emotion_jax_9000=wrong"}, {"Cookie": f"emotion_jax_8000={TOKEN}"},
     {"Authorization": "Bearer ünknown".encode()}],
    ids=str,
)  # fmt: skip
def test_strangers_are_turned_away(abroad, path, shown):
    assert ask(abroad, "GET", path, headers=shown)[0] == 401
    if path == "/ws" and "Cookie" not in shown:
        assert handshake(abroad) == 401


def test_the_token_opens_everything(abroad):
    bearer = {"Authorization": f"Bearer {TOKEN}"}
    cookie = {"Cookie": f"other=1; emotion_jax_9000={TOKEN}"}
    for shown in (bearer, cookie):
        for path in ("/", "/docs", "/openapi.json", "/api/checkpoints"):
            assert ask(abroad, "GET", path, headers=shown)[0] == 200
        assert handshake(abroad, **shown) == 101
    assert handshake(abroad) == 401


def test_the_printed_address_leaves_a_cookie_and_no_token_in_the_address_bar(abroad):
    status, headers, _ = ask(abroad, "GET", f"/?token={TOKEN}")
    assert (status, headers["Location"]) == (303, "/")
    name, _, rest = headers["Set-Cookie"].partition("=")
    value, *attributes = rest.split("; ")
    assert (name, value) == ("emotion_jax_9000", TOKEN)
    assert {"HttpOnly", "SameSite=strict", "Path=/"} <= set(attributes)
    assert ask(abroad, "GET", "/?token=wrong")[0] == 401


def test_the_page_can_ask_for_the_token(abroad):
    status, headers, body = ask(abroad, "GET", "/")
    assert (status, headers.get_content_type()) == (401, "text/html")
    assert b"token-form" in body
    assert ask(abroad, "GET", "/main.js")[0] == 200
    assert ask(abroad, "POST", "/main.js")[0] == 401
    assert ask(abroad, "GET", "/../guard.py")[0] == 401


def test_with_a_token_any_address_will_do_but_not_any_name(abroad):
    bearer = {"Authorization": f"Bearer {TOKEN}"}
    for host, status in (("10.1.2.3:80", 200), ("[fe80::1]", 200), ("laptop", 200), ("x.y", 421)):
        assert ask(abroad, "GET", "/", headers={**bearer, "Host": host})[0] == status


def test_the_token_is_not_shown_by_accident():
    assert TOKEN not in repr(Policy(token=TOKEN))


def test_every_answer_has_the_headers(local):
    for path in ("/", "/main.js", "/docs", "/api/checkpoints", "/openapi.json", "/nothing"):
        _, headers, _ = ask(local, "GET", path)
        assert headers["Content-Security-Policy"].startswith(
            "default-src 'none'; script-src 'self'"
        )
        assert "unsafe" not in headers["Content-Security-Policy"]
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
        assert "server" not in headers
    refused = ask(local, "GET", "/", headers={"Host": "evil.example"})[1]
    assert refused["Content-Security-Policy"]


def test_a_stranger_with_a_long_query(abroad):
    status, *_ = ask(abroad, "GET", "/?" + "&".join("abcdefghijklmnop"))
    assert status == 401
