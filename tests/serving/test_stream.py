import contextlib
import json
import threading

from conftest import encoded
from PIL import Image
from pydantic import TypeAdapter
from servers import FACE, found_one, make_engine, running, wait_for
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from emotion_jax.inference.recognizer import Result
from emotion_jax.serving.limits import Limits
from emotion_jax.serving.schema import FrameAnswer


def open_socket(port, query="", **settings):
    return connect(f"ws://127.0.0.1:{port}/ws{query}", compression=None, **settings)


def status(port, query=""):
    """Of an attempt to connect; 101 if it worked."""
    try:
        with open_socket(port, query):
            return 101
    except InvalidStatus as refusal:
        return refusal.response.status_code


def closing_code(socket, *messages):
    """Of the close that the server answers with."""
    try:
        for message in messages:
            socket.send(message)
        while True:
            socket.recv(timeout=20)
    except ConnectionClosed as end:
        return end.rcvd.code


def test_frames_are_answered_one_by_one(engine, photograph):
    with running({"tiny": engine}) as port, open_socket(port) as socket:
        for number in range(3):
            socket.send(photograph)
            answer = json.loads(socket.recv(timeout=20))
            TypeAdapter(FrameAnswer).validate_python(answer, extra="forbid")
            assert answer["frame"] == number
            assert len(answer["faces"]) == 1
            assert answer["ms"] > 0


def test_only_the_newest_of_waiting_frames_is_looked_at():
    is_open, seen = threading.Event(), []

    def work(images):
        seen.extend(images)
        assert is_open.wait(20)
        return found_one(images)

    with running({"one": make_engine(work)}) as port, open_socket(port) as socket:
        socket.send(b"0")
        wait_for(lambda: seen)
        for i in range(1, 100):
            socket.send(str(i).encode())
        socket.ping().wait(20)  # all have arrived, and been read but for the last ones
        threading.Timer(0.2, is_open.set).start()
        answers = [json.loads(socket.recv(timeout=20))["frame"]]
        while answers[-1] < 99:
            answers.append(json.loads(socket.recv(timeout=20))["frame"])
        assert answers == sorted(set(answers))
        assert len(answers) <= 4
        assert [int(frame) for frame in seen] == answers


def test_clients_share_batches():
    is_open, batches = threading.Event(), []

    def work(images):
        batches.append(len(images))
        assert is_open.wait(20)
        return [Result((FACE,) * int(image)) for image in images]

    with running({"one": make_engine(work)}) as port, contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(open_socket(port)) for _ in range(5)]
        sockets[0].send(b"0")
        wait_for(lambda: batches)
        for i, socket in enumerate(sockets[1:], 1):
            socket.send(str(i).encode())
            socket.ping().wait(20)
        is_open.set()
        faces = [len(json.loads(socket.recv(timeout=20))["faces"]) for socket in sockets]
    assert faces == [0, 1, 2, 3, 4]
    assert batches[0] == 1
    assert sum(batches) == 5
    assert len(batches) <= 3


def test_what_is_no_frame_ends_the_connection(engine, photograph):
    bomb = encoded(Image.new("1", (30_000, 30_000)), "PNG")
    with running({"tiny": engine}, limits=Limits(frame=300_000)) as port:
        for message, code in (
            ("text", 1003),
            (b"nothing", 1007),
            (b"", 1007),
            (photograph[:3000], 1007),
            (bomb, 1007),
            (b"x" * 300_001, 1009),
        ):
            with open_socket(port) as socket:
                assert closing_code(socket, message) == code
        with open_socket(port) as socket:  # the others are not disturbed
            socket.send(photograph)
            assert json.loads(socket.recv(timeout=20))["faces"]


def test_who_says_nothing_is_sent_away():
    with running(limits=Limits(idle_seconds=0.3)) as port, open_socket(port) as socket:
        assert closing_code(socket) == 1001


def test_who_does_not_listen_is_sent_away():
    crowd = Result((FACE,) * 5000)  # an answer of a megabyte

    def work(images):
        return [crowd for _ in images]

    limits = Limits(clients=1, send_seconds=0.5)
    with (
        running({"one": make_engine(work)}, limits=limits) as port,
        open_socket(port, max_queue=1, close_timeout=0) as deaf,
    ):
        assert status(port) == 503

        def is_sent_away():
            with contextlib.suppress(ConnectionClosed):
                deaf.send(b"x")
            return status(port) == 101

        wait_for(is_sent_away)


def test_the_number_of_clients_is_capped():
    with running(limits=Limits(clients=2)) as port, open_socket(port):
        with open_socket(port):
            assert status(port) == 503
        wait_for(lambda: status(port) == 101)


def test_there_is_no_such_checkpoint():
    with running() as port:
        assert status(port, "?checkpoint=none") == 404


def test_a_fault_of_the_program_ends_one_connection_only(caplog):
    def work(images):
        if images[0] == b"bad":
            raise ZeroDivisionError
        return found_one(images)

    with running({"one": make_engine(work)}) as port:
        with open_socket(port) as socket:
            assert closing_code(socket, b"bad") == 1011
        with open_socket(port) as socket:
            socket.send(b"good")
            assert json.loads(socket.recv(timeout=20))["faces"]
    assert "ZeroDivisionError" in caplog.text
