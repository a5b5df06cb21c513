import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import monitoring

from emotion_jax.training.compilation import cached


def compile_and_run():
    """A new function each time, so that JAX's cache in memory does not know it."""

    def doubled_and_one_more(x):
        return 2 * x + 1

    result = jax.jit(doubled_and_one_more)(jnp.arange(5.0))
    np.testing.assert_array_equal(result, [1, 3, 5, 7, 9])


def entries(directory):
    return sorted(directory.glob("jit_doubled_and_one_more-*-cache"))


@pytest.fixture(autouse=True)
def nothing_given():
    """What JAX_COMPILATION_CACHE_DIR may have set."""
    before = jax.config.jax_compilation_cache_dir
    jax.config.update("jax_compilation_cache_dir", None)
    yield
    jax.config.update("jax_compilation_cache_dir", before)


@pytest.fixture
def hits():
    """Gets an element whenever JAX finds a program in its cache."""
    found = []

    def note(event, **about):
        if event == "/jax/compilation_cache/cache_hits":
            found.append(about)

    monitoring.register_event_listener(note)
    yield found
    monitoring.unregister_event_listener(note)


def test_what_was_compiled_is_found_again(tmp_path, capsys, hits):
    with cached(tmp_path):
        compile_and_run()
    assert len(entries(tmp_path)) == 1
    before = len(hits)
    with cached(tmp_path):
        compile_and_run()
    assert len(hits) > before
    assert len(entries(tmp_path)) == 1
    assert jax.config.jax_compilation_cache_dir is None
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("content", [b"", b"garbage", None])
def test_an_unreadable_entry_is_deleted_said_and_made_anew(tmp_path, capsys, content):
    with cached(tmp_path):
        compile_and_run()
    (entry,) = entries(tmp_path)
    good = entry.read_bytes()
    entry.write_bytes(good[: len(good) // 2] if content is None else content)
    jax.clear_caches()
    with cached(tmp_path):
        compile_and_run()
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1
    assert "jit_doubled_and_one_more" in said[0]
    assert "deleted" in said[0]
    assert len(entries(tmp_path)[0].read_bytes()) > 0.9 * len(good)
    jax.clear_caches()
    with cached(tmp_path):
        compile_and_run()
    assert capsys.readouterr().err == ""


def test_a_directory_that_cannot_be_written_is_said_once(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    with cached(tmp_path / "file" / "cache"):
        compile_and_run()
        jax.jit(lambda x: x - 7)(jnp.ones(3))
    assert capsys.readouterr().err.count("cannot be kept") == 1


def test_a_directory_of_the_users_is_left_in_place(tmp_path):
    jax.config.update("jax_compilation_cache_dir", str(tmp_path / "theirs"))
    with cached(tmp_path / "ours"):
        compile_and_run()
    assert jax.config.jax_compilation_cache_dir == str(tmp_path / "theirs")
    assert entries(tmp_path / "theirs")
    assert not (tmp_path / "ours").exists()
