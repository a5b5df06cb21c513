import shutil

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn

from emotion_jax import config, models
from emotion_jax.config import ModelSettings, TrainingSettings
from emotion_jax.data import dataset
from emotion_jax.errors import UserError
from emotion_jax.training import loop, saved, step, teacher, trained, workdir
from emotion_jax.training import mesh as mesh_lib
from emotion_jax.training import state as state_lib

CLASSES = ("angry", "happy", "sad")


@pytest.fixture(scope="module")
def taught(tiny_tree, tmp_path_factory):
    """The workdir of a finished run."""
    settings = config.from_mapping(
        {
            "data": {"dir": tiny_tree, "pipeline": "resident", "image_size": 12},
            "model": {"widths": (4,), "dense": (8,)},
            "training": {"epochs": 3, "batch_size": 8, "learning_rate": 1e-2},
            "logging": {"progress": False, "tensorboard": False},
        },
        "tests",
    )
    folder = tmp_path_factory.mktemp("teacher")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EMOTION_JAX_CACHE", str(folder / "cache"))
        with workdir.opened(folder / "run", settings):
            loop.train(settings, folder / "run", dataset.load(settings.data))
    return folder / "run", settings


def images(n=8, size=12):
    return np.random.default_rng(0).uniform(0, 255, (n, size, size, 1)).astype(np.float32)


def test_teachers_are_their_mean_at_their_temperatures(taught):
    folder, _ = taught
    first, second = saved.steps(folder / "checkpoints")[-2:]
    teach = teacher.load([str(first), str(second)], CLASSES, 1).teach
    expected = []
    for path in (first, second):
        model = trained.load(path)
        logits = np.asarray(model.module.apply(model.variables, images())) / model.temperature
        shares = np.exp(logits - logits.max(1, keepdims=True))
        expected.append(shares / shares.sum(1, keepdims=True))
    np.testing.assert_allclose(teach(jnp.asarray(images())), np.mean(expected, 0), rtol=1e-4)


def test_a_teacher_sees_images_at_its_own_size(taught):
    teach = teacher.load([str(taught[0])], CLASSES, 1).teach
    constant = np.full((2, 12, 12, 1), 99.0, np.float32)
    large = np.full((2, 24, 24, 1), 99.0, np.float32)
    np.testing.assert_allclose(teach(jnp.asarray(large)), teach(jnp.asarray(constant)), rtol=1e-5)


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_what_is_learnt(share):
    module = models.build(ModelSettings(widths=(4,), dense=()), 3, 12, (0.5,), (0.25,))
    mesh, settings = mesh_lib.make(), TrainingSettings(distillation=share)
    tx = optax.sgd(0.1)
    shares = np.float32([0.5, 0.3, 0.2])

    def teach(batch):
        return jnp.broadcast_to(shares[None, :], (len(batch), 3))

    def loss(targets, teach):
        s = state_lib.create(module, tx, (12, 12, 1), 3, 0, mesh)
        train_step = step.make_train_step(
            module, tx, settings, np.ones(3, np.float32), lambda fed, key: fed, mesh, teach=teach
        )
        _, metrics = train_step(s, (jnp.asarray(images()), targets), jax.random.key(0))
        return float(metrics["loss"])

    labels = jnp.arange(8, dtype=jnp.int32) % 3
    mixed = (1 - share) * np.eye(3, dtype=np.float32)[np.arange(8) % 3] + share * shares
    assert loss(labels, teach) == pytest.approx(loss(jnp.asarray(mixed), None), rel=1e-5)


def test_a_teacher_sees_what_the_student_sees_made_worse():
    seen = {}

    class Student(nn.Module):
        @nn.compact
        def __call__(self, x, train=False):
            jax.debug.callback(lambda x: seen.update(student=np.asarray(x)), x)
            return nn.Dense(3)(x.mean((1, 2)))

    def teach(batch):
        jax.debug.callback(lambda x: seen.update(teacher=np.asarray(x)), batch)
        return jnp.full((len(batch), 3), 1 / 3)

    def darker(batch, key):
        return batch * jax.random.uniform(key, (len(batch), 1, 1, 1), minval=0.1, maxval=0.9)

    mesh, tx, module = mesh_lib.make(), optax.sgd(0.1), Student()
    s = state_lib.create(module, tx, (12, 12, 1), 3, 0, mesh)
    train_step = step.make_train_step(
        module,
        tx,
        TrainingSettings(distillation=0.5),
        np.ones(3, np.float32),
        lambda fed, key: fed,
        mesh,
        teach=teach,
        degrade=darker,
    )
    train_step(s, (jnp.asarray(images()), jnp.zeros(8, jnp.int32)), jax.random.key(0))
    jax.effects_barrier()
    np.testing.assert_array_equal(seen["teacher"], images())
    factors = seen["student"] / images()
    np.testing.assert_allclose(factors, factors[:, :1, :1] * np.ones_like(factors), rtol=1e-5)
    assert len(np.unique(factors[:, 0, 0, 0])) == 8


def test_a_run_with_a_teacher_goes_on_exactly(taught, tmp_path):
    folder, settings = taught
    values = {"teachers": (str(folder),), "epochs": 2, "mixup": 0.3, "average": 0.9}
    both = settings.model_copy(update={"training": settings.training.model_copy(update=values)})
    data = dataset.load(settings.data)

    def train(name, on_epoch=lambda rows: None):
        with workdir.opened(tmp_path / name, both):
            loop.train(both, tmp_path / name, data, on_epoch)

    def interrupt(rows):
        raise KeyboardInterrupt

    train("whole")
    with pytest.raises(KeyboardInterrupt):
        train("cut", interrupt)
    train("cut")
    ends = [trained.load(saved.steps(tmp_path / n / "checkpoints")[-1]) for n in ("whole", "cut")]
    assert ends[0].description["metrics"] == ends[1].description["metrics"]
    jax.tree.map(np.testing.assert_array_equal, ends[0].variables, ends[1].variables)


def test_other_classes_are_a_sentence(taught):
    with pytest.raises(UserError, match=r"^training\.teachers: .* knows angry, happy, sad"):
        teacher.load([str(taught[0])], ("angry", "sad"), 1)


def test_other_channels_are_a_sentence(taught):
    with pytest.raises(UserError, match=r"sees 1 channel\(s\), data\.channels is 3"):
        teacher.load([str(taught[0])], CLASSES, 3)


def test_a_teacher_may_move_and_one_that_has_changed_is_a_sentence(taught, tmp_path):
    folder, settings = taught
    theirs = shutil.copytree(folder, tmp_path / "teacher")

    def train():
        values = {"teachers": (str(theirs),), "epochs": 1}
        config = settings.model_copy(
            update={"training": settings.training.model_copy(update=values)}
        )
        with workdir.opened(tmp_path / "student", config):
            loop.train(config, tmp_path / "student", dataset.load(settings.data))

    train()
    about = trained.load(saved.steps(tmp_path / "student" / "checkpoints")[-1]).description
    train()
    assert [len(digest) for digest in about["teachers"]] == [64]
    theirs = theirs.rename(tmp_path / "moved")
    train()
    best = trained.load(trained.resolve(theirs)).path
    shutil.rmtree(best)
    with pytest.raises(UserError, match=r"^training\.teachers: their weights are not those"):
        train()


def test_what_the_teacher_has_seen_is_not_new_to_the_student(taught, tmp_path, tiny_tree):
    folder, settings = taught
    theirs = trained.load(trained.resolve(folder)).train_hashes
    student = tmp_path / "student"
    fewer = shutil.copytree(tiny_tree, tmp_path / "fewer")
    for path in sorted(fewer.glob("train/*/*"))[::2]:
        path.unlink()
    values = {"teachers": (str(folder),), "epochs": 1}
    config = settings.model_copy(
        update={
            "data": settings.data.model_copy(update={"dir": fewer}),
            "training": settings.training.model_copy(update=values),
        }
    )
    with workdir.opened(student, config):
        loop.train(config, student, dataset.load(config.data))
    ours = trained.load(trained.resolve(student)).train_hashes
    np.testing.assert_array_equal(ours, np.unique(np.concatenate([ours, theirs])))
