"""Run as a program by the Python that has optimum: a model becomes float ONNX graphs, with what torch computes.

    python worker.py SOURCE OUT TASK REVISION     TASK may be `auto`, REVISION empty

Into OUT: GRAPH.onnx as optimum writes them, the model's JSON files, references/GRAPH.N.npz (random inputs `in.NAME`,
torch's outputs `out.NAME`) and report.json; on failure error.json. Meanwhile steps.txt has DONE/ALL. The exit code is
0, that of a full disk (ENOSPC), or 1. Nothing of Edgewise is imported: its own dependencies and optimum's do not go
together.
"""

from __future__ import annotations

import errno
import importlib
import json
import os
import random
import sys
from pathlib import Path
from typing import Any

SEED = 1
_MISSING, _UNUSABLE, _NOT_FOUND, _CORRUPT = "missing", "unusable", "not found", "corrupt"
_UNSUPPORTED, _FAILED = "unsupported", "failed"
# Of a second set of inputs: an axis that the graph has fixed by mistake shows.
_OTHER_SIZES = {"batch_size": 3, "sequence_length": 23}


def main(arguments: list[str]) -> int:
    """Export; the exit code."""
    source, out, task, revision = arguments
    folder = Path(out)
    try:
        report = _export(source, folder, task, revision)
    except Exception as e:
        if os.environ.get("EDGE_TRACEBACK") == "1":
            import traceback

            traceback.print_exc()
        if _disk_full(e):
            return errno.ENOSPC
        kind, message = _told(e)
        _write(folder / "error.json", {"kind": kind, "message": message})
        return 1
    _write(folder / "report.json", report)
    return 0


def _export(source: str, out: Path, task: str, revision: str) -> dict[str, Any]:
    optimum = importlib.import_module("optimum.exporters.onnx")
    convert = importlib.import_module("optimum.exporters.onnx.convert")
    tasks = importlib.import_module("optimum.exporters.tasks").TasksManager
    report: dict[str, Any] = {"graphs": [], "task": "", "model_type": "", "versions": _versions()}
    load, export_all, export_one = tasks.get_model_from_task, convert.export_models, convert.export
    steps = _Steps(out)

    def load_safely(task: str, *arguments: Any, **options: Any) -> Any:
        # Pickles are not read: no code of a checkpoint is run.
        model = load(task, *arguments, **{**options, "use_safetensors": True})
        report["task"] = task
        report["model_type"] = str(getattr(model.config, "model_type", ""))
        return model

    def export_counted(*arguments: Any, **options: Any) -> Any:
        steps.expect(len(options["models_and_onnx_configs"]))
        return export_all(*arguments, **options)

    def export_told(*arguments: Any, **options: Any) -> Any:
        steps.next()
        return export_one(*arguments, **options)

    def references(
        models_and_onnx_configs: Any,
        onnx_named_outputs: Any,
        output_dir: Path,
        onnx_files_subpaths: Any,
        input_shapes: Any,
        **_: Any,
    ) -> None:
        named = zip(models_and_onnx_configs.items(), onnx_named_outputs, onnx_files_subpaths, strict=True)
        for (name, (model, config)), outputs, file in named:
            steps.next()
            inputs = _inputs(Path(output_dir) / file)
            samples = _references(name, model, config, inputs, outputs, output_dir, input_shapes or {})
            report["graphs"].append({"name": str(name), "file": str(file), "samples": samples})

    # Its own validation holds the models and how they are to be called: what is written here is compared later, with
    # the quantized graphs too.
    for name, ours in {
        "validate_models_outputs": references,
        "export_models": export_counted,
        "export": export_told,
    }.items():
        setattr(convert, name, ours)
    tasks.get_model_from_task = staticmethod(load_safely)
    if task == "auto" and Path(source).is_dir():
        found = _task(tasks, Path(source))
        # Of a folder optimum does not find it out; asked so, it takes the past of decoders with it.
        tasks.infer_task_from_model = staticmethod(lambda *_, **__: found)
    optimum.main_export(
        source,
        str(out),
        task=task,
        no_post_process=True,
        trust_remote_code=False,
        do_validation=True,
        **({"revision": revision} if revision else {}),
    )
    return report


class _Steps:
    """How far the work is, for who waits for it: loading, then two steps for each graph, told as the next begins."""

    def __init__(self, out: Path) -> None:
        self._path, self._done, self._all = out / "steps.txt", 0, 1

    def expect(self, graphs: int) -> None:
        """So many graphs will be written, and then run by torch."""
        self._all = 1 + 2 * graphs

    def next(self) -> None:
        """The step at work is done."""
        self._done += 1
        self._path.write_text(f"{self._done}/{self._all}", encoding="ascii")


def _task(tasks: Any, folder: Path) -> str:
    """The task of the class that the checkpoint says it is for."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    for name in config.get("architectures") or ["none"]:
        kind = getattr(importlib.import_module("transformers"), str(name), None)
        if kind is not None:
            return str(tasks._infer_task_from_model_or_model_class(model_class=kind))
    raise ValueError(
        f"its config.json names no architecture that transformers has: {config.get('architectures')}"
    )


def _inputs(path: Path) -> list[str]:
    """Names of what a graph takes."""
    graph = importlib.import_module("onnx").load(str(path), load_external_data=False).graph
    weights = {tensor.name for tensor in graph.initializer}
    return [value.name for value in graph.input if value.name not in weights]


def _references(
    name: str,
    model: Any,
    config: Any,
    inputs: list[str],
    outputs: Any,
    out: Path,
    shapes: dict[str, Any],
) -> int:
    """Write the references of a graph; how many."""
    import numpy as np

    folder = out / "references"
    folder.mkdir(exist_ok=True)
    count = 0
    for other in ({}, _OTHER_SIZES):
        _seed()
        try:
            feeds, found = _sample(model, config, inputs, {**shapes, **other})
        except Exception:
            # Not every model takes other sizes than those it is exported with.
            if not other:
                raise
            break
        back = {value: key for key, value in config.torch_to_onnx_output_map.items()}
        arrays = {f"in.{key}": value for key, value in feeds.items()}
        arrays |= {f"out.{key}": found[back.get(key, key)] for key in outputs if back.get(key, key) in found}
        np.savez(folder / f"{name}.{count}.npz", **arrays)
        count += 1
    return count


def _sample(
    model: Any, config: Any, names: list[str], shapes: dict[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Random inputs as the graph takes them, and torch's outputs by torch's names."""
    import copy

    import torch

    inputs = config.generate_dummy_inputs(framework="pt", **shapes)
    # Some models change their inputs.
    given = config.rename_ambiguous_inputs(copy.deepcopy(inputs))
    with config.patch_model_for_export(model, model_kwargs={}), torch.inference_mode():
        results = model(**given)
    found: dict[str, Any] = {}
    for key, value in results.items():
        name = "present" if key == "past_key_values" else key
        found |= _flat(config, config.torch_to_onnx_output_map.get(name, name), value, name)
    feeds: dict[str, Any] = {}
    for key, value in config.generate_dummy_inputs_for_validation(inputs, names).items():
        feeds |= _flat(config, key, value, key)
    return feeds, found


def _flat(config: Any, flattened: str, value: Any, name: str) -> dict[str, Any]:
    if isinstance(value, (list, tuple)):
        value = config.flatten_output_collection_property(flattened, value)
    values = value if isinstance(value, dict) else {name: value}
    return {key: item.detach().cpu().numpy() for key, item in values.items()}


def _seed() -> None:
    import numpy as np
    import torch

    random.seed(SEED)
    np.random.seed(SEED)
    torch.manual_seed(SEED)


def _versions() -> dict[str, str]:
    from importlib import metadata

    return {name: metadata.version(name) for name in ("optimum", "optimum-onnx", "transformers", "torch")}


def _told(error: Exception) -> tuple[str, str]:
    if type(error) is RuntimeError and isinstance(error.__cause__, Exception):
        # Optimum's own says in which of its parts something went wrong, and not what.
        error = error.__cause__
    message = " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, ModuleNotFoundError) and error.name:
        return _MISSING, error.name.split(".")[0]
    if isinstance(error, ImportError):
        return _UNUSABLE, message
    # Of the hub and of requests too.
    if isinstance(error, OSError):
        return _NOT_FOUND, message
    if isinstance(error, json.JSONDecodeError) or type(error).__name__ == "SafetensorError":
        return _CORRUPT, message
    if isinstance(error, (ValueError, KeyError, NotImplementedError)):
        return _UNSUPPORTED, message
    return _FAILED, f"{type(error).__name__}: {message}"


def _disk_full(error: BaseException | None) -> bool:
    """Whether that is what began it: then there is no room to tell of it either."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        error = error.__cause__ or error.__context__
    return False


def _write(path: Path, value: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value), encoding="utf-8")


if __name__ == "__main__":
    # Modules beside this file are no top-level ones.
    beside = os.path.dirname(os.path.abspath(__file__))
    sys.path[:] = [path for path in sys.path if path != beside]
    sys.exit(main(sys.argv[1:]))
