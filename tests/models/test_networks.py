import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn

from emotion_jax import models
from emotion_jax.config import ModelSettings
from emotion_jax.models import lowering

# The smallest of each in which every kind of layer occurs.
TINY = {
    "vgg": {"widths": (8, 16), "convolutions": 2, "dense": (16,)},
    "resnet": {"widths": (8, 16), "convolutions": 1},
    "mini_xception": {"widths": (8, 8, 16), "convolutions": 1, "squeeze": 4},
    "fernet": {"widths": (8, 16, 24), "convolutions": 1, "squeeze": 4, "activation": "gelu"},
}
CLASSES, SIZE = 4, 12


def build(name, channels=1, size=SIZE, **settings):
    settings = {"dropout": 0.0, "dense_dropout": 0.0, **TINY[name], **settings}
    stats = ((0.5,) * channels, (0.25,) * channels)
    return models.build(ModelSettings(name=name, **settings), CLASSES, size, *stats)


def drawn(n=64, channels=1):
    """Noise with a bright bar whose place is the class."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 120, (n, SIZE, SIZE, channels), np.uint8)
    labels = np.arange(n) % CLASSES
    for image, label in zip(images, labels, strict=True):
        image[3 * label : 3 * label + 3] += 80
    return jnp.asarray(images), jnp.asarray(labels)


def begun(module, x):
    """The variables that it begins with, but with random weights where a last layer's are zero."""
    variables = jax.jit(module.init)(jax.random.key(0), x)
    last = variables["params"][models.last_layer(variables["params"])]
    last["kernel"] = nn.initializers.lecun_normal()(jax.random.key(1), last["kernel"].shape)
    return variables


def train_pass(module):
    """Compile (variables, images, labels, dropout key) -> (loss, logits, statistics, gradients)."""

    @jax.jit
    def run(variables, x, labels, key):
        def loss(params):
            logits, updated = module.apply(
                {**variables, "params": params},
                x,
                train=True,
                mutable=["batch_stats"],
                rngs={"dropout": key},
            )
            losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
            return losses.mean(), (logits, updated["batch_stats"])

        (value, (logits, stats)), grads = jax.value_and_grad(loss, has_aux=True)(
            variables["params"]
        )
        return value, logits, stats, grads

    return run


class Network:
    """One module, compiled once for all tests."""

    def __init__(self, name):
        self.module = build(name)
        self.x, self.labels = drawn()
        self.variables = jax.jit(self.module.init)(jax.random.key(0), self.x[:1])
        self.apply = jax.jit(self.module.apply)
        self.train = train_pass(self.module)

    def trained(self, steps=30):
        """Variables after some steps of Adam, the last logits, and the gradients of all steps."""
        tx = optax.adam(1e-2)
        update = jax.jit(tx.update)
        variables, state, gradients = self.variables, tx.init(self.variables["params"]), []
        for _ in range(steps):
            _, logits, stats, grads = self.train(variables, self.x, self.labels, jax.random.key(0))
            gradients.append(grads)
            updates, state = update(grads, state)
            params = optax.apply_updates(variables["params"], updates)
            variables = {"params": params, "batch_stats": stats}
        return variables, logits, gradients


@pytest.fixture(scope="module", params=TINY)
def network(request):
    return Network(request.param)


@pytest.fixture(scope="module")
def after(network):
    return network.trained()


def test_it_learns_the_drawn_images(network, after):
    _, logits, _ = after
    assert (logits.argmax(-1) == network.labels).mean() > 0.9


def test_gradients_are_finite_and_reach_every_parameter(after):
    _, _, gradients = after
    for leaf in jax.tree.leaves(gradients):
        assert np.isfinite(leaf).all()
    # A branch whose last scale is zero gets none in the first step.
    for path, leaf in jax.tree.leaves_with_path(gradients[-1]):
        assert np.any(leaf), jax.tree_util.keystr(path)


def test_uint8_and_float_images_agree(network, after):
    found, wanted = (network.apply(after[0], x) for x in (network.x, network.x * 1.0))
    assert found.dtype == jnp.float32
    assert found.shape == (64, CLASSES)
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-5)


def test_evaluation_takes_examples_one_by_one(network, after):
    together = network.apply(after[0], network.x[:6])
    alone = [network.apply(after[0], network.x[i : i + 1])[0] for i in range(6)]
    np.testing.assert_allclose(together, alone, rtol=1e-4, atol=1e-4)


def test_plain_lax_gives_the_same_logits(network, after):
    @jax.jit
    def plain(variables, x):
        with lowering.plain():
            return network.module.apply(variables, x)

    found, wanted = network.apply(after[0], network.x), plain(after[0], network.x)
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-5 * np.abs(wanted).max())


def test_training_on_cpu_is_matrix_products_alone(network):
    args = (network.variables, network.x, network.labels, jax.random.key(0))
    traced = network.train.trace(*args)
    cpu, tpu = (traced.lower(lowering_platforms=(name,)).as_text() for name in ("cpu", "tpu"))
    for slow in ("stablehlo.convolution", "stablehlo.select_and_scatter"):
        assert slow not in cpu
    assert "stablehlo.convolution" in tpu


def test_statistics_change_in_training_alone(network, after):
    apply = jax.jit(lambda v, x: network.module.apply(v, x, mutable=["batch_stats"])[1])
    wanted = after[0]["batch_stats"]
    rested = apply(after[0], network.x)["batch_stats"]
    assert jax.tree.all(jax.tree.map(np.array_equal, rested, wanted))
    before = network.variables["batch_stats"]
    assert not jax.tree.all(jax.tree.map(np.allclose, before, wanted))


@pytest.mark.parametrize("name", TINY)
def test_bfloat16_computes_low_and_keeps_high(name):
    x, _ = drawn(8)
    high, low = build(name), build(name, dtype="bfloat16")
    variables = begun(high, x)
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype("float32")}
    wanted, found = (
        jax.jit(lambda v, x, m=m: m.apply(v, x, train=True, mutable=["batch_stats"]))(variables, x)
        for m in (high, low)
    )
    assert found[0].dtype == jnp.float32
    assert {leaf.dtype for leaf in jax.tree.leaves(found[1])} == {jnp.dtype("float32")}
    scale = np.abs(wanted[0]).max()
    assert 1e-5 * scale < np.abs(found[0] - wanted[0]).max() < 0.1 * scale


@pytest.mark.parametrize("name", TINY)
@pytest.mark.parametrize("size", [24, 37, 224])
def test_any_size_and_colour(name, size):
    module = build(name, channels=3, size=size, widths=(8, 8, 8, 8))
    image = jax.ShapeDtypeStruct((2, size, size, 3), jnp.uint8)
    variables = jax.eval_shape(module.init, jax.random.key(0), image)
    assert jax.eval_shape(module.apply, variables, image).shape == (2, CLASSES)


@pytest.mark.parametrize("name", TINY)
def test_dropout_in_training_alone(name):
    x, _ = drawn(8)
    module = build(name, dropout=0.5, dense_dropout=0.5)
    variables = begun(module, x)

    @jax.jit
    def run(key):
        options = {"train": True, "mutable": ["batch_stats"], "rngs": {"dropout": key}}
        return module.apply(variables, x, **options)[0]

    first, again, other = (run(jax.random.key(seed)) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 1e-3
    jax.eval_shape(module.apply, variables, x)  # evaluation takes no key
