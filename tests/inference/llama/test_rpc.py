"""Layers on RPC servers: real ones where the library was built with RPC, and all that can be wrong with one."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from edgetop.core.engine_settings import EngineSettings, LayerShare
from edgetop.core.records import ModelLoaded, Tokens
from edgetop.inference.llama import model
from edgetop.inference.llama.library import import_library
from edgetop.inference.llama.log import Line, layer_devices
from edgetop.inference.llama.model import RpcError, RpcServers, protocol_version
from edgetop.inference.protocol import Hello, LoadFailed, Waiting
from tests.support.engine_worker import EngineWorker
from tests.support.llama_cpp_servers import rpc_server

QUESTIONS = ("Name three colours.", "What is a river?", "Say hi.")


@contextmanager
def listening(answer: bytes | None) -> Iterator[str]:
    """Somebody who takes one connection, says this and hangs up; who says nothing at all with `None`."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        over = threading.Event()

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(64)
                if answer is None:
                    over.wait(60)
                else:
                    connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        yield f"127.0.0.1:{server.getsockname()[1]}"
        over.set()
        thread.join()


def test_a_server_tells_its_version() -> None:
    with listening((28).to_bytes(8, "little") + bytes([7, 1, 2, 0]) + bytes(24)) as address:
        assert protocol_version(address) == "7.1.2"


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n" * 3, (28).to_bytes(8, "little") + b"\7"])
def test_what_listens_is_no_rpc_server(answer: bytes) -> None:
    with listening(answer) as address, pytest.raises(RpcError, match="does not speak") as raised:
        protocol_version(address)
    assert "same llama.cpp" in raised.value.hint


def test_a_server_that_is_busy_with_another_program_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model, "PATIENCE_S", 0.2)
    with listening(None) as address, pytest.raises(RpcError, match=r"does not answer within 0\.2 s") as raised:
        protocol_version(address)
    assert "one program at a time" in raised.value.hint


def test_nobody_listens() -> None:
    with pytest.raises(RpcError, match="nobody listens there"):
        protocol_version("127.0.0.1:1")


def test_a_library_without_rpc_says_how_to_build_it() -> None:
    class Without:
        def llama_supports_rpc(self) -> bool:
            return False

    servers = RpcServers(Without())
    servers.connect(())
    with pytest.raises(RpcError, match="built without RPC") as raised:
        servers.connect(("127.0.0.1:1",))
    assert "-DGGML_RPC=ON" in raised.value.hint


def test_layers_are_read_from_the_log_and_told_in_words() -> None:
    lines = [Line(1, f"load_tensors: layer {n:3} assigned to device RPC{n // 2}, is_swa = 0") for n in range(4)]
    assert layer_devices([Line(2, "something else"), *lines]) == {"RPC0": [0, 1], "RPC1": [2, 3]}
    share = LayerShare(device="RPC1", server="pi2:50052", first=2, last=3)
    assert share.words(3) == "layer 2 and output on pi2:50052"
    assert share.words(4) == "layers 2 to 3 on pi2:50052"
    assert LayerShare(device="CPU", first=3, last=3).words(3) == "output on CPU"


def test_a_model_split_over_two_servers_says_the_same_as_a_local_one(
    start: Callable[..., EngineWorker], small_model: Path
) -> None:
    with rpc_server() as (first, _), rpc_server() as (second, _):
        split, local = start(), start()
        loaded = split.load(small_model, EngineSettings(n_ctx=512, rpc_servers=(first, second)))
        assert isinstance(loaded, ModelLoaded), loaded
        assert isinstance(local.load(small_model, EngineSettings(n_ctx=512, use_extra_bufts=False)), ModelLoaded)
        shares = loaded.memory.layers
        assert [share.server for share in shares] == [first, second]
        assert (shares[0].first, shares[0].last + 1, shares[1].last) == (0, shares[1].first, 30)
        assert all(sum(f"[{each}]" in label for label in loaded.memory.by_buffer) >= 2 for each in (first, second))
        assert loaded.settings.n_gpu_layers == 31
        for question in QUESTIONS:
            ours, theirs = (each.ask(question, temperature=0, max_tokens=12) for each in (split, local))
            assert split.text == local.text
            assert (ours.prompt_tokens, ours.stop_reason) == (theirs.prompt_tokens, theirs.stop_reason)


def test_a_server_that_dies_in_the_middle_is_named(start: Callable[..., EngineWorker], small_model: Path) -> None:
    with ExitStack() as running:
        servers = [running.enter_context(rpc_server()) for _ in range(2)]
        addresses = tuple(address for address, _ in servers)
        talk = start()
        assert isinstance(talk.load(small_model, EngineSettings(n_ctx=1024, rpc_servers=addresses)), ModelLoaded)
        talk.say("Tell a very long story about a lighthouse.", temperature=0, max_tokens=900)
        talk.until(Tokens)
        servers[1][1].kill()
        death = talk.death()
        assert f"the RPC server at {addresses[1]} died" in death.what
        assert "RPC" in death.what.partition(addresses[1])[2], "what the library said stands behind it"
        assert addresses[1] in death.hint
        assert addresses[0] not in death.what + death.hint
        assert not death.crashed_in_first_decode, "another try without repacked weights would not help"
        again = start().load(small_model, EngineSettings(rpc_servers=addresses))
    assert isinstance(again, LoadFailed)
    assert addresses[1] in again.message
    assert "nobody listens there" in again.message


def test_a_server_that_hangs_is_named_while_it_is_waited_for(
    start: Callable[..., EngineWorker], small_model: Path
) -> None:
    with ExitStack() as running:
        servers = [running.enter_context(rpc_server()) for _ in range(2)]
        addresses = tuple(address for address, _ in servers)
        talk = start()
        assert isinstance(talk.load(small_model, EngineSettings(n_ctx=1024, rpc_servers=addresses)), ModelLoaded)
        talk.say("Tell a very long story about a lighthouse.", temperature=0, max_tokens=900)
        talk.until(Tokens)
        servers[0][1].send_signal(signal.SIGSTOP)
        waiting = talk.until(Waiting)
        assert addresses[0] in waiting.text
        assert addresses[1] not in waiting.text
        servers[0][1].send_signal(signal.SIGCONT)
        talk.until(Tokens)


@pytest.fixture
def machine_beside() -> Iterator[tuple[str, Callable[[], None]]]:
    """The name of a network namespace that is reached at 198.18.77.2, and what pulls the cable."""

    def ip(*words: str) -> bool:
        return subprocess.run(["ip", *words], capture_output=True, check=False).returncode == 0

    if shutil.which("ip") is None or not ip("netns", "add", "edgetop-beside"):
        pytest.skip("a second machine needs the right to make network namespaces")
    try:
        if not ip(
            "link", "add", "edgetop-near", "type", "veth", "peer", "name", "edgetop-far", "netns", "edgetop-beside"
        ):
            pytest.skip("there is no virtual cable")
        ip("addr", "add", "198.18.77.1/30", "dev", "edgetop-near")
        ip("link", "set", "edgetop-near", "up")
        ip("-n", "edgetop-beside", "addr", "add", "198.18.77.2/30", "dev", "edgetop-far")
        ip("-n", "edgetop-beside", "link", "set", "edgetop-far", "up")
        ip("-n", "edgetop-beside", "link", "set", "lo", "up")
        yield "edgetop-beside", lambda: assert_done(ip("-n", "edgetop-beside", "link", "set", "edgetop-far", "down"))
    finally:
        ip("netns", "del", "edgetop-beside")
        ip("link", "del", "edgetop-near")


def assert_done(done: bool) -> None:
    assert done


def test_a_machine_that_goes_silent_is_given_up_and_named(
    start: Callable[..., EngineWorker], small_model: Path, machine_beside: tuple[str, Callable[[], None]]
) -> None:
    name, pull_cable = machine_beside
    with rpc_server() as (near, _), rpc_server("198.18.77.2", netns=name) as (far, _):
        talk = start()
        loaded = talk.load(small_model, EngineSettings(n_ctx=1024, rpc_servers=(near, far)))
        assert isinstance(loaded, ModelLoaded), loaded
        talk.say("Tell a very long story about a lighthouse.", temperature=0, max_tokens=900)
        talk.until(Tokens)
        # Its connections are looked after from the first second of the answer on.
        talk.until(Tokens)
        pull_cable()
        death = talk.death()
    assert f"the RPC server at {far} died or cannot be reached" in death.what
    assert near not in death.what + death.hint


def test_the_library_says_whether_it_was_built_with_rpc(start: Callable[..., EngineWorker]) -> None:
    library = import_library()
    talk = start()
    assert talk.until(Hello).engine.rpc == bool(library.llama_supports_rpc())
