"""`edge run`."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import edge
from runtimes.onnxruntime import OnnxRuntimeEngine
from tests.edge.cli.conftest import Ended
from tests.edge.cli.terminal import Terminal

Run = Callable[..., Ended]
SAMPLED = ("--max-tokens", "12", "--temperature", "1", "--seed", "7")


def shape(value: object) -> object:
    return (
        {key: shape(item) for key, item in value.items()} if isinstance(value, dict) else type(value).__name__
    )


@pytest.fixture(scope="module")
def model(tiny_artifact: Path) -> edge.Model:
    return edge.load(tiny_artifact)


def test_the_answer_goes_to_stdout_and_the_statistics_to_stderr(
    run_edge: Run, tiny_artifact: Path, model: edge.Model
) -> None:
    ended = run_edge("run", tiny_artifact, "--prompt", "hello", "--max-tokens", "12")
    assert ended.code == 0
    assert ended.out == "".join(model.chat(max_tokens=12).send("hello")) + "\n"
    [line] = ended.err.splitlines()
    for part in ("12 tokens", "tokens/s", "first token after", "prompt tokens", "memory", "KV"):
        assert part in line


@pytest.mark.parametrize(
    ("args", "stdin", "expected"),
    [
        (
            ("-p", "hello", *SAMPLED),
            b"",
            lambda m: m.chat().send("hello", max_tokens=12, temperature=1, seed=7),
        ),
        ((), b"hello\n", lambda m: m.chat().send("hello", max_tokens=9)),
        ((), b"a\r\nb\r\n", lambda m: m.chat().send("a\r\nb", max_tokens=9)),
        ((), "¿Qué? 你好".encode(), lambda m: m.chat().send("¿Qué? 你好", max_tokens=9)),
        (("--raw", "-p", "hello"), b"", lambda m: m.generate("hello", max_tokens=9)),
        (("--raw",), b" ", lambda m: m.generate(" ", max_tokens=9)),
        (
            ("--system", "be brief", "-p", "hello"),
            b"",
            lambda m: m.chat(system="be brief").send("hello", max_tokens=9),
        ),
        (
            ("-p", "hello", "--stop", "zz", "--stop", "b"),
            b"",
            lambda m: m.chat().send("hello", stop=["zz", "b"], max_tokens=9),
        ),
    ],
)
def test_options_mean_what_the_api_means(
    run_edge: Run,
    tiny_artifact: Path,
    model: edge.Model,
    args: tuple[str, ...],
    stdin: bytes,
    expected: Callable[[edge.Model], edge.Generation],
) -> None:
    most = () if "--max-tokens" in args else ("--max-tokens", "9")
    ended = run_edge("run", tiny_artifact, "--quiet", *args, *most, stdin=stdin)
    text = "".join(expected(model))
    assert ended == Ended(0, text + "\n" if text else "", "")


def test_json(run_edge: Run, tiny_artifact: Path, model: edge.Model, on_an_orin: None) -> None:
    report = run_edge("run", tiny_artifact, "--prompt", "hello", "--max-tokens", "12", "--json").json
    conditions = report.pop("conditions")
    assert (conditions["board"], conditions["power_mode"]) == ("jetson-orin-nano-super-8gb", "MAXN_SUPER")
    assert (conditions["temperature_c"]["end"], conditions["throttled"]) == (50.125, False)
    [energy] = conditions["energy"]
    assert energy["decode_watts"] == pytest.approx(5.016 * 1.5)
    assert energy["joules_per_prompt_token"] == pytest.approx(
        energy["prefill_joules"] / report["prompt_tokens"]
    )
    assert shape(report) == {
        "text": "str",
        "token_ids": "list",
        "prompt_tokens": "int",
        "cached_tokens": "int",
        "completion_tokens": "int",
        "finish_reason": "str",
        "timings": {
            "load_s": "float",
            "ttft_s": "float",
            "prefill_tokens_per_s": "float",
            "decode_tokens_per_s": "float",
        },
        "memory": {"peak_rss_bytes": "int", "kv_bytes": "int", "weight_bytes": "int"},
    }
    answer = model.chat(max_tokens=12).send("hello")
    assert report["text"] == "".join(answer)
    assert report["token_ids"] == answer.token_ids
    assert report["completion_tokens"] == 12
    assert report["prompt_tokens"] == answer.prompt_tokens
    assert report["finish_reason"] == "length"
    assert all(value > 0 for part in ("timings", "memory") for value in report[part].values())


@pytest.mark.parametrize(
    ("args", "stdin", "code", "kind", "message"),
    [
        ((), b"", 1, "InvalidArgument", "the prompt is empty"),
        ((), b" \n\n", 1, "InvalidArgument", "the prompt is empty"),
        (("--prompt", ""), b"", 1, "InvalidArgument", "the prompt is empty"),
        (("--raw",), b"\n", 1, "InvalidArgument", "the prompt is empty"),
        ((), b"caf\xe9", 1, "InvalidArgument", "stdin is not UTF-8: byte 0xe9 at offset 3"),
        (("-p", "caf\udce9"), b"", 1, "InvalidArgument", "--prompt is not UTF-8 at byte offset 3"),
        (("-p", "é\udce9"), b"", 1, "InvalidArgument", "--prompt is not UTF-8 at byte offset 2"),
        (("-p", "x", "--temperature", "-1"), b"", 1, "InvalidArgument", "temperature is -1.0"),
        (("-p", "x", "--temperature", "nan"), b"", 1, "InvalidArgument", "temperature is nan"),
        (("-p", "x", "--top-p", "2"), b"", 1, "InvalidArgument", "top_p is 2.0"),
        (("-p", "x", "--top-k", "-1"), b"", 1, "InvalidArgument", "top_k is -1"),
        (("-p", "x", "--max-tokens", "0"), b"", 1, "InvalidArgument", "max_tokens is 0"),
        (("-p", "x", "--threads", "0"), b"", 1, "InvalidArgument", "threads is 0"),
        (("-p", "x", "--context", "9999999"), b"", 1, "InvalidArgument", "context is 9999999"),
        (("-p", "x", "--engine", "abacus"), b"", 2, "UsageError", "'abacus' is not one of 'auto', 'cpu'"),
        (("-p", "x" * 60, "--context", "50"), b"", 1, "ContextExceeded", "the context holds 50"),
        (("-p", "x", "--max-tokens", "many"), b"", 2, "UsageError", "'many' is not a valid integer"),
        (
            ("-p", "x", "--raw", "--system", "y"),
            b"",
            2,
            "UsageError",
            "--system belongs to the chat template",
        ),
        (("--nope",), b"", 2, "UsageError", "No such option"),
    ],
)
def test_wrong_input_is_an_error_that_names_it(
    run_edge: Run,
    tiny_artifact: Path,
    args: tuple[str, ...],
    stdin: bytes,
    code: int,
    kind: str,
    message: str,
) -> None:
    ended = run_edge("run", tiny_artifact, *args, stdin=stdin)
    assert (ended.code, ended.out) == (code, "")
    assert ended.err.startswith("error: ")
    assert message in ended.err
    ended = run_edge("run", tiny_artifact, "--json", *args, stdin=stdin)
    assert ended.code == code
    assert ended.json["error"]["type"] == kind
    assert message in ended.json["error"]["message"]


def test_an_artifact_without_a_chat_template_runs_raw(
    run_edge: Run, tiny_artifact: Path, tmp_path: Path
) -> None:
    bare = tmp_path / "bare.edge"
    (bare / "onnxruntime").mkdir(parents=True)
    manifest = json.loads((tiny_artifact / "edge.json").read_text())
    manifest["files"] = [entry for entry in manifest["files"] if entry["path"] != "chat_template.jinja"]
    for entry in manifest["files"]:
        os.link(tiny_artifact / entry["path"], bare / entry["path"])
    (bare / "edge.json").write_text(json.dumps(manifest))

    ended = run_edge("run", bare, "-p", "hello")
    assert (ended.code, ended.out) == (1, "")
    assert "--raw" in ended.err
    assert run_edge("run", bare, "-p", "hello", "--raw", "--max-tokens", "3").code == 0


def test_no_prompt_on_a_terminal_says_so_and_waits_for_nothing(tiny_artifact: Path) -> None:
    master, slave = pty.openpty()
    try:
        done = subprocess.run(
            [sys.executable, "-m", "edge.cli.main", "run", str(tiny_artifact)],
            stdin=slave,
            capture_output=True,
            text=True,
            timeout=60,
        )
    finally:
        os.close(master)
        os.close(slave)
    assert done.returncode == 1
    assert done.stderr.startswith("error: there is no prompt")


def test_ctrl_c_ends_a_long_answer(
    terminal: Callable[..., Terminal], tiny_artifact: Path, model: edge.Model
) -> None:
    beginning = "".join(model.chat(max_tokens=20).send("hello"))
    screen = terminal("run", tiny_artifact, "--prompt", "hello")
    screen.expect(beginning)
    screen.type("\x03")
    screen.expect("interrupted\n")
    assert screen.wait() == 130


def test_a_faster_engine_that_was_passed_over_is_told(
    run_edge: Run, tiny_artifact: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(OnnxRuntimeEngine, "passed_over", "cpu (not built; build it with: scripts/kernels)")
    args = ("run", tiny_artifact, "-p", "hello", "--max-tokens", "2")
    told, _ = run_edge(*args).err.splitlines()
    assert told == (
        "slower than it could be: engine onnxruntime runs this, not cpu (not built; build it with: scripts/kernels)"
    )
    assert run_edge(*args, "-q").err == run_edge(*args, "--json").err == ""
    assert run_edge("chat", tiny_artifact, "--max-tokens", "2", stdin=b"hello\n").err.splitlines() == [told]
