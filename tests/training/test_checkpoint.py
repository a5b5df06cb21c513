import errno
import json
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.sharding import AxisType

from emotion_jax import files, models
from emotion_jax.config import ModelSettings, TrainingSettings
from emotion_jax.errors import UserError
from emotion_jax.training import mesh as mesh_lib
from emotion_jax.training import optimizer, saved, state
from emotion_jax.training.checkpoint import Store
from emotion_jax.training.selection import BEST, RULES

HASHES = np.array([1, 2**63, 2**64 - 1], np.uint64)


def mesh_of(n):
    return jax.make_mesh((n,), ("data",), axis_types=(AxisType.Auto,), devices=jax.devices()[:n])


def create(devices=1, widths=(4,), **training):
    module = models.build(ModelSettings(widths=widths, dense=()), 3, 8, (0.5,), (0.25,))
    tx = optimizer.optimizer(TrainingSettings(**training), optax.constant_schedule(0.1))
    return state.create(module, tx, (8, 8, 1), 3, 0, mesh_of(devices))


@pytest.fixture(scope="module")
def fresh():
    return create()


def averaged(fresh):
    """The same state with averages beside it."""
    return fresh.replace(average=jax.tree.map(jnp.copy, fresh.trained))


def filled(like, seed=0):
    """A state of random bits, NaNs and subnormals among them."""
    rng = np.random.default_rng(seed)

    def fill(leaf):
        bits = np.frombuffer(rng.bytes(leaf.nbytes), np.uint32).reshape(leaf.shape)
        return jax.device_put(bits.view(leaf.dtype), leaf.sharding)

    return jax.tree.map(fill, like)


def laid_out(tree, devices):
    return jax.device_put(tree, mesh_lib.replicated(mesh_of(devices)))


def assert_same_bits(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        assert (x.dtype, x.shape) == (y.dtype, y.shape)
        assert np.asarray(x).tobytes() == np.asarray(y).tobytes()


def described(step, accuracy=None, loss=1.0, rule=BEST):
    val = {"accuracy": accuracy, "loss": loss}
    metrics = {} if accuracy is None else {"val": val}
    return {"step": step, "metrics": metrics, "selection": rule}


def save(store, tree, step, **val):
    store.save(tree, described(step, **val), HASHES)
    store.wait()
    return store.directory / str(step)


@pytest.fixture(scope="module")
def written(tmp_path_factory, fresh):
    """The checkpoints of steps 1, 2 and 3, to copy."""
    store = Store(tmp_path_factory.mktemp("written"), 3, 1)
    for step in (1, 2, 3):
        save(store, filled(fresh, step), step, accuracy=0.5)
    return store.directory


@pytest.fixture
def workdir(tmp_path, written):
    shutil.copytree(written, tmp_path / "run" / "checkpoints")
    return tmp_path / "run"


def names(directory):
    return sorted(path.name for path in directory.iterdir())


def file_names(step):
    return sorted(p.relative_to(step).as_posix() for p in step.rglob("*") if p.is_file())


# Round trips.


@pytest.mark.parametrize("path", [(1, 8, 1), (8, 1, 8)])
def test_bit_for_bit_from_any_number_of_devices_to_any(tmp_path, fresh, path):
    tree = wanted = filled(fresh)
    for step, devices in enumerate(path):
        store = Store(tmp_path, 1, 1)
        tree = laid_out(tree, devices)
        assert save(store, tree, step) == store.newest_good()
        target = laid_out(fresh, path[(step + 1) % len(path)])
        tree = saved.read_state(store.newest_good(), target)
        assert_same_bits(tree, wanted)
        for leaf, like in zip(jax.tree.leaves(tree), jax.tree.leaves(target), strict=True):
            assert leaf.sharding == like.sharding


@pytest.mark.parametrize(
    "training",
    [
        {"optimizer": "sgd"},
        {"optimizer": "adamw", "weight_decay": 0.1, "clip_norm": 1.0},
    ],
)
def test_every_optimizer_state(tmp_path, training):
    tree = filled(create(**training))
    step = save(Store(tmp_path, 1, 1), tree, 1)
    assert_same_bits(saved.read_state(step, tree), tree)


def test_a_save_is_of_the_state_that_was_given(tmp_path, fresh):
    step = jax.jit(
        lambda tree: jax.tree.map(lambda leaf: leaf + jnp.ones((), leaf.dtype), tree),
        donate_argnums=0,
    )
    # A state of its own: laid out on the one device where it is, fresh would be donated itself.
    tree = jax.tree.map(jnp.copy, fresh)
    store = Store(tmp_path, 1, 1)
    for number in range(3):
        wanted = jax.tree.map(lambda leaf: np.array(leaf, copy=True), tree)
        store.save(tree, described(number), HASHES)
        for _ in range(3):
            tree = step(tree)  # donates what the writer may still hold
        store.wait()
        assert_same_bits(saved.read_state(store.newest_good(), fresh), wanted)


def test_a_restored_state_can_be_donated(workdir, fresh):
    step = jax.jit(lambda tree: jax.tree.map(lambda leaf: leaf * 0, tree), donate_argnums=0)
    target = laid_out(fresh, 8)
    first, second = (saved.read_state(workdir / "checkpoints" / "3", target) for _ in "12")
    step(first)
    assert_same_bits(second, filled(fresh, 3))


def test_what_is_beside_the_arrays(tmp_path, fresh):
    description = {**described(7, 0.25, 2.0), "classes": ["a", "b", "ü"], "mean": [0.1]}
    store = Store(tmp_path, 1, 1)
    store.save(fresh, description, HASHES)
    store.wait()
    step = store.newest_good()
    assert saved.read_description(step) == description
    hashes = saved.read_hashes(step)
    assert hashes.dtype == np.uint64
    np.testing.assert_array_equal(hashes, HASHES)
    variables = saved.read_variables(step)
    assert_same_bits(variables, jax.device_get(fresh.variables))
    assert all(isinstance(leaf, np.ndarray) for leaf in jax.tree.leaves(variables))


def test_no_pickle(tmp_path, fresh, monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("pickle is used")

    for name in ("dump", "dumps", "load", "loads", "Pickler", "Unpickler"):
        monkeypatch.setattr(pickle, name, refuse)
    tree = filled(fresh)
    step = save(Store(tmp_path, 1, 1), tree, 1)
    assert_same_bits(saved.read_state(step, fresh), tree)
    np.testing.assert_array_equal(saved.read_hashes(step), HASHES)


def test_reads_without_tensorflow_or_a_target(workdir):
    code = """
import sys
sys.modules["tensorflow"] = None
from pathlib import Path
from emotion_jax.training import saved
step = Path(sys.argv[1])
assert saved.verify(step) is None
variables = saved.read_variables(step)
print(variables["params"]["Conv_0"]["kernel"].shape, saved.read_description(step)["step"])
"""
    command = [sys.executable, "-c", code, str(workdir / "checkpoints" / "2")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, "(3, 3, 1, 4) 2"), done.stderr


@pytest.mark.parametrize(
    "other",
    [{"widths": (6,)}, {"widths": (4, 4)}, {"optimizer": "sgd"}, {"clip_norm": 1.0}],
    ids=["wider", "deeper", "sgd", "clipped"],
)
def test_a_state_that_does_not_fit(workdir, other):
    step = workdir / "checkpoints" / "3"
    with pytest.raises(UserError) as caught:
        saved.read_state(step, create(**other))
    assert str(step) in str(caught.value)
    assert "\n" not in str(caught.value)


# Faults.


def flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0x10
    path.write_bytes(data)


FAULTS = {
    "flipped": flip,
    "truncated": lambda path: path.write_bytes(path.read_bytes()[:-1]),
    "empty": lambda path: path.write_bytes(b""),
    "missing": Path.unlink,
    "grown": lambda path: path.write_bytes(path.read_bytes() + b"\0"),
}


def test_steps_as_written_are_whole(written):
    assert names(written) == ["1", "2", "3"]
    assert [saved.verify(written / name) for name in names(written)] == [None] * 3


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_in_any_file_is_found_and_named(workdir, fault):
    step = workdir / "checkpoints" / "3"
    found = file_names(step)
    assert {"description.json", "manifest.json", "train_hashes.npy"} < set(found)
    assert {name.split("/")[0] for name in found if "/" in name} == {"model", "training"}
    for name in found:
        before = (step / name).read_bytes()
        FAULTS[fault](step / name)
        word = "missing" if fault == "missing" else "damaged"
        if (step / name).exists() and (step / name).read_bytes() == before:
            assert saved.verify(step) is None  # an empty file cannot be emptied
        elif name == "manifest.json":
            assert saved.verify(step) is not None
        else:
            assert saved.verify(step) == f"{name} is {word}"
        (step / name).write_bytes(before)
    assert saved.verify(step) is None


@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_one_flipped_bit_anywhere_is_found(written, data):
    step = written / "2"
    names = [name for name in file_names(step) if (step / name).stat().st_size]
    path = step / data.draw(st.sampled_from(names))
    before = path.read_bytes()
    place = data.draw(st.integers(0, 8 * len(before) - 1))
    damaged = bytearray(before)
    damaged[place // 8] ^= 1 << place % 8
    try:
        path.write_bytes(damaged)
        assert saved.verify(step) is not None
    finally:
        path.write_bytes(before)


@pytest.mark.parametrize("name", ["extra.txt", "model/d/extra", ".hidden"])
def test_an_extra_file_is_found(workdir, name):
    (workdir / "checkpoints" / "3" / name).write_bytes(b"")
    fault = saved.verify(workdir / "checkpoints" / "3")
    assert fault == f"{name} is not in its manifest"


def test_what_a_file_manager_leaves_is_no_fault(workdir):
    store = Store(workdir, 3, 1)
    step = store.directory / "3"
    for name in (".DS_Store", "model/desktop.ini", "model/._d"):
        (step / name).write_bytes(b"litter")
    assert saved.verify(step) is None
    assert store.newest_good() == step
    manifest = json.loads((step / "manifest.json").read_text())
    manifest[".DS_Store"] = "0" * 64
    (step / "manifest.json").write_text(json.dumps(manifest))
    assert saved.verify(step) == ".DS_Store is damaged"
    (step / ".DS_Store").unlink()
    assert saved.verify(step) == ".DS_Store is missing"


@pytest.mark.parametrize("text", ["", "null", "[]", "3", '{"a": 1}', "\x00", "{"])
def test_a_manifest_that_is_none(workdir, text):
    (workdir / "checkpoints" / "3" / "manifest.json").write_text(text)
    assert saved.verify(workdir / "checkpoints" / "3") is not None


def test_bad_steps_are_quarantined_and_the_one_before_is_used(workdir, fresh, capsys):
    store = Store(workdir, 3, 1)
    contents = {}
    for name, file in (("3", "train_hashes.npy"), ("2", "description.json")):
        flip(store.directory / name / file)
        contents[name] = file_names(store.directory / name)
    good = store.newest_good()
    assert good == store.directory / "1"
    assert_same_bits(saved.read_state(good, fresh), filled(fresh, 1))
    assert names(store.directory) == ["1"]
    assert names(workdir / "quarantine") == ["2-0", "3-0"]
    for name, wanted in contents.items():
        assert file_names(workdir / "quarantine" / f"{name}-0") == wanted
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert "3-0: train_hashes.npy is damaged; going on from" in lines[0]
    assert "2-0: description.json is damaged; going on from" in lines[1]
    assert store.newest_good() == good
    assert capsys.readouterr().err == ""


def test_the_same_step_can_be_quarantined_twice(workdir, fresh):
    store = Store(workdir, 3, 1)
    for _ in range(2):
        flip(store.directory / "3" / "train_hashes.npy")
        assert store.newest_good() == store.directory / "2"
        save(store, filled(fresh, 3), 3)
    assert names(workdir / "quarantine") == ["3-0", "3-1"]
    assert store.newest_good() == store.directory / "3"


def test_older_bad_steps_are_left_alone(workdir):
    store = Store(workdir, 3, 1)
    flip(store.directory / "1" / "train_hashes.npy")
    assert store.newest_good() == store.directory / "3"
    assert names(store.directory) == ["1", "2", "3"]


def test_when_all_are_bad_nothing_is_moved(workdir):
    store = Store(workdir, 3, 1)
    for name in "123":
        flip(store.directory / name / "train_hashes.npy")
    before = file_names(workdir)
    with pytest.raises(UserError, match=r"No checkpoint .*3: train_hashes.npy is damaged.*nothing"):
        store.newest_good()
    assert file_names(workdir) == before
    with pytest.raises(UserError, match="none is whole"):
        saved.best(store.directory)
    assert file_names(workdir) == before


def test_an_empty_workdir(tmp_path):
    store = Store(tmp_path, 1, 1)
    assert store.newest_good() is None
    with pytest.raises(UserError, match="there is none yet"):
        saved.best(store.directory)


# What is kept, and what is best.


def pretend(directory, **accuracies):
    """Steps of which there is nothing but the description."""
    for name, val in accuracies.items():
        step = directory / name.strip("_")
        step.mkdir()
        accuracy, loss = val if isinstance(val, tuple) else (val, 1.0)
        description = described(int(step.name), accuracy, loss)
        (step / "description.json").write_text(json.dumps(description))


def test_ranking_is_by_accuracy_then_loss_then_age(tmp_path):
    pretend(tmp_path, _1=(0.5, 1.0), _2=(0.6, 1.0), _3=(0.6, 0.9), _4=(0.6, 0.9), _5=None)
    pretend(tmp_path, _10=(0.6, 0.9))
    found = saved.steps(tmp_path)
    assert [step.name for step in found] == ["1", "2", "3", "4", "5", "10"]
    assert [step.name for step in saved.ranked(found)] == ["3", "4", "10", "2", "1"]


@pytest.mark.parametrize(
    ("latest", "best", "kept"),
    [
        (1, 1, ["2", "100"]),
        (2, 2, ["2", "4", "9", "100"]),
        (3, 1, ["2", "8", "9", "100"]),
        (1, 3, ["2", "4", "100"]),
        (9, 1, ["1", "2", "4", "8", "9", "100"]),
    ],
)
def test_latest_and_best_steps_are_kept(tmp_path, fresh, latest, best, kept):
    store = Store(tmp_path, latest, best)
    pretend(store.directory, _1=0.1, _2=0.9, _4=(0.5, 0.8), _8=None, _9=None)
    save(store, fresh, 100, accuracy=0.5, loss=0.9)
    assert sorted(names(store.directory), key=int) == kept


def test_best_goes_by_validation_and_skips_bad_steps(workdir, fresh, capsys):
    store = Store(workdir, 9, 1)
    save(store, fresh, 4, accuracy=0.9)
    save(store, fresh, 5, accuracy=0.7)
    save(store, fresh, 6)
    assert saved.best(store.directory) == store.directory / "4"
    flip(store.directory / "4" / "train_hashes.npy")
    assert saved.best(store.directory) == store.directory / "5"
    assert "train_hashes.npy is damaged" in capsys.readouterr().err
    assert names(store.directory) == ["1", "2", "3", "4", "5", "6"]  # a reader moves nothing


def test_where_the_last_epoch_counts_it_is_the_one_and_accuracy_keeps_none(tmp_path, fresh):
    store = Store(tmp_path, 1, 2)
    for step, accuracy in ((1, 0.9), (2, 0.6), (3, 0.7)):
        save(store, fresh, step, accuracy=accuracy, rule=RULES["last"])
    save(store, fresh, 4, rule=RULES["last"])  # within an epoch
    assert saved.best(store.directory) == store.directory / "3"
    assert names(store.directory) == ["2", "3", "4"]


def test_best_of_steps_that_were_never_validated_is_the_newest(tmp_path, fresh):
    store = Store(tmp_path, 9, 1)
    for step in (1, 2):
        save(store, fresh, step)
    assert saved.best(store.directory) == store.directory / "2"


DAMAGED = ['{"metrics": {"val": {"accurbcy": 0.9, "loss": 1}}}', '{"metrics": {"val": [1]}}', "[]"]


@pytest.mark.parametrize("text", DAMAGED)
def test_a_damaged_description_stops_neither_saving_nor_reading(workdir, fresh, text, capsys):
    (workdir / "checkpoints" / "2" / "description.json").write_text(text)
    store = Store(workdir, 4, 1)
    save(store, fresh, 4, accuracy=0.6)
    assert saved.best(store.directory) == store.directory / "4"
    assert store.newest_good() == store.directory / "4"


# Writing.


def full(*args, **kwargs):
    raise OSError(errno.ENOSPC, "No space left on device")


def full_in_orbax(*args, **kwargs):
    raise ValueError('RESOURCE_EXHAUSTED: Error writing "params/0": No space left on device')


@pytest.mark.parametrize(
    ("owner", "name", "fail"),
    [
        (files, "write_text_atomic", full),
        (files, "sync", full),
        (Path, "rename", full),
        (ocp.Checkpointer, "save", full_in_orbax),
    ],
    ids=["manifest", "sync", "rename", "arrays"],
)
@pytest.mark.parametrize("surfaces", ["wait", "save"])
def test_a_failed_save_surfaces_later_and_harms_nothing(
    workdir, fresh, monkeypatch, owner, name, fail, surfaces
):
    store = Store(workdir, 3, 1)
    with monkeypatch.context() as broken:
        broken.setattr(owner, name, fail)
        store.save(fresh, described(4), HASHES)
        with pytest.raises(UserError, match=r"Cannot write a checkpoint .*No space left"):
            store.wait() if surfaces == "wait" else store.save(fresh, described(5), HASHES)
    store.wait()  # it surfaces once
    assert store.newest_good() == store.directory / "3"
    assert save(store, fresh, 4) == store.newest_good()


def test_leftovers_of_a_killed_save_are_removed(workdir):
    shutil.copytree(workdir / "checkpoints" / "3", workdir / "checkpoints" / "4.unfinished")
    assert [step.name for step in saved.steps(workdir / "checkpoints")] == ["1", "2", "3"]
    store = Store(workdir, 3, 1)
    assert names(store.directory) == ["1", "2", "3"]


def test_a_step_can_be_written_again(workdir, fresh):
    store = Store(workdir, 3, 1)
    tree = filled(fresh, 9)
    step = save(store, tree, 3, accuracy=0.8)
    assert_same_bits(saved.read_state(step, fresh), tree)
    assert saved.verify(step) is None
    assert names(store.directory) == ["1", "2", "3"]


def test_other_processes_write_nothing(tmp_path, fresh, monkeypatch):
    monkeypatch.setattr(jax, "process_index", lambda: 1)
    store = Store(tmp_path / "run", 1, 1)
    store.save(fresh, described(1), HASHES)
    store.wait()
    assert not (tmp_path / "run").exists()


def test_averages_are_the_model_and_the_rest_is_there_to_go_on(tmp_path, fresh):
    with Store(tmp_path, 2, 1) as store:
        tree = filled(averaged(fresh))
        step = save(store, tree, 1)
        assert_same_bits(saved.read_variables(step), jax.device_get(tree.average))
        assert_same_bits(saved.read_state(step, filled(averaged(fresh), 1)), tree)
        with pytest.raises(UserError, match=r"another training\.average"):
            saved.read_state(step, fresh)
        step = save(store, filled(fresh), 2)
        with pytest.raises(UserError, match=r"another training\.average"):
            saved.read_state(step, averaged(fresh))
