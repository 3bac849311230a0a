"""Compiling ahead of time: slices by name, what a program's text says, the report's arithmetic."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from configs.gpt import get_config
from data.errors import UserError
from lm import aot, ops, program, topology
from lm.chips import Chip
from lm.config import resolve
from lm.roofline import kernel_flops, roofline
from lm.train import Trainer

# The gradient of the sum of six layers tanh(x w), x [1024, 512] split over data:2 x fsdp:2, w
# [6, 512, 512] over fsdp, scanned, in bfloat16; compiled for v5e 2x2 by JAX 0.12, metadata left
# out.
SIX_LAYERS = (Path(__file__).parent / "hlo" / "six_layers_v5e.txt").read_text()


@pytest.mark.parametrize(
    ("name", "grid", "devices"),
    [
        ("v4-8", "2x2x1", 4),
        ("v5p-32", "2x2x4", 16),
        ("v5p-128", "4x4x4", 64),
        ("v5p-256", "4x4x8", 128),
        ("v5litepod-16", "4x4", 16),
        ("v5e-256", "16x16", 256),
        ("v6e-8", "2x4", 8),
        ("tpu7x-8", "2x2x1", 8),
    ],
)
def test_slices_by_their_names(name, grid, devices):
    s = topology.parse(name, slices=2)
    assert (s.grid, s.devices) == (grid, 2 * devices)


def test_half_a_chip_is_a_device_of_tpu7x():
    half, whole = topology.parse("tpu7x-8").chip, topology.CHIPS["tpu7x"]
    assert (half.flops, half.hbm_bytes) == (whole.flops / 2, whole.hbm_bytes / 2)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("v5q-32", "did you mean .v5"),
        ("v5p", "not a slice such as"),
        ("v5e-12", "there are v5e-1, v5e-4"),
        ("v5p-12", "powers of two from v5p-8"),
    ],
)
def test_wrong_names_are_refused(name, says):
    with pytest.raises(UserError, match=says):
        topology.parse(name)


def test_a_missing_libtpu_is_one_line(monkeypatch):
    monkeypatch.setattr(topology.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(UserError, match="pip install -r requirements-tpu.txt"):
        topology.devices(topology.parse("v5e-4"))


def test_products_count_as_often_as_their_loop_turns():
    """Forward, dx and dw: three products of [256, 512] x [512, 512] a layer, on each of 4 chips."""
    parsed = program.read(SIX_LAYERS, {"data": 2, "fsdp": 2})
    assert parsed.product_flops == 3 * 6 * 2 * 256 * 512 * 512


def test_collectives_by_kind_axis_and_bytes():
    """Weights are gathered twice a layer; gradients scattered over fsdp and summed over data."""
    found = program.read(SIX_LAYERS, {"data": 2, "fsdp": 2}).collectives
    layer = 512 * 512 * 2
    assert found == [
        program.Collective("all-gather", "fsdp", 2, 12, 12 * layer),
        program.Collective("all-reduce", "data", 2, 6, 6 * layer / 2),
        program.Collective("reduce-scatter", "fsdp", 2, 6, 6 * layer),
    ]


# A product [64, 32] x [32, 16] whose operand is gathered in parts meanwhile, two parts a turn: the
# form that the TPU's compiler gives it, with layouts and metadata left out.
WINDOWED = """\
%cond (c: (u32[], f32[64,32])) -> pred[] {{
  %limit = u32[] constant({limit})
  %c = (u32[], f32[64,32]) parameter(0)
  %i = u32[] get-tuple-element(%c), index=0
  ROOT %less = pred[] compare(%i, %limit), direction=LT
}}

%body (b: (u32[], f32[64,32])) -> (u32[], f32[64,32]) {{
  %b = (u32[], f32[64,32]) parameter(0)
  %at = u32[] get-tuple-element(%b), index=0
  %one = u32[] constant(1)
  %next = u32[] add(%at, %one)
  %x = f32[64,32] get-tuple-element(%b), index=1
  %w = f32[32,4] constant({{...}})
  %first = f32[64,4] dot(%x, %w), lhs_contracting_dims={{1}}, rhs_contracting_dims={{0}}
  %second = f32[64,4] dot(%x, %w), lhs_contracting_dims={{1}}, rhs_contracting_dims={{0}}
  %copy = u32[] copy({counter})
  %after = u32[] add(%copy, %one)
  ROOT %out = (u32[], f32[64,32]) tuple(%after, %x)
}}

ENTRY %main (p: (u32[], f32[64,32])) -> (u32[], f32[64,32]) {{
  %p = (u32[], f32[64,32]) parameter(0)
  ROOT %loop = (u32[], f32[64,32]) while(%p), condition=%cond, body=%body{noted}
}}
"""


@pytest.mark.parametrize(
    ("limit", "counter", "noted", "turns"),
    [
        (4, "%next", "", 2),
        (5, "%next", "", 3),
        (4, "%at", "", 4),
        (4, "%next", ', backend_config={"known_trip_count":{"n":"7"}}', 7),
    ],
)
def test_a_loop_turns_as_often_as_its_counter_s_step_allows(limit, counter, noted, turns):
    text = WINDOWED.format(limit=limit, counter=counter, noted=noted)
    assert program.read(text, {"fsdp": 8}).product_flops == turns * 2 * (2 * 64 * 32 * 4)


def test_a_scanned_step_counts_as_the_unrolled_one():
    """Compiled for eight CPU devices, parts of batch and logits in loops of their own."""
    counted = []
    for scan in (True, False):
        c = get_config("tiny")
        c.batch_size, c.optim.microbatches, c.train.loss_chunk = 32, 2, 32
        c.mesh, c.train.steps_per_call = "data:2,fsdp:2,tensor:2", 1
        c.model.update(layers=3, scan=scan, remat="full")
        trainer = Trainer(resolve(c), None)
        with jax.set_mesh(trainer.mesh), ops.plain():
            arguments = (*aot.abstract_arguments(trainer), np.int32(1))
            text = trainer._advance.lower(*arguments).compile().as_text()
        counted.append(program.read(text, dict(trainer.mesh.shape)).product_flops)
    scanned, unrolled = counted
    assert scanned == pytest.approx(unrolled, rel=0.05)
    assert unrolled > trainer.flops_per_token * trainer.tokens_per_step / 8


@pytest.mark.parametrize(
    ("groups", "axes"),
    [
        ("replica_groups={{0,1},{2,3}}", "tensor"),
        ("replica_groups={{0,4},{1,5}}", "data"),
        ("replica_groups=[4,2]<=[8]", "tensor"),
        ("replica_groups=[2,4]<=[8]", "fsdp+tensor"),
        ("replica_groups=[4,2]<=[2,2,2]T(0,2,1)", "fsdp"),
        ("replica_groups=mesh['a'=2,'b'=4] {'b'}", "fsdp+tensor"),
        ("source_target_pairs={{0,2},{2,0}}", "fsdp"),
        ("replica_groups={}", "data+fsdp+tensor"),
    ],
)
def test_groups_are_named_by_mesh_axes(groups, axes):
    group = program.first_group(groups, 8)
    assert program.group_axes(group, {"data": 2, "fsdp": 2, "tensor": 2}) == axes


@pytest.mark.parametrize(
    ("size", "taps", "results", "settings", "pairs"),
    [
        (4, 1, 4, {}, 4),
        (1, 32, 32, {"pad": "31_31"}, 32),  # a broadcast product written as a window
        (5, 3, 5, {"pad": "1_1"}, 13),
        (4, 2, 2, {"stride": "2"}, 4),
        (2, 1, 3, {"lhs_dilate": "2"}, 2),
    ],
)
def test_padding_is_not_work(size, taps, results, settings, pairs):
    assert program.valid_pairs(size, taps, results, settings, 0) == pairs


def test_kernels_count_half_under_a_causal_mask():
    kernel = program.Kernel("splash_mha_fwd.1", (2, 4, 128, 64), 6)
    full = 2 * 2 * 2 * 4 * 128 * 128 * 64
    assert kernel_flops(kernel, causal=False) == full
    assert kernel_flops(kernel, causal=True) == full / 2


# A loop over eight layers' weights [8, 128, 256]: a turn takes one layer's out of the stack, and
# writes its square into another stack; one array of the two that are added is in faster memory.
# Then a sum over slices, by way of the host.
STACKED = """\
%take (s: f32[8,128,256], i: s32[], b: f32[8,128,256]) -> f32[8,128,256] {
  %s = f32[8,128,256]{2,1,0} parameter(0)
  %i = s32[] parameter(1)
  %b = f32[8,128,256]{2,1,0} parameter(2)
  %zero = s32[] constant(0)
  %w = f32[1,128,256]{2,1,0} dynamic-slice(%s, %i, %zero, %zero)
  %square = f32[1,128,256]{2,1,0} multiply(%w, %w)
  ROOT %put = f32[8,128,256]{2,1,0} dynamic-update-slice(%b, %square, %i, %zero, %zero)
}

%cond (c: (s32[], f32[8,128,256], f32[8,128,256])) -> pred[] {
  %c = (s32[], f32[8,128,256]{2,1,0}, f32[8,128,256]{2,1,0}) parameter(0)
  %j = s32[] get-tuple-element(%c), index=0
  %limit = s32[] constant(8)
  ROOT %less = pred[] compare(%j, %limit), direction=LT
}

%body (t: (s32[], f32[8,128,256], f32[8,128,256])) -> (s32[], f32[8,128,256], f32[8,128,256]) {
  %t = (s32[], f32[8,128,256]{2,1,0}, f32[8,128,256]{2,1,0}) parameter(0)
  %at = s32[] get-tuple-element(%t), index=0
  %one = s32[] constant(1)
  %next = s32[] add(%at, %one)
  %stack = f32[8,128,256]{2,1,0} get-tuple-element(%t), index=1
  %squares = f32[8,128,256]{2,1,0} get-tuple-element(%t), index=2
  %new = f32[8,128,256]{2,1,0} fusion(%stack, %at, %squares), kind=kLoop, calls=%take
  ROOT %out = (s32[], f32[8,128,256]{2,1,0}, f32[8,128,256]{2,1,0}) tuple(%next, %stack, %new)
}

ENTRY %main (p: (s32[], f32[8,128,256], f32[8,128,256])) -> f32[128,256] {
  %p = (s32[], f32[8,128,256]{2,1,0}, f32[8,128,256]{2,1,0}) parameter(0)
  %loop = (s32[], f32[8,128,256]{2,1,0}, f32[8,128,256]{2,1,0}) while(%p), condition=%cond, body=%body
  %a = f32[128,256]{1,0} get-tuple-element(%loop), index=1
  %near = f32[128,256]{1,0:S(1)} get-tuple-element(%loop), index=2
  %token = token[] after-all()
  %sent = (f32[128,256]{1,0}, u32[]{:S(2)}, token[]) send(%a, %token), channel_id=4, is_host_transfer=true, frontend_attributes={_xla_megascale_transfer_type="ALL_REDUCE"}
  ROOT %sum = f32[128,256]{1,0} add(%a, %near)
}
"""  # noqa: E501


def test_a_part_of_an_array_counts_as_a_part():
    parsed = program.read(STACKED, {"slice": 4, "fsdp": 2})
    layer = 4 * 128 * 256
    by_name = {w.name: w.times * w.bytes for w in parsed.work}
    assert by_name["new"] == 8 * (layer + 4 + layer)  # and the loop's counter
    assert by_name["sum"] == layer + layer


def test_sums_between_slices_go_through_the_data_centre():
    parsed = program.read(STACKED, {"slice": 4, "fsdp": 2})
    assert parsed.collectives == [program.Collective("all-reduce", "slice", 4, 1, 4 * 128 * 256)]
    chip = Chip(1e12, 1e9, 1e9, 1e9, None, network=1e6)
    slow = roofline(parsed, chip, causal=True)
    assert slow.dcn_seconds == pytest.approx(2 * 3 / 4 * 4 * 128 * 256 / 1e6)
    assert (slow.ici_seconds, slow.optimal_seconds) == (0, slow.dcn_seconds)
    assert roofline(parsed, chip._replace(network=None), causal=True).dcn_seconds is None


def test_a_step_takes_at_least_what_its_slowest_part_takes():
    work = [program.Work("a", 3e12, 1e9, 2), program.Work("b", 0.0, 4e9, 1)]
    moved = [program.Collective("all-gather", "fsdp", 4, 1, 1e9)]
    parsed = program.Program(work, moved, [])
    r = roofline(parsed, Chip(1e12, 1e9, 1e9, 1e9, None), causal=True)
    assert (r.compute_seconds, r.hbm_seconds, r.core_seconds) == (6, 6, 2 * 3 + 4)
    assert r.ici_seconds == pytest.approx(0.75e9 / 0.5e9)  # three quarters, at half of both ways
    assert r.optimal_seconds == 10


@pytest.mark.parametrize(
    ("text", "used"),
    [
        ("Ran out of memory in memory space hbm. Used 171.00G of 15.75G hbm.", 171 * 2**30),
        (
            "the total memory required for HLO temporaries (42.5G) exceeds available HBM (15.75G).",
            42.5 * 2**30 + 2**20,
        ),
    ],
)
def test_what_does_not_fit_says_what_to_change(text, used):
    c = resolve(get_config("7b"))
    where = topology.parse("v5e-16")
    report = aot.too_large(where, "RESOURCE_EXHAUSTED: " + text, RuntimeError(), state=2**20)
    assert not report.fits and report.hbm_bytes == used
    shown = aot.show(report, c)
    assert "does not fit: " in shown and "--config.mesh=fsdp:-1" in shown
    with pytest.raises(RuntimeError):
        aot.too_large(where, "INTERNAL: something else", RuntimeError(), state=2**20)


@pytest.mark.slow
@pytest.mark.skipif(
    importlib.util.find_spec("libtpu") is None, reason="libtpu is not installed: nothing to compile"
)
@pytest.mark.parametrize("scan", ["true", "false"])
def test_a_step_compiles_and_is_accounted_for(scan, tmp_path):
    """Scanned or not, the FLOPs are within 5% of the model's and the attention kernel's."""
    command = [
        sys.executable, "-m", "lm.aot", "--config=configs/gpt.py:124m", "--topology=v5e-4",
        "--config.mesh=fsdp:4", "--config.batch_size=16", "--config.model.layers=3",
        f"--config.model.scan={scan}", f"--json={tmp_path / 'report.json'}",
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["fits"] and report["hbm_bytes"] < report["hbm_limit_bytes"]
    # The backward pass of the chunked loss computes the logits again.
    again = 2 * 16 * 1024 * 768 * 50257 / 4
    expected = report["model_flops_per_chip"] + again
    assert report["flops_per_chip"] == pytest.approx(expected, rel=0.05)


PRESETS = [
    ("124m", "v5e-4", "1", "fsdp:-1", 32, 1024, None),
    ("1b", "v5e-16", "1", "fsdp:-1", 64, 2048, None),
    ("7b", "v5p-32", "1", "fsdp:-1", 64, 2048, 11.15),
    ("7b", "v5e-64", "1", "fsdp:-1", 128, 2048, 3.98),
    ("7b", "v5e-256", "2", "slice:2,fsdp:-1", 1024, 2048, 3.01),
    ("70b", "v5p-256", "1", "fsdp:-1", 256, 4096, None),
]


@pytest.mark.slow
@pytest.mark.skipif(
    importlib.util.find_spec("libtpu") is None, reason="libtpu is not installed: nothing to compile"
)
@pytest.mark.parametrize(("preset", "slice_", "slices", "mesh", "batch", "length", "most"), PRESETS)
def test_presets_compile_and_fit(preset, slice_, slices, mesh, batch, length, most, tmp_path):
    """Within a published trainer's memory, where one is known (docs/tpu.md)."""
    command = [
        sys.executable, "-m", "lm.aot", f"--config=configs/gpt.py:{preset}",
        f"--topology={slice_}", f"--slices={slices}", f"--config.mesh={mesh}",
        f"--config.batch_size={batch}", f"--config.seq_len={length}",
        "--config.train.loss_chunk=256", f"--json={tmp_path / 'report.json'}",
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=1800)
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["fits"]
    assert most is None or report["hbm_bytes"] <= most * 2**30
    assert report["flops_per_chip"] > report["model_flops_per_chip"]
    assert (report["dcn_seconds"] > 0) == (slices != "1")
