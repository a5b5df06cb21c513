import socket

import pytest

from emotion_jax.errors import UserError
from emotion_jax.serving import server
from emotion_jax.serving.guard import LOOPBACK


@pytest.fixture
def bound():
    addresses = []

    def bind(*where):
        addresses.append(server.bind(*where))
        return addresses[-1]

    yield bind
    for address in addresses:
        address.socket.close()


def test_a_port_is_taken(bound):
    address = bound("127.0.0.1", 0)
    assert address.port > 0
    assert address.is_loopback
    with pytest.raises(UserError, match=rf"Cannot listen on 127.0.0.1 port {address.port}: "):
        server.bind("127.0.0.1", address.port)


@pytest.mark.parametrize(
    ("host", "port"), [("no such host", 0), ("host.invalid", 0), ("192.0.2.1", 0), ("::zz", 0)]
)
def test_hosts_that_are_not_ours(host, port):
    with pytest.raises(UserError):
        server.bind(host, port)


@pytest.mark.parametrize("port", [-1, 65536])
def test_ports_that_are_none(port):
    with pytest.raises(UserError):
        server.bind("127.0.0.1", port)


def test_at_home_nothing_has_to_be_shown(bound):
    address = bound("localhost", 0)
    names = server.names(address)
    policy = server.policy(address, names, is_secure=False)
    assert set(names) == LOOPBACK
    assert policy.token is None
    assert not policy.any_address
    assert server.url(address, policy, "localhost") == f"http://localhost:{address.port}/"


def test_abroad_a_token_has_to_be_shown(bound):
    address = bound("0.0.0.0", 0)
    names = server.names(address, ["proxy.example"])
    assert not address.is_loopback
    assert {socket.gethostname().lower(), "proxy.example", *LOOPBACK} <= set(names)
    assert "0.0.0.0" not in names
    first, second = (server.policy(address, names, is_secure=True) for _ in range(2))
    assert first.token != second.token
    assert len(first.token) >= 32
    url = server.url(address, first, "::1")
    assert url == f"https://[::1]:{address.port}/?token={first.token}"
    given = "a-token.of_our~own-0"
    assert server.policy(address, names, True, given).token == given
    for bad in ("short", "with a space in it", "ünïcödé-ünïcödé-ünïcödé", "a;cookie=another-one"):
        with pytest.raises(UserError, match="token"):
            server.policy(address, names, True, bad)


def test_by_a_proxy_strangers_come_to_a_server_at_home_as_well(bound):
    address = bound("127.0.0.1", 0)
    names = server.names(address, ["cam.example.org"])
    policy = server.policy(address, names, is_secure=False)
    assert len(policy.token) >= 32
    assert policy.knows("cam.example.org")
    assert not policy.any_address


@pytest.mark.parametrize("name", ["name:8443", "https://name", "münchen", "", "a b", "a..b"])
def test_further_names_that_are_none(bound, name):
    with pytest.raises(UserError, match="--allow-host"):
        server.names(bound("127.0.0.1", 0), [name])


def test_it_is_known_by_the_host_it_was_given(bound):
    address = bound("127.0.0.2", 0)
    names = server.names(address)
    assert set(names) == {*LOOPBACK, "127.0.0.2"}
    assert server.policy(address, names, is_secure=False).token is None


def test_addresses_for_others_can_be_reached_by_them(bound, monkeypatch):
    found = ["127.0.1.1", "192.0.2.7", "fe80::1%eth0", "2001:db8::7"]
    monkeypatch.setattr(
        socket, "getaddrinfo", lambda *_: [(0, 0, 0, "", (name, 0)) for name in found]
    )
    names = server._addresses("machine", socket.AF_INET6)
    assert {"192.0.2.7", "2001:db8::7"} <= names
    assert not names & {"127.0.1.1", "fe80::1"}
