import shutil

import pytest

from emotion_jax import config as config_lib
from emotion_jax.data import dataset
from emotion_jax.evaluation.evaluate import evaluate
from emotion_jax.training import ancestry, loop, saved, trained, workdir


def settings_of(tree, data=(), **training):
    return config_lib.from_mapping(
        {
            "data": {"dir": tree, "pipeline": "resident", "image_size": 12, **dict(data)},
            "model": {"name": "fernet", "widths": (4, 4), "squeeze": 0},
            "training": {"epochs": 1, "batch_size": 8, **training},
            "logging": {"progress": False, "tensorboard": False},
        },
        "tests",
    )


def run(settings, folder):
    """The trained network and its data."""
    with workdir.opened(folder, settings):
        data = dataset.load(settings.data)
        loop.train(settings, folder, data)
    return trained.load(saved.steps(folder / "checkpoints")[-1]), data


@pytest.fixture(scope="module")
def base(tiny_tree, tmp_path_factory):
    """The workdir of a finished run on images of 12 pixels."""
    folder = tmp_path_factory.mktemp("ancestry")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EMOTION_JAX_CACHE", str(folder / "cache"))
        run(settings_of(tiny_tree), folder / "run")
    return folder / "run"


@pytest.mark.parametrize("setting", ["init_from", "teachers"])
def test_validation_that_was_learnt_from_is_said(base, tiny_tree, tmp_path, capsys, setting):
    value = str(base) if setting == "init_from" else (str(base),)
    alike = settings_of(tiny_tree, **{setting: value})
    run(alike, tmp_path / "alike")
    assert capsys.readouterr().err == ""
    other = settings_of(
        tiny_tree, {"validation_fraction": 0.3, "split_seed": 5}, **{setting: value}
    )
    _, data = run(other, tmp_path / "other")
    n = len(data.validation)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"training.{setting}: ")
    assert f"{n} of the {n} images that are held out for validation" in line
    assert line.endswith("--data.validation_fraction 0.1 --data.split_seed 0.")
    run(other, tmp_path / "other")
    assert capsys.readouterr().err == ""  # once, when the run begins


def test_other_images_are_no_doubt(base, tiny_tree, tmp_path, capsys):
    shutil.copytree(tiny_tree / "test", tmp_path / "tree" / "train")
    settings = settings_of(tmp_path / "tree", {"validation_fraction": 0.3}, init_from=str(base))
    run(settings, tmp_path / "run")
    assert capsys.readouterr().err == ""


def test_what_was_seen_at_another_size_cannot_be_told(base, tiny_tree, tmp_path):
    same, data = run(settings_of(tiny_tree, init_from=str(base)), tmp_path / "same")
    assert same.description["seen_complete"] is True
    assert evaluate(same, data.test).report["deduplicated"]["n"] == len(data.test)
    larger = settings_of(tiny_tree, {"image_size": 16}, init_from=str(base), epochs=2)
    model, data = run(larger, tmp_path / "larger")
    assert model.description["seen_complete"] is False
    assert evaluate(model, data.test).report["deduplicated"] is None
    assert not ancestry.comparable([same, model], 16)
    child = settings_of(tiny_tree, {"image_size": 16}, init_from=str(tmp_path / "larger"))
    assert run(child, tmp_path / "child")[0].description["seen_complete"] is False
