"""What servers have been seen to say, byte for byte, each with its source.

What a source left out of an exchange is left out here too: the tests say so where it matters.
"""

from __future__ import annotations

import json
from textwrap import dedent

from tests.support.loopback_server import LoopbackServer, document, stream

# Ollama 0.3 with gemma2:2b: https://qiita.com/7shi/items/be2ca03a654f4d26ba5f, an abridged print of the chunks of a
# stream; the form on the wire (one object a line) is that of https://github.com/ollama/ollama/blob/main/docs/api.md.
OLLAMA_CHAT = dedent(
    """\
    {"model":"gemma2:2b","created_at":"2024-08-07T03:57:33.0365888Z","message":{"role":"assistant","content":"Hello"},"done":false}
    {"model":"gemma2:2b","created_at":"2024-08-07T03:57:33.2801449Z","message":{"role":"assistant","content":"!"},"done":false}
    {"model":"gemma2:2b","created_at":"2024-08-07T03:57:37.0774624Z","message":{"role":"assistant","content":""},"done_reason":"stop","done":true,"total_duration":4353619900,"load_duration":63915300,"prompt_eval_count":10,"prompt_eval_duration":246847000,"eval_count":17,"eval_duration":4032296000}
    """
).encode()

# The same page: `/api/ps` and `/api/show` (the lists of the vocabulary, empty there, left out), and the answer to a
# request that only loads a model.
OLLAMA_PS = b"""{
  "models": [
    {
      "name": "mistral:latest",
      "model": "mistral:latest",
      "size": 5137025024,
      "digest": "2ae6f6dd7a3dd734790bbbf58b8909a606e0e7e97e94b7604e0aa7ae4490e6d8",
      "details": {"parent_model": "", "format": "gguf", "family": "llama", "families": ["llama"],
        "parameter_size": "7.2B", "quantization_level": "Q4_0"},
      "expires_at": "2024-06-04T14:38:31.83753-07:00",
      "size_vram": 5137025024
    }
  ]
}"""
OLLAMA_SHOW = b"""{
  "details": {"parent_model": "", "format": "gguf", "family": "llama", "families": ["llama"],
    "parameter_size": "8.0B", "quantization_level": "Q4_0"},
  "model_info": {
    "general.architecture": "llama",
    "general.file_type": 2,
    "general.parameter_count": 8030261248,
    "general.quantization_version": 2,
    "llama.attention.head_count": 32,
    "llama.block_count": 32,
    "llama.context_length": 8192,
    "llama.rope.freq_base": 500000,
    "llama.vocab_size": 128256,
    "tokenizer.ggml.model": "gpt2"
  }
}"""
OLLAMA_LOADED = b'{"model":"llama3.2","created_at":"2023-12-18T19:52:07.071755Z","response":"","done":true}'

# vLLM behind Cloudflare's Workers AI with @cf/qwen/qwen3-30b-a3b-fp8, abridged by its author: usage in every chunk, two
# tokens in the first one, a call of a tool that has no text (a "model_reponse_demo" trace among the documents of a
# public repository of a chat service).
VLLM_COUNTED = (
    b'data: {"id":"chatcmpl-15a69a9103684dafb11499ce4f587d45","object":"chat.completion.chunk","created":1776510399,"model":"@cf/qwen/qwen3-30b-a3b-fp8","choices":[{"index":0,"delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null}],"usage":{"prompt_tokens":192,"total_tokens":192,"completion_tokens":0}}\n\n',  # noqa: E501
    b'data: {"id":"chatcmpl-15a69a9103684dafb11499ce4f587d45","object":"chat.completion.chunk","created":1776510399,"model":"@cf/qwen/qwen3-30b-a3b-fp8","choices":[{"index":0,"delta":{"reasoning_content":"\\n"},"logprobs":null,"finish_reason":null,"token_ids":null}],"usage":{"prompt_tokens":192,"total_tokens":194,"completion_tokens":2}}\n\n',  # noqa: E501
    b'data: {"id":"chatcmpl-15a69a9103684dafb11499ce4f587d45","object":"chat.completion.chunk","created":1776510399,"model":"@cf/qwen/qwen3-30b-a3b-fp8","choices":[{"index":0,"delta":{"reasoning_content":"Okay"},"logprobs":null,"finish_reason":null,"token_ids":null}],"usage":{"prompt_tokens":192,"total_tokens":195,"completion_tokens":3}}\n\n',  # noqa: E501
    b'data: {"id":"chatcmpl-15a69a9103684dafb11499ce4f587d45","object":"chat.completion.chunk","created":1776510399,"model":"@cf/qwen/qwen3-30b-a3b-fp8","choices":[{"index":0,"delta":{"content":"\\n\\n"},"logprobs":null,"finish_reason":null,"token_ids":null}],"usage":{"prompt_tokens":192,"total_tokens":285,"completion_tokens":93}}\n\n',  # noqa: E501
    b'data: {"id":"chatcmpl-15a69a9103684dafb11499ce4f587d45","object":"chat.completion.chunk","created":1776510399,"model":"@cf/qwen/qwen3-30b-a3b-fp8","choices":[{"index":0,"delta":{"tool_calls":[{"id":"chatcmpl-tool-a7348842dffa4c4795f7f8ae2cc1b328","type":"function","index":0,"function":{"name":"add_todo"}}]},"logprobs":null,"finish_reason":null,"token_ids":null}],"usage":{"prompt_tokens":192,"total_tokens":294,"completion_tokens":102}}\n\n',  # noqa: E501
    b'data: {"id":"chatcmpl-15a69a9103684dafb11499ce4f587d45","object":"chat.completion.chunk","created":1776510399,"model":"@cf/qwen/qwen3-30b-a3b-fp8","choices":[{"index":0,"delta":{"content":""},"logprobs":null,"finish_reason":"tool_calls","stop_reason":null,"token_ids":null}],"usage":{"prompt_tokens":192,"total_tokens":319,"completion_tokens":127}}\n\n',  # noqa: E501
    b'data: {"id":"chatcmpl-15a69a9103684dafb11499ce4f587d45","object":"chat.completion.chunk","created":1776510399,"model":"@cf/qwen/qwen3-30b-a3b-fp8","choices":[],"usage":{"prompt_tokens":192,"total_tokens":319,"completion_tokens":127}}\n\ndata: [DONE]\n\n',  # noqa: E501
)

# vLLM 0.9, which leaves `finish_reason` out until the end: https://github.com/vllm-project/vllm/issues/19650. The
# source breaks off after these chunks.
VLLM_WITHOUT_REASON = (
    'data: {"id":"chatcmpl-c4eefdc442064e16be757120a2ec7703","object":"chat.completion.chunk","created":1749904375,"model":"meta-llama/llama-4-scout-17b-16e-instruct","choices":[{"index":0,"delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null}]}\n\n'  # noqa: E501
    'data: {"id":"chatcmpl-c4eefdc442064e16be757120a2ec7703","object":"chat.completion.chunk","created":1749904375,"model":"meta-llama/llama-4-scout-17b-16e-instruct","choices":[{"index":0,"delta":{"content":"안","tool_calls":[]}}]}\n\n'  # noqa: E501
    'data: {"id":"chatcmpl-c4eefdc442064e16be757120a2ec7703","object":"chat.completion.chunk","created":1749904375,"model":"meta-llama/llama-4-scout-17b-16e-instruct","choices":[{"index":0,"delta":{"content":"녕","tool_calls":[]}}]}\n\n'  # noqa: E501
).encode()

# LM Studio 0.3.9 with a reasoning model: https://github.com/lmstudio-ai/lmstudio-bug-tracker/issues/378
STUDIO_REASONING = (
    b'data: {"id":"chatcmpl-ohpdozcvcgbgxq5y5y768","object":"chat.completion.chunk","created":1738343241,"model":"deepseek-r1-distill-llama-8b","system_fingerprint":"deepseek-r1-distill-llama-8b","choices":[{"index":0,"delta":{"role":"assistant","reasoning_content":"le"},"logprobs":null,"finish_reason":null}]}\n\n'  # noqa: E501
    b'data: {"id":"chatcmpl-ohpdozcvcgbgxq5y5y768","object":"chat.completion.chunk","created":1738343241,"model":"deepseek-r1-distill-llama-8b","system_fingerprint":"deepseek-r1-distill-llama-8b","choices":[{"index":0,"delta":{"role":"assistant","reasoning_content":"?"},"logprobs":null,"finish_reason":null}]}\n\n'  # noqa: E501
    b'data: {"id":"chatcmpl-ohpdozcvcgbgxq5y5y768","object":"chat.completion.chunk","created":1738343241,"model":"deepseek-r1-distill-llama-8b","system_fingerprint":"deepseek-r1-distill-llama-8b","choices":[{"index":0,"delta":{"role":"assistant","reasoning_content":" An"},"logprobs":null,"finish_reason":null}]}\n\n'  # noqa: E501
)

# LM Studio 0.3.14 for a path that it does not have, head and all:
# https://github.com/lmstudio-ai/lmstudio-bug-tracker/issues/618
STUDIO_UNEXPECTED = (
    b"HTTP/1.1 200 OK\r\nX-Powered-By: Express\r\nContent-Type: application/json; charset=utf-8\r\n"
    b'Content-Length: 67\r\nETag: W/"43-qTdCaLfEMe8wb/ShYO0yTUTunEg"\r\nDate: Fri, 25 Apr 2025 18:22:52 GMT\r\n'
    b"Connection: keep-alive\r\nKeep-Alive: timeout=5\r\n\r\n"
    b'{"error":"Unexpected endpoint or method. (POST /chat/completions)"}'
)

# LM Studio, `/api/v0/models`: https://lmstudio.ai/docs/api/rest-api (the first of the models of the example; what the
# second one says after `compatibility_type` follows its fields).
STUDIO_MODELS = b"""{
  "object": "list",
  "data": [
    {"id": "qwen2-vl-7b-instruct", "object": "model", "type": "vlm", "publisher": "mlx-community", "arch": "qwen2_vl",
     "compatibility_type": "mlx", "quantization": "4bit", "state": "not-loaded", "max_context_length": 32768},
    {"id": "meta-llama-3.1-8b-instruct", "object": "model", "type": "llm", "publisher": "lmstudio-community",
     "arch": "llama", "compatibility_type": "gguf", "quantization": "Q4_K_M", "state": "loaded",
     "max_context_length": 131072}
  ]
}"""

# llama-server b9554 with speculative decoding: tokens that were accepted together come in a chunk each, with the same
# milliseconds: https://github.com/openai-php/client/issues/780
LLAMA_SPECULATIVE = (
    b'data: {"choices":[{"finish_reason":null,"index":0,"delta":{"reasoning_content":" word"}}],"created":1781492230,"id":"chatcmpl-qC6laQHbZ2CmxNvJ4NoB1L93LcVF7nfe","model":"gemma-4-31B-it-UD-Q6_K_XL.gguf","system_fingerprint":"b9554-d403f00ec","object":"chat.completion.chunk","timings":{"cache_n":7,"prompt_n":10,"prompt_ms":251.51,"prompt_per_token_ms":25.151,"prompt_per_second":39.75985050296211,"predicted_n":8,"predicted_ms":137.375,"predicted_per_token_ms":17.171875,"predicted_per_second":58.234758871701544,"draft_n":10,"draft_n_accepted":4}}\n\n'  # noqa: E501
    b'data: {"choices":[{"finish_reason":null,"index":0,"delta":{"reasoning_content":" \\""}}],"created":1781492230,"id":"chatcmpl-qC6laQHbZ2CmxNvJ4NoB1L93LcVF7nfe","model":"gemma-4-31B-it-UD-Q6_K_XL.gguf","system_fingerprint":"b9554-d403f00ec","object":"chat.completion.chunk","timings":{"cache_n":7,"prompt_n":10,"prompt_ms":251.51,"prompt_per_token_ms":25.151,"prompt_per_second":39.75985050296211,"predicted_n":9,"predicted_ms":137.375,"predicted_per_token_ms":15.26388888888889,"predicted_per_second":65.51410373066423,"draft_n":10,"draft_n_accepted":4}}\n\n'  # noqa: E501
)

# The llama-server of xllamacpp 2026.10.11549 (llama.cpp of that month) with SmolLM2-135M-Instruct, recorded from the
# wire; `chat_template`, `params` and the model's folder are shortened.
LLAMA_PROPS = b'{"default_generation_settings":{"params":{"seed":4294967295,"temperature":0.8},"n_ctx":2048},"total_slots":1,"model_alias":"/models/SmolLM2-135M-Instruct.Q4_1.gguf","model_ftype":"Q4_1","model_path":"/models/SmolLM2-135M-Instruct.Q4_1.gguf","modalities":{"vision":false,"video":false,"audio":false},"endpoint_slots":true,"endpoint_props":false,"endpoint_metrics":true,"bos_token":"<|im_start|>","eos_token":"<|im_end|>","build_info":"b0-unknown","is_sleeping":false}'  # noqa: E501
LLAMA_MODELS = b'{"models":[{"name":"/models/SmolLM2-135M-Instruct.Q4_1.gguf","type":"model","details":{"parent_model":"","format":"gguf"}}],"object":"list","data":[{"id":"/models/SmolLM2-135M-Instruct.Q4_1.gguf","aliases":["/models/SmolLM2-135M-Instruct.Q4_1.gguf"],"tags":[],"object":"model","architecture":{"input_modalities":["text"],"output_modalities":["text"]},"created":1795248588,"owned_by":"llamacpp","meta":{"vocab_type":2,"n_vocab":49152,"n_ctx":2048,"n_ctx_train":8192,"n_embd":576,"n_params":134515008,"size":96576768,"ftype":"Q4_1"}}]}'  # noqa: E501
LLAMA_TOO_LONG = b'{"error":{"code":400,"message":"request (3031 tokens) exceeds the available context size (2048 tokens), try increasing it","type":"exceed_context_size_error","n_prompt_tokens":3031,"n_ctx":2048}}'  # noqa: E501
LLAMA_NOT_FOUND = b'{"error":{"message":"File Not Found","type":"not_found_error","code":404}}'
LLAMA_CHAT = (
    b'data: {"choices":[{"finish_reason":null,"index":0,"delta":{"role":"assistant","content":null}}],"created":1795248588,"id":"chatcmpl-x","model":"m","system_fingerprint":"b0-unknown","object":"chat.completion.chunk","timings":{"cache_n":0,"prompt_n":0,"prompt_ms":0.0,"prompt_per_token_ms":0.0,"prompt_per_second":0.0,"predicted_n":0,"predicted_ms":0.0,"predicted_per_token_ms":0.0,"predicted_per_second":0.0},"prompt_progress":{"total":42,"cache":0,"processed":0,"time_ms":0}}\n\n',  # noqa: E501
    b'data: {"choices":[{"finish_reason":null,"index":0,"delta":{"role":"assistant","content":null}}],"created":1795248592,"id":"chatcmpl-x","model":"m","system_fingerprint":"b0-unknown","object":"chat.completion.chunk","timings":{"cache_n":0,"prompt_n":42,"prompt_ms":3755.846,"prompt_per_token_ms":89.42490476190476,"prompt_per_second":11.182567123359158,"predicted_n":0,"predicted_ms":0.0,"predicted_per_token_ms":0.0,"predicted_per_second":0.0},"prompt_progress":{"total":42,"cache":0,"processed":42,"time_ms":3755}}\n\n',  # noqa: E501
    b'data: {"choices":[{"finish_reason":null,"index":0,"delta":{"content":"Bon"}}],"created":1795248592,"id":"chatcmpl-x","model":"m","system_fingerprint":"b0-unknown","object":"chat.completion.chunk","timings":{"cache_n":0,"prompt_n":42,"prompt_ms":3756.45,"prompt_per_token_ms":89.43928571428572,"prompt_per_second":11.18076907718724,"predicted_n":1,"predicted_ms":0.001,"predicted_per_token_ms":0.0,"predicted_per_second":0.0}}\n\n',  # noqa: E501
    b'data: {"choices":[{"finish_reason":null,"index":0,"delta":{"content":"jour"}}],"created":1795248592,"id":"chatcmpl-x","model":"m","system_fingerprint":"b0-unknown","object":"chat.completion.chunk","timings":{"cache_n":0,"prompt_n":42,"prompt_ms":3756.45,"prompt_per_token_ms":89.43928571428572,"prompt_per_second":11.18076907718724,"predicted_n":2,"predicted_ms":293.752,"predicted_per_token_ms":293.752,"predicted_per_second":3.404232141398186}}\n\n',  # noqa: E501
    b'data: {"choices":[{"finish_reason":"stop","index":0,"delta":{}}],"created":1795248594,"id":"chatcmpl-x","model":"m","system_fingerprint":"b0-unknown","object":"chat.completion.chunk"}\n\n',  # noqa: E501
    b'data: {"choices":[],"created":1795248594,"id":"chatcmpl-x","model":"m","system_fingerprint":"b0-unknown","object":"chat.completion.chunk","usage":{"completion_tokens":3,"prompt_tokens":42,"total_tokens":45,"prompt_tokens_details":{"cached_tokens":0}},"timings":{"cache_n":0,"prompt_n":42,"prompt_ms":3756.45,"prompt_per_token_ms":89.43928571428572,"prompt_per_second":11.18076907718724,"predicted_n":3,"predicted_ms":745.812,"predicted_per_token_ms":372.906,"predicted_per_second":2.681640949729959}}\n\ndata: [DONE]\n\n',  # noqa: E501
)

USAGE_AT_END = (
    b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n'
    b'data: {"choices":[],"usage":{"prompt_tokens":9,"completion_tokens":%d,"total_tokens":99}}\n\ndata: [DONE]\n\n'
)
"""The end of a stream in the form of https://platform.openai.com/docs/api-reference/chat-streaming, for those recorded
streams whose source breaks off; the number of tokens is the test's."""

# The same llama-server, `/completion` with the tokens 5, 900 and 77 for a prompt and three to generate; the settings in
# the last event are left out.
LLAMA_COMPLETION = (
    b'data: {"index":0,"content":"","tokens":[0],"stop":false,"id_slot":-1,"tokens_predicted":0,"tokens_evaluated":3,"timings":{"cache_n":0,"prompt_n":0,"prompt_ms":0.0,"prompt_per_token_ms":0.0,"prompt_per_second":0.0,"predicted_n":0,"predicted_ms":0.0,"predicted_per_token_ms":0.0,"predicted_per_second":0.0},"prompt_progress":{"total":3,"cache":0,"processed":0,"time_ms":0}}\n\n',  # noqa: E501
    b'data: {"index":0,"content":"","tokens":[0],"stop":false,"id_slot":-1,"tokens_predicted":0,"tokens_evaluated":3,"timings":{"cache_n":0,"prompt_n":3,"prompt_ms":58.832,"prompt_per_token_ms":19.610666666666667,"prompt_per_second":50.99265705738374,"predicted_n":0,"predicted_ms":0.0,"predicted_per_token_ms":0.0,"predicted_per_second":0.0},"prompt_progress":{"total":3,"cache":0,"processed":3,"time_ms":58}}\n\n',  # noqa: E501
    b'data: {"index":0,"content":"\\n","tokens":[198],"stop":false,"id_slot":-1,"tokens_predicted":1,"tokens_evaluated":3,"timings":{"cache_n":0,"prompt_n":3,"prompt_ms":59.03,"prompt_per_token_ms":19.676666666666666,"prompt_per_second":50.82161612739286,"predicted_n":1,"predicted_ms":0.001,"predicted_per_token_ms":0.0,"predicted_per_second":0.0}}\n\n',  # noqa: E501
    b'data: {"index":0,"content":"\\n","tokens":[198],"stop":false,"id_slot":-1,"tokens_predicted":2,"tokens_evaluated":3,"timings":{"cache_n":0,"prompt_n":3,"prompt_ms":59.03,"prompt_per_token_ms":19.676666666666666,"prompt_per_second":50.82161612739286,"predicted_n":2,"predicted_ms":19.796,"predicted_per_token_ms":19.796,"predicted_per_second":50.515255607193374}}\n\n',  # noqa: E501
    b'data: {"index":0,"content":"The","tokens":[504],"stop":false,"id_slot":-1,"tokens_predicted":3,"tokens_evaluated":3,"timings":{"cache_n":0,"prompt_n":3,"prompt_ms":59.03,"prompt_per_token_ms":19.676666666666666,"prompt_per_second":50.82161612739286,"predicted_n":3,"predicted_ms":43.176,"predicted_per_token_ms":21.588,"predicted_per_second":46.32203075782842}}\n\n',  # noqa: E501
    b'data: {"index":0,"content":"","tokens":[],"id_slot":0,"stop":true,"tokens_predicted":3,"tokens_evaluated":3,"has_new_line":true,"truncated":false,"stop_type":"limit","stopping_word":"","tokens_cached":5,"timings":{"cache_n":0,"prompt_n":3,"prompt_ms":59.03,"prompt_per_token_ms":19.676666666666666,"prompt_per_second":50.82161612739286,"predicted_n":3,"predicted_ms":43.176,"predicted_per_token_ms":21.588,"predicted_per_second":46.32203075782842}}\n\n',  # noqa: E501
)

# LM Studio 0.3.6, a whole answer, which ends without the counts although they were asked for:
# https://github.com/lmstudio-ai/lmstudio-bug-tracker/issues/676. The source prints what stands behind `data: `, which
# is put before it again here.
STUDIO_WITHOUT_USAGE = (
    b'data: {"id":"chatcmpl-um3b2l9t12bzrtha63q8","object":"chat.completion.chunk","created":1747835957,"model":"gemma-2-2b-it-abliterated","system_fingerprint":"gemma-2-2b-it-abliterated","choices":[{"index":0,"delta":{"role":"assistant","content":"\\n"},"logprobs":null,"finish_reason":null}]}\n\n'  # noqa: E501
    b'data: {"id":"chatcmpl-um3b2l9t12bzrtha63q8","object":"chat.completion.chunk","created":1747835957,"model":"gemma-2-2b-it-abliterated","system_fingerprint":"gemma-2-2b-it-abliterated","choices":[{"index":0,"delta":{},"logprobs":null,"finish_reason":"stop"}]}\n\n'  # noqa: E501
    b"data: [DONE]\n\n"
)

# vLLM, `/v1/models`: the readme of https://github.com/cbtham/rhoai-genai-workshop
VLLM_MODELS = b'{"object":"list","data":[{"id":"qwen3-4b-quantizedw4a16","object":"model","created":1743010793,"owned_by":"vllm","root":"/mnt/models","parent":null,"max_model_len":4096,"permission":[{"id":"modelperm-09f199065a2846ec8bbfabea78f72349","object":"model_permission","created":1743010793,"allow_create_engine":false,"allow_sampling":true,"allow_logprobs":true,"allow_search_indices":false,"allow_view":true,"allow_fine_tuning":false,"organization":"*","group":null,"is_blocking":false}]}]}'  # noqa: E501


CHAT = "POST /v1/chat/completions"


def as_llama_server(wire: LoopbackServer) -> None:
    wire.answers |= {
        "GET /props": document(LLAMA_PROPS),
        "GET /v1/models": document(LLAMA_MODELS),
        CHAT: stream(*LLAMA_CHAT),
    }


def as_ollama(wire: LoopbackServer) -> None:
    running = OLLAMA_PS.replace(b"mistral:latest", b"gemma2:2b")
    tags = json.dumps({"models": [{"name": "gemma2:2b", "size": 1629518495}, {"name": "other", "size": 1}]}).encode()
    wire.answers |= {
        "GET /api/version": document({"version": "0.12.6"}),
        "GET /api/tags": document(tags),
        "GET /api/ps": document(running),
        "POST /api/show": document(OLLAMA_SHOW),
        "POST /api/generate": document(OLLAMA_LOADED),
        "POST /api/chat": stream(OLLAMA_CHAT, media="application/x-ndjson"),
    }


def as_vllm(wire: LoopbackServer) -> None:
    wire.answers |= {"GET /v1/models": document(VLLM_MODELS), CHAT: stream(*VLLM_COUNTED)}


def as_lm_studio(wire: LoopbackServer) -> None:
    models = {
        "data": [
            {"id": "qwen2-vl-7b-instruct", "object": "model", "owned_by": "organization_owner"},
            {"id": "meta-llama-3.1-8b-instruct", "object": "model", "owned_by": "organization_owner"},
        ]
    }
    wire.answers |= {
        "GET /props": [STUDIO_UNEXPECTED],
        "GET /api/version": [STUDIO_UNEXPECTED],
        "GET /v1/models": document(models),
        "GET /api/v0/models": document(STUDIO_MODELS),
        CHAT: stream(STUDIO_REASONING, USAGE_AT_END % 4),
    }
