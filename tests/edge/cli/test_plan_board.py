"""`edge plan --board`, `--all-boards`, `--all-recipes`: what is printed, to the letter, and the picture."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from xml.etree import ElementTree

import pytest

import boards
from bench.export_memory import R1_DISTILL_QWEN_1_5B
from boards.survey import detect
from edge.artifact import ModelSpec
from edge.memory import bandwidth as bandwidth_module
from edge.memory.choice import choose
from edge.memory.picture import picture
from edge.memory.recipe import recipes
from edge.memory.room import room_of
from tests.boards import trees
from tests.edge.cli.artifacts import write_windowed
from tests.edge.cli.conftest import Ended
from tests.edge.memory.sizes import SMOLLM2

Run = Callable[..., Ended]
GIB = 1 << 30
LARGE = {
    "model_type": "llama",
    "hidden_size": 8192,
    "intermediate_size": 28672,
    "num_hidden_layers": 80,
    "num_attention_heads": 64,
    "num_key_value_heads": 8,
    "vocab_size": 128256,
    "max_position_embeddings": 131072,
    "rms_norm_eps": 1e-5,
    "rope_theta": 500000.0,
    "tie_word_embeddings": False,
}

ONE = """\
part             MiB
weights       1801.1  1777 M parameters, engine cpu                                        ████████████████████████
KV cache       116.5  8192 tokens in int8, 14896 bytes each                                ██
workspace       17.9  a prefill chunk, logits, rotary tables                               █
runtime        231.4  Python, ONNX Runtime, tokenizer                                      ███
prefix cache   116.5  what was read, for prompts that begin alike                          ██
reserve        768.0  left to the system?                                                  ██████████
needed        3051.4
there is      7782.4  Jetson Orin Nano Super 8GB: its memory, shared by all that computes

fits; the largest context that fits is 131072 tokens (all that the model takes)

recipe: weights int8, block 32, KV int8, engine cpu
  weights int8: the closest to the source, and it fits with 57.9 tokens/s at most
  context 8192 tokens: what is left room for by default
  engine cpu: our operators, the fastest that Edgewise has today
  TensorRT for SM 8.7 is noted as a target; edge build makes engines, unverified on device
decode: at most 61.9 tokens/s at 512 tokens and 57.9 at 8192: 102.0 GB/s ÷ 1.6 GB and 1.8 GB that a token reads
in power mode 7W? and 15W? memory is read at 67% of that speed
? is not confirmed: it is, or rests on, a figure that is from memory or assumed (edge boards show NAME)
"""
FITS_NOT = """\
part           MiB
weights    34698.3  70554 M parameters, engine cpu                                ███████████████████████████████████████
KV cache      22.5  256 tokens in int4, 92160 bytes each                          █
workspace     50.1  a prefill chunk, logits, rotary tables                        █
runtime      206.5  Python, ONNX Runtime, tokenizer                               █
reserve     1024.0  left to the system?                                           █
needed     36001.5
there is   15258.8  Jetson Orin NX 16GB: its memory, shared by all that computes

does not fit: 20742.7 MiB are missing

recipe: weights int4, block 128, KV int4, engine cpu
  it needs the least, 20742.7 MiB more than there are
  engine cpu: our operators, the fastest that Edgewise has today
  TensorRT for SM 8.7 is noted as a target; edge build makes engines, unverified on device
? is not confirmed: it is, or rests on, a figure that is from memory or assumed (edge boards show NAME)
it would fit: jetson-agx-orin-64gb (int4), jetson-agx-xavier-64gb (int4), dgx-spark (int4), jetson-agx-thor (int4); all: edge plan big.json --all-boards
"""  # noqa: E501
RECIPES = """\
recipe                             fits  context  needs MiB      of  short tokens/s  whole tokens/s
weights int8, block 32, KV fp16     yes     8192     3010.4  3814.7            15.5            13.6
weights int8, block 32, KV int8     yes     8192     2795.4  3814.7            15.5            14.5
weights int8, block 32, KV int4     yes     8192     2688.4  3814.7            15.6            15.0
weights 6 bits, KV fp16             yes     8192     2480.8  3814.7            21.8            18.4
weights 6 bits, KV int8             yes     8192     2265.8  3814.7            22.0            20.0
weights 6 bits, KV int4             yes     8192     2158.8  3814.7            22.0            20.9
weights 5 bits, KV fp16             yes     8192     2269.0  3814.7            26.1            21.3
weights 5 bits, KV int8             yes     8192     2054.0  3814.7            26.3            23.5
weights 5 bits, KV int4             yes     8192     1947.0  3814.7            26.4            24.8
weights int4, block 32, KV fp16     yes     8192     2163.1  3814.7            29.0            23.2
weights int4, block 32, KV int8 *   yes     8192     1948.1  3814.7            29.2            25.8
weights int4, block 32, KV int4     yes     8192     1841.1  3814.7            29.3            27.4
weights int4, block 128, KV fp16    yes     8192     2083.6  3814.7            31.6            24.8
weights int4, block 128, KV int8    yes     8192     1868.6  3814.7            31.8            27.9
weights int4, block 128, KV int4    yes     8192     1761.6  3814.7            32.0            29.7

8192 tokens of context; on Jetson Nano, 3814.7 MiB: its memory, shared by all that computes
* is what edge export --board would take
? is not confirmed: it is, or rests on, a figure that is from memory or assumed (edge boards show NAME)
"""
ALL = """\
board                       fits  weights  KV    context  needs MiB        of  short tokens/s  whole tokens/s
dgx-spark                    yes  int8     int8     8192     4331.4  122070.3           165.6           154.9
generic-arm64                yes  int4     int8     8192     1820.1   3814.7?           19.4?           17.2?
generic-x86                  yes  5 bits   int8     8192     2054.0   7629.4?           39.5?           35.3?
jetson-agx-orin-32gb         yes  int8     int8     8192     3307.4   30517.6           124.3           116.2
jetson-agx-orin-64gb         yes  int8     int8     8192     3307.4   61035.2           124.3           116.2
jetson-agx-thor              yes  int8     int8     8192     4331.4  122070.3           165.6           154.9
jetson-agx-xavier-16gb       yes  int8     int8     8192     3307.4   15258.8            82.8            77.4
jetson-agx-xavier-32gb       yes  int8     int8     8192     3307.4   30517.6            82.8            77.4
jetson-agx-xavier-64gb       yes  int8     int8     8192     3307.4   61035.2            82.8            77.4
jetson-nano                  yes  int4     int8     8192     1948.1    3814.7            29.2            25.8
jetson-orin-nano-4gb         yes  5 bits   int8     8192     2054.0    3814.7            34.9            31.3
jetson-orin-nano-8gb         yes  int8     int8     8192     3051.4    7782.4            41.3            38.6
jetson-orin-nano-super-8gb   yes  int8     int8     8192     3051.4    7782.4            61.9            57.9
jetson-orin-nx-8gb           yes  int8     int8     8192     3051.4    7629.4            62.1            58.1
jetson-orin-nx-16gb          yes  int8     int8     8192     3307.4   15258.8            62.1            58.1
jetson-xavier-nx-8gb         yes  int8     int8     8192     3051.4    7629.4            36.2            33.9
jetson-xavier-nx-16gb        yes  int8     int8     8192     3051.4   15258.8            36.2            33.9
raspberry-pi-5-4gb           yes  int4     int8     8192     1820.1    3814.7           19.4?           17.2?
raspberry-pi-5-8gb           yes  int4     int8     8192     1820.1    7629.4           19.4?           17.2?
raspberry-pi-5-16gb          yes  int4     int8     8192     1820.1   15258.8           19.4?           17.2?
rk3588-4gb                   yes  5 bits   int8     8192     2054.0   3814.7?            34.9            31.3
rk3588-8gb                   yes  5 bits   int8     8192     2054.0   7629.4?            34.9            31.3
rk3588-16gb                  yes  5 bits   int8     8192     2054.0  15258.8?            34.9            31.3
rk3588-32gb                  yes  5 bits   int8     8192     2054.0  30517.6?            34.9            31.3
rtx-3060                     yes  int8     fp16     8192     2555.0   11444.1           217.5           191.9
rtx-4060                     yes  int8     fp16     8192     2555.0    7629.4           164.3           145.0
rtx-4070                     yes  int8     fp16     8192     2555.0   11444.1           304.5           268.7
rtx-4090                     yes  int8     fp16     8192     2555.0   22888.2           609.0           537.5
rtx-5070                     yes  int8     fp16     8192     2555.0  11444.1?           406.0           358.3
rtx-5090                     yes  int8     fp16     8192     2555.0   30517.6          1082.6           955.5

fits 30 of 30 boards
? is not confirmed: it is, or rests on, a figure that is from memory or assumed (edge boards show NAME)
"""


@pytest.fixture(autouse=True)
def sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """r1/config.json and big.json, here."""
    monkeypatch.chdir(tmp_path)
    Path("r1").mkdir()
    Path("r1/config.json").write_text(json.dumps(R1_DISTILL_QWEN_1_5B))
    Path("big.json").write_text(json.dumps(LARGE))


def test_one_board(run_edge: Run) -> None:
    assert run_edge("plan", "r1", "--board", "jetson-orin-nano-super-8gb") == Ended(0, ONE, "")


def test_the_documentation_has_the_same() -> None:
    page = (Path(boards.__file__).parents[1] / "docs/boards.md").read_text(encoding="utf-8")
    assert ONE in page


def test_a_model_that_fits_no_recipe_of_a_board(run_edge: Run) -> None:
    assert run_edge("plan", "big.json", "--board", "jetson-orin-nx-16gb") == Ended(0, FITS_NOT, "")
    report = run_edge("plan", "big.json", "--board", "jetson-orin-nx-16gb", "--json").json
    assert report["missing_bytes"] == report["required_bytes"]["total"] - report["available_bytes"] > 0
    assert report["fits_on"] == [
        "jetson-agx-orin-64gb",
        "jetson-agx-xavier-64gb",
        "dgx-spark",
        "jetson-agx-thor",
    ]


def test_a_model_that_fits_no_board(run_edge: Run) -> None:
    Path("big.json").write_text(json.dumps({**LARGE, "num_hidden_layers": 400}))
    out = run_edge("plan", "big.json", "--board", "dgx-spark").out
    assert "\nit fits no board that Edgewise knows; take a smaller model\n" in out
    out = run_edge("plan", "big.json", "--all-boards").out
    assert "\nfits 0 of 30 boards\nnearest: dgx-spark, where " in out


def test_all_recipes(run_edge: Run) -> None:
    options = ("plan", "r1", "--board", "jetson-nano", "--all-recipes")
    assert run_edge(*options) == Ended(0, RECIPES, "")
    report = run_edge(*options, "--json").json
    assert [r["recipe"]["weights"] for r in report["recipes"] if r["chosen"]] == ["int4"]
    assert (report["board"]["name"], report["context"], len(report["recipes"])) == ("jetson-nano", 8192, 15)


def test_all_boards(run_edge: Run) -> None:
    assert run_edge("plan", "r1", "--all-boards") == Ended(0, ALL, "")
    found = run_edge("plan", "r1", "--all-boards", "--json").json
    assert [each["board"]["name"] for each in found["boards"]] == [
        profile.name for profile in boards.profiles()
    ]
    assert found["faults"] == []


CARD = """\
part          MiB
weights    1801.1  1777 M parameters, engine tensorrt       ██████████████████████████
KV cache    448.0  16384 tokens in fp16, 28672 bytes each   ██████
workspace    21.9  a prefill chunk, logits, rotary tables   █
reserve     512.0  left to the system?                      ███████
needed     2783.0
there is   7629.4  GeForce RTX 4060: the card's own memory
"""


def test_a_card_by_its_own_memory(run_edge: Run) -> None:
    told = run_edge("plan", "r1", "--board", "rtx-4060", "--context", "16384").out
    assert told.startswith(CARD)
    assert "\n  engine tensorrt: it computes on the card, unverified on device\n" in told
    assert (
        "\n  in the computer's own memory, not counted: a runtime of 231.4 MiB, and the prefix cache\n"
        in told
    )
    for engine, kinds in (
        ("tensorrt", {"fp16", "int8"}),
        ("cuda", {"fp16"}),
        ("cpu", {"fp16", "int8", "int4"}),
    ):
        options = ("--board", "rtx-4060", "--all-recipes", "--engine", engine)
        report = run_edge("plan", "r1", *options, "--json").json
        assert {each["recipe"]["kv"] for each in report["recipes"]} == kinds
        assert {each["recipe"]["engine"] for each in report["recipes"]} == {engine}
        assert sum(each["chosen"] for each in report["recipes"]) == 1


@pytest.mark.parametrize(
    ("options", "out", "why"),
    [
        (("--engine", "tensorrt"), "jetson-nano", "Jetson Nano cannot run engine tensorrt"),
        (("--kv", "int4"), "rtx-4060", "--kv int4 is not what engine tensorrt keeps"),
        (("--weights", "fp32"), "rtx-4060", "engine tensorrt takes weights in"),
    ],
)
def test_boards_that_cannot_have_it_are_left_out(
    run_edge: Run, options: tuple[str, ...], out: str, why: str
) -> None:
    told = run_edge("plan", "r1", "--all-boards", *options).out
    found = run_edge("plan", "r1", "--all-boards", *options, "--json").json
    assert why in found["left_out"][out]
    named = {each["board"]["name"] for each in found["boards"]}
    assert named | set(found["left_out"]) == {profile.name for profile in boards.profiles()}
    assert not named & set(found["left_out"])
    assert f"\nleft out: {', '.join(found['left_out'])} (" in told
    assert f"\n{out} " not in told


def test_a_board_of_the_users_own(run_edge: Run, config_folder: Path) -> None:
    # More of the memory is kept than there is.
    ours = (Path(boards.__file__).parent / "jetson-nano.toml").read_text()
    small = ours.replace("value = 512", "value = 8192")
    (config_folder / "mine.toml").write_text(small)
    (config_folder / "broken.toml").write_text("title = 1")
    assert "\ndoes not fit: " in run_edge("plan", "r1", "--board", "mine").out
    assert len(run_edge("plan", "r1", "--all-boards", "--json").json["faults"]) == 1
    assert "broken.toml, line 1: title is 1" in run_edge("plan", "r1", "--board", "broken").err


def test_json(run_edge: Run) -> None:
    plain = run_edge("plan", "r1", "--memory", "4GiB", "--json").json
    report = run_edge("plan", "r1", "--board", "raspberry-pi-5-8gb", "--context", "16384", "--json").json
    added = {"board", "recipe", "decode_tokens_per_s_ceiling", "missing_bytes"}
    assert set(report) == set(plain) - {"disk"} | added
    assert report["fits"]
    assert report["board"]["reserve_bytes"] == report["required_bytes"]["reserve"] == 384 << 20
    assert report["board"]["bandwidth_bytes_per_s"]["confirmed"] is False
    assert [(c["context"], c["confirmed"]) for c in report["decode_tokens_per_s_ceiling"]] == [
        (512, False),
        (16384, False),
    ]
    for ceiling in report["decode_tokens_per_s_ceiling"]:
        assert ceiling["tokens_per_s"] == pytest.approx(17e9 / ceiling["bytes_per_token"])
    assert {key: report["recipe"][key] for key in ("engine", "weights", "block", "kv", "context")} == {
        "engine": "cpu",
        "weights": "int4",
        "block": 32,
        "kv": "int8",
        "context": 16384,
    }


def test_an_artifact_keeps_its_weights(run_edge: Run, tmp_path: Path) -> None:
    artifact = write_windowed(tmp_path / "windowed.edge")
    report = run_edge("plan", artifact, "--board", "jetson-nano", "--json").json
    assert report["fits"]
    assert report["engine"] == report["recipe"]["engine"] == "onnxruntime"
    assert report["recipe"]["reasons"][0].endswith("as the artifact has them")
    refused = run_edge("plan", artifact, "--board", "jetson-nano", "--kv", "int8")
    assert "export it again with --kv int8" in refused.err
    again = run_edge("plan", artifact, "--board", "jetson-nano", "--weights", "int8", "--json").json
    assert (again["recipe"]["weights"], again["engine"]) == ("int8", "cpu")
    other = run_edge("plan", artifact, "--board", "rtx-4090", "--engine", "cuda")
    assert "is for engine onnxruntime, not cuda; see edge convert" in other.err


def test_this_machine(run_edge: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = detect(trees.plant(tmp_path / "root", trees.ORIN_NANO), gpus=())
    monkeypatch.setattr(boards, "detect", lambda: replace(found, memory_limit=500 << 20))
    out = run_edge("plan", "r1", "--board", "this").out
    assert "there is    500.0  Jetson Orin Nano Super 8GB: limit of a cgroup" in out
    assert "the cgroup limit of 500 MiB is less than the 768 MiB that this board keeps for its system" in out
    report = run_edge("plan", "r1", "--board", "this", "--json").json
    assert report["notes"][0].startswith("the cgroup limit of 500 MiB")


def test_an_unknown_machine_is_measured(
    run_edge: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {"proc/meminfo": trees.meminfo(16), "proc/cpuinfo": trees.X86}
    monkeypatch.setattr(boards, "detect", partial(detect, trees.plant(tmp_path / "root", files), gpus=()))
    monkeypatch.setattr(bandwidth_module, "read_bandwidth", lambda threads, rounds: 40e9)
    report = run_edge("plan", "r1", "--board", "this", "--json").json
    assert report["board"]["name"] == "this-machine"
    assert report["board"]["bandwidth_bytes_per_s"]["value"] == 40e9
    assert report["recipe"]["weights"] == "mixed"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--board", "jetson-nanu"), "there is no board 'jetson-nanu'; did you mean jetson-nano"),
        (("--board", "raspberry-pi-5"), "did you mean raspberry-pi-5-4gb or raspberry-pi-5-8gb"),
        (
            ("--board", "jetson-nano", "--memory", "4GiB"),
            "--memory and --board both say what memory there is",
        ),
        (("--all-boards", "--memory", "4GiB"), "--memory and --all-boards both say"),
        (("--all-boards", "--board", "this"), "--all-boards is every board, and --board this one; drop one"),
        (("--all-boards", "--all-recipes"), "--all-recipes those of one board; drop one of the two"),
        (("--all-recipes",), "--all-recipes is of one board; name it: --board NAME"),
        (
            ("--board", "jetson-nano", "--context", "131073"),
            "context is 131073; this model takes from 1 to 131072",
        ),
        (("--board", "jetson-nano", "--sessions", "0"), "sessions is 0"),
        (
            ("--board", "rtx-4090", "--kv", "fp32"),
            "--kv fp32 is not what engine tensorrt keeps, fp16 or int8",
        ),
        (
            ("--board", "jetson-nano", "--weights", "fp16", "--kv", "fp16"),
            "--kv fp16 is not what engine onnxruntime keeps, fp32 or int8 or int4; drop --kv, or choose another",
        ),
        (
            ("--board", "rtx-4090", "--weights", "fp32"),
            "engine tensorrt takes weights in int4, int8, fp16, not fp32",
        ),
        (
            ("--board", "jetson-nano", "--engine", "tensorrt"),
            "Jetson Nano cannot run engine tensorrt: its TensorRT",
        ),
        (
            ("--all-boards", "--weights", "fp16", "--engine", "cpu"),
            "engine cpu takes weights in int4, int8, not",
        ),
        (("--engine", "cuda"), "--engine cuda is of a board; add --board NAME or --all-boards"),
        (("--plot", "x.svg"), "--plot draws a plan for a board; add --board NAME or --all-boards"),
        (("--board", "jetson-nano", "--plot", "x.png"), "--plot x.png: the picture is an SVG"),
        (("--board", "jetson-nano", "--plot", "none/x.svg"), "none/x.svg cannot be written (No such file"),
    ],
)
def test_bad_values(run_edge: Run, options: tuple[str, ...], message: str) -> None:
    ended = run_edge("plan", "r1", *options)
    assert (ended.code, ended.out) == (1, "")
    assert message in ended.err
    assert sorted(path.name for path in Path().iterdir()) == ["big.json", "r1"]


@pytest.mark.parametrize(
    ("options", "rows"),
    [
        (("--board", "jetson-nano"), 1),
        (("--board", "jetson-nano", "--all-recipes"), 15),
        (("--all-boards",), len(boards.profiles())),
    ],
)
def test_a_picture(run_edge: Run, options: tuple[str, ...], rows: int) -> None:
    Path("plan.svg").write_text("before")
    assert run_edge("plan", "r1", *options, "--plot", "plan.svg").code == 0
    tree = ElementTree.parse("plan.svg").getroot()
    lines = [element for element in tree.iter() if element.tag.endswith("line")]
    assert len(lines) == rows
    words = [element.text or "" for element in tree.iter() if element.tag.endswith("text")]
    assert sum("tokens/s" in text for text in words) == rows
    assert [path.name for path in Path().glob("*.svg")] == ["plan.svg"]


def test_the_picture_of_the_documentation(run_edge: Run) -> None:
    Path("r1").rename("DeepSeek-R1-Distill-Qwen-1.5B")
    run_edge("plan", "DeepSeek-R1-Distill-Qwen-1.5B", "--all-boards", "--plot", "boards.svg")
    kept = Path(boards.__file__).parents[1] / "docs/boards.svg"
    assert Path("boards.svg").read_text(encoding="utf-8") == kept.read_text(encoding="utf-8")


def test_bars_are_as_long_as_what_they_are_for() -> None:
    spec: ModelSpec = SMOLLM2
    room = room_of(boards.profile("jetson-nano"))
    choice = choose(recipes(spec, "cpu"), room)
    svg = picture('a "<b>" & c', [("<name>", choice)])
    ElementTree.fromstring(svg)
    assert "<name>" not in svg
    assert "&lt;b&gt;" in svg
    widths = [float(width) for width in re.findall(r'width="([\d.]+)" height="16" fill="#[^f]', svg)]
    assert sum(widths) == pytest.approx(480 * choice.plan.required.total / choice.plan.available, abs=0.5)
