"""A GGUF file with every matrix in q4_0, embedding and LM head too: the fewest bytes a token that llama.cpp can read.

python -m bench.peers.models.requantize IN.gguf OUT.gguf      (llama-cpp-python)
"""

from __future__ import annotations

import ctypes
import os
import sys

import llama_cpp


def main(source: str, out: str) -> None:
    """Write `source`, quantized anew, to `out`."""
    llama_cpp.llama_backend_init()
    recipe = llama_cpp.llama_model_quantize_default_params()
    recipe.nthread = os.cpu_count() or 1
    recipe.ftype = llama_cpp.LLAMA_FTYPE_MOSTLY_Q4_0
    # The source is quantized already: good enough to measure speed with, not to judge quality by.
    recipe.allow_requantize = True
    recipe.pure = recipe.quantize_output_tensor = True
    recipe.output_tensor_type = recipe.token_embedding_type = llama_cpp.GGML_TYPE_Q4_0
    if code := llama_cpp.llama_model_quantize(source.encode(), out.encode(), ctypes.byref(recipe)):
        sys.exit(f"error: llama_model_quantize returned {code} for {source}")


if __name__ == "__main__":
    main(*sys.argv[1:3])
