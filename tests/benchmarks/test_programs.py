"""What a compiled program costs, read from texts whose costs are known."""

import pytest

from benchmarks.programs import cost, estimated_cycles, moved

TPU = """HloModule jit_f, is_scheduled=true

%body (p: (s32[], f32[8,128])) -> (s32[], f32[8,128]) {
  %p = (s32[]{:T(128)}, f32[8,128]{1,0:T(8,128)}) parameter(0)
  %i = s32[]{:T(128)} get-tuple-element(%p), index=0
  %x = f32[8,128]{1,0:T(8,128)} get-tuple-element(%p), index=1
  %y = f32[8,128]{1,0:T(8,128)} fusion(%x), calls=%c, backend_config={"estimated_cycles":"100"}
  ROOT %t = (s32[]{:T(128)}, f32[8,128]{1,0:T(8,128)}) tuple(%i, %y)
}

%condition (p: (s32[], f32[8,128])) -> pred[] {
  %p = (s32[]{:T(128)}, f32[8,128]{1,0:T(8,128)}) parameter(0)
  %i = s32[]{:T(128)} get-tuple-element(%p), index=0
  %n = s32[]{:T(128)} constant(7)
  ROOT %lt = pred[]{:T(512)} compare(%i, %n), direction=LT
}

ENTRY %main (x: f32[8,100]) -> f32[8,128] {
  %x = f32[8,100]{1,0:T(8,128)} parameter(0)
  %zero = f32[]{:T(128)} constant(0)
  %pad = f32[8,128]{1,0:T(8,128)} pad(%x, %zero), padding=0_0x0_28
  %copy-start = (f32[8,128]{1,0:T(8,128)S(1)}, f32[8,128]{1,0:T(8,128)}, u32[]{:S(2)}) \
copy-start(%pad)
  %copy-done = f32[8,128]{1,0:T(8,128)S(1)} copy-done(%copy-start)
  %i = s32[]{:T(128)} constant(0)
  %t = (s32[]{:T(128)}, f32[8,128]{1,0:T(8,128)}) tuple(%i, %copy-done)
  %loop = (s32[]{:T(128)}, f32[8,128]{1,0:T(8,128)}) while(%t), condition=%condition, body=%body
  ROOT %out = f32[8,128]{1,0:T(8,128)} get-tuple-element(%loop), index=1
}
"""

GPU = """HloModule jit_f

%cheap (x: f32[1024]) -> f32[1024] {
  %x = f32[1024]{0} parameter(0)
  ROOT %y = f32[1024]{0} fusion(%x), kind=kLoop, calls=%c
}

%dear (x: f32[1024]) -> f32[1024] {
  %x = f32[1024]{0} parameter(0)
  %z = f32[1024]{0} fusion(%x), kind=kLoop, calls=%c
  ROOT %y = f32[1024]{0} custom-call(%z), custom_call_target="__cublas$gemm"
}

ENTRY %main (p: pred[], x: f32[1024]) -> f32[1024] {
  %p = pred[] parameter(0)
  %x = f32[1024]{0} parameter(1)
  %b = f32[32,32]{1,0} bitcast(%x)
  ROOT %out = f32[1024]{0} conditional(%p, %x, %x), true_computation=%cheap, \
false_computation=%dear
}
"""
TILE = 8 * 128 * 4


def test_arrays_are_as_large_as_their_tiles():
    assert moved("f32[8,100]{1,0:T(8,128)}", only_main=True) == TILE
    assert moved("f32[100,8]{0,1:T(8,128)}", only_main=True) == TILE
    assert moved("bf16[3,9,130]{2,1,0:T(8,128)(2,1)}", only_main=True) == 3 * 16 * 256 * 2
    assert moved("f32[5]{0}", only_main=True) == 20
    assert moved("(f32[]{:T(128)}, pred[8]{0})", only_main=True) == 4 + 8


def test_fast_memory_is_told_apart():
    assert moved("f32[8,128]{1,0:T(8,128)S(1)}", only_main=True) == 0
    assert moved("f32[8,128]{1,0:T(8,128)S(1)}", only_main=False) == TILE


def test_a_loop_counts_as_often_as_it_runs_and_what_has_no_estimate_by_its_bytes():
    found = cost(TPU, bytes_per_cycle=4.0)
    # A pad that reads a tile, a number and writes a tile; a transfer of one tile from main memory.
    guessed = (2 * TILE + 4 + TILE + 4) / 4.0
    assert found.guessed == pytest.approx(guessed, rel=1e-2)
    assert found.cycles == pytest.approx(700 + guessed, rel=1e-3)
    assert found.kernels == 2 + 7
    assert found.bytes == pytest.approx(2 * TILE + TILE + 7 * 2 * TILE, rel=1e-3)
    assert estimated_cycles(TPU) == 100


def test_the_dearest_branch_counts():
    found = cost(GPU, bytes_per_cycle=float("inf"))
    assert found.kernels == 2
    assert found.bytes == 4 * 4096
    assert found.cycles == 0


def test_a_known_trip_count_is_believed():
    told = TPU.replace("body=%body", 'body=%body, backend_config={"known_trip_count":{"n":"3"}}')
    assert cost(told, 4.0).cycles == cost(TPU, 4.0).cycles - 400


def test_a_slice_is_not_the_whole_array():
    text = """
%fused (x: f32[32,8,128], y: f32[32,8,128], i: s32[]) -> f32[32,8,128] {
  %x = f32[32,8,128]{2,1,0} parameter(0)
  %y = f32[32,8,128]{2,1,0} parameter(1)
  %i = s32[] parameter(2)
  %row = f32[1,8,128]{2,1,0} dynamic-slice(%x, %i, %i, %i), dynamic_slice_sizes={1,8,128}
  ROOT %out = f32[32,8,128]{2,1,0} dynamic-update-slice(%y, %row, %i, %i, %i)
}

ENTRY %main (x: f32[32,8,128], y: f32[32,8,128], i: s32[]) -> f32[32,8,128] {
  %x = f32[32,8,128]{2,1,0} parameter(0)
  %y = f32[32,8,128]{2,1,0} parameter(1)
  %i = s32[] parameter(2)
  ROOT %f = f32[32,8,128]{2,1,0} fusion(%x, %y, %i), kind=kLoop, calls=%fused
}
"""
    assert cost(text, 1.0).bytes == 2 * TILE + 4


def test_a_transfer_of_a_slice_moves_the_slice():
    text = """
ENTRY %main (x: f32[32,8,128]) -> f32[2,8,128] {
  %x = f32[32,8,128]{2,1,0:T(8,128)} parameter(0)
  %a = ((f32[32,8,128]{2,1,0:T(8,128)}), f32[1,8,128]{2,1,0:T(8,128)S(1)}, s32[]{:S(2)}) \
slice-start(%x), slice={[0:1], [0:8], [0:128]}
  %b = f32[1,8,128]{2,1,0:T(8,128)S(1)} slice-done(%a)
  ROOT %c = f32[2,8,128]{2,1,0:T(8,128)S(1)} custom-call(%b, %b), custom_call_target="ConcatBitcast"
}
"""
    found = cost(text, 1.0)
    assert found.bytes == pytest.approx(TILE, abs=4)
    assert (found.guessed, found.kernels) == (found.bytes, 1)
