"""Model processes of a made up `/proc`."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace

import pytest

from edgetop.core.sources import Unavailable
from edgetop.inference.server.backend import server_programs
from edgetop.telemetry.host import Host
from edgetop.telemetry.model_processes import (
    LEAST_BYTES,
    NO_SERVERS,
    RESCAN_EVERY,
    ModelProcesses,
    Program,
    descendants,
    listeners_of,
    listening_pid,
    model_of,
    port_of,
    program_of,
)
from edgetop.telemetry.nvidia import GpuProcesses, Nvml
from edgetop.telemetry.processes import ENDED, GroupUse
from tests.support.fake_processes import MODEL_PATH, TCP_HEADING, FakeProcesses


@pytest.fixture
def proc(tmp_path: Path) -> FakeProcesses:
    return FakeProcesses(tmp_path)


@pytest.mark.parametrize(
    ("line", "kind", "port"),
    [
        ("/opt/llama.cpp/llama-server -m a.gguf", "llama-server", 8080),
        ("llama-cli -m a.gguf -p hi", "llama-cli", None),
        ("/usr/local/bin/ollama serve", "ollama", 11434),
        ("/usr/local/bin/ollama runner --model /x/blobs/sha256-1 --port 40001", "ollama runner", None),
        ("./koboldcpp-linux-x64 --model a.gguf", "koboldcpp", 5001),
        ("python3 /srv/koboldcpp.py a.gguf", "koboldcpp", 5001),
        ("/opt/LM Studio/lm-studio --type=utility", "lm-studio", 1234),
        ("/usr/bin/python3.11 /usr/local/bin/vllm serve Qwen/Qwen3-0.6B", "vllm", 8000),
        ("python -m vllm.entrypoints.openai.api_server --model m", "vllm", 8000),
        ("VLLM::EngineCore", "vllm worker", None),
        ("python3 -m llama_cpp.server --model a.gguf", "llama_cpp.server", 8000),
        ("python3 -m mlc_llm serve HF://mlc-ai/x", "mlc_llm", 8000),
        ("/srv/llava.llamafile -ngl 0", "llamafile", 8080),
        ("rpc-server -p 50052", "rpc-server", None),
    ],
)
def test_programs_are_known_by_their_command_lines(line: str, kind: str, port: int | None) -> None:
    arguments = ["/opt/LM Studio/lm-studio", "--type=utility"] if "LM Studio" in line else line.split()
    program = program_of(arguments, (*map(Program._make, server_programs()), *NO_SERVERS))
    assert program is not None
    assert (program.name, program.port) == (kind, port)


@pytest.mark.parametrize(
    "line",
    ["ollama run tiny", "vim llama-server.conf", "python3 app.py", "llama-swap --config c", "grep ollama serve", ""],
)
def test_other_programs_are_not(line: str) -> None:
    assert program_of(line.split(), (*map(Program._make, server_programs()), *NO_SERVERS)) is None


def test_models_and_ports_are_read_from_command_lines() -> None:
    assert model_of(["llama-server", "-c", "4096", "-m", "/m/a.gguf"]) == "/m/a.gguf"
    assert model_of(["llama-server", "--model=/m/a.gguf"]) == "/m/a.gguf"
    assert model_of(["vllm", "serve", "Qwen/Qwen3-0.6B", "--port", "1"]) == "Qwen/Qwen3-0.6B"
    assert model_of(["python3", "-m", "llama_cpp.server", "--model", "x.gguf"]) == "x.gguf"
    assert model_of(["python3", "-m", "edgetop.inference.worker"]) == ""
    assert model_of(["ollama", "serve"]) == ""
    assert port_of(["llama-server", "--port", "9001"]) == 9001
    assert port_of(["llama-server", "--port=9002"]) == 9002
    assert port_of(["llama-server", "--port"]) is None
    assert port_of(["llama-server", "--port", "99999999999"]) is None


def test_a_server_is_found_with_its_model_and_port(proc: FakeProcesses) -> None:
    proc.process(10, "/opt/llama-server", "-m", MODEL_PATH, ports=(9001,), mapped=MODEL_PATH)
    proc.process(11, "bash")
    found = proc.found()
    assert list(found) == [10]
    assert (found[10].kind, found[10].model, found[10].addresses) == (
        "llama-server",
        MODEL_PATH,
        (("127.0.0.1", 9001),),
    )
    assert found[10].threads == 7


def test_an_unknown_program_is_one_when_it_has_a_model_mapped(proc: FakeProcesses) -> None:
    proc.process(10, "/usr/bin/python3", "app.py", mapped=MODEL_PATH, ports=(5000,))
    proc.process(11, "/usr/bin/python3", "small.py", mapped=MODEL_PATH, resident_bytes=LEAST_BYTES // 2)
    found = proc.found()
    assert list(found) == [10]
    assert (found[10].kind, found[10].model) == ("python3", MODEL_PATH)
    assert found[10].addresses == (("127.0.0.1", 5000),), "such a server has no name of its own"


def test_workers_belong_to_their_server(proc: FakeProcesses) -> None:
    blob = "/var/lib/ollama/blobs/sha256-" + "ab" * 32
    proc.process(20, "ollama", "serve", ports=(11434,))
    proc.process(21, "ollama", "runner", "--port", "40001", parent=20, mapped=blob, ports=(40001,))
    proc.process(30, "python3", "/usr/bin/vllm", "serve", "Qwen/Qwen3-0.6B", ports=(8000, 8001))
    proc.process(31, "VLLM::EngineCore", parent=30)
    found = proc.found()
    assert sorted(found) == [20, 30]
    assert found[20].workers == (21,)
    assert found[20].model == blob
    assert (found[30].workers, found[30].addresses) == ((31,), (("127.0.0.1", 8000),))


def test_a_server_of_another_user_is_shown_with_what_is_known(proc: FakeProcesses) -> None:
    proc.process(20, "ollama", "serve", uid=997, mapped=None, ports=None)
    proc.listen(11434, "555", uid=997, address="00000000")
    proc.process(30, "llama-server", "-m", "b.gguf", "--port", "9009", uid=998, mapped=None, ports=None)
    proc.listen(9009, "556", uid=1000)
    found = proc.found()
    assert (found[20].is_open, found[20].addresses) == (False, (("127.0.0.1", 11434),))
    assert found[30].addresses == (), "who listens there is somebody else"
    assert "container" in found[30].port_missing
    assert found[30].model == "b.gguf"


def test_a_service_that_listens_elsewhere_is_found_by_the_only_socket_of_its_user(proc: FakeProcesses) -> None:
    proc.process(20, "ollama", "serve", uid=997, mapped=None, ports=None)
    proc.listen(11500, "555", uid=997, address="00000000")
    proc.process(30, "ollama", "serve", uid=0, mapped=None, ports=None)
    proc.listen(22, "556", uid=0)
    found = proc.found()
    assert found[20].addresses == (("127.0.0.1", 11500),)
    assert found[30].addresses == (), "root has more services than this one"


@pytest.mark.parametrize("port", [8080, 9931])
def test_a_llama_server_of_roots_is_found_at_the_port_of_its_version(port: int, proc: FakeProcesses) -> None:
    proc.process(20, "llama-server", "-m", "a.gguf", uid=0, mapped=None, ports=None)
    proc.listen(22, "556", uid=0)
    proc.listen(port, "557", uid=0)
    assert proc.found()[20].addresses == (("127.0.0.1", port),)


def test_a_process_that_loads_a_model_later_is_found_then(proc: FakeProcesses) -> None:
    proc.process(10, "/usr/bin/python3", "app.py")
    processes = ModelProcesses(proc.host, server_programs())
    assert processes.scan() == ()
    proc.process(10, "/usr/bin/python3", "app.py", mapped=MODEL_PATH)
    looks = [bool(processes.scan()) for _ in range(RESCAN_EVERY)]
    assert looks[-1]
    assert not looks[0]


def test_hostile_names_do_no_harm(proc: FakeProcesses) -> None:
    proc.process(10, "llama-server", "-m", "\x1b[2J\udcff.gguf".encode("utf-8", "replace").decode())
    proc.process(11, *["-m"] * 9000)
    (proc.root / "12").mkdir()
    (proc.root / "12" / "cmdline").write_bytes(b"llama-server\0\xff\xfe\0")
    (proc.root / "12" / "stat").write_text("garbage")
    proc.process(13, "llama-server", "-m", "a.gguf")
    (proc.root / "13" / "stat").write_text(f"13 (x) S {'9' * 5000} " + "x " * 30)
    proc.process(14, "python3", "x.py", mapped="/" * 300_000)
    assert list(proc.found()) == [10]


def test_addresses_are_read_in_the_byte_order_of_the_machine(proc: FakeProcesses) -> None:
    proc.listen(80, "1", address="00000000")
    proc.listen(81, "2", address="0100007F")
    (proc.root / "net" / "tcp6").write_text(
        TCP_HEADING + f"   0: {'0' * 24}01000000:0052 {'0' * 32}:0000 0A 0:0 0:0 0 0 0 3 1\n"
    )
    assert {each.address for each in listeners_of(proc.host)} == {"0.0.0.0", "127.0.0.1", "::1"}  # noqa: S104


def test_what_a_group_takes_is_added_up(proc: FakeProcesses) -> None:
    ticks = os.sysconf("SC_CLK_TCK")
    proc.process(20, "ollama", "serve", resident_bytes=100 * 2**20)
    proc.process(21, "ollama", "runner", resident_bytes=300 * 2**20)
    use = GroupUse(proc.host)
    assert use.read((20, 21))[0] == 400 * 2**20
    proc.now_us = 2_000_000
    proc.process(21, "ollama", "runner", resident_bytes=300 * 2**20, cpu_ticks=3 * ticks)
    resident_bytes, cpu_percent = use.read((20, 21))
    assert resident_bytes == 400 * 2**20
    assert cpu_percent == pytest.approx(150.0)
    proc.gone(20)
    proc.gone(21)
    assert use.read((20, 21)) == (ENDED, ENDED)


def test_one_that_waits_to_be_buried_has_ended(proc: FakeProcesses) -> None:
    proc.process(20, "llama-server", resident_bytes=0)
    assert GroupUse(proc.host).read((20,)) == (ENDED, ENDED)


def test_without_a_driver_no_process_holds_gpu_memory(tmp_path: Path) -> None:
    assert GpuProcesses(Host(sysroot=tmp_path), lambda: Unavailable("no driver")).bytes_by_pid() == {}


class FakeNvml:
    """Two GPUs, one of which does not report its processes."""

    class NVMLError(Exception):
        pass

    NVMLError_GpuIsLost = NVMLError

    def nvmlInit(self) -> None:  # noqa: N802 - NVML's name
        pass

    def nvmlDeviceGetCount(self) -> int:  # noqa: N802 - the same
        return 3

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:  # noqa: N802 - the same
        return index

    def nvmlDeviceGetComputeRunningProcesses(self, handle: int) -> list[SimpleNamespace]:  # noqa: N802 - the same
        if handle == 1:
            raise self.NVMLError
        return [SimpleNamespace(pid=20, usedGpuMemory=100), SimpleNamespace(pid=21, usedGpuMemory=None)]


def test_gpu_memory_is_added_up_over_the_gpus_that_tell_it(tmp_path: Path) -> None:
    assert GpuProcesses(Host(sysroot=tmp_path), lambda: Nvml(FakeNvml())).bytes_by_pid() == {20: 200}


class Proc:
    """A `/proc` with processes and sockets in it."""

    def __init__(self, root: Path) -> None:
        self.root = root / "proc"
        (self.root / "net").mkdir(parents=True)
        self.host = Host(sysroot=root, system="linux")
        self.lines = [TCP_HEADING]

    def process(
        self, pid: int, name: str, *, parent: int = 1, uid: int = 1000, sockets: tuple[int, ...] | None = ()
    ) -> None:
        """`sockets` of `None` may not be looked at."""
        folder = self.root / str(pid)
        folder.mkdir()
        (folder / "comm").write_text(f"{name}\n")
        (folder / "stat").write_text(f"{pid} ({name} (x)) S {parent} 1 1 0\n")
        (folder / "status").write_text(f"Name:\t{name}\nUid:\t{uid}\t{uid}\t{uid}\t{uid}\n")
        if sockets is not None:
            (folder / "fd").mkdir()
            (folder / "fd" / "0").symlink_to("/dev/null")
            for number, inode in enumerate(sockets, 3):
                (folder / "fd" / str(number)).symlink_to(f"socket:[{inode}]")

    def listen(self, port: int, inode: int, *, state: str = "0A", uid: int = 1000, table: str = "tcp") -> None:
        queues = "00000000:00000000 00:00000000 00000000"
        self.lines.append(f"   0: 0100007F:{port:04X} 00000000:0000 {state} {queues} {uid:5d} 0 {inode} 1\n")
        (self.root / "net" / table).write_text("".join(self.lines))


@pytest.fixture
def ports(tmp_path: Path) -> Proc:
    return Proc(tmp_path)


@pytest.mark.parametrize("table", ["tcp", "tcp6"])
def test_the_holder_of_the_listening_socket_is_found(ports: Proc, table: str) -> None:
    ports.process(11, "other", sockets=(500, 501))
    ports.process(12, "llama-server", sockets=(77,))
    ports.listen(8080, 500, state="01")  # somebody's connection
    ports.listen(8080, 77, table=table)
    assert listening_pid(ports.host, 8080) == 12
    assert listening_pid(ports.host, 8081) == Unavailable("nobody listens on port 8081 of this machine")


def test_a_program_that_passes_on_is_not_the_server(ports: Proc) -> None:
    ports.process(12, "ssh", sockets=(77,))
    ports.listen(8080, 77)
    found = listening_pid(ports.host, 8080)
    assert isinstance(found, Unavailable)
    assert "ssh listens on port 8080 and forwards" in found.reason


def test_another_users_server_is_found_by_user_and_name(ports: Proc) -> None:
    ports.process(20, "ollama", uid=997, sockets=None)
    ports.process(21, "ollama", uid=997, parent=20, sockets=None)
    ports.process(22, "ollama", uid=1000, sockets=())
    ports.listen(11434, 77, uid=997)
    assert listening_pid(ports.host, 11434, ["ollama"]) == 20
    hidden = listening_pid(ports.host, 11434, ["llama-server"])
    assert isinstance(hidden, Unavailable)
    assert "sudo" in hidden.hint


def test_two_servers_of_another_user_are_not_guessed_between(ports: Proc) -> None:
    ports.process(20, "ollama", uid=997, sockets=None)
    ports.process(30, "ollama", uid=997, sockets=None)
    ports.listen(11434, 77, uid=997)
    assert isinstance(listening_pid(ports.host, 11434, ["ollama"]), Unavailable)


def test_descendants_are_all_below_a_process(ports: Proc) -> None:
    for pid, parent in ((20, 1), (21, 20), (22, 21), (23, 20), (30, 1)):
        ports.process(pid, "ollama", parent=parent)
    assert sorted(descendants(ports.host, 20)) == [21, 22, 23]
    assert descendants(ports.host, 99) == ()


@pytest.mark.skipif(sys.platform != "linux", reason="reads the real /proc")
def test_this_machine_itself_is_read() -> None:
    with closing(socket.socket()) as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        assert listening_pid(Host(), listener.getsockname()[1]) == os.getpid()
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        assert child.pid in descendants(Host(), os.getpid())
