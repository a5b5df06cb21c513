from pathlib import Path

from emotion_jax.benchmark import end_to_end
from emotion_jax.config import from_mapping, load


def test_a_measurement_neither_makes_backups_nor_goes_on_from_one():
    config = from_mapping({"training": {"backup_to": Path("drive"), "patience": 3}}, "tests")
    short = end_to_end._short(config, epochs=2).training
    assert (short.epochs, short.patience, short.backup_to) == (2, 0, None)


def test_a_measurement_takes_the_steps_that_are_measured_alone():
    names = ("speedrun", "fer2013_robust", "small")
    for config in (load(Path("configs") / f"{name}.toml") for name in names):
        short = end_to_end._short(config, epochs=2)
        t, augment = short.training, short.data.augment
        assert (t.start_size, t.grow_epochs, t.init_from, t.frozen_epochs) == (0, 0, "", 0)
        assert (t.teachers, t.average, augment.blur, augment.noise) == ((), 0, 0, 0)
        assert short.data.augment.rotation == config.data.augment.rotation
