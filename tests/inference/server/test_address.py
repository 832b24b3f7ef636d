from __future__ import annotations

import pytest

from edgetop.inference.server.address import Address, ServerChoice


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
