import importlib

import jax
import numpy as np
import optax
import pytest

from emotion_jax.benchmark import network, worker
from emotion_jax.training import step

SHAPES = [
    {"widths": [4], "dense": []},
    {"widths": [4, 6, 8], "dense": [8, 5], "size": 24, "classes": 7},
]


def contender(name, net):
    module, variant = worker.PEERS[name]
    peer = importlib.import_module(f"emotion_jax.benchmark.peers.{module}")
    return peer.Contender(net, variant, threads=1)


@pytest.mark.parametrize("name", ["keras", "keras no_jit", "onnxruntime"])
def test_a_peer_computes_our_network(name, built, logits):
    net = built[2]
    peer = contender(name, net)
    about = peer.describe()
    assert about["parameters"] == net.parameters
    assert about["version"]
    np.testing.assert_allclose(
        peer.logits(net.sample(network.SAMPLE)[0]), logits, atol=1e-4 * np.abs(logits).max()
    )
    assert peer.evaluate(batch=2, steps=3) > 0


@pytest.mark.parametrize("shape", SHAPES)
def test_other_shapes_of_the_network_agree_too(shape, build):
    module, variables, net = build(**shape)
    images, _ = net.sample(4)
    np.testing.assert_allclose(
        contender("onnxruntime", net).logits(images),
        np.asarray(module.apply(variables, images)),
        atol=1e-4,
    )


def step_of_ours(module, variables, net, batch):
    """Logits of the sample before and after one step of Adam."""
    images, labels = net.sample(batch)

    def loss(params):
        logits, updated = module.apply(
            {**variables, "params": params}, images, train=True, mutable=["batch_stats"]
        )
        return step.cross_entropy(
            logits, step.probabilities(labels, logits.shape[-1])
        ).mean(), updated

    grads, updated = jax.jit(jax.grad(loss, has_aux=True))(variables["params"])
    adam = optax.adam(net.learning_rate)
    updates, _ = adam.update(grads, adam.init(variables["params"]))
    after = {"params": optax.apply_updates(variables["params"], updates), **updated}
    return (np.asarray(module.apply(v, images)) for v in (variables, after))


def check_a_step(peer, module, variables, net):
    """What is timed is the whole of a training step: it moves the logits as ours does."""
    before, after = step_of_ours(module, variables, net, batch=16)
    assert peer.train(batch=16, steps=1) > 0
    moved = np.abs(after - before).max()
    assert moved > 1e-3
    # Adam's first step is the gradient's sign: one of nearly 0 may go either way.
    np.testing.assert_allclose(peer.logits(net.sample(16)[0]), after, atol=0.1 * moved)


@pytest.mark.parametrize("name", ["keras", "keras no_jit"])
def test_a_step_of_keras_is_a_step_of_ours(name, build):
    built = build(**SHAPES[1], dropout=0.0, dense_dropout=0.0)
    check_a_step(contender(name, built[2]), *built)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("variant", ["eager", "channels_last", "compile"])
@pytest.mark.parametrize("shape", [None, *SHAPES])
def test_torch_computes_and_trains_our_network(variant, shape, build):
    pytest.importorskip("torch")
    module, variables, net = build(**(shape or {"widths": [4, 6], "convolutions": 2, "dense": [8]}))
    peer = contender(f"torch {variant}", net)
    assert peer.describe()["parameters"] == net.parameters
    images, _ = net.sample(8)
    before = peer.logits(images)
    ours = np.asarray(module.apply(variables, images))
    np.testing.assert_allclose(before, ours, atol=1e-4)
    assert peer.evaluate(batch=8, steps=2) > 0
    assert peer.train(batch=8, steps=2) > 0
    built = build(**SHAPES[1], dropout=0.0, dense_dropout=0.0)
    check_a_step(contender(f"torch {variant}", built[2]), *built)
