import json

import pytest

from emotion_jax import config
from emotion_jax.benchmark import plots, pool, side_by_side
from emotion_jax.errors import UserError


class Worker:
    """Stands in for a network's process: one of N units of width takes N hundredths a step."""

    alive: set = set()  # noqa: RUF012
    failing = ""

    def __init__(self, name, folder):
        self.model = config.load(folder / "config.toml").model
        self.alive.add(self)

    def ask(self, task, **arguments):
        if task == self.failing:
            raise pool.Failed("XlaRuntimeError: out of memory")
        width = self.model.widths[0]
        if task == "describe":
            return {"device": "cpu", "parameters": 1000 * width}
        if task == "flops_per_image":
            return 1e9 * width
        return 0.01 * width * arguments["steps"] * arguments["batch"]

    def close(self):
        self.alive.discard(self)


@pytest.fixture
def run(monkeypatch):
    """Two networks, "thin" of width 1 in batches of 8 and "wide" of width 4 in batches of 16."""
    monkeypatch.setattr(side_by_side, "Worker", Worker)
    monkeypatch.setattr(side_by_side.rounds.time, "sleep", lambda seconds: None)
    configs = {
        name: config.from_mapping(
            {"model": {"widths": [width]}, "training": {"batch_size": batch}}, "tests"
        )
        for name, width, batch in (("thin", 1, 8), ("wide", 4, 16))
    }
    yield lambda: side_by_side.run(configs, 3, 0.1, progress=False)
    assert Worker.alive == set()


def test_each_network_has_its_size_and_its_rates(run):
    content = run()
    thin, wide = (content["networks"][name] for name in ("thin", "wide"))
    assert thin["parameters"] == 1000
    assert wide["flops_per_image"] == 4e9
    assert (thin["batch_size"], wide["batch_size"]) == (8, 16)
    for task in side_by_side.TASKS:
        assert thin[task]["median"] == pytest.approx(100)
        assert wide[task]["median"] == pytest.approx(25)
        assert len(wide[task]["rounds"]) == 3
    assert json.loads(json.dumps(content)) == content


def test_the_table_has_a_row_a_network(run):
    head, _, titles, rule, thin, wide = side_by_side.table(run()).splitlines()
    assert head.startswith("cpu, ")
    assert titles.count("|") == rule.count("|") == thin.count("|")
    assert thin == "| thin | 1,000 | 1.000 | 100 | 100 |"
    assert wide == "| wide | 4,000 | 4.000 | 25 | 25 |"


def test_a_backend_that_tells_no_flops(run, monkeypatch):
    ask = Worker.ask

    def silent(self, task, **arguments):
        return float("nan") if task == "flops_per_image" else ask(self, task, **arguments)

    monkeypatch.setattr(Worker, "ask", silent)
    content = run()
    assert content["networks"]["thin"]["flops_per_image"] is None
    assert "| thin | 1,000 | unknown |" in side_by_side.table(content)


def test_the_picture_shows_the_rates(run):
    content = run()
    picture = plots.side_by_side(content)
    assert picture.startswith(b"\x89PNG")
    content["networks"]["wide"]["train"]["median"] *= 2
    assert plots.side_by_side(content) != picture


def test_a_network_that_fails_ends_them_all_with_a_sentence(run, monkeypatch):
    monkeypatch.setattr(Worker, "failing", "train")
    with pytest.raises(UserError, match="thin cannot be measured: XlaRuntimeError: out of memory"):
        run()
