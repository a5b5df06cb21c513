"""``emotion-jax COMMAND ...``: the same commands as in scripts/."""

import importlib
import signal
import sys

COMMANDS = {
    "train": "train a network on a folder of faces",
    "evaluate": "evaluate a checkpoint on a split",
    "predict": "name the expressions of the faces in images, folders and videos",
    "webcam": "open a page with the camera and the expressions of the faces before it",
    "cross_validate": "train and measure a network a fold",
    "inspect_data": "find what is wrong with a folder of images, write a clean copy",
    "compare": "compare runs on the same images",
    "info": "say what a checkpoint is",
    "card": "write a model card",
    "export": "write a checkpoint for ONNX Runtime, JAX alone, or as safetensors",
    "benchmark": "measure training and inference, and compare other frameworks",
}


def main() -> None:
    """Hand the arguments to the command."""
    name, *rest = sys.argv[1:] or ["--help"]
    if name in ("-h", "--help"):
        print("usage: emotion-jax COMMAND ...\n")
        for command, what in COMMANDS.items():
            print(f"  {command:14} {what}")
        print("\nExample: emotion-jax train --help")
        return
    if name not in COMMANDS:
        print(f"error: there is no command {name!r}; see emotion-jax --help.", file=sys.stderr)
        raise SystemExit(2)
    # Ctrl-C before the command has its own handler: no traceback.
    before = signal.signal(signal.SIGINT, signal.SIG_DFL)
    module = importlib.import_module(f"emotion_jax.cli.{name}")
    signal.signal(signal.SIGINT, before)
    module.main(rest)
