import pytest

from emotion_jax.training import description

HISTORY = [
    {"epoch": 1, "step": 10, "val_accuracy": 0.5, "val_loss": 1.2},
    {"epoch": 2, "step": 20, "val_accuracy": 0.7, "val_loss": 1.0},
    {"epoch": 3, "step": 30, "val_accuracy": 0.7, "val_loss": 0.9},
    {"epoch": 4, "step": 40, "val_accuracy": 0.7, "val_loss": 0.9},
]


def test_the_best_row_has_accuracy_then_loss_then_age():
    assert [description.best_row(HISTORY[:n])["epoch"] for n in (1, 2, 3, 4)] == [1, 2, 3, 3]


@pytest.mark.parametrize(
    ("step", "known", "said"),
    [
        (30, 4, description.SELECTION),
        (30, 3, description.SELECTION),
        (40, 4, f"by hand, where the rule ({description.SELECTION}) chooses epoch 3"),
        (5, 0, description.SELECTION),
    ],
)
def test_a_step_says_whether_the_rule_chose_it(step, known, said):
    about = {"step": step, "history": HISTORY[:known], "selection": description.SELECTION}
    assert description.selection(about) == said
