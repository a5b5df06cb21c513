"""Say what a checkpoint is."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from emotion_jax.cli import common

DESCRIPTION = """What a checkpoint says of itself.

Example: emotion-jax info ferplus"""


@dataclass(frozen=True)
class Info:
    """The command's arguments."""

    checkpoint: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="CHECKPOINT")]
    """A workdir (its chosen step), one step's directory, a .safetensors file, or the name of
    weights in the package."""
    json: bool = False
    """All of it as JSON."""


def main(argv: Sequence[str] | None = None) -> None:
    """Print the description."""
    common.run(lambda: _info(common.parse(Info, argv, "info.py", DESCRIPTION)))


def _info(args: Info) -> None:
    # These take seconds to import, which --help and a typo need not wait for.
    import json

    import jax
    import numpy as np

    from emotion_jax.training import trained

    model = trained.load(trained.resolve(args.checkpoint))
    about = model.description
    if args.json:
        print(json.dumps(about, indent=2))
        return
    parameters = sum(np.size(leaf) for leaf in jax.tree.leaves(model.variables["params"]))
    validated = about["metrics"] and f"{about['metrics']['val']['accuracy']:.1%} on validation"
    lines = {
        "checkpoint": model.path,
        "network": f"{model.config.model.name}, {parameters:,} parameters",
        "images": f"{about['image_size']} x {about['image_size']}, "
        + ("grey" if about["channels"] == 1 else "RGB"),
        "classes": ", ".join(model.classes),
        "crop": about["crop"],
        "trained": f"{about['epoch']} epochs, {about['step']} steps, {about['seconds']:,.0f} s, "
        f"seed {model.config.training.seed}",
        "accuracy": validated or "saved within an epoch: not measured",
        **({"validation": model.validation_doubt} if model.validation_doubt else {}),
        "temperature": f"{model.temperature:.3f}",
        "images seen": f"{len(model.train_hashes):,} different ones"
        + ("" if model.seen.complete else ", some of them at another size"),
        "data": f"{model.config.data.dir or 'synthetic faces'}, {about['fingerprint'][:16]}",
        "versions": ", ".join(f"{name} {version}" for name, version in about["versions"].items()),
    }
    for name, value in lines.items():
        print(f"{name + ':':13} {value}")
