import dataclasses
import json

import pytest

from emotion_jax import config
from emotion_jax.benchmark import plots, results
from emotion_jax.benchmark.rounds import Samples
from emotion_jax.benchmark.table import table
from emotion_jax.benchmark.worker import OURS

KEYS = [
    "device", "batch_size", "train_images_per_second", "eval_images_per_second",
    "end_to_end_images_per_second", "compile_seconds", "first_step_seconds", "flops_per_step",
    "bytes_per_step", "utilisation", "matmul_flops_per_second", "peak_memory_bytes", "peers",
    "ratio_to_fastest_peer",
]  # fmt: skip


def rates(*values):
    return Samples(tuple(map(float, values)))


def about(version):
    return {
        "version": version,
        "device": "cpu",
        "parameters": 1000,
        "logit_difference": 1e-7,
    }


@pytest.fixture
def measured():
    """Three rounds at batch 64; torch channels_last trains fastest, keras no_jit infers so."""
    everyone = {
        OURS: rates(200, 220, 210),
        "torch eager": rates(90, 100, 95),
        "torch channels_last": rates(105, 100, 110),
        "keras": rates(60, 61, 62),
    }
    inference = {
        **{name: s.times(4.0) for name, s in everyone.items()},
        "keras no_jit": rates(500, 500, 500),
        "onnxruntime": rates(800, 810, 820),
    }
    return results.Measured(
        config=config.Config(),
        about={
            OURS: about("jax 1") | {"platform": "cpu", "devices": 1, "peak_flops_per_second": 4e12},
            **{name: about("2.0") for name in inference if name != OURS},
        },
        skipped={"torch compile": "RuntimeError: no compiler"},
        train=everyone,
        evaluate={1: inference, 64: inference},
        scaled={32: rates(6, 6, 6), 64: rates(3, 3.2, 3.1)},
        matmul=rates(1e11, 1.5e11, 1.4e11),
        program={"compile_seconds": 7.0, "flops": 6.4e10, "bytes": float("nan")},
        memory=2**30,
        end_to_end=rates(190, 200, 195),
        alone=rates(200, 200, 200),
        first_step={"cold": 13.0, "warm": 5.0},
        peers=("torch", "keras", "onnxruntime"),
        machine={"platform": "test", "threads": 2},
        rounds=3,
        seconds=1.0,
    )


def test_the_figures_have_the_contracts_names_and_are_json(measured):
    content = results.assemble(measured)
    assert list(content) == [*KEYS, "details"]
    assert json.loads(json.dumps(content, allow_nan=False)) == content
    assert content["bytes_per_step"] is None


def test_a_peer_is_its_fastest_contender_in_training_and_inference_apart(measured):
    content = results.assemble(measured)
    assert content["peers"] == {
        "torch": {"train_images_per_second": 105.0, "eval_images_per_second": 420.0},
        "keras": {"train_images_per_second": 61.0, "eval_images_per_second": 500.0},
        "onnxruntime": {"train_images_per_second": None, "eval_images_per_second": 810.0},
    }
    assert content["ratio_to_fastest_peer"] == pytest.approx(210 / 105)
    times = content["details"]["train"]["torch channels_last"]["ours_is_times_as_fast"]
    assert times["paired"] == pytest.approx(210 / 110)


def test_without_peers_there_is_no_ratio(measured):
    alone = {OURS: measured.train[OURS]}
    content = results.assemble(
        dataclasses.replace(measured, peers=(), train=alone, evaluate={64: alone}, skipped={})
    )
    assert content["peers"] == {}
    assert content["ratio_to_fastest_peer"] is None
    assert "left out" not in table(content)
    assert plots.figure(content).startswith(b"\x89PNG")


def test_utilisation_is_of_the_best_matrix_product_and_of_the_devices_peak(measured):
    content = results.assemble(measured)
    work = 6.4e10 * 210 / 64
    assert content["matmul_flops_per_second"] == 1.5e11
    assert content["utilisation"] == pytest.approx(work / 1.5e11)
    assert content["details"]["utilisation_of_peak"] == pytest.approx(work / 4e12)


def test_the_loop_is_compared_with_its_step_round_by_round(measured):
    content = results.assemble(measured)
    assert content["end_to_end_images_per_second"] == 195.0
    assert content["details"]["end_to_end"]["ratio"]["paired"] == pytest.approx(0.975)


def test_the_table_says_it_all(measured):
    text = table(results.assemble(measured))
    assert text.index(OURS) < text.index("torch eager")
    for part in (
        "2 threads for everyone",
        "1,000 parameters",
        "2.00 times as fast as the fastest peer",
        "97.5% of the step alone",
        "64 GFLOP as lax counts, unknown B",
        "13.0 s after the command, 5.0 s again",
        "1,024 MiB",
        "torch compile was left out: RuntimeError: no compiler",
    ):
        assert part in text
    assert max(map(len, text.splitlines()[2:-2])) <= 100


def test_the_picture_is_drawn_from_the_figures_alone(measured):
    content = results.assemble(measured)
    picture = plots.figure(content)
    assert picture.startswith(b"\x89PNG")
    assert plots.figure(json.loads(json.dumps(content))) == picture
    faster = dataclasses.replace(measured, end_to_end=rates(400, 400, 400))
    assert plots.figure(results.assemble(faster)) != picture
