import jax
import numpy as np
import pytest

from emotion_jax import config
from emotion_jax.benchmark import network
from emotion_jax.errors import UserError


def test_what_is_saved_is_loaded(built, tmp_path):
    _, variables, net = built
    network.save(net, tmp_path)
    loaded = network.load(tmp_path)
    assert {**vars(loaded), "layers": ()} == {**vars(net), "layers": ()}
    for layer, saved in zip(net.layers, loaded.layers, strict=True):
        assert layer.keys() == saved.keys()
        for name, array in layer.items():
            np.testing.assert_array_equal(saved[name], array)
    assert loaded.parameters == sum(a.size for a in jax.tree.leaves(variables["params"]))


def test_layers_come_in_the_order_of_the_computation(built):
    _, variables, net = built
    norm = {"scale", "bias", "mean", "var"}
    assert [set(layer) for layer in net.layers] == [
        *[{"kernel"}, norm] * 5,
        {"kernel", "bias"},
    ]
    assert [layer["kernel"].shape for layer in net.layers if "kernel" in layer] == [
        (3, 3, 1, 4),
        (3, 3, 4, 4),
        (3, 3, 4, 6),
        (3, 3, 6, 6),
        (3 * 3 * 6, 8),
        (8, 3),
    ]
    np.testing.assert_array_equal(net.layers[-1]["bias"], variables["params"]["Dense_1"]["bias"])


def test_the_sample_is_the_same_for_everyone(built):
    _, _, net = built
    images, labels = net.sample(5)
    assert images.shape == (5, 13, 13, 1)
    assert images.dtype == np.uint8
    assert labels.max() < 3
    np.testing.assert_array_equal(images, net.sample(5)[0])


@pytest.mark.parametrize(
    ("section", "name", "value"),
    [
        ("model", "dtype", "bfloat16"),
        ("training", "optimizer", "sgd"),
        ("training", "weight_decay", 0.1),
        ("training", "label_smoothing", 0.1),
        ("training", "clip_norm", 1.0),
    ],
)
def test_what_the_peers_do_not_build_is_refused(section, name, value):
    settings = config.from_mapping({section: {name: value}}, "tests")
    with pytest.raises(UserError, match=rf"{section}\.{name} is {value}.* leave out --peers"):
        network.check_comparable(settings)
    network.check_comparable(config.Config())
