from __future__ import annotations

from pathlib import Path

import pytest

from edgetop.inference.server.address import Address, ServerChoice, key_file_of


@pytest.mark.parametrize(
    ("text", "written", "loopback"),
    [
        ("http://127.0.0.1:8080", "http://127.0.0.1:8080", True),
        ("127.0.0.1:11434", "http://127.0.0.1:11434", True),
        ("localhost:1234/v1", "http://localhost:1234", True),
        ("http://[::1]:8080/", "http://[::1]:8080", True),
        ("https://pi2.lan/llm/v1/", "https://pi2.lan:443/llm", False),
        ("HTTP://Pi2:80", "http://pi2:80", False),
    ],
)
def test_an_address_is_read_as_people_write_it(text: str, written: str, *, loopback: bool) -> None:
    address = Address.parse(text)
    assert str(address) == written
    assert address.is_loopback is loopback
    assert Address.parse(written) == address


@pytest.mark.parametrize(
    "text",
    [
        "", "http://", "ftp://host", "http://host:0", "http://host:99999", "http://host:x", "http://user:secret@host",
        "http://key@host", "http://host/?key=secret", "http://host/#x", "http://ho st", "http://host\n:80", "http://hö.de",
    ],
)  # fmt: skip
def test_what_is_no_address_is_refused_without_repeating_it(text: str) -> None:
    with pytest.raises(ValueError, match="an address") as refused:
        Address.parse(text)
    assert "secret" not in str(refused.value)


def test_a_choice_is_the_name_of_its_engine() -> None:
    choice = ServerChoice(url="http://pi2:8080", kind="ollama", key_file="/a:b", timeout_s=3)
    assert ServerChoice.of_engine(choice.engine_name) == choice
    assert ServerChoice.of_engine("llama") is None


def test_the_authority_is_what_a_person_calls_the_server() -> None:
    assert Address.parse("https://pi2.lan/llm").authority == "pi2.lan:443"
    assert Address.parse("http://pi2:8080").authority == "pi2:8080"


@pytest.mark.parametrize(
    ("pasted", "meant"),
    [
        ("http://h:1/v1/chat/completions", "http://h:1"), ("http://h:1/api", "http://h:1"),
        ("http://h:1/api/chat", "http://h:1"), ("http://h:1/p/v1/models/", "http://h:1/p"),
        ("  http://h:1/v1  ", "http://h:1"), ("8101", "http://127.0.0.1:8101"), (":8101", "http://127.0.0.1:8101"),
        ("http://h:1/completion", "http://h:1"), ("unix:/run/a b.sock", "unix:/run/a b.sock"),
        ("unix:///run/x.sock", "unix:/run/x.sock"),
    ],
)  # fmt: skip
def test_what_people_paste_is_understood(pasted: str, meant: str) -> None:
    assert str(Address.parse(pasted)) == meant


@pytest.mark.parametrize("text", ["unix:run", "99999", "unix:/a\nb", "0"])
def test_what_cannot_be_an_address_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="such as"):
        Address.parse(text)


def test_a_key_file_is_of_an_origin(tmp_path: Path) -> None:
    files = (("http://h:1/v1", tmp_path / "a"), ("https://h:1", tmp_path / "b"))
    assert key_file_of(Address.parse("http://h:1/prefix"), files) == str(tmp_path / "a")
    assert key_file_of(Address.parse("https://h:1"), files) == str(tmp_path / "b")
    assert key_file_of(Address.parse("http://h:2"), files) == ""
