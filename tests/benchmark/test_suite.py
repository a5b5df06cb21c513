import pytest

from emotion_jax import config
from emotion_jax.benchmark import pool, suite
from emotion_jax.benchmark.worker import OURS
from emotion_jax.errors import UserError

PEERS = ("torch", "onnxruntime")
LOGITS = [[1.0, -2.0], [0.5, 0.25]]


class Worker:
    """Stands in for a contender's process: answers at once, with what a test says for it."""

    alive: set = set()  # noqa: RUF012
    answers: dict = {}  # noqa: RUF012

    def __init__(self, name, folder):
        assert (folder / "config.toml").is_file()
        self.name = name
        if "start" in self.answers.get(name, {}):
            raise pool.Failed(self.answers[name]["start"])
        self.alive.add(name)

    def ask(self, task, **arguments):
        answer = self.answers.get(self.name, {}).get(task)
        if isinstance(answer, Exception):
            raise answer
        if answer is not None:
            return answer
        about = {"version": "1", "device": "cpu", "platform": "cpu", "parameters": 10}
        about |= {"devices": 1, "peak_flops_per_second": None}
        pairs = {"end_to_end": [9.0, 10.0], "alone": [10.0, 10.0]}
        return {
            "describe": about,
            "logits": LOGITS,
            "memory": 1,
            "program": {"compile_seconds": 1.0, "flops": 64e9, "bytes": 1e9},
            "end_to_end": pairs,
        }.get(task, 0.01 * arguments.get("steps", 0) * (1 if self.name == OURS else 2))

    def close(self):
        self.alive.discard(self.name)


@pytest.fixture
def run(monkeypatch):
    """The suite with such workers: answers by contender -> content."""
    monkeypatch.setattr(suite, "Worker", Worker)
    monkeypatch.setattr(suite.startup, "measure", lambda *args: {"cold": 3.0, "warm": 2.0})
    monkeypatch.setattr(suite.rounds.time, "sleep", lambda seconds: None)

    def run(answers, **settings):
        monkeypatch.setattr(Worker, "answers", answers)
        options = suite.Options(PEERS, rounds=2, seconds=0.1, train="", progress=False)
        return suite.run(config.from_mapping(settings, "tests"), options)

    yield run
    assert Worker.alive == set()


def test_everyone_is_measured_at_every_batch_size(run):
    content = run({}, training={"batch_size": 8})
    details = content["details"]
    torch = set(pool.members("torch"))
    assert set(details["train"]) == {OURS, *torch}  # the runtime only infers
    for size in ("1", "8", "64", "256"):
        assert set(details["eval"][size]) == {OURS, *torch, "onnxruntime"}
    assert set(details["step_seconds"]) == {"2", "4", "8", "16", "32"}
    assert content["train_images_per_second"] == pytest.approx(800)
    assert content["ratio_to_fastest_peer"] == pytest.approx(2)
    assert content["end_to_end_images_per_second"] == 9.5
    assert content["matmul_flops_per_second"] == pytest.approx(2 * 2048**3 / 0.01)


def test_a_contender_that_this_machine_cannot_run_is_left_out_with_its_reason(run):
    content = run(
        {
            "torch compile": {"train": pool.Failed("InvalidCxxCompiler: no compiler")},
            "torch eager": {"start": "OSError: no library"},
        }
    )
    assert content["details"]["skipped"] == {
        "torch eager": "OSError: no library",
        "torch compile": "InvalidCxxCompiler: no compiler",
    }
    assert set(content["details"]["train"]) == {OURS, "torch channels_last"}
    assert content["peers"]["torch"]["train_images_per_second"] > 0


def test_ours_is_not_left_out(run):
    with pytest.raises(UserError, match="The benchmark failed: XlaRuntimeError: out of memory"):
        run({OURS: {"train": pool.Failed("XlaRuntimeError: out of memory")}})


@pytest.mark.parametrize(
    "answer",
    [{"describe": {"parameters": 11}}, {"logits": [[1.0, -2.0], [0.5, 0.26]]}],
    ids=["parameters", "logits"],
)
def test_a_peer_with_another_network_is_refused(run, answer):
    with pytest.raises(UserError, match="onnxruntime computes another network"):
        run({"onnxruntime": answer})


def test_a_peer_that_dies_ends_them_all(run):
    with pytest.raises(UserError, match="was killed"):
        run({"torch eager": {"evaluate": UserError("The process of torch eager was killed")}})


def test_settings_that_the_peers_lack_start_nobody(run):
    with pytest.raises(UserError, match=r"model\.dtype"):
        run({}, model={"dtype": "bfloat16"})
