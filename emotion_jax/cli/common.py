"""What every command does around its work: arguments, sentences for errors, exit statuses."""

import argparse
import atexit
import contextlib
import io
import os
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

import tyro

from emotion_jax import allocator, xla
from emotion_jax import config as config_lib
from emotion_jax.config import Config, unboxed
from emotion_jax.errors import Interrupted, UserError
from emotion_jax.training import signals


def parse(command: type, argv: Sequence[str] | None, prog: str, description: str) -> Any:
    """An instance of the dataclass ``command`` from the command line.

    Raises:
      UserError: the arguments are not understood.
      SystemExit: ``--help`` was asked for.
    """
    args = list(sys.argv[1:] if argv is None else argv)
    errors = io.StringIO()
    try:
        with contextlib.redirect_stderr(errors):
            parsed: Any = tyro.cli(
                command,
                prog=prog,
                description=description,
                args=args,
                config=(tyro.conf.FlagCreatePairsOff,),
            )
    except SystemExit as stop:
        if not stop.code:
            raise
        raise UserError(unboxed(errors.getvalue())) from None
    _check_values_together(parsed, args)
    return parsed


def _check_values_together(parsed: Any, args: Sequence[str]) -> None:
    """Of ``--x A --x B`` tyro would silently keep B alone."""
    names = Counter(word.partition("=")[0] for word in args if word.startswith("--"))
    for name, times in names.items():
        value = getattr(parsed, name[2:].replace("-", "_"), None)
        if times > 1 and isinstance(value, tuple):
            raise UserError(f"{name} is given {times} times; give all its values after one.")


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}. See --help.")


def parse_settings(
    argv: Sequence[str],
    default: Config,
    prog: str,
    description: str,
    options: Mapping[str, Callable[[str], Any]],
    short: Mapping[str, str],
) -> tuple[Config, argparse.Namespace]:
    """The configuration that ``--config FILE`` and ``--section.key VALUE`` name, and the rest.

    Args:
      argv: the arguments.
      default: without ``--config``.
      prog, description: for ``--help``.
      options: the command's own, such as "--workdir", with the type of their value.
      short: options that are short for a setting, such as "--data" for "--data.dir".

    Returns:
      The configuration; and the values of ``config`` and of ``options``, None where not given.

    Raises:
      UserError: they are not understood.
      SystemExit: ``--help`` was asked for.
    """
    parser = _Parser(prog, add_help=False, allow_abbrev=False)
    parser.add_argument("--config", type=Path)
    for name, kind in options.items():
        parser.add_argument(name, type=kind)
    for name, setting in short.items():
        parser.add_argument(name, dest=setting)
    values, overrides = parser.parse_known_args(list(argv))
    for setting in short.values():
        if (value := getattr(values, setting)) is not None:
            overrides = [setting, value, *overrides]
    if values.config is not None:
        default = config_lib.load(config_file(values.config))
    return config_lib.parse(overrides, default, prog, description), values


def shipped() -> dict[str, Path]:
    """The configurations that we come with, by name."""
    # In a wheel they lie inside the package, in a checkout beside it.
    homes = [Path(__file__).parents[depth] / "configs" for depth in (1, 2)]
    return {file.stem: file for home in homes for file in sorted(home.glob("*.toml"))}


def config_file(path: Path) -> Path:
    """``path``, or if there is no such file the configuration of that name that we come with.

    ``synthetic``, ``synthetic.toml`` and ``configs/synthetic.toml`` name the same one.

    Raises:
      UserError: there is neither.
    """
    ours = shipped()
    named = path.name.removesuffix(".toml")
    if path.is_file() or path.is_absolute():
        return path
    # Not a folder, which may have the name of a configuration of ours: data often lies in one.
    if path.parent in (Path(), Path("configs")) and named in ours:
        return ours[named]
    if path.exists():
        return path
    raise UserError(
        f"Cannot read the config {path}: there is none; the program's own are {', '.join(ours)}."
    )


def run(work: Callable[[], None]) -> None:
    """Do a command's work.

    Raises:
      SystemExit: 2 after bad input, 1 after a non-finite loss, 130 and 143 after signals.
    """
    xla.set_flags()
    allocator.keep_freed_memory()
    # TensorFlow's start-up lines would bury ours.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    try:
        # Files' names need not be UTF-8, nor need a terminal have the letters of a class.
        if isinstance(sys.stdout, io.TextIOWrapper):  # a notebook's is none
            sys.stdout.reconfigure(errors="backslashreplace")
        with signals.raised():
            work()
            sys.stdout.flush()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(error.exit_code) from None
    except Interrupted as stop:
        print(signals.sentence(stop.exit_code - 128), file=sys.stderr)
        # Threads of XLA's and TensorFlow's may be at work; taking Python down under them crashes.
        atexit.register(_end, stop.exit_code)
        raise SystemExit(stop.exit_code) from None
    except BrokenPipeError:
        _drop_output()  # its reader is gone
        raise SystemExit(141) from None
    except OSError as error:
        # Our output goes to a full disk, or it is a file of which nothing more is known here.
        where = f"{error.filename}: " if error.filename else ""
        print(f"error: {where}{error.strerror or error}.", file=sys.stderr)
        _drop_output()
        raise SystemExit(2) from None


def _end(status: int) -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def _drop_output() -> None:
    """What is still to be printed goes nowhere; Python would complain of it once more at exit."""
    with contextlib.suppress(io.UnsupportedOperation):  # of a captured stdout
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
