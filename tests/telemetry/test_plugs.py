from __future__ import annotations

import json
import socketserver
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgetop.core.sources import Unavailable, of_channel
from edgetop.telemetry import plugs
from edgetop.telemetry.plugs import Kasa, PlugAddress, is_plug, parse_plug, plug
from edgetop.telemetry.source import SourceLost

SHELLY_3 = (
    '{"id":0, "source":"HTTP_in", "output":true, "apower":25.7, "voltage":239.7, "freq":50.2, "current":0.188, '
    '"aenergy":{"total":913.252,"by_minute":[404.631,404.631,404.631],"minute_ts":1782936360}, '
    '"ret_aenergy":{"total":0.000,"by_minute":[0.000,0.000,0.000],"minute_ts":1782936360},'
    '"temperature":{"tC":68.1, "tF":154.6}}'
)
SHELLY_1 = (
    '{"relays":[{"ison":true}],"meters":[{"power":8.61,"is_valid":true,"total":1234},{"power":3.5,"is_valid":true}]}'
)
TASMOTA = (
    '{"StatusSNS":{"Time":"2020-06-29T22:22:24","ENERGY":{"TotalStartTime":"2020-06-24T09:25:29","Total":41.573,'
    '"Yesterday":6.147,"Today":8.286,"Power":2,"ApparentPower":22,"ReactivePower":21,"Factor":0.08,"Voltage":230,'
    '"Current":0.094}}}'
)
TASMOTA_TWO = '{"StatusSNS":{"ENERGY":{"Power":[52,5],"Total":[2.813,0.254]}}}'
KASA_OLD = (
    '{"emeter":{"get_realtime":{"current":0.028915,"voltage":120.798141,"power":0.527563,"total":18.045000,'
    '"err_code":0}}}'
)
KASA_NEW = (
    '{"emeter":{"get_realtime":{"voltage_mv":121917,"current_ma":177,"power_mw":16194,"total_wh":90051,"err_code":0}}}'
)
SWITCH_0, SWITCH_1 = "/rpc/Switch.GetStatus?id=0", "/rpc/Switch.GetStatus?id=1"
STATUS_8 = "/cm?cmnd=Status%208"

Answer = str | bytes | int | Callable[[BaseHTTPRequestHandler], None]


class HttpPlug:
    """A plug on this machine: answers by path, with a text, an HTTP status or misbehaviour; else with a 404."""

    def __init__(self, answers: dict[str, Answer]) -> None:
        self.answers = answers
        self.asked: list[str] = []
        owner = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                owner.asked.append(self.path)
                owner.answer(self)

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        answer = self.answers.get(request.path, 404)
        if callable(answer):
            answer(request)
            return
        body = b"" if isinstance(answer, int) else answer.encode() if isinstance(answer, str) else answer
        request.send_response(answer if isinstance(answer, int) else 200)
        request.send_header("Content-Type", "application/json")
        request.end_headers()
        request.wfile.write(body)

    def address(self, kind: str, outlet: str = "") -> str:
        return f"{kind}:127.0.0.1:{self.server.server_address[1]}{outlet}"


@contextmanager
def serving(server: socketserver.BaseServer) -> Iterator[None]:
    thread = threading.Thread(target=server.serve_forever, args=(0.005,))
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def http_plug(answers: dict[str, Answer]) -> Iterator[HttpPlug]:
    served = HttpPlug(answers)
    with serving(served.server):
        yield served


@contextmanager
def kasa_plug(answer: Callable[[bytes], bytes]) -> Iterator[str]:
    """A Kasa plug: what it sends is `answer` of the enciphered question."""

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            (length,) = struct.unpack(">I", self.request.recv(4))
            self.request.sendall(answer(self.request.recv(length)))

    with socketserver.TCPServer(("127.0.0.1", 0), Handler) as server, serving(server):
        yield f"kasa:127.0.0.1:{server.server_address[1]}"


def enciphered(text: str) -> bytes:
    body = Kasa.encipher(text.encode())
    return struct.pack(">I", len(body)) + body


@pytest.fixture
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """As little of it as a test can have."""
    monkeypatch.setattr(plugs, "EXCHANGE_S", 0.1)


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("shelly:192.168.1.7", PlugAddress(kind="shelly", host="192.168.1.7")),
        ("Shelly:plug-s.local:8080/1", PlugAddress(kind="shelly", host="plug-s.local", port=8080, outlet=1)),
        ("tasmota://lamp_2/0", PlugAddress(kind="tasmota", host="lamp_2", outlet=0)),
        ("kasa:[fe80::1]:9999", PlugAddress(kind="kasa", host="fe80::1", port=9999)),
    ],
)
def test_an_address_is_kind_host_port_and_outlet(text: str, address: PlugAddress) -> None:
    assert is_plug(text)
    assert parse_plug(text) == address


@pytest.mark.parametrize(
    "text",
    [
        "shelly:",
        "shelly:a b",
        "shelly:host:99999",
        "shelly:host/status",
        "shelly:host\r\nX: y",
        "shelly:user:secret@host",
        "kasa:host?x=1",
        "tasmota:" + "a" * 64,
        "tuya:192.168.1.7",
    ],
)
def test_what_is_no_address_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match="write shelly:HOST"):
        parse_plug(text)


def test_the_name_of_a_sensor_is_not_a_plug() -> None:
    assert not is_plug("power.rapl")
    assert not is_plug("shelly")
    assert is_plug("shelly:")


def test_a_shelly_of_the_second_generation_or_later_gives_its_wattage() -> None:
    with http_plug({SWITCH_0: SHELLY_3}) as served:
        source = plug(served.address("shelly"))
        assert source.read() == (25.7,)
    (channel,) = source.info.channels
    assert (source.info.name, channel.name, channel.unit, channel.scope) == ("power.shelly", "power.wall", "W", "wall")
    known = of_channel(source.info, "power.wall")
    assert (known.gain, known.offset_w, known.update_s, known.total, known.flags) == (0.03, 0.5, 1.0, True, ("slow",))
    assert source.blocking


@pytest.mark.parametrize(
    ("answers", "outlet", "power_w"),
    [
        ({SWITCH_0: '{"apower":3.5}', SWITCH_1: SHELLY_3}, "/1", 25.7),
        ({"/rpc/PM1.GetStatus?id=0": '{"apower":7}'}, "", 7.0),
        ({"/rpc/EM1.GetStatus?id=0": '{"id":0,"act_power":151.2}', SWITCH_0: '{"output":true}'}, "", 151.2),
        ({"/status": SHELLY_1}, "", 8.61),
        ({"/status": SHELLY_1}, "/1", 3.5),
        ({"/status": '{"emeters":[{"power":33.2,"is_valid":true}]}'}, "", 33.2),
    ],
)
def test_a_shelly_of_any_generation_is_asked_in_its_own_way(
    answers: dict[str, Answer], outlet: str, power_w: float
) -> None:
    with http_plug(answers) as served:
        source = plug(served.address("shelly", outlet))
        assert source.read() == (power_w,)
        asked = len(served.asked)
        source.read()
        assert len(served.asked) == asked + 1


def test_a_shelly_whose_meter_is_not_valid_is_lost() -> None:
    with http_plug({"/status": SHELLY_1}) as served:
        source = plug(served.address("shelly"))
        served.answers["/status"] = SHELLY_1.replace("true", "false")
        with pytest.raises(SourceLost, match="without a power reading"):
            source.read()


@pytest.mark.parametrize(
    ("answer", "outlet", "power_w"), [(TASMOTA, "", 2.0), (TASMOTA_TWO, "/0", 52.0), (TASMOTA_TWO, "/1", 5.0)]
)
def test_a_tasmota_gives_its_wattage_or_that_of_one_outlet(answer: str, outlet: str, power_w: float) -> None:
    with http_plug({STATUS_8: answer}) as served:
        assert plug(served.address("tasmota", outlet)).read() == (power_w,)
        assert set(served.asked) == {STATUS_8}


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (TASMOTA_TWO, "has 2 outlets"),
        ('{"StatusSNS":{"Time":"2020-06-29T22:22:24"}}', "without a power reading"),
        ('{"WARNING":"Need user=<username>&password=<password>"}', "wants a password"),
        (TASMOTA.replace(":2,", ':"2",'), "without a power reading"),
        (TASMOTA.replace(":2,", ":true,"), "without a power reading"),
        (TASMOTA.replace(":2,", f":1{'0' * 400},"), r"without a power reading|not plausible|in JSON"),
    ],
)
def test_a_tasmota_that_gives_no_wattage_says_why(answer: str, said: str) -> None:
    with http_plug({STATUS_8: answer}) as served, pytest.raises(SourceLost, match=said):
        plug(served.address("tasmota"))


@pytest.mark.parametrize(("answer", "power_w"), [(KASA_OLD, 0.527563), (KASA_NEW, 16.194)])
def test_a_kasa_gives_its_wattage_in_either_unit(answer: str, power_w: float) -> None:
    asked = []

    def respond(question: bytes) -> bytes:
        asked.append(Kasa.decipher(question))
        return enciphered(answer)

    with kasa_plug(respond) as address:
        assert plug(address).read() == pytest.approx((power_w,))
    assert json.loads(asked[0]) == {"emeter": {"get_realtime": {}}}


def test_the_cipher_begins_with_171_and_goes_on_with_its_own_text() -> None:
    assert Kasa.encipher(b'{"a') == bytes([0x7B ^ 171, 0x7B ^ 171 ^ 0x22, 0x7B ^ 171 ^ 0x22 ^ 0x61])


@given(st.binary(max_size=300))
def test_the_cipher_is_undone(plain: bytes) -> None:
    assert Kasa.decipher(Kasa.encipher(plain)) == plain


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"\0\0",
        struct.pack(">I", 100) + b"short",
        struct.pack(">I", 0xFFFFFFFF) + b"x",
        enciphered("no JSON"),
        enciphered('{"emeter":{"err_code":-1,"err_msg":"module not support"}}'),
        struct.pack(">I", 20) + bytes(20),
    ],
)
@pytest.mark.usefixtures("patience")
def test_a_kasa_that_answers_wrongly_is_lost(answer: bytes) -> None:
    with kasa_plug(lambda _: answer) as address, pytest.raises(SourceLost):
        plug(address)


def test_a_kasa_that_refuses_is_told_of_newer_firmware() -> None:
    with kasa_plug(lambda _: b"") as address:
        pass
    with pytest.raises(SourceLost) as lost:
        plug(address)
    assert "python-kasa" in lost.value.missing.hint


def test_a_kasa_has_no_outlets_to_choose_from() -> None:
    with pytest.raises(ValueError, match="kasa:HOST"):
        plug("kasa:127.0.0.1/1")


def drip(request: BaseHTTPRequestHandler) -> None:
    """A header line again and again, each within any time-out of a single read."""
    gone = threading.Event()
    try:
        request.wfile.write(b"HTTP/1.0 200 OK\r\n")
        while not gone.wait(0.02):
            request.wfile.write(b"X: y\r\n")
    except OSError:
        pass


def redirect(request: BaseHTTPRequestHandler) -> None:
    request.send_response(302)
    request.send_header("Location", SWITCH_0)
    request.end_headers()


def drop(request: BaseHTTPRequestHandler) -> None:
    request.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{")


def hang_up(_request: BaseHTTPRequestHandler) -> None:
    """Close the connection without a word."""


@pytest.mark.parametrize(
    "answer",
    [
        b"\xff\xfe not text",
        "<html>login</html>",
        "[" * 50_000,
        b"{" + b" " * 70_000 + b"}",
        '{"apower":',
        "null",
        401,
        500,
        drip,
        redirect,
        drop,
        hang_up,
    ],
)
@pytest.mark.usefixtures("patience")
def test_a_plug_that_answers_wrongly_is_lost_with_a_reason_and_comes_back(answer: Answer) -> None:
    with http_plug({SWITCH_0: SHELLY_3}) as served:
        source = plug(served.address("shelly"))
        served.answers[SWITCH_0] = answer
        with pytest.raises(SourceLost) as lost:
            source.read()
        assert lost.value.missing.reason
        served.answers[SWITCH_0] = SHELLY_3
        assert source.read() == (25.7,)


@pytest.mark.usefixtures("patience")
def test_a_plug_that_is_not_there_is_lost_and_the_network_named() -> None:
    with http_plug({}) as served:
        address = served.address("tasmota")
    with pytest.raises(SourceLost) as lost:
        plug(address)
    assert "network" in lost.value.missing.hint


def test_a_password_is_told_of() -> None:
    with http_plug({SWITCH_0: 401}) as served, pytest.raises(SourceLost, match="password"):
        plug(served.address("shelly"))


def test_proxies_of_the_environment_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    with http_plug({SWITCH_0: SHELLY_3}) as served, http_plug({}) as proxy:
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.server.server_address[1]}")
        monkeypatch.delenv("no_proxy", raising=False)
        assert plug(served.address("shelly")).read() == (25.7,)
        assert proxy.asked == []


def test_readings_that_cannot_be_are_missing_and_a_zero_needs_two_confirmations() -> None:
    told: list[Any] = []
    with http_plug({SWITCH_0: SHELLY_3}) as served:
        source = plug(served.address("shelly"))
        for power_w in (12000, -3, 9.5, 0, 9.6, 0, 0, 0, 9.7):
            served.answers[SWITCH_0] = json.dumps({"apower": power_w})
            told += source.read()
    believed = [None if isinstance(value, Unavailable) else value for value in told]
    assert believed == [None, None, 9.5, None, 9.6, None, None, 0.0, 9.7]


def test_a_plug_that_supplies_nothing_is_no_source() -> None:
    with http_plug({SWITCH_0: '{"apower":0.0}'}) as served, pytest.raises(SourceLost, match="0 W") as lost:
        plug(served.address("shelly"))
    assert "plug this device" in lost.value.missing.hint
