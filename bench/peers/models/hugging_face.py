"""A GGUF file as a Hugging Face folder in float16, for converters that read nothing else.

python -m bench.peers.models.hugging_face FILE.gguf ARTIFACT.edge OUT
    (torch, transformers 4, gguf, accelerate, safetensors)

What was quantized stays on the grid that it was quantized to, so every peer starts from the same weights.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast


def main(gguf: Path, artifact: Path, out: Path) -> None:
    """Write config and weights of `gguf`, and the tokenizer of `artifact`, to the folder `out`."""
    model = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float16)
    model.config._name_or_path = ""
    model.save_pretrained(out)
    # transformers builds another tokenizer from a GGUF file, which OpenVINO's converter does not read.
    ends = json.loads((artifact / "generation.json").read_text())["eos_token_id"]
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(artifact / "tokenizer.json"))
    tokenizer.eos_token = tokenizer.convert_ids_to_tokens(ends[0])
    tokenizer.save_pretrained(out)


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve(), Path(sys.argv[2]), Path(sys.argv[3]))
