"""Run the competitors in turns, each in its own Python, and keep every run as a JSON line.

python -m bench.peers.run --models DIR --pythons DIR --out results.jsonl --rounds 5
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from pathlib import Path
from typing import Any

import click

from bench.peers.adapters.adapter import phases as known_phases
from bench.peers.competitor import Competitor, Contest, in_order, read_contests

REPOSITORY = Path(__file__).resolve().parents[2]
CONFIG = Path(__file__).with_name("competitors.json")
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
_STDERR = 800
_BANDWIDTH = """
import json, sys
from edge.memory.bandwidth import read_bandwidth
print(json.dumps({"ok": True, "bytes_per_s": read_bandwidth(int(sys.argv[1]))}))
"""


@click.command()
@click.option("--config", type=click.Path(path_type=Path), default=CONFIG, help="The competitors, as JSON.")
@click.option("--models", type=click.Path(path_type=Path), required=True, help="Folder of the models.")
@click.option("--pythons", type=click.Path(path_type=Path), required=True, help="Folder of the environments.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Results are appended here.")
@click.option("--rounds", default=5, show_default=True, help="Each competitor runs once a round and model.")
@click.option("--threads", default=2, show_default=True, help="Threads to compute with.")
@click.option("--phases", default="decode,prefill", show_default=True, help="Of decode, prefill and long.")
@click.option("--only", multiple=True, help="Run the competitor of this name; may be given again.")
@click.option("--only-model", multiple=True, help="Run the model of this name; may be given again.")
@click.option("--timeout", default=900, show_default=True, help="Seconds after which a run has failed.")
def main(
    config: Path,
    models: Path,
    pythons: Path,
    out: Path,
    rounds: int,
    threads: int,
    phases: str,
    only: tuple[str, ...],
    only_model: tuple[str, ...],
    timeout: int,
) -> None:
    """Run the competitors in turns, each in its own Python, and keep every run as a JSON line.

    A run that fails is kept as a line too, and the others go on.
    """
    try:
        known_phases(phases.split(","), 1)
    except KeyError as e:
        raise click.BadParameter(f"{e} is none of decode, prefill and long", param_hint="--phases") from None
    contests = read_contests(config, models, pythons)
    _check_names("--only", only, {c.name for contest in contests for c in contest.competitors})
    _check_names("--only-model", only_model, {contest.model for contest in contests})
    first = next_round(out)
    with out.open("a") as file:

        def keep(kind: str, contest: Contest, round: int, line: dict[str, Any]) -> None:
            about = {"kind": kind, "round": round, "model": contest.model, "threads": threads}
            file.write(json.dumps({**about, "time": time.time(), **line}) + "\n")
            file.flush()

        for round in range(first, first + rounds):
            for contest in contests:
                if only_model and contest.model not in only_model:
                    continue
                keep("bandwidth", contest, round, bandwidth(contest.bandwidth, threads))
                chosen = [c for c in contest.competitors if not only or c.name in only]
                for competitor in in_order(chosen, round):
                    result = run(competitor, contest.prompts, threads, phases, round, timeout)
                    keep("run", contest, round, {"competitor": competitor.name, **result})
                    click.echo(f"{round}  {contest.model}  {competitor.name}  {_told(result)}", err=True)


def next_round(out: Path) -> int:
    """The number after the last round in the results `out`, so that rounds of two days are never paired."""
    if not out.exists():
        return 0
    return 1 + max((json.loads(line)["round"] for line in out.read_text().splitlines()), default=-1)


def bandwidth(python: Path, threads: int) -> dict[str, Any]:
    """How fast memory is read just now, in bytes per second; measured in a process of its own."""
    return _last_json([str(python), "-c", _BANDWIDTH, str(threads)], dict(os.environ), 300)


def run(
    competitor: Competitor, prompts: Path, threads: int, phases: str, round: int, timeout: float
) -> dict[str, Any]:
    """What the adapter measured, or {"ok": False, "error": ...}."""
    for what, path in (("Python", competitor.python), ("model", competitor.model), ("prompts", prompts)):
        if not path.exists():
            return {"ok": False, "error": f"no {what} at {path}; bench/README.md tells how to make it"}
    command = [str(competitor.python), "-m", competitor.adapter, "--model", str(competitor.model)]
    command += ["--prompts", str(prompts), "--threads", str(threads), "--phases", phases]
    command += ["--round", str(round)]
    environment = {**os.environ, **dict.fromkeys(_THREADS, str(threads)), "HF_HUB_OFFLINE": "1"}
    return _last_json(command, {**environment, **competitor.env}, timeout)


def _last_json(command: list[str], environment: dict[str, str], timeout: float) -> dict[str, Any]:
    # From the repository, so that the adapters are found whatever the environment has installed.
    try:
        ended = subprocess.run(
            command, env=environment, cwd=REPOSITORY, capture_output=True, text=True, timeout=timeout
        )
    except subprocess.TimeoutExpired:
        return {"ok": False, "error": f"took longer than {timeout} s; give more with --timeout"}
    except OSError as e:
        return {"ok": False, "error": f"{command[0]} did not start: {e}"}
    lines = [line for line in ended.stdout.splitlines() if line.startswith("{")]
    if lines:
        result: dict[str, Any] = json.loads(lines[-1])
        return result
    return {"ok": False, "error": f"exit code {ended.returncode}: {ended.stderr[-_STDERR:].strip()}"}


def _check_names(option: str, names: tuple[str, ...], known: set[str]) -> None:
    for name in names:
        if name not in known:
            raise click.BadParameter(f"{name!r} is none of {', '.join(sorted(known))}", param_hint=option)


def _told(result: dict[str, Any]) -> str:
    if not result["ok"]:
        return f"FAILED: {result['error']}"
    rates = [
        f"{phase} {'/'.join(f'{run[key]:.1f}' for run in runs)}"
        for phase, runs in result["phases"].items()
        for key in ["prefill_tokens_per_s" if phase == "prefill" else "decode_tokens_per_s"]
    ]
    return f"{', '.join(rates)} tokens/s, load {result['load_s']:.2f} s"


if __name__ == "__main__":
    main()
