import json
import os
import signal

import jax
import numpy as np
import pytest

from emotion_jax.data import dataset
from emotion_jax.errors import Interrupted, NonFiniteError, UserError
from emotion_jax.training import loop, saved, workdir


def changed(config, **values):
    """``config`` with other settings of its training section."""
    return config.model_copy(update={"training": config.training.model_copy(update=values)})


def piped(config, pipeline):
    return config.model_copy(update={"data": config.data.model_copy(update={"pipeline": pipeline})})


def run(config, folder, on_epoch=lambda rows: None):
    with workdir.opened(folder, config):
        return loop.train(config, folder, dataset.load(config.data), on_epoch)


def without_rates(history):
    return [{k: v for k, v in row.items() if k != "images_per_second"} for row in history]


def newest(folder):
    """All arrays of the newest checkpoint by name."""
    step = saved.steps(folder / "checkpoints")[-1]
    assert saved.verify(step) is None
    trees = [saved._restore(step / part) for part in ("model", "training")]
    return {jax.tree_util.keystr(p): a for p, a in jax.tree_util.tree_leaves_with_path(trees)}


def assert_same_arrays(a, b):
    assert a.keys() == b.keys()
    for name, array in a.items():
        np.testing.assert_array_equal(array, b[name], err_msg=name)


class CrashError(Exception):
    pass


def crash_after(epoch):
    def on_epoch(rows):
        if len(rows) == epoch:
            raise CrashError

    return on_epoch


def assert_same_run(history, folder, whole_history, whole_folder):
    assert without_rates(history) == without_rates(whole_history)
    assert_same_arrays(newest(folder), newest(whole_folder))


def test_a_run_learns_and_writes_its_rows(tiny_config, tmp_path):
    history = run(changed(tiny_config, epochs=8), tmp_path)
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == list(history)
    assert [row["epoch"] for row in history] == list(range(1, 9))
    names = "step epoch loss accuracy precision recall val_loss val_accuracy val_precision"
    names += " val_recall learning_rate images_per_second"
    assert list(history[0]) == names.split()
    assert history[-1]["loss"] < 0.7 * history[0]["loss"]
    about = saved.read_description(saved.steps(tmp_path / "checkpoints")[-1])
    assert about["temperature"] > 0
    assert list(about["conformal"]["thresholds"]) == ["0.8", "0.9", "0.95"]
    assert max(row["val_accuracy"] for row in history) >= 0.8  # chance: 1/3
    kept = [int(step.name) for step in saved.steps(tmp_path / "checkpoints")]
    last = history[-1]["step"]
    assert kept[-1] == last
    assert kept[-2] == last - history[0]["step"]
    assert len(kept) <= 4  # two latest and two best


@pytest.mark.parametrize("pipeline", ["resident", "tfdata"])
def test_resume_is_exact(tiny_config, tmp_path, monkeypatch, pipeline):
    config = piped(tiny_config, pipeline)
    whole = run(config, tmp_path / "whole")
    parts = tmp_path / "parts"
    stop_at_look(monkeypatch, 3, signal.SIGINT)
    with pytest.raises(Interrupted) as stop:
        run(config, parts)
    assert stop.value.exit_code == 130
    (only,) = saved.steps(parts / "checkpoints")
    assert only.name == "6"  # within the first epoch, of 8 steps
    assert saved.read_description(only)["metrics"] is None
    with pytest.raises(CrashError):
        run(config, parts, crash_after(2))
    assert_same_run(run(config, parts), parts, whole, tmp_path / "whole")


def stop_at_look(monkeypatch, number, signum):
    look, seen = loop._look, []

    def interrupted(program, progress, metrics, log):
        seen.append(progress.step)
        if len(seen) == number:
            os.kill(os.getpid(), signum)
        look(program, progress, metrics, log)

    monkeypatch.setattr(loop, "_look", interrupted)


def test_sigterm_between_epochs(tiny_config, tmp_path):
    config = changed(tiny_config, epochs=2)
    with pytest.raises(Interrupted) as stop:
        run(config, tmp_path, lambda rows: os.kill(os.getpid(), signal.SIGTERM))
    assert stop.value.exit_code == 143
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 1
    # The signal came after the save of epoch 1, so one more step was taken and saved.
    assert [step.name for step in saved.steps(tmp_path / "checkpoints")] == ["8", "9"]


def test_saves_by_the_clock(tiny_config, tmp_path):
    config = changed(tiny_config, epochs=1, save_minutes=1e-9, keep_latest=100)
    (row,) = run(config, tmp_path)
    steps = [int(step.name) for step in saved.steps(tmp_path / "checkpoints")]
    assert steps == list(range(1, row["step"] + 1))


def test_a_finished_run_goes_on_with_more_epochs(tiny_config, tmp_path):
    long, short = tmp_path / "long", tmp_path / "short"
    whole = run(changed(tiny_config, epochs=2), long)
    first = run(changed(tiny_config, epochs=1), short)
    assert run(changed(tiny_config, epochs=1), short) == first
    assert_same_run(run(changed(tiny_config, epochs=2), short), short, whole, long)
    with pytest.raises(UserError, match=r"training\.epochs: .* use at least 2"):
        run(changed(tiny_config, epochs=1), short)


def test_other_settings_are_refused_by_name(tiny_config, tmp_path):
    run(changed(tiny_config, epochs=1), tmp_path)
    with pytest.raises(UserError, match=r"training\.batch_size is 16, .* began with 8"):
        run(changed(tiny_config, epochs=1, batch_size=16), tmp_path)
    with pytest.raises(UserError, match=r"data\.pipeline is tfdata"):
        run(piped(changed(tiny_config, epochs=1), "tfdata"), tmp_path)
    louder = tiny_config.logging.model_copy(update={"every_steps": 5})
    run(changed(tiny_config, epochs=1).model_copy(update={"logging": louder}), tmp_path)


def test_settings_can_be_mended_until_there_is_a_checkpoint(tiny_config, tmp_path):
    with pytest.raises(UserError, match=r"training\.batch_size"):
        run(changed(tiny_config, epochs=1, batch_size=4096), tmp_path)
    assert len(run(changed(tiny_config, epochs=1), tmp_path)) == 1
    (tmp_path / "config.toml").unlink()
    with pytest.raises(UserError, match=r"no config\.toml"):
        run(changed(tiny_config, epochs=1), tmp_path)


def test_a_config_of_somebody_elses_is_not_overwritten(tiny_config, tmp_path):
    (tmp_path / "config.toml").write_text("theirs = true\n")
    with pytest.raises(UserError, match="theirs: there is no such setting"):
        run(tiny_config, tmp_path)
    assert (tmp_path / "config.toml").read_text() == "theirs = true\n"


def test_a_schedule_fixes_the_epochs(tiny_config, tmp_path):
    run(changed(tiny_config, epochs=1, schedule="cosine"), tmp_path)
    with pytest.raises(UserError, match=r"training\.epochs is 2"):
        run(changed(tiny_config, epochs=2, schedule="cosine"), tmp_path)


def test_other_images_are_refused(tiny_config, tiny_tree, tmp_path):
    config = changed(tiny_config, epochs=1)
    run(config, tmp_path)
    fewer = dataset.load(config.data)
    fewer = dataset.replace(fewer, fingerprint="0" * 64)
    with workdir.opened(tmp_path, config), pytest.raises(UserError, match="not those that the run"):
        loop.train(config, tmp_path, fewer)


def test_a_loss_that_is_not_finite_stops_the_run(tiny_config, tmp_path, monkeypatch):
    run(changed(tiny_config, epochs=1), tmp_path)
    good = newest(tmp_path)
    restore = loop._restore

    def poisoned(program, state):
        progress = restore(program, state)
        params = jax.tree.map(lambda a: a * np.float32(np.nan), progress.state.params)
        return loop.replace(progress, state=progress.state.replace(params=params))

    monkeypatch.setattr(loop, "_restore", poisoned)
    with pytest.raises(NonFiniteError, match=r"not finite at step 9 \(epoch 2\); the last good"):
        run(changed(tiny_config, epochs=2), tmp_path)
    assert_same_arrays(newest(tmp_path), good)


def test_early_stopping(tiny_config, tmp_path):
    # With a rate of nearly zero the first epoch stays the best, but for BatchNorm's statistics.
    config = changed(tiny_config, epochs=50, learning_rate=1e-12, patience=2)
    history = run(config, tmp_path)
    best = loop.selection.chosen(history)
    assert history[-1]["epoch"] == best["epoch"] + 2 < 50
    assert run(config, tmp_path) == history


def test_one_process_at_a_time(tiny_config, tmp_path):
    with (
        workdir.opened(tmp_path, tiny_config),
        pytest.raises(UserError, match="Another process trains"),
        workdir.opened(tmp_path, tiny_config),
    ):
        pass


def test_a_damaged_checkpoint_is_left_for_the_one_before(tiny_config, tmp_path, capsys):
    config = changed(tiny_config, epochs=2)
    first = run(config, tmp_path)
    arrays = newest(tmp_path)
    last = saved.steps(tmp_path / "checkpoints")[-1]
    victim = next(path for path in sorted((last / "model").rglob("*")) if path.stat().st_size > 200)
    content = bytearray(victim.read_bytes())
    content[100] ^= 1
    victim.write_bytes(content)
    again = run(config, tmp_path)
    assert "is damaged" in capsys.readouterr().err
    assert without_rates(again) == without_rates(first)
    assert_same_arrays(newest(tmp_path), arrays)
    assert len(list((tmp_path / "quarantine").iterdir())) == 1
