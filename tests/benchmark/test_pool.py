import os
import signal
import subprocess

import pytest

from emotion_jax.benchmark import network, pool
from emotion_jax.benchmark.worker import OURS, PEERS
from emotion_jax.errors import UserError


@pytest.fixture
def worker(built, tmp_path):
    network.save(built[2], tmp_path)
    with pool.Worker("onnxruntime", tmp_path) as running:
        yield running


def test_peers_are_names_with_commas():
    assert pool.parse_peers("") == ()
    assert pool.parse_peers(" keras, onnxruntime,keras,") == ("keras", "onnxruntime")
    assert pool.parse_peers("keras+allocator") == ("keras+allocator",)
    for unknown in ("caffe", "keras+speed", "+allocator"):
        with pytest.raises(UserError, match="is not one of torch, keras, onnxruntime"):
            pool.parse_peers(f"keras,{unknown}")


def test_a_peer_that_is_not_installed_names_the_extra(monkeypatch):
    monkeypatch.setattr(pool, "find_spec", lambda name: None if name == "onnx" else object())
    assert pool.parse_peers("torch") == ("torch",)
    with pytest.raises(UserError, match=r"onnxruntime needs onnx, .*emotion-jax\[bench\]"):
        pool.parse_peers("torch,onnxruntime")


def test_ours_comes_first_and_every_peer_has_a_module():
    everyone = pool.contenders(tuple(pool.FAMILIES))
    assert everyone[0] == OURS
    assert set(everyone[1:]) == set(PEERS)
    assert pool.members("keras+allocator") == ("keras+allocator", "keras no_jit+allocator")


def test_a_killed_worker_is_told_in_a_sentence(worker):
    assert worker.ask("evaluate", batch=1, steps=1) > 0
    os.kill(worker._process.pid, signal.SIGKILL)
    with pytest.raises(UserError, match="process of onnxruntime was killed by SIGKILL") as told:
        worker.ask("evaluate", batch=1, steps=1)
    assert len(str(told.value).splitlines()) == 1


def test_what_a_worker_cannot_do_leaves_it_alive(worker):
    with pytest.raises(pool.Failed, match="AttributeError"):
        worker.ask("train", batch=1, steps=1)
    assert worker.ask("describe")["device"] == "cpu"


def test_a_closed_worker_is_gone(worker):
    worker.close()
    assert worker._process.returncode == -signal.SIGKILL
    with pytest.raises(ProcessLookupError):
        os.killpg(worker._process.pid, 0)


def test_a_worker_that_is_not_ready_when_the_parent_stops_is_ended(tmp_path, monkeypatch):
    started = []
    real = subprocess.Popen

    def popen(*args, **kwargs):
        started.append(real(*args, **kwargs))
        return started[-1]

    def interrupted(self):
        raise KeyboardInterrupt

    monkeypatch.setattr(subprocess, "Popen", popen)
    monkeypatch.setattr(pool.Worker, "_answer", interrupted)
    with pytest.raises(KeyboardInterrupt):
        pool.Worker("onnxruntime", tmp_path)
    assert started[0].returncode == -signal.SIGKILL


def test_every_contender_is_told_the_same_number_of_threads(monkeypatch):
    monkeypatch.setattr(pool, "threads", lambda: 3)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    environment = pool.environment()
    assert environment["OMP_NUM_THREADS"] == environment["TF_NUM_INTRAOP_THREADS"] == "3"
