from pathlib import Path

from emotion_jax.benchmark import end_to_end
from emotion_jax.config import from_mapping


def test_a_measurement_neither_makes_backups_nor_goes_on_from_one():
    config = from_mapping({"training": {"backup_to": Path("drive"), "patience": 3}}, "tests")
    short = end_to_end._short(config, epochs=2).training
    assert (short.epochs, short.patience, short.backup_to) == (2, 0, None)
