"""ONNX Runtime Web from the npm registry: fetched once, verified, never part of this package."""

import base64
import hashlib
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path

from emotion_jax import files
from emotion_jax.config import cache_dir
from emotion_jax.errors import UserError

NAME, VERSION = "onnxruntime-web", "1.30.0"
# The registry's own: SHA-512 of the file.
INTEGRITY = (
    "q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZClzcV7svNc4rKY3jL02Vb7QmRMDs1SigqR4CXAfKYQ=="
)
# The smallest build, for the CPU; the two others are what it loads.
FILES = ("ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm")
SECONDS = 600
BY_HAND = f"or give the file that `npm pack {NAME}@{VERSION}` makes elsewhere: --onnxruntime-web"
# The npm package names it and leaves its text out.
LICENCE = """MIT License

Copyright (c) Microsoft Corporation

Permission is hereby granted, free of charge, to any person obtaining a copy
of this software and associated documentation files (the "Software"), to deal
in the Software without restriction, including without limitation the rights
to use, copy, modify, merge, publish, distribute, sublicense, and/or sell
copies of the Software, and to permit persons to whom the Software is
furnished to do so, subject to the following conditions:

The above copyright notice and this permission notice shall be included in all
copies or substantial portions of the Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR
IMPLIED, INCLUDING BUT NOT LIMITED TO THE WARRANTIES OF MERCHANTABILITY,
FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE
AUTHORS OR COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER
LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR OTHERWISE, ARISING FROM,
OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE
SOFTWARE."""


def ensure(progress: bool = False) -> Path:
    """The package's .tgz file in the cache directory, fetched by npm where it is not there.

    Raises:
      UserError: npm is not installed or does not reach its registry, or the disk is full.
    """
    folder = cache_dir() / "npm"
    path = folder / f"{NAME}-{VERSION}.tgz"
    if path.is_file():
        return path
    npm = shutil.which("npm")
    if npm is None:
        raise UserError(f"The page needs ONNX Runtime Web: install npm (Node.js), {BY_HAND}.")
    if progress:
        print(f"Fetching {NAME} {VERSION} (33 MB) ...", flush=True)
    with files.reported(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as fresh:
            _pack(npm, Path(fresh))
            made = Path(fresh) / path.name
            check(made)
            made.replace(path)
    return path


def _pack(npm: str, folder: Path) -> None:
    command = [npm, "pack", f"{NAME}@{VERSION}", "--pack-destination", str(folder)]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=SECONDS
        )
    except subprocess.TimeoutExpired:
        raise UserError(f"npm took over {SECONDS} s for {NAME}; try again, {BY_HAND}.") from None
    if done.returncode:
        said = [line for line in done.stderr.splitlines() if line.strip()] or ["no reason given"]
        raise UserError(f"npm cannot fetch {NAME} ({said[0].strip()}); try again, {BY_HAND}.")


def check(package: Path) -> None:
    """See that a file is the package that this version was made for.

    Raises:
      UserError: it is not there, or another.
    """
    try:
        with package.open("rb") as file:
            digest = hashlib.file_digest(file, "sha512").digest()
    except OSError as error:
        raise UserError(f"Cannot read {package}: {error.strerror or error}.") from None
    if base64.b64encode(digest).decode() != INTEGRITY:
        raise UserError(f"{package} is not {NAME} {VERSION}: its SHA-512 is another.")


def unpack(package: Path, target: Path) -> None:
    """Write ``FILES`` of the verified package into a new folder.

    Raises:
      UserError: as ``check``.
    """
    check(package)
    target.mkdir()
    with tarfile.open(package) as archive:
        for name in FILES:
            content = archive.extractfile(f"package/dist/{name}")
            assert content is not None, name
            with content, (target / name).open("wb") as file:
                shutil.copyfileobj(content, file)
