import shutil

import jax
import numpy as np
import pytest

from emotion_jax.data import dataset
from emotion_jax.errors import UserError
from emotion_jax.models import last_layer
from emotion_jax.training import loop, saved, trained, workdir


def training(config, **values):
    return config.model_copy(update={"training": config.training.model_copy(update=values)})


def run(config, folder):
    with workdir.opened(folder, config):
        return loop.train(config, folder, dataset.load(config.data))


def newest(folder):
    return trained.load(saved.steps(folder / "checkpoints")[-1])


def names_that_differ(a, b):
    """Of parameters, by their layer."""
    pairs = zip(jax.tree_util.tree_leaves_with_path(a), jax.tree.leaves(b), strict=True)
    return {path[0].key for (path, x), y in pairs if (x != y).any()}


@pytest.fixture(scope="module")
def base(tiny_tree, tmp_path_factory):
    """The workdir of a finished run, and a way to make configurations like its own."""
    from emotion_jax import config

    settings = config.from_mapping(
        {
            "data": {"dir": tiny_tree, "pipeline": "resident", "image_size": 12},
            "model": {"widths": (4,), "dense": (8,), "dropout": 0.0, "dense_dropout": 0.0},
            "training": {"epochs": 3, "batch_size": 8, "learning_rate": 1e-2},
            "logging": {"progress": False, "tensorboard": False},
        },
        "tests",
    )
    folder = tmp_path_factory.mktemp("base")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EMOTION_JAX_CACHE", str(folder / "cache"))
        run(settings, folder / "run")
    return folder / "run", settings


def renamed(tiny_tree, root, **names):
    """The tree with other names for its classes; other pixels as well."""
    for split in ("train", "test"):
        for old, new in names.items():
            shutil.copytree(tiny_tree / split / old, root / split / new)
    return root


def test_the_same_classes_take_all_of_it(base, tmp_path):
    folder, settings = base
    run(training(settings, init_from=str(folder), learning_rate=1e-9, epochs=1), tmp_path)
    start, end = trained.load(trained.resolve(folder)), newest(tmp_path)
    for before, after in zip(
        jax.tree.leaves(start.variables["params"]),
        jax.tree.leaves(end.variables["params"]),
        strict=True,
    ):
        np.testing.assert_allclose(before, after, atol=1e-6)


def test_other_classes_get_a_new_last_layer_and_frozen_layers_stay(base, tiny_tree, tmp_path):
    folder, settings = base
    tree = renamed(tiny_tree, tmp_path / "tree", angry="cross", happy="glad")
    data = settings.data.model_copy(update={"dir": tree})
    config = training(settings, init_from=str(folder), frozen_epochs=1e12, epochs=1)
    config = config.model_copy(update={"data": data})
    run(config, tmp_path / "run")
    start, end = trained.load(trained.resolve(folder)), newest(tmp_path / "run")
    assert end.classes == ("cross", "glad")
    before, after = start.variables["params"], end.variables["params"]
    head = last_layer(after)
    assert after[head]["kernel"].shape == (8, 2)
    del before[head], after[head]
    assert names_that_differ(before, after) == set()
    longer = config.model_copy(
        update={"training": config.training.model_copy(update={"epochs": 2, "frozen_epochs": 1.0})}
    )
    run(longer, tmp_path / "longer")
    after = newest(tmp_path / "longer").variables["params"]
    del after[head]
    assert names_that_differ(before, after) == set(before)


def test_what_was_seen_before_stays_known_and_resume_needs_no_source(base, tiny_tree, tmp_path):
    folder, settings = base
    small = tmp_path / "small"
    for name in ("angry", "happy", "sad"):
        shutil.copytree(tiny_tree / "test" / name, small / "train" / name)  # not seen yet
    source = shutil.copytree(folder, tmp_path / "source")
    config = training(settings, init_from=str(source), epochs=2)
    config = config.model_copy(update={"data": settings.data.model_copy(update={"dir": small})})
    with pytest.raises(KeyboardInterrupt), workdir.opened(tmp_path / "run", config):
        loop.train(config, tmp_path / "run", dataset.load(config.data), interrupt)
    shutil.rmtree(source)
    for other, said in (("", "empty"), ("elsewhere", "elsewhere")):
        with pytest.raises(UserError, match=rf"training\.init_from is {said}, .* began with"):
            run(training(config, init_from=other), tmp_path / "run")
    run(config, tmp_path / "run")
    before, after = trained.load(trained.resolve(folder)), newest(tmp_path / "run")
    assert after.description["epoch"] == 2
    assert len(after.train_hashes) == len(before.train_hashes) + 24
    assert np.isin(before.train_hashes, after.train_hashes).all()


def interrupt(rows):
    raise KeyboardInterrupt


def test_another_network_is_a_sentence(base, tmp_path):
    folder, settings = base
    model = settings.model.model_copy(update={"widths": (6,)})
    config = training(settings, init_from=str(folder)).model_copy(update={"model": model})
    with pytest.raises(UserError, match=r"^training\.init_from: .*another network"):
        run(config, tmp_path)
    with pytest.raises(UserError, match="no checkpoint"):
        run(training(settings, init_from=str(tmp_path / "none")), tmp_path / "b")


def test_the_last_layer():
    assert last_layer({"Conv_0": 0, "Dense_2": 0, "Dense_10": 0, "BatchNorm_11": 0}) == "Dense_10"
