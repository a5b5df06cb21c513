"""Which step of a run counts: the one that is reported on, and that a workdir stands for."""

from collections.abc import Mapping, Sequence
from typing import Any

# What a checkpoint says of it, by ``training.selection``.
RULES = {
    "best": "highest validation accuracy, then lowest validation loss, then the earlier epoch",
    "last": "the last epoch",
}
BEST = RULES["best"]


def order(rule: str, accuracy: float, loss: float, step: int) -> tuple[float, float, int]:
    """A key to sort steps by, the one that the rule chooses first."""
    return (0.0, 0.0, -step) if rule == RULES["last"] else (-accuracy, loss, step)


def chosen(history: Sequence[dict[str, Any]], rule: str = BEST) -> dict[str, Any]:
    """The epoch that the rule chooses."""
    return min(
        history, key=lambda row: order(rule, row["val_accuracy"], row["val_loss"], row["step"])
    )


def words(description: Mapping[str, Any]) -> str:
    """How the step was chosen among those that its history knows."""
    history, rule = description["history"], description["selection"]
    epoch, epochs = description["epoch"], description["config"]["training"]["epochs"]
    if rule == RULES["last"] and epoch < epochs:
        return f"the last epoch, {epoch} of at most {epochs}"
    best = chosen(history, rule) if history else None
    if best is None or best["step"] == description["step"]:
        return rule
    return f"not by the rule ({rule}), which chooses epoch {best['epoch']}"
