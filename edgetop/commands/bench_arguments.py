"""The arguments of `edgetop bench`, apart from what carries it out: `--help` is to be quick."""

from __future__ import annotations

import argparse
from typing import Any


def add_bench(parser: argparse.ArgumentParser) -> None:
    """The arguments of `edgetop bench`."""
    add = parser.add_argument
    several: dict[str, Any] = {"action": "append", "default": []}
    add("-m", "--model", dest="models", metavar="MODEL", help="a model; may be given several times", **several)
    add("--quant", metavar="LEVEL,...", help="make these levels of each model, such as Q8_0,Q4_K_M,Q2_K", **several)
    add("-p", "--n-prompt", metavar="N,...", help="tokens of a prompt, 0 for no such test; 512", **several)
    add("-n", "--n-gen", metavar="N,...", help="tokens of a reply, 0 for no such test; 128", **several)
    add("--pg", dest="pairs", metavar="N,N", help="a prompt and a reply in one test", **several)
    add("-d", "--n-depth", metavar="N,...", help="tokens that the context holds before; 0", **several)
    add("-r", "--repetitions", metavar="N", help="how often each test is done; 5")
    add("-t", "--threads", metavar="N,...", help="threads; the physical cores that are ours", **several)
    add("--threads-batch", metavar="N,...", help="threads for prefill; as many as for decoding", **several)
    add("--kv-type", metavar="TYPE,...", help="types of the KV cache; f16", **several)
    add("--gpu-layers", metavar="N,...", help="layers to offload", **several)
    add("--batch", metavar="N,...", help="largest number of tokens in one decode call", **several)
    add("--ubatch", metavar="N,...", help="tokens computed together in prefill", **several)
    add("--prompts", action="store_true", help="real prompts, too: short, long, summary, code, several turns")
    add("--max-tokens", metavar="N", help="at most so many tokens of an answer to a prompt")
    add(
        "--quality", nargs="?", const=True, metavar="FILE",
        help="perplexity, divergence from the most precise level and questions; on a text of your own if you name one",
    )  # fmt: skip
    add("--study", action="store_true", help="levels, threads, prompts and quality: the whole study, in one command")
    add("--plan", metavar="FILE", help="a TOML file that says all of this; flags say it over")
    add("--order", choices=["interleaved", "blocks"], help="settings take turns (interleaved), or one after the other")
    add("--no-warmup", action="store_true", help="do not warm up before a test")
    add("--idle", metavar="SECONDS", help="idle time before a run where power is measured; 11")
    add("--cool-down-limit", metavar="SECONDS", help="wait at most so long for the device to come to rest; 120")
    add("--seed", metavar="N", help="of random tokens; 0")
    add(
        "-o", "--output", dest="output_format", default="table", choices=["table", "md", "csv", "json", "jsonl", "sql"],
        help="form of the results; llama-bench's field names, with ours behind them",
    )  # fmt: skip
    add("--report", metavar="FILE", help="write an HTML report as well")
    add("--device-price", metavar="AMOUNT", help="what the device costs, for the cost of a million tokens with --price")
    add("--device-years", metavar="N", help="how long it will be used; 4")
    add("--resume", nargs="?", const="last", metavar="ID", help="go on with a benchmark that was interrupted")
    add("--again", action="store_true", help="measure all of it once more, even if it was begun before")
    add("--list", action="store_true", help="benchmarks that were begun")
    add("--dry-run", action="store_true", help="say how long it would take, and measure nothing")
