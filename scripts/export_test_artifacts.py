"""Makes artifacts, with the logits they should give, for tests elsewhere: export_test_artifacts.py FOLDER.

Run it where the `dev` extra is; then, with only the slim runtime and an engine installed, for example an older one:
EDGEWISE_TEST_ARTIFACTS=FOLDER python -m pytest tests/runtimes/test_exported_artifacts.py
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from edge.errors import KernelsMissing  # noqa: E402
from export import export  # noqa: E402
from runtimes.kernels.library import load_library  # noqa: E402
from tests.checkpoints import tiny_folder  # noqa: E402
from tests.e2e.oracle import PROMPT, TOKENS  # noqa: E402
from tests.logits import engine_logits, opened  # noqa: E402

# What calibration does is tested where it is.
_QUICK: dict[str, Any] = {"method": "rtn", "fidelity": False}
# Weights that do not blow up what an 8-bit activation is off by.
QUANTIZED: dict[str, Any] = {"initializer_range": 0.05}
PADDED: dict[str, Any] = {"hidden_size": 76, "intermediate_size": 90, "head_dim": 16, "mlp_bias": True}
WINDOWS: dict[str, Any] = {
    "num_hidden_layers": 3,
    "use_sliding_window": True,
    "sliding_window": 12,
    "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
}
YARN = {"rope_type": "yarn", "rope_theta": 1000.0, "factor": 4.0, "original_max_position_embeddings": 64}
TIED = {"tie_word_embeddings": True}

# Family, configuration and options of the export by the artifact's name.
ARTIFACTS: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "fp32": ("llama", {"attention_bias": True, "mlp_bias": True}, {"weights": "fp32"}),
    "fp32-heads-of-24": ("llama", {"head_dim": 24}, {"weights": "fp32"}),
    "fp32-yarn": ("qwen2", {"rope_parameters": YARN, **TIED}, {"weights": "fp32"}),
    "fp32-window": ("mistral", {"sliding_window": 12}, {"weights": "fp32"}),
    "fp32-qk-norm": ("qwen3", {}, {"weights": "fp32"}),
    "fp32-qk-norm-heads-of-24": ("qwen3", {"head_dim": 24}, {"weights": "fp32"}),
    "fp16": ("llama", {**TIED}, {"weights": "fp16"}),
    "int8": ("llama", {**QUANTIZED, **TIED}, {"weights": "int8"}),
    "int8-zero-points": ("qwen2", {**QUANTIZED}, {"weights": "int8", "zero_points": True}),
    "int8-padded-64": ("llama", {**QUANTIZED, **PADDED, **TIED}, {"weights": "int8", "block": 64}),
    "int4": ("llama", {**QUANTIZED, **TIED}, {}),
    "int4-zero-points": ("qwen2", {**QUANTIZED}, {"zero_points": True}),
    "int4-padded-128": ("llama", {**QUANTIZED, **PADDED, **TIED}, {"block": 128}),
    "int4-odd-zero-points": ("llama", {**QUANTIZED, "hidden_size": 96}, {"zero_points": True}),
    "int4-qk-norm": ("qwen3", {**QUANTIZED, "attention_bias": True}, {"block": 64}),
    "int4-windows": ("qwen2", {**QUANTIZED, **WINDOWS}, {}),
}
# The quantized ones for the cpu engine too, where its library is built.
CPU_ARTIFACTS = {
    f"cpu-{name}": (family, configuration, {**options, "engine": "cpu"})
    for name, (family, configuration, options) in ARTIFACTS.items()
    if name.startswith("int")
}


def main(folder: Path) -> None:
    """Write NAME.edge and NAME.logits.npy for all ARTIFACTS, and what to run them on."""
    artifacts = {**ARTIFACTS}
    try:
        load_library()
        artifacts |= CPU_ARTIFACTS
    except KernelsMissing as e:
        print(f"none for the cpu engine: {e}")
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / "tokens.npy", np.array(TOKENS))
    np.save(folder / "prompt.npy", np.array(PROMPT))
    for name, (family, configuration, options) in artifacts.items():
        artifact = folder / f"{name}.edge"
        with tempfile.TemporaryDirectory() as checkpoint:
            tiny_folder(Path(checkpoint), family, **configuration)
            export(checkpoint, artifact, force=True, **{"engine": "onnxruntime", **_QUICK, **options})
        with opened(artifact) as engine:
            np.save(folder / f"{name}.logits.npy", engine_logits(engine, TOKENS, PROMPT))
    print(f"{len(artifacts)} artifacts in {folder}")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(Path(sys.argv[1]))
