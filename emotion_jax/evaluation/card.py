"""A model card from a run's own records: no number in it that is not in them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from emotion_jax import config as config_lib
from emotion_jax.evaluation import templates
from emotion_jax.training import selection
from emotion_jax.training.trained import Trained

# Of a report.json, what a card of it tells.
KEYS = {
    "n",
    "accuracy",
    "accuracy_interval",
    "precision",
    "recall",
    "f1",
    "deduplicated",
    "ece",
    "log_loss",
    "per_class",
    "protocol",
}
PROTOCOL = {"split", "tta", "votes"}


def markdown(
    trained: Trained,
    name: str,
    reports: Sequence[Mapping[str, Any]] = (),
    data_name: str = "",
    licence: str = "",
) -> str:
    """The card, as Markdown.

    Args:
      trained: the model.
      name: its title.
      reports: contents of report.json of scripts/evaluate.py, of this model, with ``KEYS`` and
        in their protocol ``PROTOCOL``.
      data_name, licence: of the training data; what is not given the card calls not recorded.
    """
    # Markdown; names of classes are the user's own.
    environment = templates.environment(Path(__file__).parent, autoescape=False)
    settings = trained.config
    parameters = sum(np.size(leaf) for leaf in jax.tree.leaves(trained.variables["params"]))
    text = environment.get_template("card.md.j2").render(
        name=name,
        about=trained.description,
        selection=selection.words(trained.description),
        doubt=trained.validation_doubt,
        seen=trained.seen,
        model={"backbone": settings.model.name, "parameters": parameters},
        settings=settings,
        training=settings.training,
        hashes=len(trained.train_hashes),
        toml=config_lib.dumps(settings).strip(),
        reports=[{"robustness": None, **report} for report in reports],
        data_name=data_name,
        licence=licence,
    )
    return text.rstrip() + "\n"
