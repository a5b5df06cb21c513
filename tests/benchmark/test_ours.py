import jax
import numpy as np
import pytest

from emotion_jax import config
from emotion_jax.benchmark import network, ours
from emotion_jax.models import lowering


@pytest.fixture(scope="module")
def folder(tiny_tree, tmp_path_factory):
    folder = tmp_path_factory.mktemp("ours")
    settings = config.from_mapping(
        {
            "data": {"dir": tiny_tree, "pipeline": "resident", "image_size": 12},
            "model": {"widths": [16, 32], "dense": [8]},
            "training": {"batch_size": 16},
            "logging": {"progress": False, "tensorboard": False},
        },
        "tests",
    )
    (folder / "config.toml").write_text(config.dumps(settings))
    return folder


@pytest.fixture(scope="module")
def contender(folder):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EMOTION_JAX_CACHE", str(folder / "cache"))
        return ours.Contender(folder)


def test_it_writes_the_network_that_it_is(contender, folder):
    net = network.load(folder)
    about = contender.describe()
    assert net.parameters == about["parameters"]
    assert about["devices"] == 8
    assert about["peak_flops_per_second"] is None  # nobody knows the CPU's
    images, _ = net.sample(network.SAMPLE)
    logits = contender.logits(images)
    assert logits.shape == (network.SAMPLE, 3)
    np.testing.assert_allclose(contender.logits(images[:5]), logits[:5], atol=1e-5)


def test_timed_steps_are_steps_of_training(contender):
    before = int(contender._program(16).state.step)
    assert contender.train(batch=16, steps=3) > 0
    after = contender._program(16).state
    assert int(after.step) == before + 3
    assert int(after.bad_step) == 0
    assert contender.evaluate(batch=1, steps=2) > 0
    assert contender.matmul(size=8, steps=2) > 0


def test_flops_are_those_of_the_network_whatever_it_is_lowered_to(contender, monkeypatch):
    figures = contender.program(batch=16)
    # 2 a multiplication and addition; forward, by the input (but not of the first), by the kernel.
    # XLA does not count what meets the padding: of 3 x 12 taps along an axis 34 are inside.
    first, second = 34**2 * 1 * 16, 16**2 * 16 * 32
    dense = 3 * 3 * 32 * 8 + 8 * 3
    products = 16 * 2 * (2 * first + 3 * second + 3 * dense)
    assert products < figures["flops"] < 1.2 * products  # the rest: normalisation, Adam, dropout
    monkeypatch.setattr(lowering, "conv", jax.lax.conv_general_dilated)
    assert contender.program(batch=16)["flops"] == figures["flops"]
    assert figures["bytes"] > 4 * 3 * contender.describe()["parameters"]
    assert figures["compile_seconds"] > 0


def test_flops_of_one_image_are_those_of_its_logits(contender):
    products = 2 * (34**2 * 1 * 16 + 16**2 * 16 * 32 + 3 * 3 * 32 * 8 + 8 * 3)
    assert products < contender.flops_per_image() < 1.2 * products


def test_memory_is_of_this_process_where_the_device_does_not_tell(contender):
    assert 2**25 < contender.memory() < 2**36


def test_the_loop_and_its_step_take_turns(contender):
    pairs = contender.end_to_end(rounds=2, seconds=0.05)
    assert len(pairs["end_to_end"]) == len(pairs["alone"]) == 2
    assert min(*pairs["end_to_end"], *pairs["alone"]) > 0
