import os
import subprocess
import sys

import pytest

from emotion_jax import xla


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        (None, xla.FLAGS[0]),
        ("--xla_dump_to=x", f"--xla_dump_to=x {xla.FLAGS[0]}"),
        ("--xla_cpu_use_fusion_emitters=true", "--xla_cpu_use_fusion_emitters=true"),
    ],
)
def test_what_the_user_set_stays(monkeypatch, given, wanted):
    monkeypatch.delenv("XLA_FLAGS", raising=False)
    if given:
        monkeypatch.setenv("XLA_FLAGS", given)
    xla.set_flags()
    assert os.environ["XLA_FLAGS"] == wanted
    xla.set_flags()
    assert os.environ["XLA_FLAGS"] == wanted


@pytest.mark.parametrize("version", ["0.7.1", "0.10.3.dev20270101", "1.0"])
def test_versions_that_may_not_know_the_flags_get_none(monkeypatch, version):
    monkeypatch.delenv("XLA_FLAGS", raising=False)
    monkeypatch.setattr(xla.importlib.metadata, "version", lambda name: version)
    xla.set_flags()
    assert "XLA_FLAGS" not in os.environ


def test_the_version_at_hand_takes_them():
    code = "from emotion_jax import xla; xla.set_flags(); import jax; print(jax.jit(abs)(-3.0))"
    environment = {k: v for k, v in os.environ.items() if k != "XLA_FLAGS"}
    ended = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True)
    assert (ended.returncode, ended.stdout.strip()) == (0, b"3.0"), ended.stderr.decode()
