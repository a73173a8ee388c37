"""The comparison with peers: turns, runs that fail, and the table."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from bench.peers import run, table
from bench.peers.adapters.adapter import Prompts
from bench.peers.competitor import Competitor, in_order, read_contests

TOY = """
import os
import time
from bench.peers.adapters.adapter import Adapter, main

class Toy(Adapter):
    name = "toy"

    def imports(self):
        os.write(1, b"a runtime that talks on stdout, past Python")

    def load(self, path, threads, context):
        self.first = int(open(path).read())
        assert (threads, context) == (2, 513)

    def generate(self, ids, count):
        times = []
        for _ in range(count):
            while times and time.perf_counter() == times[-1]:
                pass
            times.append(time.perf_counter())
        return [self.first + ids[0]] * count, times

    def decode_bytes(self, path):
        return 1000

main(Toy())
"""
BROKEN = 'raise SystemExit("a runtime that does not start")'
FAILING = """
from bench.peers.adapters.adapter import Adapter, main

class Failing(Adapter):
    def load(self, path, threads, context):
        raise MemoryError("no room for " + path)

main(Failing())
"""


@pytest.fixture
def contest(tmp_path: Path) -> Path:
    """A folder with a configuration, the adapters toy, broken and failing, and the model `small`."""
    for name, text in (("toy", TOY), ("broken", BROKEN), ("failing", FAILING)):
        (tmp_path / f"{name}.py").write_text(text)
    (tmp_path / "small.bin").write_text("7")
    (tmp_path / "small.prompts.json").write_text(json.dumps({"ids": list(range(3000))}))
    python = tmp_path / "python"
    python.mkdir()
    (python / "here").symlink_to(sys.executable)
    entries = [
        {
            "name": name,
            "adapter": name,
            "python": "{pythons}/here",
            "model": "{models}/{model}.bin",
            "env": {"PYTHONPATH": str(tmp_path)},
        }
        for name in ("toy", "broken", "failing")
    ]
    entries.append({**entries[0], "name": "absent", "model": "{models}/{model}.none"})
    config = {"models": ["small"], "bandwidth": "{pythons}/here", "competitors": entries}
    (tmp_path / "config.json").write_text(json.dumps(config))
    return tmp_path


def measured(folder: Path, *arguments: str) -> list[dict[str, Any]]:
    """The lines that a run in `folder` adds to results.jsonl."""
    out = folder / "results.jsonl"
    before = len(out.read_text().splitlines()) if out.exists() else 0
    places = ["--config", folder / "config.json", "--models", folder, "--pythons", folder / "python"]
    arguments = (*map(str, places), "--out", str(out), *arguments)
    CliRunner().invoke(run.main, arguments, catch_exceptions=False)
    return [json.loads(line) for line in out.read_text().splitlines()[before:]]


@pytest.fixture(autouse=True)
def known_bandwidth(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "bandwidth", lambda python, threads: {"ok": True, "bytes_per_s": 5e9})


def test_failed_runs_are_kept_and_the_others_go_on(contest: Path) -> None:
    speed, toy, broken, failing, absent = measured(contest, "--rounds", "1")
    assert (speed["kind"], speed["bytes_per_s"], speed["round"]) == ("bandwidth", 5e9, 0)
    assert [line["kind"] for line in (toy, broken, failing, absent)] == ["run"] * 4
    assert [line["ok"] for line in (toy, broken, failing, absent)] == [True, False, False, False]
    assert "exit code 1: a runtime that does not start" in broken["error"]
    assert failing["error"].startswith("MemoryError: no room for ")
    assert "no model at" in absent["error"]
    assert "README" in absent["error"]


def test_a_run_that_hangs_is_ended(contest: Path) -> None:
    (contest / "stuck.py").write_text("import signal; signal.pause()")
    [small] = read_contests(contest / "config.json", contest, contest / "python")
    stuck = replace(small.competitors[0], adapter="stuck")
    ended = run.run(stuck, small.prompts, 2, "prefill", 0, timeout=0.2)
    assert ended == {"ok": False, "error": "took longer than 0.2 s; give more with --timeout"}


def test_what_a_run_measures(contest: Path) -> None:
    _, toy = measured(contest, "--rounds", "1", "--only", "toy")
    assert set(toy["phases"]) == {"decode", "prefill"}
    assert [len(found) for found in toy["phases"].values()] == [2, 2]
    assert all(one["decode_tokens_per_s"] > 0 for one in toy["phases"]["decode"])
    assert all("decode_tokens_per_s" not in one for one in toy["phases"]["prefill"])
    # 16 tokens for the first call, then each repetition its own stretch of the text.
    starts = [one["ids"][0] - 7 for phase in ("decode", "prefill") for one in toy["phases"][phase]]
    assert starts == [16, 16 + 128, 16 + 2 * 128, 16 + 2 * 128 + 512]
    assert toy["memory"]["loaded"]["peak"] >= toy["memory"]["loaded"]["anonymous"] > 0
    assert toy["decode_bytes"] == 1000
    assert 0 < toy["load_s"] + toy["import_s"] < toy["start_to_first_s"]


def test_turns_and_rounds_go_on_where_they_ended(contest: Path) -> None:
    def turns(lines: list[dict[str, Any]]) -> list[tuple[int, str]]:
        return [(line["round"], line.get("competitor", "bandwidth")) for line in lines]

    chosen = ("--only", "absent", "--only", "broken", "--phases", "prefill")
    assert turns(measured(contest, "--rounds", "2", *chosen)) == [
        (0, "bandwidth"),
        (0, "broken"),
        (0, "absent"),
        (1, "bandwidth"),
        (1, "absent"),
        (1, "broken"),
    ]
    assert turns(measured(contest, "--rounds", "1", *chosen)) == [
        (2, "bandwidth"),
        (2, "broken"),
        (2, "absent"),
    ]


def test_each_comes_first_once_in_a_cycle() -> None:
    three = [Competitor(name=name, adapter="", python=Path(), model=Path()) for name in "ABC"]
    orders = ["".join(c.name for c in in_order(three, round)) for round in range(4)]
    assert orders == ["ABC", "BCA", "CAB", "ABC"]
    assert in_order([], 3) == []


def test_own_configuration() -> None:
    contests = read_contests(run.CONFIG, Path("/m"), Path("/p"))
    assert [contest.model for contest in contests] == ["smollm2-135m", "qwen25-0.5b"]
    first = contests[0].competitors[0]
    assert (first.python, first.model) == (Path("/p/edgewise/bin/python"), Path("/m/smollm2-135m-int4.edge"))
    for competitor in contests[0].competitors:
        assert (run.REPOSITORY / f"{competitor.adapter.replace('.', '/')}.py").is_file()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--only", "nobody"), "'nobody' is none of absent, broken, failing, toy"),
        (("--only-model", "huge"), "'huge' is none of small"),
        (("--phases", "decode,sprint"), "'sprint' is none of decode, prefill and long"),
    ],
)
def test_unknown_names(contest: Path, arguments: tuple[str, ...], message: str) -> None:
    places = ["--config", contest / "config.json", "--models", contest, "--pythons", contest / "python"]
    command = [*map(str, places), "--out", str(contest / "none.jsonl"), *arguments]
    ended = CliRunner().invoke(run.main, command)
    assert ended.exit_code == 2
    assert message in " ".join(ended.output.split())
    assert not (contest / "none.jsonl").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda config: config.pop("bandwidth"), "has no bandwidth"),
        (lambda config: config["competitors"][0].pop("python"), "it needs adapter, model, name, python"),
        (lambda config: config["competitors"][0].update(pyhton="x"), "it needs adapter, model, name, python"),
    ],
)
def test_broken_configuration(contest: Path, change: Any, message: str) -> None:
    path = contest / "config.json"
    config = json.loads(path.read_text())
    change(config)
    path.write_text(json.dumps(config))
    with pytest.raises(Exception, match=message):
        read_contests(path, contest, contest)


def test_prompts_begin_again_when_used_up() -> None:
    prompts = Prompts(list(range(10)), 3)
    assert prompts.take(5) == [3, 4, 5, 6, 7]
    assert prompts.take(4) == [0, 1, 2, 3]
    with pytest.raises(ValueError, match="hold 10 tokens, and a run needs 11"):
        prompts.take(11)


def result(name: str, round: int, decode: float, prefill: float, peak: float) -> dict[str, Any]:
    memory = {"peak": peak, "now": peak, "anonymous": peak / 4, "file": 3 * peak / 4}
    return {
        "kind": "run",
        "round": round,
        "model": "small",
        "threads": 2,
        "competitor": name,
        "ok": True,
        "import_s": 0.25,
        "load_s": 0.5,
        "start_to_first_s": 1.0,
        "decode_bytes": 50_000_000 if name == "edgewise int4" else None,
        "phases": {
            "decode": [
                {"decode_tokens_per_s": decode + change, "prefill_tokens_per_s": 1} for change in (-2, 2)
            ],
            "prefill": [{"prefill_tokens_per_s": prefill}],
        },
        "memory": {"loaded": {**memory, "peak": 80.0}, "decode": memory, "prefill": memory},
    }


def failed(name: str, round: int, error: str) -> dict[str, Any]:
    about = {"kind": "run", "round": round, "model": "small", "threads": 2, "competitor": name}
    return {**about, "ok": False, "error": error}


RESULTS = [
    {"kind": "bandwidth", "round": 0, "model": "small", "threads": 2, "ok": True, "bytes_per_s": 10e9},
    result("edgewise int4", 0, 100, 1000, 100),
    result("other", 0, 50, 500, 200),
    {"kind": "bandwidth", "round": 1, "model": "small", "threads": 2, "ok": True, "bytes_per_s": 20e9},
    result("other", 1, 50, 1000, 200),
    result("edgewise int4", 1, 200, 2000, 100),
    # Nothing to pair this one with.
    {"kind": "bandwidth", "round": 2, "model": "small", "threads": 2, "ok": True, "bytes_per_s": 20e9},
    result("other", 2, 60, 3000, 200),
    failed("edgewise int4", 2, "killed | by\nsomeone"),
]
TABLE = """\
## small, 2 threads

Read bandwidth 20.0 (10.0–20.0, 3) GB/s.

| | decode tokens/s | prefill 512 tokens/s | MB/token | of read bandwidth |
|---|---|---|---|---|
| edgewise int4 | 150.0 (100.0–200.0, 2) | 1500 (1000–2000, 2) | 50 | 0.50 (0.50–0.50, 2) |
| other | 50.0 (50.0–60.0, 3) · 0.38× (0.25–0.50) | 1000 (500–3000, 3) · 0.50× (0.50–0.50) | - | - |

| | RSS after load MiB | RSS after 512 MiB | anonymous after 512 MiB | load s | start to first token s |
|---|---|---|---|---|---|
| edgewise int4 | 80 (80–80, 2) | 100 (100–100, 2) | 25 (25–25, 2) \
| 0.75 (0.75–0.75, 2) | 1.00 (1.00–1.00, 2) |
| other | 80 (80–80, 3) · 1.00× (1.00–1.00) | 200 (200–200, 3) · 2.00× (2.00–2.00) \
| 50 (50–50, 3) · 2.00× (2.00–2.00) | 0.75 (0.75–0.75, 3) · 1.00× (1.00–1.00) \
| 1.00 (1.00–1.00, 3) · 1.00× (1.00–1.00) |

## Failed runs

- small, round 2, edgewise int4: killed \\| by someone
"""


def test_table(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in RESULTS))
    ended = CliRunner().invoke(table.main, [str(path)], catch_exceptions=False)
    assert ended.stdout.rstrip() == TABLE.rstrip()
    ended = CliRunner().invoke(table.main, [str(path), "--against", "other"], catch_exceptions=False)
    assert "| edgewise int4 | 150.0 (100.0–200.0, 2) · 3.00× (2.00–4.00) |" in ended.stdout
