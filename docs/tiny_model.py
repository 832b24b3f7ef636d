"""Trains the tiny model of the example study: `python -m docs.tiny_model FOLDER`, from the root of a checkout.

A model of llama's architecture with some 2 million weights in 32-bit floats, trained for a few minutes on the text of
Python's language reference (`pydoc_data.topics`, which comes with Python). It is good for one thing: levels made from
it lose what rounding takes, and nothing else. Beside it stand the text and the questions that it is scored by, made of
topics that it was not trained on. The same seed, text and numpy give the same file;
`OPENBLAS_NUM_THREADS=1` makes it quick on a machine that others use, too.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from pydoc_data.topics import topics

import gguf
import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float32]
Tokens = npt.NDArray[np.int64]
Weights = dict[str, Array]

NAME = "tiny-model"
N_VOCAB, N_EMBD, N_HEAD, N_FF, N_LAYER, N_CTX = 1024, 256, 4, 768, 2, 512
"""Rows of 256, which the blocks of all levels divide."""
HEAD = N_EMBD // N_HEAD
EPSILON, ROPE_BASE = 1e-5, 10_000.0
STEPS, BATCH, WARM_STEPS, RATE_MOST, RATE_LEAST, DECAY = 900, 1, 60, 3e-3, 1e-4, 0.05
HELD_OUT = 8
"""Every so manieth topic is kept from training."""
QUESTIONS, CHOICES, PREFIX_CHARACTERS, CHOICE_CHARACTERS, WORDS_LEAST = 200, 4, 160, 48, 5
SEED = 7

_WORD = re.compile(r"'s|'t|'re|'ve|'m|'ll|'d| ?[A-Za-z]+| ?[0-9]+| ?[^\sA-Za-z0-9]+|\s+(?!\S)|\s+")
"""How GPT-2's tokenizer divides ASCII text."""


def texts() -> tuple[str, str]:
    """What the model is trained on, and what it is scored by."""
    named = [topics[name].encode("ascii", "ignore").decode() for name in sorted(topics)]
    held = "\n".join(named[HELD_OUT - 1 :: HELD_OUT])
    return "\n".join(text for at, text in enumerate(named, 1) if at % HELD_OUT), held


def questions(text: str, seed: int) -> Iterator[dict[str, object]]:
    """How a passage goes on: as it does, or with the same words in three other orders."""
    chance = np.random.default_rng(seed)
    joined = " ".join(text.split())
    starts = [found.start() for found in re.finditer(r"(?<=[a-z]) (?=[a-z])", joined)]
    starts = [at for at in starts if PREFIX_CHARACTERS < at < len(joined) - CHOICE_CHARACTERS]
    asked = 0
    while asked < QUESTIONS:
        at = int(chance.choice(starts))
        words = joined[at + 1 : at + CHOICE_CHARACTERS].split(" ")[:-1]
        if len(set(words)) < WORDS_LEAST:
            continue
        right = " ".join(words)
        orders = {right}
        while len(orders) < CHOICES:
            orders.add(" ".join(chance.permutation(words)))
        choices = [str(each) for each in chance.permutation(sorted(orders))]
        yield {"prompt": joined[at - PREFIX_CHARACTERS : at], "choices": choices, "answer": choices.index(right)}
        asked += 1


class Tokenizer:
    """Byte pairs, as GPT-2 merges them."""

    def __init__(self, text: str) -> None:
        """The most frequent pairs of a text, one after the other."""
        words = Counter(_WORD.findall(text))
        parts: dict[str, list[str]] = {word: list(word) for word in words}
        self.merges: list[tuple[str, str]] = []
        while len(self.merges) < N_VOCAB - 256:
            pairs: Counter[tuple[str, str]] = Counter()
            for word, count in words.items():
                for pair in zip(parts[word], parts[word][1:], strict=False):
                    pairs[pair] += count
            best = min(pairs, key=lambda pair: (-pairs[pair], pair))
            self.merges.append(best)
            for word, found in parts.items():
                if best[0] in found:
                    parts[word] = _merged(found, best)
        shown = _shown_bytes()
        self.tokens = [shown[each] for each in range(256)] + ["".join(pair) for pair in self.merges]
        self.tokens = self.tokens[:256] + ["".join(shown[ord(each)] for each in token) for token in self.tokens[256:]]
        self._numbers = {chr(each): each for each in range(256)}
        self._numbers |= {"".join(pair): 256 + at for at, pair in enumerate(self.merges)}
        self._parts = parts

    def encode(self, text: str) -> Tokens:
        """The tokens of the text that it was made of, or of another one."""
        numbers = []
        for word in _WORD.findall(text):
            if word not in self._parts:
                found = list(word)
                for merge in self.merges:
                    found = _merged(found, merge)
                self._parts[word] = found
            numbers += [self._numbers[part] for part in self._parts[word]]
        return np.array(numbers, np.int64)

    @property
    def merge_lines(self) -> list[str]:
        """As GGUF holds them."""
        shown = _shown_bytes()
        return [" ".join("".join(shown[ord(each)] for each in part) for part in pair) for pair in self.merges]


def _merged(parts: list[str], pair: tuple[str, str]) -> list[str]:
    merged: list[str] = []
    for part in parts:
        if merged and (merged[-1], part) == pair:
            merged[-1] += part
        else:
            merged.append(part)
    return merged


def _shown_bytes() -> list[str]:
    """The letters that stand for bytes in GPT-2's vocabulary."""
    plain = {*range(33, 127), *range(161, 173), *range(174, 256)}
    others = iter(range(256, 512))
    return [chr(each) if each in plain else chr(next(others)) for each in range(256)]


def first_weights(seed: int) -> Weights:
    """What training begins with, by llama.cpp's names; matrices as they stand in the file: a row for each output."""
    chance = np.random.default_rng(seed)

    def matrix(rows: int, columns: int, scale: float = 1.0) -> Array:
        drawn: Array = chance.standard_normal((rows, columns), np.float32) * np.float32(0.02 * scale)
        return drawn

    narrow = 1 / (2 * N_LAYER) ** 0.5
    weights = {"token_embd": matrix(N_VOCAB, N_EMBD), "output_norm": np.ones(N_EMBD, np.float32)}
    for layer in range(N_LAYER):
        weights |= {
            f"blk.{layer}.attn_norm": np.ones(N_EMBD, np.float32),
            **{f"blk.{layer}.attn_{each}": matrix(N_EMBD, N_EMBD) for each in "qkv"},
            f"blk.{layer}.attn_output": matrix(N_EMBD, N_EMBD, narrow),
            f"blk.{layer}.ffn_norm": np.ones(N_EMBD, np.float32),
            f"blk.{layer}.ffn_gate": matrix(N_FF, N_EMBD),
            f"blk.{layer}.ffn_up": matrix(N_FF, N_EMBD),
            f"blk.{layer}.ffn_down": matrix(N_EMBD, N_FF, narrow),
        }
    return weights


_ANGLES = np.arange(N_CTX)[:, None] * ROPE_BASE ** (-np.arange(0, HEAD, 2) / HEAD)
_COS, _SIN = np.cos(_ANGLES).astype(np.float32), np.sin(_ANGLES).astype(np.float32)
_FUTURE = np.triu(np.full((N_CTX, N_CTX), -np.inf, np.float32), 1)


def _turned(x: Array, sign: float) -> Array:
    """Rotary embedding of neighbours, as llama.cpp turns those of llama; with -1 back again."""
    n = x.shape[-2]
    even, odd, sine = x[..., ::2], x[..., 1::2], np.float32(sign) * _SIN[:n]
    turned = np.empty_like(x)
    turned[..., ::2], turned[..., 1::2] = even * _COS[:n] - odd * sine, odd * _COS[:n] + even * sine
    return turned


def _norm(x: Array, gain: Array) -> tuple[Array, Array]:
    """RMS norm, and what its gradient needs."""
    scaled = x / np.sqrt((x * x).mean(-1, keepdims=True) + np.float32(EPSILON))
    return scaled * gain, scaled


def _norm_back(grad: Array, x: Array, scaled: Array, gain: Array) -> tuple[Array, Array]:
    rms = np.sqrt((x * x).mean(-1, keepdims=True) + np.float32(EPSILON))
    inner = grad * gain
    back = (inner - scaled * (inner * scaled).mean(-1, keepdims=True)) / rms
    return back, (grad * scaled).reshape(-1, N_EMBD).sum(0)


def _heads(x: Array, batch: int) -> Array:
    heads: Array = x.reshape(batch, -1, N_HEAD, HEAD).transpose(0, 2, 1, 3)
    return heads


def _joined(x: Array) -> Array:
    joined: Array = x.transpose(0, 2, 1, 3).reshape(-1, N_EMBD)
    return joined


def loss_and_gradients(weights: Weights, read: Tokens, following: Tokens) -> tuple[float, Weights]:
    """Mean cross-entropy in nats of the tokens that follow, and its gradient by each weight."""
    batch, n = read.shape
    x = weights["token_embd"][read.ravel()]
    kept = []
    scale = np.float32(HEAD**-0.5)
    for layer in range(N_LAYER):
        w = {name: weights[f"blk.{layer}.{name}"] for name in _OF_LAYER}
        a, a_scaled = _norm(x, w["attn_norm"])
        q, k = (_turned(_heads(a @ w[f"attn_{each}"].T, batch), 1.0) for each in "qk")
        v = _heads(a @ w["attn_v"].T, batch)
        scores = q @ k.transpose(0, 1, 3, 2) * scale + _FUTURE[:n, :n]
        scores = np.exp(scores - scores.max(-1, keepdims=True))
        share = scores / scores.sum(-1, keepdims=True)
        mixed = _joined(share @ v)
        y = x + mixed @ w["attn_output"].T
        f, f_scaled = _norm(y, w["ffn_norm"])
        gate, up = f @ w["ffn_gate"].T, f @ w["ffn_up"].T
        open_ = 1 / (1 + np.exp(-gate))
        hidden = gate * open_ * up
        kept.append((w, x, a, a_scaled, q, k, v, share, mixed, y, f, f_scaled, gate, up, open_, hidden))
        x = y + hidden @ w["ffn_down"].T
    last, last_scaled = _norm(x, weights["output_norm"])
    logits = last @ weights["token_embd"].T
    logits -= logits.max(-1, keepdims=True)
    chances = np.exp(logits)
    chances /= chances.sum(-1, keepdims=True)
    rows, right = np.arange(batch * n), following.ravel()
    loss = float(-np.log(chances[rows, right]).mean())
    chances[rows, right] -= 1
    chances /= np.float32(batch * n)
    found: Weights = {"token_embd": chances.T @ last}
    grad, found["output_norm"] = _norm_back(chances @ weights["token_embd"], x, last_scaled, weights["output_norm"])
    for layer in reversed(range(N_LAYER)):
        w, x, a, a_scaled, q, k, v, share, mixed, y, f, f_scaled, gate, up, open_, hidden = kept[layer]
        of_layer = {"ffn_down": grad.T @ hidden}
        hidden_grad = grad @ w["ffn_down"]
        up_grad = hidden_grad * gate * open_
        gate_grad = hidden_grad * up * open_ * (1 + gate * (1 - open_))
        of_layer |= {"ffn_gate": gate_grad.T @ f, "ffn_up": up_grad.T @ f}
        back, of_layer["ffn_norm"] = _norm_back(
            gate_grad @ w["ffn_gate"] + up_grad @ w["ffn_up"], y, f_scaled, w["ffn_norm"]
        )
        grad = grad + back
        of_layer["attn_output"] = grad.T @ mixed
        mixed_grad = _heads(grad @ w["attn_output"], batch)
        share_grad = mixed_grad @ v.transpose(0, 1, 3, 2)
        score_grad = share * (share_grad - (share_grad * share).sum(-1, keepdims=True)) * scale
        parts = {
            "q": _joined(_turned(score_grad @ k, -1.0)),
            "k": _joined(_turned(score_grad.transpose(0, 1, 3, 2) @ q, -1.0)),
            "v": _joined(share.transpose(0, 1, 3, 2) @ mixed_grad),
        }
        of_layer |= {f"attn_{each}": part.T @ a for each, part in parts.items()}
        back, of_layer["attn_norm"] = _norm_back(
            sum((part @ w[f"attn_{each}"] for each, part in parts.items()), np.float32(0)), x, a_scaled, w["attn_norm"]
        )
        grad = grad + back
        found |= {f"blk.{layer}.{name}": each for name, each in of_layer.items()}
    np.add.at(found["token_embd"], read.ravel(), grad)
    return loss, found


_OF_LAYER = (
    "attn_norm", "attn_q", "attn_k", "attn_v", "attn_output", "ffn_norm", "ffn_gate", "ffn_up", "ffn_down",
)  # fmt: skip


def train(tokens: Tokens, *, steps: int, seed: int) -> Weights:
    """Weights after so many steps of AdamW (Loshchilov and Hutter 2019) on passages of a text."""
    chance = np.random.default_rng(seed + 1)
    weights = first_weights(seed)
    means = {name: np.zeros_like(each) for name, each in weights.items()}
    squares = {name: np.zeros_like(each) for name, each in weights.items()}
    for step in range(1, steps + 1):
        starts = chance.integers(len(tokens) - N_CTX - 1, size=BATCH)
        passages = np.stack([tokens[at : at + N_CTX + 1] for at in starts])
        loss, gradients = loss_and_gradients(weights, passages[:, :-1], passages[:, 1:])
        length = float(np.sqrt(sum(float((each * each).sum()) for each in gradients.values())))
        done = max(0.0, (step - WARM_STEPS) / max(1, steps - WARM_STEPS))
        rate = min(1.0, step / WARM_STEPS) * (RATE_LEAST + (RATE_MOST - RATE_LEAST) * (1 + np.cos(np.pi * done)) / 2)
        for name, weight in weights.items():
            grad = gradients[name] * np.float32(min(1.0, 1 / length))
            means[name] += np.float32(0.1) * (grad - means[name])
            squares[name] += np.float32(0.05) * (grad * grad - squares[name])
            stepped = means[name] / (1 - 0.9**step) / (np.sqrt(squares[name] / (1 - 0.95**step)) + np.float32(1e-8))
            step_by = rate * (stepped + (DECAY if weight.ndim > 1 else 0.0) * weight)
            np.subtract(weight, step_by, out=weight, casting="same_kind")
        if step % 50 == 0:
            sys.stderr.write(f"step {step} of {steps}: {loss:.3f} nats\n")
    return weights


def write_model(path: Path, weights: Weights, tokenizer: Tokenizer) -> None:
    """The GGUF file, all of it in 32-bit floats."""
    writer = gguf.GGUFWriter(str(path), "llama")
    writer.add_name("A tiny model trained for this example")
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    writer.add_vocab_size(N_VOCAB)
    writer.add_context_length(N_CTX)
    writer.add_embedding_length(N_EMBD)
    writer.add_block_count(N_LAYER)
    writer.add_feed_forward_length(N_FF)
    writer.add_head_count(N_HEAD)
    writer.add_head_count_kv(N_HEAD)
    writer.add_layer_norm_rms_eps(EPSILON)
    writer.add_rope_dimension_count(HEAD)
    writer.add_rope_freq_base(ROPE_BASE)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokenizer.tokens)
    writer.add_token_types([gguf.TokenType.NORMAL] * N_VOCAB)
    writer.add_token_merges(tokenizer.merge_lines)
    writer.add_bos_token_id(10)
    writer.add_eos_token_id(0)
    writer.add_add_bos_token(False)
    for name, each in weights.items():
        writer.add_tensor(f"{name}.weight", each)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def make(folder: Path, *, steps: int = STEPS, seed: int = SEED) -> tuple[Path, Path, Path]:
    """The model, its text and its questions in a folder; what is there already is not made again."""
    model, text, asked = (folder / f"{NAME}.{each}" for each in ("F32.gguf", "txt", "jsonl"))
    if not all(each.is_file() for each in (model, text, asked)):
        folder.mkdir(parents=True, exist_ok=True)
        trained, held = texts()
        text.write_text(held, "utf-8")
        asked.write_text("".join(json.dumps(each) + "\n" for each in questions(held, seed)), "utf-8")
        tokenizer = Tokenizer(trained)
        part = model.with_suffix(".part")
        write_model(part, train(tokenizer.encode(trained), steps=steps, seed=seed), tokenizer)
        part.replace(model)
    return model, text, asked


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m docs.tiny_model", description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--seed", type=int, default=SEED)
    chosen = parser.parse_args()
    sys.stdout.write(f"{make(chosen.folder, steps=chosen.steps, seed=chosen.seed)[0]}\n")
