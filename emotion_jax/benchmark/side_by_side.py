"""The networks of several configurations side by side: how large they are, how fast they run."""

import contextlib
import tempfile
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from emotion_jax import config as config_lib
from emotion_jax.benchmark import results, rounds
from emotion_jax.benchmark.pool import Failed, Worker
from emotion_jax.benchmark.rounds import Block
from emotion_jax.benchmark.worker import OURS, threads
from emotion_jax.config import Config
from emotion_jax.errors import UserError

EVALUATE = 256  # images at a time, as in an evaluation
TASKS = ("train", "evaluate")


def run(
    configs: Mapping[str, Config], number: int, seconds: float, progress: bool = True
) -> dict[str, Any]:
    """Measure each in a process of its own; they take turns.

    Args:
      configs: by the name to show. They train in batches of their own size.
      number: rounds of each comparison.
      seconds: of a network's block in a round, at least about.
      progress: whether to show a bar.

    Returns:
      The JSON file's content: ``device``, ``threads``, ``rounds``, ``seconds``, and in ``networks``
      by name ``batch_size``, ``parameters``, ``flops_per_image`` (of the
      logits, as lax counts; None where the backend does not tell), and ``train`` and ``evaluate``:
      images a second (``Samples.as_dict``).

    Raises:
      UserError: a configuration or its data does not allow it.
    """
    total = len(configs) * (1 + len(TASKS) * (number + 2))
    with (
        tempfile.TemporaryDirectory() as folder,
        contextlib.ExitStack() as stack,
        tqdm(total=total, disable=not progress, leave=False) as bar,
    ):

        def shown(what: str, name: str) -> None:
            bar.set_description_str(f"{what}: {name}")
            bar.update()

        workers: dict[str, Worker] = {}
        for name, config in configs.items():
            shown("starting", name)
            home = Path(folder) / str(len(workers))
            home.mkdir()
            (home / "config.toml").write_text(config_lib.dumps(config))
            with _named(name):
                workers[name] = Worker(OURS, home)
            stack.callback(workers[name].close)
        about = {
            name: _ask(name, worker, "describe")
            | {"flops_per_image": _ask(name, worker, "flops_per_image")}
            for name, worker in workers.items()
        }
        train = {name: config.training.batch_size for name, config in configs.items()}
        evaluate = dict.fromkeys(configs, EVALUATE)
        rates = {
            task: _rates(workers, task, sizes, number, seconds, partial(shown, task))
            for task, sizes in zip(TASKS, (train, evaluate), strict=True)
        }
    content = {
        "device": next(iter(about.values()))["device"],
        "threads": threads(),
        "rounds": number,
        "seconds": seconds,
        "networks": {
            name: {"batch_size": train[name]}
            | {key: said[key] for key in ("parameters", "flops_per_image")}
            | {task: rates[task][name] for task in TASKS}
            for name, said in about.items()
        },
    }
    return results.finite(content)


def _rates(
    workers: Mapping[str, Worker],
    task: str,
    sizes: Mapping[str, int],
    number: int,
    seconds: float,
    shown: Callable[[str], None],
) -> dict[str, dict[str, Any]]:
    """Images a second by network."""

    def block(name: str) -> Block:
        return lambda steps: _ask(name, workers[name], task, batch=sizes[name], steps=steps)

    blocks = {name: block(name) for name in workers}
    rates = rounds.compare(blocks, seconds, number, shown)
    return {name: samples.times(sizes[name]).as_dict() for name, samples in rates.items()}


def _ask(name: str, worker: Worker, task: str, **arguments: Any) -> Any:
    with _named(name):
        return worker.ask(task, **arguments)


@contextlib.contextmanager
def _named(network: str) -> Iterator[None]:
    """What goes wrong within is said to be this network's."""
    try:
        yield
    except (Failed, UserError) as why:
        raise UserError(f"{network} cannot be measured: {why}") from None


def table(content: Mapping[str, Any]) -> str:
    """The content of ``run`` as a table in Markdown."""
    lines = [
        f"{content['device']}, {content['threads']} threads; medians of {content['rounds']} rounds "
        f"of about {content['seconds']:g} s, taken in turns.",
        "",
        f"| | parameters | GFLOP an image | images/s, training | inference, batch {EVALUATE} |",
        "|-|-|-|-|-|",
    ]
    for name, network in content["networks"].items():
        flops = network["flops_per_image"]
        work = "unknown" if flops is None else f"{flops / 1e9:.3f}"
        lines.append(
            f"| {name} | {network['parameters']:,} | {work} "
            f"| {network['train']['median']:,.0f} | {network['evaluate']['median']:,.0f} |"
        )
    return "\n".join(lines)
