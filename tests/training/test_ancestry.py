import shutil
from dataclasses import replace

import numpy as np
import pytest

from emotion_jax import config as config_lib
from emotion_jax.data import dataset
from emotion_jax.evaluation.evaluate import evaluate
from emotion_jax.training import ancestry, loop, saved, trained, weights, workdir
from emotion_jax.training.seen import Seen


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


def run(settings, folder, on_epoch=lambda rows: None):
    """The trained network and its data."""
    with workdir.opened(folder, settings):
        data = dataset.load(settings.data)
        loop.train(settings, folder, data, on_epoch)
    return trained.load(saved.steps(folder / "checkpoints")[-1]), data


@pytest.fixture(scope="module")
def base(tiny_tree, tmp_path_factory):
    """The workdir of a finished run on images of 12 pixels."""
    folder = tmp_path_factory.mktemp("ancestry")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EMOTION_JAX_CACHE", str(folder / "cache"))
        run(settings_of(tiny_tree), folder / "run")
    return folder / "run"


OTHER = {"validation_fraction": 0.3, "split_seed": 5}


@pytest.mark.parametrize("setting", ["init_from", "teachers"])
def test_validation_that_was_learnt_from_is_said(base, tiny_tree, tmp_path, capsys, setting):
    value = str(base) if setting == "init_from" else (str(base),)
    run(settings_of(tiny_tree, **{setting: value}), tmp_path / "alike")
    assert capsys.readouterr().err == ""
    other = settings_of(tiny_tree, OTHER, **{setting: value})
    model, data = run(other, tmp_path / "other")
    n, step = len(data.validation), trained.resolve(base)
    assert capsys.readouterr().err == (
        f"training.{setting}: {step} has learnt from, or was chosen by, {n} of the {n} images that "
        "are held out for validation, which may look better than it is; it held out its own by "
        "--data.validation_fraction 0.1 --data.split_seed 0.\n"
    )
    run(other, tmp_path / "other")
    assert capsys.readouterr().err == ""  # once, when the run begins
    assert model.description["validation_unseen"] is False
    # What comes from that run has the same cut, and the same fault.
    child = settings_of(tiny_tree, OTHER, init_from=str(tmp_path / "other"))
    model, _ = run(child, tmp_path / "child")
    assert capsys.readouterr().err.endswith("may look better than it is.\n")
    assert model.description["validation_unseen"] is False


def test_other_images_are_no_doubt(base, tiny_tree, tmp_path, capsys):
    shutil.copytree(tiny_tree / "test", tmp_path / "tree" / "train")
    settings = settings_of(tmp_path / "tree", {"validation_fraction": 0.3}, init_from=str(base))
    run(settings, tmp_path / "run")
    assert capsys.readouterr().err == ""


def test_votes_are_another_fingerprint_and_the_same_cut(base, tiny_tree):
    model = trained.load(trained.resolve(base))
    settings = settings_of(tiny_tree)
    data = dataset.load(settings.data)
    voted = settings.model_copy(
        update={"data": settings.data.model_copy(update={"votes": tiny_tree / "votes.csv"})}
    )
    changed = replace(data, fingerprint="0" * 64)
    assert ancestry.doubt("training.init_from", model, changed, voted) is None
    # Other images under the same settings: nobody knows how theirs were cut.
    assert ancestry.doubt("training.init_from", model, changed, settings)


@pytest.mark.parametrize("parents", [{}, {"init_from": "a"}, {"teachers": ["a"]}])
def test_earlier_versions_do_not_tell_what_their_parents_saw(parents):
    seen = Seen.of(np.arange(2, dtype=np.uint64), {"config": {"training": parents}})
    assert seen.complete
    assert seen.validation_unseen is (not parents)


def test_what_was_seen_at_another_size_cannot_be_told(base, tiny_tree, tmp_path, capsys):
    def stop(rows):
        raise KeyboardInterrupt

    same, data = run(settings_of(tiny_tree, init_from=str(base)), tmp_path / "same")
    assert same.description["seen_complete"] is True
    assert evaluate(same, data.test).report["deduplicated"]["n"] == len(data.test)
    assert capsys.readouterr().err == ""
    larger = settings_of(tiny_tree, {"image_size": 16}, init_from=str(base), epochs=2)
    with pytest.raises(KeyboardInterrupt):
        run(larger, tmp_path / "larger", stop)
    assert "seen images of another size, so whether they are held" in capsys.readouterr().err
    model, data = run(larger, tmp_path / "larger")
    file = tmp_path / "larger.safetensors"
    weights.write(file, model)
    child = settings_of(tiny_tree, {"image_size": 16}, init_from=str(file))
    for network in (model, trained.load(file), run(child, tmp_path / "child")[0]):
        assert not network.seen.complete
        report = evaluate(network, data.test).report
        assert report["deduplicated"] is None
        assert report["protocol"]["deduplicated"].startswith("not known")
