"""A page with the camera's picture and the expressions of the faces in it."""

import os
import shlex
import sys
import webbrowser
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from emotion_jax.cli import common
from emotion_jax.config import cache_dir

if TYPE_CHECKING:
    from emotion_jax.serving.server import Address

DESCRIPTION = """Open a local page that names the expressions of the faces before the camera.

Example: python scripts/webcam.py --checkpoint ferplus fer2013

Frames go to this server only, and are never written to disk. Stop it with Ctrl-C."""
TOKEN = "EMOTION_JAX_TOKEN"


@dataclass(frozen=True)
class Webcam:
    """The command's arguments."""

    checkpoint: tuple[Path, ...] = (Path("ferplus"),)
    """Workdirs (their chosen steps), steps' directories, files, or names of shipped weights; the
    page offers all of them and starts with the first."""
    port: int = 8000
    """0: any that is free."""
    host: str = "127.0.0.1"
    """Address to listen on; 0.0.0.0: all of this machine's. Whoever comes from elsewhere needs the
    token that is printed then (or that the environment variable EMOTION_JAX_TOKEN holds)."""
    https: Literal["auto", "on", "off"] = "auto"
    """With a self-made certificate; auto: when other machines can reach it, since browsers give
    the camera to pages by HTTPS only. Off behind a proxy that does it."""
    allow_host: Annotated[tuple[str, ...], tyro.conf.arg(name="allow-host")] = ()
    """More names by which the server may be called, such as a proxy's."""
    static: Path | None = None
    """Write the page into this folder instead, to be put on any static host: the networks run
    within the browser, and no picture leaves it."""
    onnxruntime_web: Annotated[Path | None, tyro.conf.arg(name="onnxruntime-web")] = None
    """For --static: ONNX Runtime Web's .tgz file, where npm cannot fetch it."""
    no_browser: Annotated[bool, tyro.conf.arg(name="no-browser")] = False
    """Do not open the page in a browser."""


def main(argv: Sequence[str] | None = None) -> None:
    """Load the checkpoints and serve the page until a signal comes."""
    common.run(lambda: _webcam(common.parse(Webcam, argv, "webcam.py", DESCRIPTION)))


def _webcam(args: Webcam) -> None:
    from emotion_jax.errors import UserError

    if not args.checkpoint:
        raise UserError("--checkpoint names none; give at least one.")
    try:
        import cryptography  # noqa: F401
        import fastapi  # noqa: F401
        import uvicorn  # noqa: F401
        import websockets  # noqa: F401
    except ImportError as error:
        raise UserError(
            f'The page needs {error.name}; install it: pip install "emotion-jax[serve]".'
        ) from None
    if args.static is not None:
        _write(args.static, args)
        return
    from emotion_jax.serving import server
    from emotion_jax.training import compilation

    address = server.bind(args.host, args.port)
    with address.socket, compilation.cached(cache_dir() / "xla"):
        _serve(args, address)


def _write(target: Path, args: Webcam) -> None:
    from emotion_jax.serving import static

    static.write(target, args.checkpoint, args.onnxruntime_web, progress=True)
    size = sum(path.stat().st_size for path in target.rglob("*") if path.is_file())
    print(
        f"{target}: {size / 1e6:.0f} MB. To see it: python -m http.server --bind 127.0.0.1 "
        f"--directory {shlex.quote(str(target))}"
    )


def _serve(args: Webcam, address: "Address") -> None:
    from emotion_jax.serving import app, engines, server
    from emotion_jax.serving.limits import Limits

    limits = Limits()
    names = server.names(address, [name.lower() for name in args.allow_host])
    is_secure = args.https == "on" or (args.https == "auto" and not address.is_loopback)
    policy = server.policy(address, names, is_secure, os.environ.get(TOKEN) or None)
    certificate = _certificate(names) if is_secure else None
    print(f"Loading {', '.join(map(str, args.checkpoint))} ...", flush=True)
    offered = engines.load(args.checkpoint, limits)
    pages = [server.url(address, policy, host) for host in _hosts(args, address, names)]

    def started() -> None:
        print("The page is at", "\n  or ".join(pages), flush=True)
        if not args.no_browser and _has_browser():
            webbrowser.open(pages[0])

    application = app.build(offered, policy, limits)
    server.run(server.configure(application, limits, certificate), address, started)


def _hosts(args: Webcam, address: "Address", names: Sequence[str]) -> list[str]:
    """What the page's address may begin with: first for this machine, then for others."""
    from emotion_jax.serving.guard import LOOPBACK
    from emotion_jax.serving.server import WILDCARDS

    if address.host not in WILDCARDS:
        return [address.host]
    return ["localhost", *(name for name in names if name not in LOOPBACK)]


def _certificate(names: Sequence[str]) -> Path:
    from emotion_jax.serving import certificate

    path = certificate.ensure(cache_dir() / "https", names)
    print(
        "The certificate is self-made: the browser will warn once. Its SHA-256 is\n"
        f"{certificate.fingerprint(path)}"
    )
    return path


def _has_browser() -> bool:
    """Whether someone sits before a screen; a browser in the terminal would be in the way."""
    if not sys.stdout.isatty():
        return False
    if sys.platform in ("win32", "darwin"):
        return True
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
