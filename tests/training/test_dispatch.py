import contextlib
import os
import signal

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emotion_jax.config import Config
from emotion_jax.data import dataset
from emotion_jax.errors import Interrupted, UserError
from emotion_jax.training import dispatch, loop, saved, workdir

# Names of the programs that were made, in order, whether XLA compiled them or found them in its
# cache. A listener cannot be taken back.
PROGRAMS = []


def note(event, seconds, fun_name="", **rest):
    if event == "/jax/core/compile/jaxpr_to_mlir_module_duration":
        PROGRAMS.append(fun_name)


jax.monitoring.register_event_duration_secs_listener(note)


def configured(config, most=0, pipeline="resident", epochs=2):
    training = {"steps_per_dispatch": most, "epochs": epochs}
    return config.model_copy(
        update={
            "data": config.data.model_copy(update={"pipeline": pipeline}),
            "training": config.training.model_copy(update=training),
        }
    )


def run(config, folder, on_epoch=lambda rows: None):
    with workdir.opened(folder, config):
        return loop.train(config, folder, dataset.load(config.data), on_epoch)


def arrays(folder):
    """All of the newest checkpoint."""
    step = saved.steps(folder / "checkpoints")[-1]
    return int(step.name), [saved._restore(step / part) for part in ("model", "training")]


def same(a, b):
    return a[0] == b[0] and jax.tree.all(jax.tree.map(np.array_equal, a[1], b[1]))


@given(
    start=st.integers(0, 50),
    length=st.integers(0, 50),
    per_epoch=st.integers(1, 20),
    most=st.integers(1, 30),
)
def test_dispatches_follow_each_other_within_epochs(start, length, per_epoch, most):
    found = list(dispatch.ends(start, start + length, per_epoch, most))
    firsts = [start, *found][:-1] if found else []
    assert (found[-1] if found else start) == start + length
    for first, end in zip(firsts, found, strict=True):
        assert 1 <= end - first <= most
        assert first // per_epoch == (end - 1) // per_epoch
        # None is shorter than it needs to be: its end, the epoch's or the run's.
        assert end - first == most or end % per_epoch == 0 or end == start + length


def test_how_many_steps(monkeypatch):
    def asked(most=0, pipeline="resident"):
        return dispatch.steps_per_dispatch(configured(Config(), most, pipeline))

    assert (asked(), asked(most=7), asked(pipeline="tfdata")) == (1, 7, 1)
    monkeypatch.setattr(jax, "default_backend", lambda: "tpu")
    assert (asked(), asked(most=7), asked(pipeline="tfdata")) == (dispatch.CHOSEN, 7, 1)
    with pytest.raises(UserError, match=r"training\.steps_per_dispatch: 7 .*pipeline resident"):
        asked(most=7, pipeline="tfdata")


def test_only_as_many_steps_are_taken_as_were_asked_for():
    def step(state, fed, key):
        return 10 * state + fed, {"fed": fed}

    steps = jax.jit(dispatch.repeated(step, lambda fed, i: fed[i], {"fed": np.int32(0)}))
    for count, expected in ((0, (5, 0)), (1, (51, 1)), (3, (5123, 3))):
        state, metrics = steps(jnp.int32(5), (jnp.int32(count), jnp.array([1, 2, 3])), None)
        assert (int(state), int(metrics["fed"])) == expected
    assert steps._cache_size() == 1


@pytest.fixture(scope="module")
def one_by_one(tmp_path_factory):
    """The run that all others are compared with; made by the first test, for its fixtures."""
    return tmp_path_factory.mktemp("whole")


@pytest.mark.parametrize("most", [3, 8, 100])
def test_many_steps_a_dispatch_end_in_the_same_bits(tiny_config, tmp_path, one_by_one, most):
    if not (one_by_one / "config.toml").exists():
        run(configured(tiny_config, 1), one_by_one)
    PROGRAMS.clear()
    rows = run(configured(tiny_config, most), tmp_path)
    assert same(arrays(tmp_path), arrays(one_by_one))
    assert [row["step"] for row in rows] == [8, 16]
    assert sum("train_step" in name for name in PROGRAMS) == 1  # for whole and cut dispatches


@contextlib.contextmanager
def stopped_at(monkeypatch, step):
    look = loop._look

    def interrupted(program, progress, metrics, log):
        if progress.step == step:
            os.kill(os.getpid(), signal.SIGTERM)
        look(program, progress, metrics, log)

    with monkeypatch.context() as patch:
        patch.setattr(loop, "_look", interrupted)
        with pytest.raises(Interrupted):
            yield


@pytest.mark.parametrize(("most", "step"), [(3, 3), (5, 13)])
def test_a_run_stopped_at_a_dispatchs_end_goes_on_to_the_same_bits(
    tiny_config, tmp_path, monkeypatch, most, step
):
    config = configured(tiny_config, most)
    run(config, tmp_path / "whole")
    with stopped_at(monkeypatch, step):
        run(config, tmp_path / "parts")
    assert arrays(tmp_path / "parts")[0] == step
    run(config, tmp_path / "parts")
    assert same(arrays(tmp_path / "parts"), arrays(tmp_path / "whole"))


def test_how_many_is_no_setting_to_change_within_a_run(tiny_config, tmp_path):
    run(configured(tiny_config, 3, epochs=1), tmp_path)
    with pytest.raises(UserError, match=r"steps_per_dispatch is 4, .* began with 3"):
        run(configured(tiny_config, 4, epochs=1), tmp_path)


WAYS = pytest.mark.parametrize(
    ("pipeline", "most"), [("tfdata", 0), ("resident", 0), ("resident", 3)]
)


@WAYS
def test_the_step_is_compiled_once_and_nothing_after_the_first_epoch(
    tiny_config, tmp_path, monkeypatch, pipeline, most
):
    config = configured(tiny_config, most, pipeline, epochs=3)
    known = []

    def on_epoch(rows):
        known.append(len(PROGRAMS))

    def session():
        PROGRAMS.clear()
        known.clear()
        try:
            run(config, tmp_path, on_epoch)
        finally:
            assert sum("train_step" in name for name in PROGRAMS) == 1
            assert PROGRAMS[known[0] :] == []
        return len(known)

    with stopped_at(monkeypatch, 14):
        session()  # one epoch, and a part of another
    assert session() == 2


@WAYS
def test_nothing_comes_back_from_the_devices_between_looks(
    tiny_config, tmp_path, monkeypatch, pipeline, most
):
    # A transfer guard is blind on the CPU, where host and device have one memory; but whatever
    # reads an array that lies on eight devices asks for its value here.
    kind, where, reads = type(jnp.zeros(())), ["the loop"], []
    value = kind._value

    def read(array):
        reads.append(where[-1])
        return value.fget(array)

    def named(name):
        function = getattr(loop, name)

        def wrapped(*arguments):
            where.append(name)
            try:
                return function(*arguments)
            finally:
                where.pop()

        return wrapped

    config = configured(tiny_config, most, pipeline)
    data, run_loop = dataset.load(config.data), loop._run

    def watched(*arguments):
        with monkeypatch.context() as patch:
            for name in ("_look", "_check_finite", "_end_epoch", "_save"):
                patch.setattr(loop, name, named(name))
            patch.setattr(kind, "_value", property(read))
            return run_loop(*arguments)

    monkeypatch.setattr(loop, "_run", watched)
    with workdir.opened(tmp_path, config):
        loop.train(config, tmp_path, data)
    assert {"_look", "_check_finite", "_end_epoch"} <= set(reads)
    assert reads.count("the loop") == 0
    assert reads.count("_look") == 3 * (8 if most == 0 else 6)  # loss, accuracy and bad_step
