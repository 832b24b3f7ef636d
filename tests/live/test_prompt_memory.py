"""What a real llama-server processes again, provoked cause by cause, in the tokens that it counts itself."""

from __future__ import annotations

import json
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from edgetop.core.records import RequestServed
from edgetop.live.proxy_session import (
    EARLIER,
    KEPT_NOTHING,
    OTHER_SLOT,
    OTHERS_SINCE,
    SYSTEM,
    TOKENS_LEAST,
    TOOLS,
    Counts,
    PromptMemory,
    ProxySession,
    prompt_of,
)
from tests.live.test_proxy_session import proxied, seen_by
from tests.support.eventually import eventually
from tests.support.llama_cpp_servers import llama_server

LONG, OTHER = "The harbour lay quiet that morning. " * 7, "Seven ships went out at noon for cod. " * 7


def said(*texts: str) -> list[dict[str, str]]:
    roles = ("system", "user", "assistant", "user")
    return [{"role": role, "content": text} for role, text in zip(roles, texts, strict=False)]


def ask(url: str, messages: object, **fields: Any) -> dict[str, Any]:
    body = json.dumps({"messages": messages, "max_tokens": 1, "temperature": 0, **fields}).encode()
    asked = urllib.request.Request(f"{url}/v1/chat/completions", body, {"Content-Type": "application/json"})  # noqa: S310
    with urllib.request.urlopen(asked, timeout=120) as answer:  # noqa: S310
        found: dict[str, Any] = json.loads(answer.read())
        return found


def follow(proxy: ProxySession, seen: list[RequestServed], messages: object, **fields: Any) -> RequestServed:
    """Ask through the proxy; its record, which must say what the server says."""
    told = ask(proxy.url, messages, **fields)
    record = seen_by(proxy, seen)
    assert record.prompt_tokens == told["usage"]["prompt_tokens"]
    assert record.cached_tokens == told["timings"]["cache_n"]
    assert record.reread_tokens is not None
    assert record.reread_tokens <= told["timings"]["prompt_n"]
    return record


def test_the_causes_one_by_one(small_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with (
        llama_server(small_model, n_ctx=2048, cache_ram_mib=0) as (url, _pid),
        proxied(url, tmp_path, monkeypatch) as (proxy, seen),
    ):
        first = follow(proxy, seen, said(LONG, "Say one."))
        assert first.reread_tokens == 0
        # The conversation goes on: all of it is in the cache.
        assert follow(proxy, seen, said(LONG, "Say one.", "One.", "Say two.")).reread_tokens == 0
        follow(proxy, seen, said("Be brief.", OTHER))
        changed = follow(proxy, seen, said("It is noon.", OTHER))
        assert (changed.reread_why, _is_near(changed, 77)) == (SYSTEM, True)
        between = follow(proxy, seen, said(LONG, "Say one."))
        assert (between.reread_why, _is_near(between, first.prompt_tokens or 0)) == (OTHERS_SINCE, True)
        nothing = follow(proxy, seen, said(LONG, "Say one."), cache_prompt=False)
        assert (nothing.reread_why, nothing.reread_tokens) == (KEPT_NOTHING, nothing.prompt_tokens)


def _is_near(record: RequestServed, tokens: int) -> bool:
    return record.reread_tokens is not None and abs(record.reread_tokens - tokens) <= TOKENS_LEAST


WITH_TOOLS = (
    "{% if tools %}<|im_start|>system\n{{ tools | tojson }}<|im_end|>\n{% endif %}{% for message in messages %}"
    "<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}<|im_start|>assistant\n"
)
"""A template that has the tools in the prompt, as those of larger models do."""


def test_an_earlier_message_and_the_tools(small_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def tool(name: str) -> list[dict[str, object]]:
        parameters = {"type": "object", "properties": {"place": {"type": "string"}}}
        return [{"type": "function", "function": {"name": name, "description": LONG, "parameters": parameters}}]

    with (
        llama_server(small_model, n_ctx=2048, cache_ram_mib=0, use_jinja=True, chat_template=WITH_TOOLS) as (url, _pid),
        proxied(url, tmp_path, monkeypatch) as (proxy, seen),
    ):
        assert follow(proxy, seen, said("Be brief.", "Say one.", "One.", OTHER)).reread_tokens == 0
        earlier = follow(proxy, seen, said("Be brief.", "Tell me two.", "One.", OTHER))
        assert (earlier.reread_why, _is_near(earlier, 77)) == (EARLIER, True)
        follow(proxy, seen, said("It is noon.", OTHER), tools=tool("weather"))
        changed = follow(proxy, seen, said("It is noon.", OTHER), tools=tool("tides"))
        assert changed.reread_why == TOOLS
        assert (changed.reread_tokens or 0) > 60


def test_another_slot(small_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with (
        llama_server(small_model, n_ctx=1024, n_parallel=2, cache_ram_mib=0, kv_unified=False) as (url, _pid),
        proxied(url, tmp_path, monkeypatch) as (proxy, seen),
        ThreadPoolExecutor() as pool,
    ):
        follow(proxy, seen, said(LONG, "Say one."))
        running = pool.submit(ask, proxy.url, said(LONG, "Say one."), max_tokens=16, ignore_eos=True)

        def runs() -> bool:
            proxy.pump()
            return proxy.running > 0

        eventually(runs, "the first one runs")
        record = follow(proxy, seen, said(LONG, "Say one."))
        running.result()
    assert record.reread_why == OTHER_SLOT


def test_changes_and_their_names() -> None:
    memory = PromptMemory()

    def again(messages: list[dict[str, str]], tools: object = None, cached: int = 0) -> tuple[int, str] | None:
        prompt = prompt_of(messages, None, tools)
        assert prompt is not None
        counts = Counts(prompt.length // 4, cached, 1)
        found = memory.read_again("m", prompt, counts, beside=False)
        memory.remember("m", prompt, "reply", counts)
        return found

    long, other = "x" * 800, "y" * 800
    assert again(said("s", long)) is None
    for number in (1, 2):
        found = again(said("s", long), tools=[{"f": number}])
        assert found is not None
        assert found[1] == TOOLS
    assert again(said("z", "earlier", "answer", other)) is None
    found = again(said("z", "changed", "answer", other))
    assert found is not None
    assert found[1] == EARLIER
    assert again(said("z", "changed", "answer", other), cached=10**6) is None
    assert prompt_of([{"content": ["\ud800", {}]}, 3, None], None, None) is not None
    assert prompt_of([{"role": "user", "content": "x" * 10**6}], None, None) is None
    assert prompt_of({}, 3, None) is None
