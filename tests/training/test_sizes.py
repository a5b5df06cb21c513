import pytest

from emotion_jax.config import Config, DataSettings, ModelSettings, TrainingSettings
from emotion_jax.errors import UserError
from emotion_jax.training import sizes


def sides(start, grow, size=48, epochs=8, name="fernet"):
    config = Config(
        data=DataSettings(image_size=size),
        model=ModelSettings(name=name),
        training=TrainingSettings(epochs=epochs, start_size=start, grow_epochs=grow),
    )
    return [sizes.side(config, epoch) for epoch in range(epochs)]


@pytest.mark.parametrize(
    ("start", "grow", "expected"),
    [
        (0, 6, [None] * 8),
        (32, 0, [None] * 8),
        (48, 6, [None] * 8),
        (32, 6, [32] * 3 + [40] * 3 + [None] * 2),
        (32, 100, [32] * 8),
        (28, 6, [28, 28, 36, 36, 44, 44, None, None]),
    ],
)
def test_growth(start, grow, expected):
    assert sides(start, grow) == expected


@pytest.mark.parametrize(
    ("start", "name"), [(64, "fernet"), (7, "fernet"), (32, "cnn"), (32, "vgg")]
)
def test_refusals(start, name):
    with pytest.raises(UserError, match=r"^training\.start_size: "):
        sides(start, 4, name=name)
