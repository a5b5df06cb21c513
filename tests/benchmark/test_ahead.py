import importlib.util
import json
import subprocess
import sys
from types import SimpleNamespace

import jax
import pytest

from emotion_jax import config as config_lib
from emotion_jax.benchmark import ahead, collectives, topology
from emotion_jax.errors import UserError
from emotion_jax.training import mesh as mesh_lib

GIB = 2**30
FOUR = """
  %ar = f32[2740000]{0:T(1024)} all-reduce(%a), channel_id=1, replica_groups=[1,4]<=[4]
  %bn = (f32[64]{0}, f32[64]{0}) all-reduce(%b, %c), channel_id=2, replica_groups=[1,4]<=[4]
"""


@pytest.fixture
def baseline():
    training = {"batch_size": 2048}
    return config_lib.from_mapping({"model": {"dtype": "bfloat16"}, "training": training}, "tests")


@pytest.fixture
def answered(monkeypatch):
    """A libtpu that says what it is asked to; returns the programs that were asked for."""
    asked = []
    about = {
        "parameters": 2_740_000,
        "compile_seconds": 60.0,
        "flops": 1.47e12,
        "bytes": 16.8e9,
        "optimal_seconds": -9.0,
        "memory": {
            "argument": GIB,
            "output": GIB // 2,
            "temp": 2 * GIB,
            "alias": GIB // 2,
            "generated_code": GIB // 4,
        },
    }

    def ask(config, programs, images):
        asked.append((programs, images))
        one = about | {"hlo": "", **facts}
        return [one] if len(programs) == 1 else [one, one | {"hlo": FOUR}]

    facts = {}
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: SimpleNamespace(name=name))
    monkeypatch.setattr(ahead, "_ask", ask)
    return SimpleNamespace(asked=asked, facts=facts)


def test_one_chip_is_bound_by_its_memory(baseline, answered):
    estimate = ahead.compile_for(baseline, "v5e:1x1", images=1000)
    assert answered.asked == [({"v5e:1x1": 2048, "v5e:2x2": 4 * 2048}, 1000)]
    assert estimate.compute_seconds == pytest.approx(1.47e12 / 197e12)
    assert estimate.memory_seconds == pytest.approx(16.8e9 / 819e9)
    assert estimate.bound == "memory"
    assert estimate.step_seconds == estimate.memory_seconds
    assert estimate.images_per_second == pytest.approx(2048 / (16.8e9 / 819e9))
    assert estimate.memory.needed == 3.25 * GIB
    assert [c.bytes for c in estimate.gradients] == [4 * 2_740_000]
    assert [c.arrays for c in estimate.small] == [2]
    assert estimate.collectives_of == "v5e:2x2"


@pytest.mark.parametrize(
    ("optimal", "taken"),
    [(-9.0, 16.8e9 / 819e9), (None, 16.8e9 / 819e9), (1e-4, 16.8e9 / 819e9), (0.012, 0.012)],
)
def test_an_optimal_time_counts_if_it_is_possible(baseline, answered, optimal, taken):
    answered.facts["optimal_seconds"] = optimal
    estimate = ahead.compile_for(baseline, "v5e:1x1")
    assert estimate.work_seconds == pytest.approx(taken)
    assert ("not used" in estimate.table()) == (taken != optimal)


def test_several_chips_also_wait_for_each_other(baseline, answered):
    answered.facts["hlo"] = FOUR
    estimate = ahead.compile_for(baseline, "v5e:2x2")
    assert answered.asked == [({"v5e:2x2": 2048}, ahead.IMAGES)]
    sent = 2 * 3 / 4 * (4 * 2_740_000 + 512) / 100e9  # two links of 50 GB/s
    assert estimate.communication_seconds == pytest.approx(sent + 2 * 4e-6)
    assert estimate.step_seconds == pytest.approx(16.8e9 / 819e9 + sent + 8e-6)


def test_it_can_be_read_and_written_as_json(baseline, answered):
    estimate = ahead.compile_for(baseline, "v6e:1x1")
    read = json.loads(json.dumps(estimate.as_dict()))
    assert read["images_per_second"] == pytest.approx(2048 / (16.8e9 / 1640e9))
    assert read["memory"]["needed"] == 3.25 * GIB
    assert [p["chips"] for p in read["scaling"]] == [1, 8, 64, 256]
    assert read["gradients"][0]["kind"] == "all-reduce"
    table = estimate.table()
    assert "3.25 of 32.00 GiB" in table
    assert "gradients: 1 (all-reduce of f32, 10.96 MB)" in table
    assert "others: 0 (none, 0.00 MB)" in table
    assert "16x16" in table


@pytest.mark.parametrize(
    ("target", "sentence"),
    [
        ("v9:1x1", "--compile-for: 'v9' is not one of v4, v5e, v5p, v6e."),
        ("H100", "--compile-for: 'H100' is not one of"),
        ("v5e", "'v5e' does not name a torus of v5e; write v5e:2x2"),
        ("v5e:2x2x1", "write v5e:2x2"),
        ("v5p:2x2", "write v5p:2x2x1"),
        ("v5e:0x1", "write v5e:2x2"),
        ("v5e:3x1", "2048 images do not divide by the 3 chips of v5e:3x1; use a multiple of 3."),
    ],
)
def test_a_target_that_is_none_is_refused(baseline, answered, target, sentence):
    with pytest.raises(UserError) as refused:
        ahead.compile_for(baseline, target)
    assert sentence in str(refused.value)
    assert not answered.asked


def test_without_libtpu_it_says_what_to_install(baseline, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"libtpu.* is not installed; .*emotion-jax\[tpu\]"):
        ahead.compile_for(baseline, "v5e:1x1")


@pytest.mark.parametrize(
    ("script", "sentence"),
    [
        ("raise ValueError('no such thing')", "does not compile: ValueError: no such thing"),
        ("import os; os.abort()", "does not compile: it said nothing"),
        ("open(sys.argv[3], 'w').write('[{\"error\": \"libtpu: busy.\"}]')", "libtpu: busy."),
    ],
)
def test_a_compiler_that_fails_ends_in_a_sentence(baseline, monkeypatch, script, sentence):
    run = subprocess.run

    def stand_in(command, **options):
        code = f"import sys\n{script}"
        return run([sys.executable, "-S", "-c", code, *command[1:]], **options)

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: SimpleNamespace(name=name))
    monkeypatch.setattr(subprocess, "run", stand_in)
    with pytest.raises(UserError) as failed:
        ahead.compile_for(baseline, "v5e:1x1")
    assert sentence in str(failed.value)


@pytest.fixture(scope="module")
def compiled():
    """The real step, compiled for the 8 simulated devices instead of a slice of TPUs."""
    config = config_lib.from_mapping(
        {
            "data": {"image_size": 12, "augment": {"rotation": 10.0, "flip": True}},
            "model": {"widths": [4], "dense": [64], "dropout": 0.1},
            "training": {"batch_size": 32},
        },
        "tests",
    )
    before = jax.live_arrays()
    lowered, parameters = topology.lower(config, mesh_lib.make(), images=100, classes=7)
    held = {id(array) for array in before}
    allocated = sum(array.nbytes for array in jax.live_arrays() if id(array) not in held)
    return lowered.compile(), parameters, allocated


def test_the_real_step_lowers_from_shapes_alone(compiled):
    program, parameters, allocated = compiled
    assert parameters == 9 * 4 + 2 * 4 + 6 * 6 * 4 * 64 + 2 * 64 + 64 * 7 + 7
    assert allocated < 1000  # not the state, nor the data set
    about = topology.facts(program)
    assert about["flops"] > 0
    assert about["bytes"] > 0
    # On each device all of state (Adam: three of the parameters' size) and data set.
    assert about["memory"]["argument"] >= 3 * 4 * parameters + 100 * 12 * 12


def test_the_real_steps_gradients_are_float32_and_batchnorms_counted_apart(compiled):
    program, parameters, _ = compiled
    found = collectives.parse(program.as_text())
    gradients, small = collectives.split(found, parameters)
    assert {(c.kind, c.dtypes, c.group_size) for c in gradients} == {("all-reduce", ("f32",), 8)}
    assert sum(c.numbers for c in gradients) >= 0.95 * parameters
    assert small
    assert all(c.numbers < 0.05 * parameters for c in small)


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("libtpu") is None, reason="needs emotion-jax[tpu]")
def test_libtpu_compiles_the_step_for_one_chip_and_for_eight(baseline):
    small = baseline.model_copy(
        update={"model": baseline.model.model_copy(update={"widths": (64, 128)})}
    )
    one, eight = (ahead.compile_for(small, target) for target in ("v5e:1x1", "v5e:2x4"))
    assert eight.flops == pytest.approx(one.flops / 8, rel=0.05)
    for estimate in (one, eight):
        assert 0 < estimate.memory.needed < estimate.memory.available
        assert [c.kind for c in estimate.gradients] == ["all-reduce"]
        assert estimate.small
        assert not estimate.others
    with pytest.raises(UserError, match="libtpu gives no devices for v5e:3x1"):
        ahead.compile_for(
            small.model_copy(
                update={"training": small.training.model_copy(update={"batch_size": 48})}
            ),
            "v5e:3x1",
        )
