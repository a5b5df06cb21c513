"""Write a model card."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from emotion_jax.cli import common

DESCRIPTION = """Write a model card (Markdown) from a checkpoint's own records and its reports.

Example: python scripts/card.py runs/fer2013 --report runs/fer2013/report --data-name FER2013 \\
    --licence "research use" --out CARD.md"""


@dataclass(frozen=True)
class Card:
    """The command's arguments."""

    checkpoint: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="CHECKPOINT")]
    """A workdir (its chosen step), one step's directory, a .safetensors file, or the name of
    weights in the package."""
    report: tuple[Path, ...] = ()
    """One or more folders that scripts/evaluate.py has written for this checkpoint."""
    out: Path | None = None
    """The file; default: standard output."""
    name: str = ""
    """Title; default: the checkpoint's name."""
    data_name: Annotated[str, tyro.conf.arg(name="data-name")] = ""
    """Of the data that it was trained on."""
    licence: str = ""
    """Of that data."""


def main(argv: Sequence[str] | None = None) -> None:
    """Write the card."""
    common.run(lambda: _card(common.parse(Card, argv, "card.py", DESCRIPTION)))


def _card(args: Card) -> None:
    # These take seconds to import, which --help and a typo need not wait for.
    from emotion_jax import files
    from emotion_jax.errors import UserError
    from emotion_jax.evaluation import card
    from emotion_jax.training import trained

    if args.out is not None and args.out.is_dir():
        raise UserError(f"{args.out} is a folder; give the name of a file to --out.")
    model = trained.load(trained.resolve(args.checkpoint))
    reports = [_report(folder, model.digest) for folder in args.report]
    name = args.name or trained.title(args.checkpoint)
    text = card.markdown(model, name, reports, args.data_name, args.licence)
    if args.out is None:
        print(text, end="")
        return
    with files.reported(args.out):
        args.out.parent.mkdir(parents=True, exist_ok=True)
        files.write_text_atomic(args.out, text)
    print(f"Card: {args.out}")


def _report(folder: Path, digest: str) -> dict[str, Any]:
    """What the report.json in ``folder`` says.

    Raises:
      UserError: there is none, it is not whole, or not of the weights with this digest.
    """
    from emotion_jax.errors import UserError
    from emotion_jax.evaluation import card

    try:
        report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
        evaluated = report["checkpoint"]["weights"]
    except (OSError, ValueError, KeyError, TypeError):
        raise UserError(
            f"{folder} holds no report.json that tells its weights; run scripts/evaluate.py."
        ) from None
    if evaluated != digest:
        raise UserError(f"The report in {folder} is of another checkpoint; evaluate this one.")
    protocol = report.get("protocol")
    protocol = protocol if isinstance(protocol, dict) else {}
    if not (report.keys() >= card.KEYS and protocol.keys() >= card.PROTOCOL):
        raise UserError(
            f"{folder / 'report.json'} is not all of a report; run scripts/evaluate.py again."
        )
    return report
