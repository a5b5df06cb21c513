import json
import os
import subprocess
import sys

import numpy as np
import pytest

from emotion_jax.benchmark import network, worker


@pytest.fixture
def folder(built, tmp_path):
    network.save(built[2], tmp_path)
    return tmp_path


def talk(name, folder, *requests):
    """The answers of a worker's process to these requests, and what it said on stderr."""
    done = subprocess.run(
        [sys.executable, "-m", "emotion_jax.benchmark.worker", name, str(folder)],
        input="".join(json.dumps(request) + "\n" for request in requests),
        capture_output=True,
        text=True,
        check=True,
    )
    return [json.loads(line) for line in done.stdout.splitlines()], done.stderr


def test_a_worker_answers_line_by_line_and_ends_with_its_input(folder, logits):
    answers, _ = talk(
        "onnxruntime",
        folder,
        {"task": "describe"},
        {"task": "logits"},
        {"task": "train", "batch": 4, "steps": 1},
        {"task": "__init__"},
        {"task": "evaluate", "batch": 4, "steps": 2},
    )
    ready, about, seen, cannot, unknown, seconds = answers
    assert ready == {"answer": None}
    assert about["answer"]["device"] == "cpu"
    np.testing.assert_allclose(seen["answer"], logits, atol=1e-4)
    assert "AttributeError" in cannot["error"]
    assert unknown["error"] == "ValueError: there is no task __init__"
    assert seconds["answer"] > 0


def test_a_contender_that_cannot_be_built_says_why(tmp_path):
    answers, errors = talk("onnxruntime", tmp_path, {"task": "describe"})
    assert len(answers) == 1
    assert answers[0]["error"].startswith("FileNotFoundError")
    assert "Traceback" in errors


def test_our_contender_says_in_a_sentence_what_is_wrong_with_the_data(tmp_path):
    (tmp_path / "config.toml").write_text('[data]\ndir = "nowhere"\n')
    answers, errors = talk("emotion_jax", tmp_path)
    assert answers[0]["user"]
    assert "nowhere" in answers[0]["error"]
    assert "Traceback" not in errors


def test_everyone_gets_the_cores_that_this_process_may_use():
    assert 1 <= worker.threads() <= os.cpu_count()
