"""A GGUF file as a Hugging Face folder in float16, for converters that read nothing else.

python -m bench.peers.models.hugging_face FILE.gguf OUT      (torch, transformers 4, gguf, accelerate, safetensors)

What was quantized stays on the grid that it was quantized to, so every peer starts from the same weights.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast


def main(gguf: Path, out: Path) -> None:
    """Write config, weights and tokenizer of `gguf` to the folder `out`."""
    where = {"pretrained_model_name_or_path": gguf.parent, "gguf_file": gguf.name}
    model = AutoModelForCausalLM.from_pretrained(**where, dtype=torch.float16)
    model.config._name_or_path = ""
    model.save_pretrained(out)
    read = AutoTokenizer.from_pretrained(**where)
    # The plain class: converters take one of a family for a SentencePiece model, which a GGUF file has not.
    plain = PreTrainedTokenizerFast(
        tokenizer_object=read.backend_tokenizer, chat_template=read.chat_template, **read.special_tokens_map
    )
    plain.save_pretrained(out)


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve(), Path(sys.argv[2]))
