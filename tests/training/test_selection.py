import pytest

from emotion_jax.training import selection
from emotion_jax.training.selection import BEST, RULES

HISTORY = [
    {"epoch": 1, "step": 10, "val_accuracy": 0.5, "val_loss": 1.2},
    {"epoch": 2, "step": 20, "val_accuracy": 0.7, "val_loss": 1.0},
    {"epoch": 3, "step": 30, "val_accuracy": 0.7, "val_loss": 0.9},
    {"epoch": 4, "step": 40, "val_accuracy": 0.7, "val_loss": 0.9},
]


@pytest.mark.parametrize(
    ("rule", "epochs"), [("best", [1, 2, 3, 3]), ("last", [1, 2, 3, 4])], ids=str
)
def test_the_best_has_accuracy_then_loss_then_age_and_the_last_is_the_last(rule, epochs):
    found = [selection.chosen(HISTORY[:n], RULES[rule])["epoch"] for n in (1, 2, 3, 4)]
    assert found == epochs


@pytest.mark.parametrize(
    ("step", "known", "rule", "said"),
    [
        (30, 4, BEST, BEST),
        (30, 3, BEST, BEST),
        (40, 4, BEST, f"not by the rule ({BEST}), which chooses epoch 3"),
        (5, 0, BEST, BEST),
        (40, 4, "the last epoch", "the last epoch"),
        (30, 3, "the last epoch", "the last epoch, 3 of at most 4"),
    ],
)
def test_a_step_says_whether_the_rule_chose_it(step, known, rule, said):
    about = {"step": step, "history": HISTORY[:known], "selection": rule}
    about |= {"epoch": step // 10, "config": {"training": {"epochs": 4}}}
    assert selection.words(about) == said
