"""The command as a whole: help, version, wrong command lines, and the page made of them."""

from __future__ import annotations

import runpy
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from edge.cli import options
from edge.cli.main import COMMANDS, cli
from edge.version import VERSION
from runtimes import ENGINES
from tests.edge.cli.conftest import Ended

Run = Callable[..., Ended]
ROOT = Path(__file__).resolve().parents[3]


def test_version(run_edge: Run) -> None:
    assert run_edge("--version") == Ended(0, f"edgewise {VERSION}\n", "")


@pytest.mark.parametrize(
    "name",
    [
        *(name for name, _ in COMMANDS if name != "cache"),
        "cache ls",
        "cache rm",
        "cache verify",
        "boards show",
    ],
)
def test_every_command_has_help_with_an_example(run_edge: Run, name: str) -> None:
    ended = run_edge(*name.split(), "--help")
    assert (ended.code, ended.err) == (0, "")
    assert "Example" in ended.out
    assert f"edge {name}" in ended.out.split("Example")[1]
    assert ("--json" in ended.out, "--quiet" in ended.out) == (
        (True, True) if name != "chat" else (False, False)
    )


def test_the_table_names_every_command_and_no_other() -> None:
    shared = {"__init__", "main", "exits", "output", "options", "extra", "progress", "stream", "editor"} | {
        "fidelity",
        "plan_board",
        "plan_table",
        "planned_source",
        "decoder",
        "export_board",
        "export_optimum",
        "export_options",
        "export_report",
        "inspect_graphs",
        "written",
    }
    files = {path.stem for path in (ROOT / "edge/cli").glob("*.py")}
    assert {name for name, _ in COMMANDS} == files - shared
    for name, _ in COMMANDS:
        command = cli.get_command(None, name)  # type: ignore[arg-type]
        assert command is not None
        assert command.name == name


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("nope",), "error: No such command 'nope'."),
        (("--nope",), "error: No such option"),
        (("inspect",), "error: Missing argument 'ARTIFACT'."),
    ],
)
def test_a_wrong_command_line(run_edge: Run, args: tuple[str, ...], message: str) -> None:
    ended = run_edge(*args)
    assert (ended.code, ended.out) == (2, "")
    assert ended.err.startswith(message)
    assert ended.err.splitlines()[-1].startswith("see: edge")


def test_without_an_engine_artifacts_are_inspected_and_verified_and_the_extra_is_named(
    run_edge: Run, tiny_artifact: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == "onnxruntime"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)  # as import finds what is not installed
    assert run_edge("inspect", tiny_artifact).code == 0
    assert run_edge("verify", tiny_artifact).code == 0
    ended = run_edge("run", tiny_artifact, "-p", "hello", "--json")
    assert ended.code == 1
    assert ended.json["error"]["type"] == "MissingExtra"
    assert "pip install 'edgewise[cpu]'" in ended.err


def test_json_behind_two_dashes_is_no_option(run_edge: Run) -> None:
    assert run_edge("inspect", "--", "--json").out == ""


def test_the_engines_to_choose_from_are_those_there_are() -> None:
    assert ("auto", *ENGINES) == options.ENGINES


def test_the_page_is_what_help_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = str(ROOT / "scripts/docs")
    assert subprocess.run([sys.executable, script, "--check"]).returncode == 0
    main = runpy.run_path(script)["main"]
    stale = tmp_path / "cli.md"
    stale.write_text("old")
    monkeypatch.setitem(main.__globals__, "PAGE", stale)
    assert main(["--check"]) == 1
    assert main([]) == 0
    assert main(["--check"]) == 0
    assert main(["--nope"]) == 2
