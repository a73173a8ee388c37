"""What others have published: shapes of models, how runtimes store weights, and how fast they decode; with sources."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

_LLM_PROF = "config.json in citsjtu2020/LLM-Prof, sglang/Model_Config.md"


@dataclass(frozen=True)
class Shape:
    """The sizes in a model's config.json."""

    config: dict[str, Any]
    source: str


@dataclass(frozen=True)
class Format:
    """How a runtime stores weights, in bits a weight with scales: where that is not told, the fewest that it can be."""

    text: str
    bits: float
    head_bits: float
    source: str


@dataclass(frozen=True)
class Figure:
    """A published decode speed in tokens per second, batch 1 unless `beyond` says otherwise."""

    board: str
    model: str
    format: str
    stack: str
    measured: float
    source: str
    beyond: str = ""
    """Why it may lie above the ceiling of one token a reading."""


def _shape(
    kind: str,
    hidden: int,
    inner: int,
    layers: int,
    heads: int,
    kv_heads: int,
    vocab: int,
    *,
    tied: bool,
    source: str = _LLM_PROF,
) -> Shape:
    config = {
        "model_type": kind,
        "hidden_size": hidden,
        "intermediate_size": inner,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "head_dim": 128,
        "vocab_size": vocab,
        "tie_word_embeddings": tied,
        "max_position_embeddings": 32768,
        "rms_norm_eps": 1e-6,
        "rope_theta": 1e6,
    }
    return Shape(config, source)


# Where it says "shape of", the two are taken to have the same (from memory).
SHAPES = {
    "Llama 3.1 8B": _shape("llama", 4096, 14336, 32, 32, 8, 128256, tied=False),
    "Llama 3.2 3B": _shape("llama", 3072, 8192, 28, 24, 8, 128256, tied=True),
    "Qwen2.5 7B": _shape("qwen2", 3584, 18944, 28, 28, 4, 152064, tied=False),
    "R1-Distill-Qwen 14B": _shape(
        "qwen2", 5120, 13824, 48, 40, 8, 152064, tied=False, source=f"{_LLM_PROF}, shape of Qwen2.5 14B"
    ),
    "R1-Distill-Qwen 1.5B": _shape(
        "qwen2", 1536, 8960, 28, 12, 2, 151936, tied=False, source="bench/export_memory.py, its config.json"
    ),
    "Qwen2.5 1.5B": _shape(
        "qwen2", 1536, 8960, 28, 12, 2, 151936, tied=True, source="shape of R1-Distill-Qwen 1.5B, tied"
    ),
    "Qwen3 1.7B": _shape(
        "qwen3",
        2048,
        6144,
        28,
        16,
        8,
        151936,
        tied=True,
        source="a table of Qwen3 sizes in a public repository",
    ),
    "Qwen3 4B": _shape("qwen3", 2560, 9728, 36, 32, 8, 151936, tied=True),
    "Qwen3 8B": _shape("qwen3", 4096, 12288, 36, 32, 8, 151936, tied=False),
}

# A group of 128 with a scale in 16 bits is 4.125 bits a weight, a block of 16 with one in 8 bits 4.5.
FORMATS = {
    "int4": Format("INT4, groups and head not told: 4.125 bits", 4.125, 4.125, "a group of 128 assumed"),
    "awq": Format(
        "INT4 AWQ: groups of 128, head in 16 bits", 4.125, 16, "AWQ leaves the head alone (from memory)"
    ),
    "w4a16": Format(
        "W4A16: groups of 128, head in 16 bits",
        4.125,
        16,
        "llm-compressor leaves the head alone (from memory)",
    ),
    "untold": Format(
        "not told; taken for INT4, head too: 4.125 bits", 4.125, 4.125, "16 or 8 bits would be slower"
    ),
    "nvfp4": Format("NVFP4, head not told: 4.5 bits", 4.5, 4.5, "blocks of 16 with a scale in 8 bits"),
    "ollama": Format(
        "not told; ollama's default Q4_K_M, at least 4.5 bits", 4.5, 4.5, "ollama's default (from memory)"
    ),
    "w8a8": Format("W8A8: 8 bits", 8, 8, "its name"),
}

_LAB = "jetson-ai-lab docs/benchmarks.md"
_LAB_JSON = "jetson-ai-lab src/data/benchmarks.json"
_TE = "TensorRT Edge-LLM 0.9 performance-benchmarks.md"
_TE_OLD = "TensorRT Edge-LLM 0.4 documentation"
_GEER = "geerlingguy/ai-benchmarks README"
_EAGLE = "EAGLE3: drafts are verified several at once, so one reading of the weights gives several tokens"
_EIGHT = "8 sequences at once: one reading of the weights serves all"
_SUPER, _NANO = "jetson-orin-nano-super-8gb", "jetson-orin-nano-8gb"
_NX, _AGX, _THOR, _GB10 = "jetson-orin-nx-16gb", "jetson-agx-orin-64gb", "jetson-agx-thor", "dgx-spark"

FIGURES = (
    Figure(_NANO, "Llama 3.1 8B", "int4", "MLC", 14.0, _LAB),
    Figure(_SUPER, "Llama 3.1 8B", "int4", "MLC", 19.14, _LAB),
    Figure(_NANO, "Qwen2.5 7B", "int4", "MLC", 14.2, _LAB),
    Figure(_SUPER, "Qwen2.5 7B", "int4", "MLC", 21.75, _LAB),
    Figure(_NANO, "Llama 3.2 3B", "int4", "MLC", 27.7, _LAB),
    Figure(_SUPER, "Llama 3.2 3B", "int4", "MLC", 43.07, _LAB),
    Figure(_NANO, "Qwen3 1.7B", "awq", "TensorRT Edge-LLM", 37.4, _TE),
    Figure(_NANO, "Qwen3 1.7B", "awq", "TensorRT Edge-LLM, EAGLE3", 41.2, _TE, _EAGLE),
    Figure(_NX, "Qwen3 1.7B", "awq", "TensorRT Edge-LLM", 60.4, _TE),
    Figure(_NX, "Qwen3 1.7B", "awq", "TensorRT Edge-LLM, EAGLE3", 73.5, _TE, _EAGLE),
    Figure(_NX, "Qwen3 4B", "awq", "TensorRT Edge-LLM", 31.6, _TE),
    Figure(_NX, "Qwen3 8B", "awq", "TensorRT Edge-LLM", 19.0, _TE),
    Figure(_NX, "Qwen3 8B", "awq", "TensorRT Edge-LLM, EAGLE3", 30.7, _TE, _EAGLE),
    Figure(_AGX, "Qwen3 1.7B", "awq", "TensorRT Edge-LLM", 98.6, _TE),
    Figure(_AGX, "Qwen3 8B", "awq", "TensorRT Edge-LLM", 32.5, _TE),
    Figure(_AGX, "Qwen3 8B", "awq", "TensorRT Edge-LLM, EAGLE3", 59.3, _TE, _EAGLE),
    Figure(_AGX, "Llama 3.1 8B", "w4a16", "vLLM", 28.14, _LAB_JSON),
    Figure(_AGX, "Llama 3.1 8B", "w4a16", "vLLM, 8 at once", 112.33, _LAB_JSON, _EIGHT),
    Figure(_THOR, "Llama 3.1 8B", "untold", "vLLM", 44, _LAB_JSON),
    Figure(_THOR, "Llama 3.1 8B", "untold", "vLLM, 8 at once", 251, _LAB_JSON, _EIGHT),
    Figure(_THOR, "Llama 3.1 8B", "awq", "TensorRT Edge-LLM", 50.8, _TE_OLD),
    Figure(_THOR, "Llama 3.1 8B", "nvfp4", "TensorRT Edge-LLM", 54.9, _TE_OLD),
    Figure(_THOR, "Qwen3 1.7B", "nvfp4", "TensorRT Edge-LLM", 154.2, _TE),
    Figure(_THOR, "Qwen3 8B", "awq", "TensorRT Edge-LLM", 49.3, _TE),
    Figure(_THOR, "Qwen3 8B", "nvfp4", "TensorRT Edge-LLM", 46.8, _TE),
    Figure(_GB10, "Qwen3 1.7B", "nvfp4", "TensorRT Edge-LLM", 137.4, _TE),
    Figure(_GB10, "Qwen3 8B", "int4", "TensorRT Edge-LLM", 47.4, _TE),
    Figure(_GB10, "Qwen3 8B", "nvfp4", "TensorRT Edge-LLM", 40.6, _TE),
    Figure(_GB10, "R1-Distill-Qwen 14B", "ollama", "ollama", 23.92, _GEER),
    Figure(
        "raspberry-pi-5-16gb", "Llama 3.2 3B", "ollama", "ollama, CPU", 4.88, "geerlingguy/ai-benchmarks#7"
    ),
    Figure(
        "raspberry-pi-5-16gb", "Llama 3.1 8B", "ollama", "ollama, CPU", 2.17, "geerlingguy/ai-benchmarks#7"
    ),
    Figure("raspberry-pi-5-16gb", "R1-Distill-Qwen 14B", "ollama", "ollama, CPU", 1.20, _GEER),
    Figure(
        "rk3588-8gb", "R1-Distill-Qwen 1.5B", "w8a8", "RKLLM, NPU", 7.93, "airockchip/rknn-llm#165, a user"
    ),
    Figure("rk3588-8gb", "R1-Distill-Qwen 1.5B", "w8a8", "RKLLM, NPU", 11.2, "sergiiob.dev, Rock 5B"),
    Figure("rk3588-8gb", "Qwen2.5 1.5B", "w8a8", "RKLLM, NPU", 16.69, "rknn-llm benchmark.md"),
    Figure("rtx-3060", "R1-Distill-Qwen 14B", "ollama", "ollama", 29.77, _GEER),
    Figure("rtx-4090", "R1-Distill-Qwen 14B", "ollama", "ollama", 92.49, _GEER),
    Figure("rtx-3060", "Llama 3.2 3B", "ollama", "ollama", 122.85, _GEER),
    Figure("rtx-4090", "Llama 3.2 3B", "ollama", "ollama", 334.67, _GEER),
    Figure("rtx-5090", "Llama 3.2 3B", "ollama", "ollama", 271.40, _GEER),
)

LEFT_OUT = (
    (
        "GB10, gpt-oss-20b MXFP4, llama.cpp: 79.7 and 64.0",
        "a mixture of experts, which Edgewise does not read",
    ),
    ("RTX 4070 Ti, R1 14B, ollama: 49.74", "there is no profile of that card"),
    ("Orin NX 16, R1 7B, ollama: 'working'", "no figure"),
    ("AGX Orin 64, R1 distills, vLLM (EdgeReasoning, arXiv 2511.01866)", "its table could not be opened"),
)
"""Published, but not in the table: (what, why)."""
