import http.client
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from emotion_jax.cli import webcam

SCRIPT = Path(__file__).parents[2] / "scripts" / "webcam.py"


def fails(capsys, *arguments):
    """The sentence that the command ends with."""
    with pytest.raises(SystemExit) as stop:
        webcam.main([str(argument) for argument in arguments])
    said = capsys.readouterr().err
    assert stop.value.code == 2
    assert said.startswith("error: ")
    assert said.count("\n") == 1
    return said


def test_help_shows_an_example(capsys):
    with pytest.raises(SystemExit) as stop:
        webcam.main(["--help"])
    assert stop.value.code == 0
    assert "Example: python scripts/webcam.py" in capsys.readouterr().out


def test_bad_arguments(capsys, finished, finished_cache, tmp_path, monkeypatch):
    given = ("--port", 0, "--checkpoint")
    assert "no checkpoint" in fails(capsys, *given, tmp_path / "nowhere")
    assert "at least one" in fails(capsys, *given)
    assert "70000" in fails(capsys, "--port", 70000)
    assert "--host" in fails(capsys, *given, finished, "--host", "host.invalid")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert f"port {port}" in fails(capsys, "--port", port, "--checkpoint", finished)
    monkeypatch.setenv(webcam.TOKEN, "short")
    assert "token" in fails(capsys, *given, finished)


def test_what_is_not_installed_is_named(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "fastapi", None)
    assert "emotion-jax[serve]" in fails(capsys, "--port", 0)


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_it_serves_until_a_signal_comes(finished, signum):
    command = [sys.executable, SCRIPT, "--checkpoint", finished, "--port", 0, "--no-browser"]
    with subprocess.Popen(
        [str(part) for part in command],
        env=os.environ | {"PYTHONPATH": str(SCRIPT.parents[1])},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        line = next(line for line in process.stdout if "The page is at" in line)
        host, _, port = line.split()[-1].strip("/").rpartition("/")[2].rpartition(":")
        assert host == "127.0.0.1"
        connection = http.client.HTTPConnection(host, int(port), timeout=30)
        connection.request("GET", "/")
        assert connection.getresponse().status == 200  # and the connection stays open
        process.send_signal(signum)
        _, said = process.communicate(timeout=60)
        connection.close()
    assert process.returncode == 128 + signum
    assert said.count("\n") == 1
    assert said.startswith(f"Stopped by {signum.name}")
