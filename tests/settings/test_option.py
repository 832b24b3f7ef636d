from __future__ import annotations

import pytest

from edgetop.settings.option import rpc_servers


def test_addresses_are_read_with_and_without_a_port() -> None:
    assert rpc_servers("10.0.0.2:6000, pi-2.local,10.0.0.2:6000") == ("10.0.0.2:6000", "pi-2.local:50052")


@pytest.mark.parametrize(
    "text", ["", "a,", ":5", "a:0", "a:65536", "a:x", "a:1:2", "::1", "a b:1", "-a:1", "a:\u0663", "http://a:1"]
)
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="HOST:PORT"):
        rpc_servers(text)


def test_there_are_no_more_than_llama_cpp_takes() -> None:
    with pytest.raises(ValueError, match="at most 16"):
        rpc_servers(",".join(f"h{number}" for number in range(17)))
