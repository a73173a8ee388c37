"""`edge run`: answer one prompt."""

from __future__ import annotations

import sys
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edge.cli.decoder import load_decoder
from edge.cli.options import artifact_argument, conversation_options, sampling_options
from edge.cli.output import output_options, print_json, remark, remark_passed_over, seconds, size
from edge.cli.stream import pieces, print_answer
from edge.errors import InvalidArgument
from edge.memory.usage import peak_rss_bytes

if TYPE_CHECKING:
    from edge.generate import Generation
    from edge.model import Model


@click.command("run")
@artifact_argument
@click.option("--prompt", "-p", metavar="TEXT", help="What to answer.  [default: read from stdin]")
@click.option("--system", metavar="TEXT", help="Tell the model first who it is and how to answer.")
@click.option("--raw", is_flag=True, help="Continue the prompt as it stands, without the chat template.")
@sampling_options
@conversation_options
@output_options
def command(
    artifact: Path,
    prompt: str | None,
    system: str | None,
    raw: bool,
    loading: dict[str, Any],
    as_json: bool,
    quiet: bool,
    **sampling: Any,
) -> None:
    """Answer one prompt, word by word, on stdout; speed and memory go to stderr.

    \b
    Example:
      edge run smollm2.edge --prompt "What is an inode?"
      git diff | edge run smollm2.edge --system "Summarize this change." --max-tokens 200
    """
    if raw and system is not None:
        raise click.UsageError(
            "--system belongs to the chat template, which --raw leaves out: drop one of them"
        )
    text = read_prompt() if prompt is None else checked_text(prompt)
    if not (text if raw else text.strip()):
        raise InvalidArgument('the prompt is empty; give one with --prompt "..." or on stdin')

    with load_decoder(artifact, loading) as model:
        if not (quiet or as_json):
            remark_passed_over(model.engine)
        generation = model.generate(text, **sampling) if raw else model.chat(system, **sampling).send(text)
        if as_json:
            print_json(_watched(model, generation))
            return
        print_answer(generation)
        if not quiet:
            remark(statistics(model, generation))


def _watched(model: Model, generation: Generation) -> dict[str, Any]:
    """Run `generation` to its end, under watch; what is printed of it."""
    from edge.conditions.machine import machine_report
    from edge.conditions.recorder import Recorder

    machine = machine_report()
    with Recorder() as recorder:
        start, first, before = recorder.mark(), None, 0
        with closing(pieces(generation)) as stream:
            for _ in stream:
                if first is None:
                    first, before = recorder.mark(), len(generation.token_ids)
        end = recorder.mark()
        read = generation.prompt_tokens - generation.cached_tokens
        decoded = len(generation.token_ids) - before if first is not None else 0
        recorder.phases.add(start, end if first is None else first, end, read, decoded)
    return run_report(model, generation) | {"conditions": machine | recorder.report()}


def read_prompt() -> str:
    """All of stdin as text, a last line end left out.

    Raises:
        InvalidArgument: stdin is a terminal or no UTF-8.
    """
    if sys.stdin.isatty():
        raise InvalidArgument(
            'there is no prompt: give --prompt "...", pipe text in, or talk with: edge chat ARTIFACT'
        )
    data = sys.stdin.buffer.read()
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as e:
        raise InvalidArgument(
            f"stdin is not UTF-8: byte 0x{data[e.start]:02x} at offset {e.start}; "
            "convert it first, such as with iconv"
        ) from None
    return text.removesuffix("\n").removesuffix("\r")


def checked_text(text: str) -> str:
    """An argument, sure to be text.

    Raises:
        InvalidArgument: its bytes are no UTF-8.
    """
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as e:
        offset = len(text[: e.start].encode("utf-8"))
        raise InvalidArgument(f"--prompt is not UTF-8 at byte offset {offset}; convert it first") from None
    return text


def run_report(model: Model, generation: Generation) -> dict[str, Any]:
    """What `edge run --json` prints: times in seconds, rates in tokens per second, memory in bytes."""
    timings = generation.timings
    return {
        "text": generation.text,
        "token_ids": [int(token) for token in generation.token_ids],
        "prompt_tokens": generation.prompt_tokens,
        "cached_tokens": generation.cached_tokens,
        "completion_tokens": len(generation.token_ids),
        "finish_reason": generation.finish_reason,
        "timings": {
            "load_s": model.load_s,
            "ttft_s": timings.ttft_s,
            "prefill_tokens_per_s": timings.prefill_tokens_per_s,
            "decode_tokens_per_s": timings.decode_tokens_per_s,
        },
        "memory": {
            "peak_rss_bytes": peak_rss_bytes(),
            "kv_bytes": generation.kv_bytes,
            "weight_bytes": model.engine.weight_bytes,
        },
    }


def _prompt(generation: Generation) -> str:
    cached = f", {generation.cached_tokens} of them read before" if generation.cached_tokens else ""
    return f"{generation.prompt_tokens} prompt tokens{cached}"


def statistics(model: Model, generation: Generation) -> str:
    """One line for people about an answer."""
    timings = generation.timings
    return " · ".join(
        (
            f"{len(generation.token_ids)} tokens",
            f"{timings.decode_tokens_per_s:.1f} tokens/s",
            f"first token after {seconds(timings.ttft_s)} ({_prompt(generation)})",
            f"memory {size(peak_rss_bytes())} "
            f"(weights {size(model.engine.weight_bytes)}, KV {size(generation.kv_bytes)})",
        )
    )
