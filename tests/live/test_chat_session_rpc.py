from __future__ import annotations

from edgetop.live.chat_session import rpc_notice


def test_the_warning_says_how_to_use_rpc_safely() -> None:
    notice = rpc_notice(("127.0.0.1:50052", "localhost:50053"))
    assert notice.severity == "warning"
    assert "SECURITY.md" in notice.text
    assert "Memory and power" not in notice.text
    assert "ssh -L" in notice.hint


def test_machines_that_the_panes_do_not_describe_are_named() -> None:
    notice = rpc_notice(("127.0.0.1:50052", "pi2:50052", "pi2:50053", "10.0.0.3:1"))
    assert "shown of this machine, not of pi2, 10.0.0.3;" in notice.text
    assert '--power-stream "ssh pi2 edgetop power --stream"' in notice.text
