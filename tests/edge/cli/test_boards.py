# ruff: noqa: E501  what is printed may be longer than code
"""`edge boards`: what is printed, to the letter."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

import boards
from boards.survey import detect
from tests.boards import trees
from tests.boards.trees import plant
from tests.edge.cli.conftest import Ended

Run = Callable[..., Ended]

TABLE = """\
board                       memory   GB/s    SM  computes                     watts      JetPack
dgx-spark                   128 GB    273  12.1  fp16 bf16 int8 int4 fp8 fp4
generic-arm64                4 GB?    17?
generic-x86                  8 GB?  38.4?
jetson-agx-orin-32gb         32 GB  204.8   8.7  fp16 bf16 int8 int4          15 to 50?  5 6 7
jetson-agx-orin-64gb         64 GB  204.8   8.7  fp16 bf16 int8 int4          15 to 60?  5 6 7
jetson-agx-thor             128 GB    273  11.0  fp16 bf16 int8 int4 fp8 fp4  40 to 130  7
jetson-agx-xavier-16gb       16 GB  136.5   7.2  fp16 int8?                   10 to 30?  4 5
jetson-agx-xavier-32gb       32 GB  136.5   7.2  fp16 int8?                   10 to 30?  4 5
jetson-agx-xavier-64gb       64 GB  136.5   7.2  fp16 int8?                   10 to 30?  4 5
jetson-nano                   4 GB   25.6   5.3  fp16                         5 to 10    4
jetson-orin-nano-4gb          4 GB     34   8.7  fp16 bf16 int8 int4          7 to 25?   5 6 7
jetson-orin-nano-8gb          8 GB     68   8.7  fp16 bf16 int8 int4          7 to 15    5 6 7
jetson-orin-nano-super-8gb    8 GB    102   8.7  fp16 bf16 int8 int4          7 to 25    6 7
jetson-orin-nx-8gb            8 GB  102.4   8.7  fp16 bf16 int8 int4          10 to 40   5 6 7
jetson-orin-nx-16gb          16 GB  102.4   8.7  fp16 bf16 int8 int4          10 to 40   5 6 7
jetson-xavier-nx-8gb          8 GB   59.7   7.2  fp16 int8?                   10 to 20?  4 5
jetson-xavier-nx-16gb        16 GB   59.7   7.2  fp16 int8?                   10 to 20?  4 5
raspberry-pi-5-4gb            4 GB    17?
raspberry-pi-5-8gb            8 GB    17?
raspberry-pi-5-16gb          16 GB    17?
rk3588-4gb                   4 GB?     34        int8 fp16? (NPU)
rk3588-8gb                   8 GB?     34        int8 fp16? (NPU)
rk3588-16gb                 16 GB?     34        int8 fp16? (NPU)
rk3588-32gb                 32 GB?     34        int8 fp16? (NPU)
rtx-3060                     12 GB    360   8.6  fp16 bf16 int8 int4          170
rtx-4060                      8 GB    272   8.9  fp16 bf16 int8 int4 fp8      115?
rtx-4070                     12 GB    504   8.9  fp16 bf16 int8 int4 fp8      200
rtx-4090                     24 GB   1008   8.9  fp16 bf16 int8 int4 fp8      450
rtx-5070                    12 GB?    672  12.0  fp16 bf16 int8 int4 fp8 fp4  250?
rtx-5090                     32 GB   1792  12.0  fp16 bf16 int8 int4 fp8 fp4  575

? is not confirmed: from memory, or assumed; edge boards show NAME says where each figure is from
"""
SPARK = """\
dgx-spark: DGX Spark

figure       value                        source
memory       128 GB                       published Spark benchmarks
unified      yes                          one memory for CPU and GPU on GB10
bandwidth    273 GB/s                     published Spark benchmarks
reserve      2048 MiB?                    assumed: what Linux and its services keep
for a model  117.2 GiB                    memory less the reserve
SM           12.1                         jetsonhacks, llama-bench on a Spark
computes     fp16 bf16 int8 int4 fp8 fp4  TensorRT Edge-LLM support matrix
peak         1000 TFLOPS FP4 sparse       published Spark benchmarks
system       DGX OS, CUDA 13.0            TensorRT Edge-LLM support matrix
engines      tensorrt onnxruntime cpu     TensorRT Edge-LLM support matrix

No power modes; 140 W in all (from memory), 138 W measured while decoding (geerlingguy/ai-benchmarks).
The peak is given as about 1 PFLOP.
? is not confirmed: from memory, or assumed
"""
NANO = """\
jetson-orin-nano-4gb: Jetson Orin Nano 4GB

figure       value                                  source
memory       4 GB                                   third-party specification tables
unified      yes                                    one memory for CPU and GPU on every Jetson
bandwidth    34 GB/s                                third-party specification tables
reserve      512 MiB?                               assumed: what Linux and its services keep
for a model  3.2 GiB                                memory less the reserve
SM           8.7                                    jetson_stats CUDA_TABLE
computes     fp16 bf16 int8 int4                    TensorRT Edge-LLM support matrix
peak         20 TOPS INT8 sparse                    third-party specification tables
system       JetPack                                jetson_stats
L4T          35 36 39                               JetPack 5 to 7.2; 7.2: TensorRT Edge-LLM support matrix
engines      tensorrt onnxruntime cpu               TensorRT 10.3 from JetPack 6.1 on
mode 7W      7 W?                                   from memory
mode 10W     10 W?                                  from memory
mode 25W     25 W?, 51 GB/s?, 34 TOPS INT8 sparse?  from memory

JetPack       L4T     CUDA  TensorRT  source
5             35.x    11.4  8.5       jetson-containers#342; TensorRT-LLM#62
6.0           36.3.x  12.4  8.6?      jetson-containers l4t_version.py
6.1 to 6.2.1  36.4.x  12.6  10.3      jetson-containers l4t_version.py; unsloth#3113
7.2           39.x    13.2  10.16     roboflow/inference#2531; TensorRT Edge-LLM support matrix

25W is of the Super modes, from JetPack 6.2 on.
? is not confirmed: from memory, or assumed
"""
HERE = """\
this machine
known by      /proc/device-tree/compatible
memory        7.4 GiB
bandwidth     102 GB/s
power mode    MAXN_SUPER of 15W, 25W, MAXN_SUPER, 7W
JetPack       6.1 to 6.2.1, L4T 36.4.3, CUDA 12.6, TensorRT 10.3
engines       tensorrt onnxruntime cpu
temperature   50 °C, the highest of 3 (gpu-thermal)

source                        says
/proc/device-tree/compatible  nvidia,p3768-0000+p3767-0005-super, nvidia,p3767-0005, nvidia,tegra234
/proc/device-tree/model       NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super
/etc/nv_tegra_release         # R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic, EABI: aarch64, DATE: Wed Jan  8
/proc/meminfo                 7.4 GiB
/var/lib/nvpmodel/status      MAXN_SUPER: mode number 2, by its name
/proc/version                 a kernel for Tegra
"""
CONTRADICTED = """\

contradiction: /proc/device-tree/compatible names Jetson Orin Nano Super 8GB, which runs L4T 36, 39; /etc/nv_tegra_release says L4T 38.2.0
  believed: /proc/device-tree/compatible
  since the firmware describes the hardware that it runs on; /etc/nv_tegra_release is part of an installed system or of a container's image

not usable: /sys/class/thermal/thermal_zone0/temp: it says 'hot', not a temperature in thousandths of a degree

power modes are not seen from this container; start it with -v /etc/nvpmodel.conf:/etc/nvpmodel.conf:ro -v /var/lib/nvpmodel:/var/lib/nvpmodel:ro
"""


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., None]:
    """Makes this machine the one that has these files."""

    def be(files: trees.Files) -> None:
        monkeypatch.setattr(boards, "detect", partial(detect, plant(tmp_path / "root", files)))

    return be


def test_the_table(run_edge: Run) -> None:
    assert run_edge("boards") == Ended(0, TABLE, "")


def test_the_documentation_has_the_same_table() -> None:
    page = (Path(boards.__file__).parents[1] / "docs/boards.md").read_text(encoding="utf-8")
    assert TABLE[: TABLE.index("\n\n")] in page


def test_one_board(run_edge: Run) -> None:
    assert run_edge("boards", "show", "dgx-spark") == Ended(0, SPARK, "")
    assert run_edge("boards", "show", "jetson-orin-nano-4gb") == Ended(0, NANO, "")


def test_this_machine(run_edge: Run, here: Callable[..., None]) -> None:
    here(trees.ORIN_NANO)
    ended = run_edge("boards", "show")
    assert (ended.code, ended.err) == (0, "")
    name, _, detected = ended.out.partition("\nthis machine")
    assert name.startswith("jetson-orin-nano-super-8gb: Jetson Orin Nano Super 8GB\n")
    assert f"this machine{detected}" == HERE


def test_what_contradicts_and_what_is_unreadable(run_edge: Run, here: Callable[..., None]) -> None:
    wrong = {"etc/nv_tegra_release": trees.release("38.2.0"), "sys/class/thermal/thermal_zone0/temp": "hot"}
    here({**trees.IN_A_CONTAINER, **wrong})
    out = run_edge("boards", "show").out
    assert out[out.index("\ncontradiction") :] == CONTRADICTED


def test_json_of_all(run_edge: Run) -> None:
    report = run_edge("boards", "--json").json
    assert set(report) == {"boards", "faults"}
    found = {board["name"]: board for board in report["boards"]}
    assert len(found) == len(boards.profiles())
    pi = found["raspberry-pi-5-8gb"]
    assert pi["bandwidth_gb_s"] == {"value": 17.0, "source": "from memory", "confirmed": False, "unit": ""}
    assert found["jetson-agx-thor"]["jetpacks"] == [7]
    assert found["jetson-agx-thor"]["releases"][-1]["tensorrt"] == "10.16"


def test_json_of_one(run_edge: Run, here: Callable[..., None]) -> None:
    report = run_edge("boards", "show", "rtx-4090", "--json").json
    assert set(report) == {"board"}
    assert report["board"]["usable_bytes"] == 24 * 10**9 - (512 << 20)
    here(trees.ORIN_NANO)
    report = run_edge("boards", "show", "--json").json
    assert set(report) == {"board", "detection"}
    detection = report["detection"]
    assert (detection["power_mode"], detection["bandwidth_gb_s"], detection["l4t"]) == (
        "MAXN_SUPER",
        102,
        "36.4.3",
    )
    assert detection["evidence"][0]["source"] == "/proc/device-tree/compatible"
    assert report["board"]["name"] == "jetson-orin-nano-super-8gb"


def test_the_users_own(run_edge: Run, config_folder: Path) -> None:
    ours = Path(boards.__file__).parent / "rtx-4090.toml"
    (config_folder / "my-card.toml").write_text(ours.read_text())
    (config_folder / "broken.toml").write_text('title = "x"\nmemry = 1\n')
    ended = run_edge("boards")
    assert ended.code == 0
    assert f"my-card is yours: {config_folder}/my-card.toml\n" in ended.out
    assert ended.err.startswith(
        f"left out: {config_folder}/broken.toml, line 2: memry is unknown; known here: title"
    )
    assert run_edge("boards", "--json").json["faults"] == [ended.err.removeprefix("left out: ").strip()]
    assert f"from: {config_folder}/my-card.toml" in run_edge("boards", "show", "my-card").out


@pytest.mark.parametrize(
    ("args", "code", "message"),
    [
        (("show", "rtx-409"), 1, "error: there is no board 'rtx-409'; did you mean rtx-4090 or"),
        (
            ("show", "jetson-orin-nano"),
            1,
            "jetson-orin-nano-4gb or jetson-orin-nano-8gb or jetson-orin-nano-super",
        ),
        (("show", "zzz"), 1, "error: there is no board 'zzz'; all there are: edge boards"),
        (("show", "broken"), 1, "broken.toml, line 1: titel is unknown; known here: title"),
        (("shaw",), 2, "No such command 'shaw'"),
        (("show", "a", "b"), 2, "unexpected extra argument"),
    ],
)
def test_a_wrong_command_line(
    run_edge: Run, config_folder: Path, args: tuple[str, ...], code: int, message: str
) -> None:
    (config_folder / "broken.toml").write_text('titel = "x"\n')
    ended = run_edge("boards", *args)
    assert (ended.code, ended.out) == (code, "")
    assert message in ended.err


@pytest.mark.parametrize(
    "files", [{}, trees.HIDDEN, trees.WSL, trees.PC_WITH_RTX, {"proc/cpuinfo": b"\xff" * 99}]
)
def test_any_machine_is_shown(run_edge: Run, here: Callable[..., None], files: trees.Files) -> None:
    here(files)
    ended = run_edge("boards", "show")
    assert (ended.code, ended.err) == (0, "")
    assert run_edge("boards", "show", "--json").code == 0
