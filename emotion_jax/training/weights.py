"""A trained model as one safetensors file: how weights are shipped, and read by other programs.

    params/Conv_0/kernel, batch_stats/BatchNorm_0/mean, ...   the variables, by their flat names
    params/Conv_0/kernel/scale, ...                           float32 [C], where that is int8
    train_hashes                                              sorted uint64
    metadata["description"]   JSON, as in a checkpoint's description.json
    metadata["sha256"]        ``digest`` of the description and of the arrays

Nothing else is needed to build, evaluate or fine-tune the model, and nothing in it is executed.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from flax import traverse_util

from emotion_jax import files
from emotion_jax.errors import UserError

if TYPE_CHECKING:
    from emotion_jax.training.trained import Trained

HASHES = "train_hashes"
SCALE = "/scale"
PLACES = (
    ("data", "dir"),
    ("data", "stage_to"),
    ("data", "votes"),
    ("training", "init_from"),
    ("training", "teachers"),
    ("training", "backup_to"),
)
Dtype = Literal["float32", "float16", "int8"]


def write(path: Path, trained: "Trained", dtype: Dtype = "float32") -> None:
    """Write the file; what is at ``path`` is replaced as a whole or stays.

    Args:
      path: of the file.
      trained: the model.
      dtype: of the kernels; int8 has a scale for each output channel. What has one dimension
        (biases, BatchNorm) is small, and stays float32.

    Raises:
      UserError: it cannot be written, or a kernel exceeds float16.
    """
    import safetensors.numpy

    arrays = {HASHES: trained.train_hashes}
    for name, array in traverse_util.flatten_dict(trained.variables, sep="/").items():
        arrays |= _stored(name, np.asarray(array), dtype)
    description = json.dumps(_portable(trained.description), allow_nan=False)
    metadata = {"description": description, "sha256": digest(description, arrays)}
    with files.reported(path):
        files.write_bytes_atomic(path, _in_order(safetensors.numpy.save(arrays, metadata)))


def read(path: Path) -> tuple[dict[str, Any], dict[str, Any], np.ndarray]:
    """The description, the variables (float32, whatever they are kept as) and the train hashes.

    Raises:
      UserError: there is no such file, it is not whole, or not of this kind.
    """
    description, arrays = _read(path)
    hashes = arrays.pop(HASHES)
    flat = {
        name: array.astype(np.float32) * arrays.get(name + SCALE, np.float32(1))
        for name, array in arrays.items()
        if name.removesuffix(SCALE) == name or name.removesuffix(SCALE) not in arrays
    }
    return json.loads(description), traverse_util.unflatten_dict(flat, sep="/"), hashes


def is_weights(path: Path) -> bool:
    """Whether ``path`` is a file that ``write`` wrote, damaged or not."""
    return path.is_file() and {"description", "sha256"} <= _metadata(path).keys()


def digest(description: str, arrays: Mapping[str, np.ndarray]) -> str:
    """SHA-256 of the text, then of each array by name: ``name dtype shape`` on a line, its bytes.

    For example "\\nparams/Dense_0/bias <f4 (7,)\\n" and 28 bytes, little-endian, row by row.
    """
    sha = hashlib.sha256(description.encode())
    for name in sorted(arrays):
        array = arrays[name]
        sha.update(f"\n{name} {array.dtype.str} {array.shape}\n".encode())
        sha.update(array.tobytes())
    return sha.hexdigest()


def _in_order(data: bytes) -> bytes:
    """The file with a sorted header: the library's order of the metadata is another every time."""
    end = 8 + int.from_bytes(data[:8], "little")
    header = json.dumps(json.loads(data[8:end]), sort_keys=True).encode()
    header += b" " * (-len(header) % 8)  # the arrays stay aligned
    return len(header).to_bytes(8, "little") + header + data[end:]


def _stored(name: str, array: np.ndarray, dtype: Dtype) -> dict[str, np.ndarray]:
    if dtype == "float32" or array.ndim < 2:
        return {name: array}
    if dtype == "int8":
        largest = np.abs(array).max(axis=tuple(range(array.ndim - 1)))
        scale = np.where(largest > 0, largest / 127, 1).astype(np.float32)
        return {name: np.rint(array / scale).astype(np.int8), name + SCALE: scale}
    with np.errstate(over="ignore"):  # told below
        stored = array.astype(np.float16)
    if not np.isfinite(stored).all():
        raise UserError(f"{name} has values beyond what float16 holds (65504); use float32.")
    return {name: stored}


def _portable(description: dict[str, Any]) -> dict[str, Any]:
    """Without the folders of the machine that trained: of paths only the last name stays."""
    config = {section: dict(values) for section, values in description["config"].items()}
    for section, name in PLACES:
        value = config[section].get(name)
        if isinstance(value, list):
            config[section][name] = [PurePath(each).name for each in value]
        elif value:
            config[section][name] = PurePath(value).name
    return description | {"config": config}


def _metadata(path: Path) -> dict[str, str]:
    """Of a safetensors file; empty where it is none."""
    import safetensors

    try:
        with safetensors.safe_open(path, "numpy") as file:
            return file.metadata() or {}
    except (safetensors.SafetensorError, OSError):
        return {}


def _read(path: Path) -> tuple[str, dict[str, np.ndarray]]:
    """The description and the arrays as they are on disk, verified."""
    import safetensors

    try:
        with safetensors.safe_open(path, "numpy") as file:
            metadata = file.metadata() or {}
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except FileNotFoundError:
        raise UserError(f"There is no file {path}; give one that ends in .safetensors.") from None
    except (safetensors.SafetensorError, OSError) as error:
        raise UserError(
            f"{path} is no whole safetensors file ({error}); get it again or export it anew."
        ) from None
    if not {"description", "sha256"} <= metadata.keys() or HASHES not in arrays:
        raise UserError(
            f"{path} holds arrays, but nothing says of which network; use a file that "
            "scripts/export.py wrote."
        )
    if digest(metadata["description"], arrays) != metadata["sha256"]:
        raise UserError(f"{path} is damaged (its SHA-256 differs); get it again or export it anew.")
    return metadata["description"], arrays
