"""Servers to talk to, in a thread of the test or as a process of their own."""

import contextlib
import http.client
import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import uvicorn

from emotion_jax.inference.face import Face
from emotion_jax.inference.recognizer import Result
from emotion_jax.serving import app, server
from emotion_jax.serving.batcher import Batcher
from emotion_jax.serving.guard import Policy
from emotion_jax.serving.limits import Limits

ROOT = Path(__file__).parents[2]
CLASSES = ("sad", "happy")
FACE = Face((1.0, 2.0, 3.0, 4.0), 0.9, None, "happy", 0.75, {"sad": 0.25, "happy": 0.75})
PATIENCE = 30.0  # seconds


def found_one(images):
    return [Result((FACE,)) for _ in images]


def make_engine(work=found_one, size=8, limit=32):
    """What ``engines.Engine`` is to the server, without a network."""
    return SimpleNamespace(
        classes=CLASSES, frames=Batcher(work, size, limit), pictures=Batcher(work, 1, limit)
    )


@contextlib.contextmanager
def running(engines=None, policy=None, limits=None, certificate=None, host="127.0.0.1"):
    """The port of a server in a thread."""
    limits = limits or Limits()
    address = server.bind(host, 0)
    application = app.build(engines or {"one": make_engine()}, policy or Policy(), limits)
    uv = uvicorn.Server(server.configure(application, limits, certificate))
    thread = threading.Thread(target=uv.run, args=([address.socket],), daemon=True)
    thread.start()
    wait_for(lambda: uv.started)
    try:
        yield address.port
    finally:
        uv.should_exit = True
        thread.join(PATIENCE)
        assert not thread.is_alive()


def wait_for(is_so, seconds=PATIENCE):
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline, "it does not happen"
        time.sleep(0.01)


def ask(port, method="GET", path="/", body=None, headers=None):
    """Status, headers and body of an answer."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    try:
        connection.request(method, path, body, headers or {})
        response = connection.getresponse()
        return response.status, response.headers, response.read()
    finally:
        connection.close()


def send_raw(port, data, seconds=PATIENCE):
    """What comes back for these bytes until the connection is closed, or is a WebSocket."""
    with socket.create_connection(("127.0.0.1", port), timeout=seconds) as connection:
        connection.sendall(data)
        parts = []
        while part := connection.recv(65536):
            parts.append(part)
            if part.startswith(b"HTTP/1.1 101 "):
                break
        return b"".join(parts)


class Process:
    """``scripts/webcam.py`` as a user starts it."""

    def __init__(self, *arguments, **environment):
        command = [sys.executable, ROOT / "scripts" / "webcam.py", "--no-browser", *arguments]
        # One device, as on a user's machine; the tests' setting is for optimised programs too slow.
        self.process = subprocess.Popen(
            [str(part) for part in command],
            env=os.environ | {"PYTHONPATH": str(ROOT)} | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.said, self.url = "", ""

    def wait_until_ready(self):
        for line in self.process.stdout:
            self.said += line
            if "The page is at" in line:
                self.url = line.split()[-1]
                return self
        raise AssertionError(f"it ended:\n{self.said}")

    def end(self, signum):
        """Its exit status after a signal."""
        self.process.send_signal(signum)
        self.said += self.process.communicate(timeout=PATIENCE)[0]
        return self.process.returncode

    def __enter__(self):
        return self.wait_until_ready()

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
        self.process.stdout.close()
        self.process.wait()
