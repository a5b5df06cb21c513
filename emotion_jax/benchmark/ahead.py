"""Ahead-of-time compilation of the training step for TPUs, from a machine that has none."""

import importlib.util
import json
import math
import os
import re
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from emotion_jax.benchmark import collectives, scaling, traffic
from emotion_jax.benchmark.chips import CHIPS, TPUS, Chip
from emotion_jax.benchmark.estimate import Estimate, Memory
from emotion_jax.config import Config
from emotion_jax.errors import UserError, choose

# FER2013: 28,709 training images less the tenth that is for validation, seven classes.
IMAGES, CLASSES = 25_838, 7
ENVIRONMENT = {
    "JAX_PLATFORMS": "cpu",
    "JAX_ENABLE_COMPILATION_CACHE": "false",
    # Or a second process that loads libtpu aborts on the first one's lock file.
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
    # No TPU is here: nothing to ask of a cloud's metadata server, nothing to log.
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_LOG_DIR": "disabled",
    "TPU_MIN_LOG_LEVEL": "3",
    "TPU_STDERR_LOG_LEVEL": "3",
    "TF_CPP_MIN_LOG_LEVEL": "3",
}


def compile_for(config: Config, target: str, images: int | None = None) -> Estimate:
    """Compile the resident pipeline's training step for a slice of TPUs that need not be here.

    Takes a minute or two; nothing is allocated.

    Args:
      config: of the run; its batch is split over the slice.
      target: generation and torus, e.g. "v5e:1x1", "v6e:2x4", "v5p:2x2x1".
      images: in the resident data set; as many as FER2013 trains on by default.

    Raises:
      UserError: an unknown target, no libtpu, a batch that does not divide, or a step that does
        not compile (it needs more memory than the chip has).
    """
    images = IMAGES if images is None else images
    chip, shape = _parse(target)
    chips = math.prod(shape)
    if importlib.util.find_spec("libtpu") is None:
        raise UserError(
            "--compile-for: libtpu, the compiler for TPUs, is not installed; "
            "pip install 'emotion-jax[tpu]'."
        )
    batch_size = config.training.batch_size
    if batch_size % chips:
        raise UserError(
            f"training.batch_size: {batch_size} images do not divide by the {chips} chips of "
            f"{target}; use a multiple of {chips}."
        )
    # What one chip would say to others can only be read from a program for several.
    several = target if chips > 1 else f"{chip.name}:{_example(chip)}"
    programs = {target: batch_size, several: batch_size if chips > 1 else 4 * batch_size}
    answers = dict(zip(programs, _ask(config, programs, images), strict=True))
    return _estimate(config, target, several, images, answers)


def _estimate(
    config: Config, target: str, several: str, images: int, answers: dict[str, dict[str, Any]]
) -> Estimate:
    """Of ``target``, from what ``topology.facts`` says of it and of the collectives' program."""
    chip, shape = _parse(target)
    about, memory = answers[target], answers[target]["memory"]
    found = collectives.parse(answers[several]["hlo"])
    gradients, small = collectives.split(found, about["parameters"])
    hbm_bytes = sum(kernel.bytes for kernel in traffic.kernels(about["hlo"]))
    estimate = Estimate(
        target=target,
        chips=math.prod(shape),
        batch_size=config.training.batch_size,
        dtype=config.model.dtype,
        images=images,
        parameters=about["parameters"],
        compile_seconds=about["compile_seconds"],
        flops=about["flops"],
        bytes=about["bytes"],
        hbm_bytes=hbm_bytes,
        optimal_seconds=about["optimal_seconds"],
        compute_seconds=about["flops"] / chip.peak(config.model.dtype),
        memory_seconds=about["bytes"] / chip.bandwidth,
        hbm_seconds=hbm_bytes / chip.bandwidth,
        communication_seconds=sum(
            scaling.all_reduce_seconds(chip, shape, c.bytes) for c in gradients + small
        ),
        memory=Memory(
            arguments=memory["argument"],
            outputs=memory["output"],
            temporaries=memory["temp"],
            aliased=memory["alias"],
            code=memory["generated_code"],
            available=chip.memory,
        ),
        collectives_of=several,
        gradients=gradients,
        small=small,
        others=tuple(c for c in found if c not in gradients and c not in small),
        scaling=(),
    )
    predictions = scaling.predict(chip, estimate.work_seconds, gradients, small)
    return replace(estimate, scaling=predictions)


def _parse(target: str) -> tuple[Chip, tuple[int, ...]]:
    """The chip of a target and the shape of its torus."""
    name, _, shape = target.partition(":")
    chip = choose({name: CHIPS[name] for name in TPUS}, name, "--compile-for")
    sides = shape.split("x")
    if len(sides) != chip.axes or not all(re.fullmatch(r"[1-9]\d?", side) for side in sides):
        raise UserError(
            f"--compile-for: {target!r} does not name a torus of {name}; "
            f"write {name}:{_example(chip)}, for instance."
        )
    return chip, tuple(map(int, sides))


def _example(chip: Chip) -> str:
    """The torus of one host's four chips."""
    return "x".join("221"[: chip.axes])


def _ask(config: Config, programs: dict[str, int], images: int) -> list[dict[str, Any]]:
    """What ``topology.main`` says of the step on each target with that batch."""
    plain = config.model_dump(mode="json", exclude_none=True)
    asked = [
        {"target": t, "config": {**plain, "training": {**plain["training"], "batch_size": n}}}
        for t, n in programs.items()
    ]
    request = {"programs": asked, "images": images, "classes": CLASSES}
    environment = {**os.environ, **ENVIRONMENT}
    environment.pop("XLA_FLAGS", None)  # meant for the CPU; libtpu aborts on one that it lacks
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder) / "result.json"
        done = subprocess.run(
            [sys.executable, "-m", "emotion_jax.benchmark.topology", str(result)],
            input=json.dumps(request),
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        if not result.exists():
            raise UserError(f"--compile-for: it does not compile: {_last_line(done.stderr)}")
        answers = json.loads(result.read_text(encoding="utf-8"))
    if "error" in answers[-1]:
        raise UserError(answers[-1]["error"])
    return answers


def _last_line(text: str) -> str:
    """The exception's line of a traceback, or what was said last."""
    lines = [line for line in text.splitlines() if line.strip()] or ["it said nothing."]
    raised = [line for line in lines if re.match(r"[\w.]+(Error|Exception): ", line)]
    return (raised or lines)[-1]
