"""What importing costs a board: nothing heavy before it is needed."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

HEAVY = {"onnx", "torch", "transformers", "gguf", "safetensors", "huggingface_hub", "ml_dtypes", "export"}
ENGINES = {"onnxruntime"}
SLOW = {"numpy", "tokenizers", "jinja2", "tqdm", "prompt_toolkit"}


@pytest.mark.parametrize(
    ("code", "unwanted"),
    [
        ("import edge", HEAVY | ENGINES | SLOW),
        ("import edge; [getattr(edge, name) for name in edge.__all__]", HEAVY | ENGINES),
        ("import edge.errors, edge.artifact", HEAVY | ENGINES | SLOW),
        ("import runtimes", HEAVY | ENGINES),
        ("import boards; boards.profiles(); boards.detect()", HEAVY | ENGINES | SLOW | {"click"}),
        ("import edge.cli.main", HEAVY | ENGINES | SLOW | {"edge.cli.run", "edge.cli.chat"}),
        (
            "from edge.cli.main import main; main(['--help']); main(['--version'])",
            HEAVY | ENGINES | SLOW | {"edge.cli.run", "edge.cli.chat"},
        ),
        (
            "from edge.cli.main import main; main(['boards']); main(['boards', 'show'])",
            HEAVY | ENGINES | SLOW,
        ),
        (
            "from edge.cli.main import main; import edge.cli.doctor; main(['doctor', '--help'])",
            HEAVY | ENGINES | SLOW - {"tqdm"} | {"edge.doctor", "edge.conditions"},
        ),
        (
            "from edge.doctor.checkup import checkup; found = checkup(disk=False); [next(found) for _ in range(9)]",
            HEAVY | ENGINES | SLOW | {"runtimes"},
        ),
        ("from edge.cli.main import main; main(['run', '--help'])", HEAVY | ENGINES | SLOW),
        ("from edge.cli.main import main; main(['chat', '--help'])", HEAVY | ENGINES | SLOW),
    ],
)
def test_unwanted_modules_are_not_imported(code: str, unwanted: set[str]) -> None:
    program = f"import sys\n{code}\nimport json\nprint('\\n' + json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    modules = set(json.loads(done.stdout.splitlines()[-1]))
    assert modules & unwanted == set()


def test_the_library_of_kernels_is_not_loaded() -> None:
    program = (
        "import edge, runtimes; [getattr(edge, name) for name in edge.__all__]; "
        "assert 'libedgewise_kernels' not in open('/proc/self/maps').read()"
    )
    subprocess.run([sys.executable, "-W", "ignore", "-c", program], check=True)
