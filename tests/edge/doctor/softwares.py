"""What may be installed, as `edge doctor` finds it."""

from __future__ import annotations

from dataclasses import replace

from edge.doctor.network import Network
from edge.doctor.software import Software
from runtimes.trial import Trial

_CPU = ("AzureExecutionProvider", "CPUExecutionProvider")
STOCK = Trial(version="1.31.1", providers=_CPU)
KERNELS = replace(STOCK, kernels="0.1.0", isa="avx512vnni", isas=("plain", "avx2", "avx512vnni"))
ARM_KERNELS = replace(
    STOCK, version="1.23.2", kernels="0.1.0", isa="dotprod", isas=("plain", "neon", "dotprod")
)

PC = Software(
    edgewise="0.1.0",
    python="3.12.3",
    libc="glibc 2.39",
    packages={"numpy": "2.3.1", "tokenizers": "0.22.0", "jinja2": "3.1.6", "onnxruntime": "1.31.1"},
    engines={"cpu": KERNELS, "onnxruntime": STOCK},
    network=Network(sockets=0, reports=True, silenced=True),
)
JETPACK_6 = replace(
    PC,
    python="3.10.12",
    libc="glibc 2.35",
    packages={"numpy": "1.26.4", "tokenizers": "0.21.4", "jinja2": "3.1.6", "onnxruntime": "1.23.2"},
    engines={"cpu": ARM_KERNELS, "onnxruntime": replace(STOCK, version="1.23.2")},
    modules={"tensorrt": "10.3.0"},
    network=Network(sockets=0, reports=False, silenced=True),
)
GPU = replace(
    PC,
    packages={"numpy": "2.3.1", "tokenizers": "0.22.0", "jinja2": "3.1.6", "onnxruntime-gpu": "1.31.1"},
    engines={
        "cpu": KERNELS,
        "onnxruntime": replace(
            STOCK, providers=("TensorrtExecutionProvider", "CUDAExecutionProvider", *_CPU)
        ),
    },
    modules={"tensorrt_rtx": "1.7.1.116"},
    environment={"HF_HUB_OFFLINE": "1"},
)
WITHOUT_KERNELS = replace(
    PC,
    engines={
        "cpu": "the CPU kernels are not built (libedgewise_kernels.so is not there); build them with scripts/kernels",
        "onnxruntime": STOCK,
    },
)
_NO_ENGINE = (
    "no engine is installed (No module named 'onnxruntime'); install one: pip install 'edgewise[cpu]'"
)
WITHOUT_ENGINE = replace(
    PC,
    packages={"numpy": "2.3.1"},
    faults={"tokenizers": "tokenizers cannot be loaded (No module named 'tokenizers')"},
    engines={"cpu": _NO_ENGINE, "onnxruntime": _NO_ENGINE},
    network=Network(sockets=0, reports=None, silenced=True),
)
