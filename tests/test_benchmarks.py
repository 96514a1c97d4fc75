"""The benchmark: what it compares is equal, what it refuses, and one quick run from the command to the record."""

import functools
import json
import os
import shutil
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from oracle import loop_attention

from aacn_lib.layers import AAConv2d, merge_heads, split_heads
from aacn_lib.ops import attention
from benchmarks import __main__ as command
from benchmarks import report
from benchmarks.layers import memory, timings, variants
from benchmarks.layers.cases import EVERY_STAGE, LAYER, MARKS, PLANS, VARIANTS, Case
from benchmarks.layers.public_layer import PublicAAConv2d

ROOT = Path(__file__).resolve().parents[1]
TINY = PLANS["quick"].cases[0]


@pytest.mark.parametrize("qkv_kernel_size", [1, 3])
@pytest.mark.parametrize(("H", "W"), [(5, 3), (3, 7), (1, 5)])
def test_the_public_layer_is_the_definition(qkv_kernel_size, H, W):
    """Forward and gradients in float64, with weights of the 3×3 kernel outside its centre too."""
    sizes = {"depth_k": 6, "depth_v": 10, "num_heads": 2}
    layer = PublicAAConv2d(7, 13, **sizes, feature_size=(H, W), qkv_kernel_size=qkv_kernel_size).double()
    x = torch.randn(2, 7, H, W, dtype=torch.float64, requires_grad=True)
    slope = torch.randn(2, 13, H, W, dtype=torch.float64)

    qkv = F.conv2d(x, layer.qkv.weight, layer.qkv.bias, padding=qkv_kernel_size // 2)
    q, k, v = (split_heads(t, 2) for t in qkv.split([6, 6, 10], dim=1))
    heads = loop_attention(q, k, v, layer.rel_h, layer.rel_w)
    expected = torch.cat([layer.conv(x), layer.output(merge_heads(heads))], dim=1)

    found, wanted = layer(x), [x, *layer.parameters()]
    torch.testing.assert_close(found, expected)
    gradients = (torch.autograd.grad(out, wanted, slope) for out in (found, expected))
    torch.testing.assert_close(*gradients)


class Wrong(AAConv2d):
    """A layer with one of the usual mistakes."""

    mistake = ""

    def forward(self, x):
        q, k, v = self.qkv_heads(x)
        rel_h, rel_w = self.rel_h, self.rel_w
        if self.mistake == "scale forgotten":
            q = q * q.shape[-1] ** 0.5
        if self.mistake == "distances reversed":
            rel_w = rel_w.flip(0)
        if self.mistake == "a gradient lost":
            rel_h = rel_h.detach() + 0 * rel_h
        heads = attention(q, k, v, rel_h, rel_w)  # (B, heads, H, W, d_vh)
        merged = merge_heads(heads)
        if self.mistake == "heads merged by a bare reshape":
            merged = heads.reshape(merged.shape)
        if self.mistake == "not a number":
            merged = merged * float("nan")
        return torch.cat([self.conv(x), self.output(merged)], dim=1)


def wrong_by(mistake: str) -> type[Wrong]:
    return type("Wrong", (Wrong,), {"mistake": mistake})


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize(
    ("mistake", "tensor"),
    [
        ("scale forgotten", "rel_[hw]|qkv.weight"),
        ("distances reversed", "rel_w"),
        ("a gradient lost", "rel_h"),
        ("heads merged by a bare reshape", "output.weight|rel_[hw]|qkv.weight"),
        ("not a number", "output"),
    ],
)
def test_a_variant_that_computes_something_else_is_refused_before_any_timing(mistake, tensor, dtype, monkeypatch):
    build_wrong = functools.partial(variants.ours, implementation="tiled", kind=wrong_by(mistake))
    monkeypatch.setitem(variants.BUILDERS, "tiled", build_wrong)
    monkeypatch.setattr(timings, "take_turns", lambda *_: pytest.fail("timed although not equal"))
    with pytest.raises(AssertionError, match=rf"^tiled: ({tensor}) differs from the definition"):
        timings.measure_case(TINY, "cpu", dtype, rounds=1, shortest=0)


def test_the_same_layer_without_a_mistake_is_not_refused(monkeypatch):
    monkeypatch.setitem(
        variants.BUILDERS, "tiled", functools.partial(variants.ours, implementation="tiled", kind=Wrong)
    )
    assert "tiled" in timings.measure_case(TINY, "cpu", "float32", rounds=1, shortest=0)["training"]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_all_variants_of_a_case_are_equal_and_timed(dtype):
    result = timings.measure_case(TINY, "cpu", dtype, rounds=2, shortest=0)
    names = set(VARIANTS["cpu"]) - set(result["left_out"])
    assert names >= {"conv", "public", "public 1×1", "skew", "augmented", "tiled", "no positions"}
    assert result["differences"].keys() == names - {"conv"}
    assert result["inference"].keys() == result["training"].keys() == names
    # Rounding shows: a comparison of a tensor with itself would find nothing.
    assert min(result["differences"].values()) > 1e-9


def test_variants_take_turns_and_each_sample_follows_an_untimed_call():
    calls = []
    steps = {name: lambda name=name: calls.append(name) for name in "ab"}
    times = timings.take_turns(steps, rounds=3, shortest=0)
    assert "".join(calls) == 3 * "aabb"
    assert {name: timing["samples"] for name, timing in times.items()} == {"a": 3, "b": 3}


def test_what_does_not_fit_is_left_out_with_the_reason(monkeypatch):
    assert variants.why_left_out("definition", replace(LAYER, H=16, W=16), "cpu") is None
    assert "(HW)²·d_kh = 10,485,760 numbers" in variants.why_left_out("definition", LAYER, "cpu")
    assert variants.why_left_out("nothing", LAYER, "cpu") == "not in this version"
    monkeypatch.setattr(variants, "memory_of", lambda device: 4 << 30)
    assert variants.why_left_out("public", LAYER, "cpu") is None  # 4 · 512 MiB are just half
    monkeypatch.setattr(variants, "memory_of", lambda device: (4 << 30) - 2)
    assert "2,048 MiB: over half of the memory" in variants.why_left_out("public", LAYER, "cpu")
    assert variants.why_left_out("tiled", LAYER, "cpu") is None


def test_fit_by_hand():
    line = memory.fit([[1, 7], [2, 10], [4, 16]])  # 3 · pixels + 4
    assert line["slope"] == pytest.approx(3)
    assert line["r2"] == pytest.approx(1)
    assert 0 < line["exponent"] < 1
    square = memory.fit([[n, 5 * n**2] for n in range(1, 11)])
    assert square["exponent"] == pytest.approx(2)
    assert square["r2"] < 0.96


@pytest.mark.skipif(not memory.STATUS.exists(), reason="the largest size cannot be reset here")
def test_memory_that_was_given_back_is_counted():
    # In a process of its own: here, other tests' memory may be given back while this one counts.
    script = """
import torch
from benchmarks.layers import memory
before = memory.start_counting()
torch.ones(16 << 20)  # 64 MiB, gone at once
first = memory.peak_resident() - before
assert 60 << 20 < first < 80 << 20, first
assert abs(memory.start_counting() - before) < 8 << 20  # forgotten
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT, timeout=120)
    assert done.returncode == 0, done.stderr


def a_layer(auto: str, **milliseconds: float) -> dict:
    times = {name.replace("_", " ").replace(" 1x1", " 1×1"): {"median": ms / 1e3} for name, ms in milliseconds.items()}
    return {"case": asdict(LAYER), "dtype": "float32", "auto": auto, "training": times, "inference": times}


def test_marks_by_hand():
    layer = a_layer("fused", public_1x1=300, fused=100, no_positions=80)
    network = {"plain": "wide_resnet28_10", "augmented": EVERY_STAGE, "dtype": "float32"}
    network["training"] = {network["plain"]: {"median": 1.0}, network["augmented"]: {"median": 3.0}}
    results = {
        "modes": {"kept": {"layers": [layer], "networks": [network]}, "default": {"layers": [layer], "networks": []}},
        "memory": {"case": asdict(LAYER), "auto": "tiled", "peak": {"public 1×1": 1500, "tiled": 100}},
    }
    judged = report.judge(results)
    assert [mark["measured"] for mark in judged] == pytest.approx([3, 3, 3, 1.25, 1 / 15, 3, None])
    assert [mark["reached"] for mark in judged] == [True, False, True, True, True, False, None]
    text = report.marks_text(judged)
    assert [mark["hope_reached"] for mark in judged] == [False, False, False, False, True, False, None]
    lines = [line.split() for line in text.splitlines()[3:]]
    assert [line[-4] for line in lines] == ["yes", "no", "yes", "yes", "yes", "no", "—"]
    assert [line[-1] for line in lines] == ["no", "no", "no", "no", "yes", "no", "—"]


def test_marks_speak_of_one_size_only():
    other = a_layer("fused", public_1x1=300, fused=100) | {"case": asdict(replace(LAYER, H=16))}
    results = {"modes": {"kept": {"layers": [other], "networks": []}}, "memory": {}}
    assert {mark["measured"] for mark in report.judge(results)} == {None}


def test_columns_are_aligned():
    text = report.table(["", "ms"], [["conv", "1.5"], ["a longer name", "12"]])
    assert text.splitlines() == ["                ms", "─" * 18, "conv           1.5", "a longer name   12"]


def test_elsewhere_than_on_glibc_the_kept_allocator_is_left_out(monkeypatch, capsys):
    assert command.modes("cuda") == {"cuda": {}}
    monkeypatch.setattr(command.platform, "system", lambda: "Darwin")
    assert command.modes("cpu") == {"default": {}}
    assert "kept: left out" in capsys.readouterr().out


@pytest.mark.parametrize(("arguments", "written"), [(["--quick"], False), ([], True), (["--quick", "--out"], True)])
def test_a_quick_run_leaves_no_record_unless_told_where(arguments, written, monkeypatch, tmp_path):
    machine = {"device": "cpu", "name": "A (tm) CPU", "threads": 3}
    monkeypatch.setattr(command, "ROOT", tmp_path)
    monkeypatch.setattr(command, "measure_memory", lambda *_: {})
    monkeypatch.setattr(command, "ask", lambda *_, **__: {"machine": dict(machine), "layers": [], "networks": []})
    chosen = tmp_path / "chosen.json"
    command.main(arguments + [str(chosen)] * ("--out" in arguments))
    path = chosen if "--out" in arguments else tmp_path / "benchmarks/records/a-tm-cpu-3-threads.json"
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == [path] * written


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_missing_gpu_is_named(capsys):
    with pytest.raises(SystemExit) as ended:
        command.main(["--device", "cuda"])
    assert ended.value.code == 2
    assert "finds no CUDA device" in capsys.readouterr().err


def test_a_quick_run_from_the_command_to_the_record(tmp_path):
    path = tmp_path / "record.json"
    arguments = ["--quick", "--threads", "1", "--out", str(path)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", *arguments],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    for promised in ("Layer, default", "Networks, default", "Peak memory", "exponent", "Marks", f"written to {path}"):
        assert promised in done.stdout
    record = json.loads(path.read_text())
    check_schema(record)
    assert record["plan"] == "quick"
    assert record["machine"]["threads"] == 1
    assert "aa_cnn" in record["modes"]["default"]["networks"][0]["training"]
    taken = [count for _, count in record["memory"]["curve"]["tiled"]]
    assert taken == sorted(taken)
    assert taken[0] > 4 * 2 * 128 * 16 * 16  # at least the output of the layer


def test_records_that_come_with_the_project():
    for path in sorted((ROOT / "benchmarks" / "records").glob("*.json")):
        record = json.loads(path.read_text())
        check_schema(record)
        assert record["plan"] == "full"
        assert path.name == command.record_path(record["machine"]).name


def check_schema(record: dict) -> None:
    assert {"device", "name", "threads", "python", "torch", "numba"} <= record["machine"].keys()
    assert {"date", "code", "platform", "numpy", "environment", "rounds"} <= record.keys()
    assert record["modes"].keys() in ({"cuda"}, {"default"}, {"default", "kept"})
    for measured in record["modes"].values():
        for layer in measured["layers"]:
            Case(**layer["case"])
            assert layer["inference"].keys() == layer["training"].keys() >= {"conv", "public", layer["auto"]}
            assert layer["differences"].keys() == layer["training"].keys() - {"conv"}
            assert max(layer["differences"].values()) <= variants.TOLERANCE[getattr(torch, layer["dtype"])]
            for when in ("inference", "training"):
                check_times(layer[when], record["rounds"])
        for network in measured["networks"]:
            assert "left_out" in network or network["training"].keys() == {network["plain"], network["augmented"]}
            check_times(network.get("training", {}), record["rounds"])
    if record["memory"]:
        assert all(count > 0 for count in record["memory"]["peak"].values())
        assert all(count > 0 for points in record["memory"]["curve"].values() for _, count in points)
    assert [mark["text"] for mark in record["marks"]] == [mark.text for mark in MARKS]
    assert all((mark["measured"] is None) == (mark["reached"] is None) for mark in record["marks"])


def check_times(times: dict[str, dict], rounds: int) -> None:
    assert all(t["median"] > 0 and t["iqr"] >= 0 and t["samples"] >= rounds for t in times.values())


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
def test_make_bench_runs_it():
    asked = ["make", "-n", "bench", "BENCH_ARGS=--quick"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    done = subprocess.run(asked, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60)
    assert done.stdout.splitlines()[-1].endswith("python -m benchmarks --quick")
