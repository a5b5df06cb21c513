import pytest

from emotion_jax.cli import train


def tiny_arguments(tree, workdir, *more):
    """Of scripts/train.py, for a run of seconds."""
    settings = {
        "--data": tree,
        "--workdir": workdir,
        "--data.image_size": 12,
        "--data.augment.flip": True,
        "--model.widths": 4,
        "--model.dense": 8,
        "--training.epochs": 3,
        "--training.batch_size": 8,
        "--logging.progress": False,
    }
    return [str(part) for pair in settings.items() for part in pair] + [str(m) for m in more]


@pytest.fixture(scope="package")
def finished(tiny_tree, tmp_path_factory):
    """The workdir of a finished run."""
    workdir = tmp_path_factory.mktemp("runs") / "tiny"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EMOTION_JAX_CACHE", str(workdir.parent / "cache"))
        train.main(tiny_arguments(tiny_tree, workdir, "--data.pipeline", "resident"))
    return workdir


@pytest.fixture
def arguments():
    """``tiny_arguments``, for tests that run the command themselves."""
    return tiny_arguments


@pytest.fixture
def finished_cache(finished, monkeypatch):
    """The cache that the finished run was made with."""
    monkeypatch.setenv("EMOTION_JAX_CACHE", str(finished.parent / "cache"))
