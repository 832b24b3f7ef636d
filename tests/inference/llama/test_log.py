from __future__ import annotations

from edgetop.inference.llama.log import Line, memory_breakdown, offloaded_layers, to_reports

RECORDED = """\
load_tensors: offloading 30 repeating layers to GPU
load_tensors: offloaded 31/31 layers to GPU
load_tensors:   CPU_Mapped model buffer size =    28.69 MiB
load_tensors:        CUDA0 model buffer size =    92.10 MiB
llama_context:  CUDA_Host  output buffer size =     0.19 MiB
llama_kv_cache:      CUDA0 KV buffer size =    45.00 MiB
llama_kv_cache: size =   45.00 MiB (  2048 cells,  30 layers,  1/1 seqs), K (f16):   22.50 MiB, V (f16):   22.50 MiB
llama_memory_recurrent:      CUDA0 RS buffer size =     1.50 MiB
sched_reserve:      CUDA0 compute buffer size =    17.50 MiB
sched_reserve:  CUDA_Host compute buffer size =     5.13 MiB
"""
LINES = [Line(2, text) for text in RECORDED.splitlines()]
MIB = 2**20


def test_memory_is_summed_by_kind_and_kept_by_buffer() -> None:
    memory = memory_breakdown(LINES)
    assert memory.weights_bytes == round(28.69 * MIB) + round(92.10 * MIB)
    assert memory.kv_bytes == round(46.5 * MIB)
    assert memory.compute_bytes == round(17.5 * MIB) + round(5.13 * MIB)
    assert memory.output_bytes == round(0.19 * MIB)
    assert memory.by_buffer["CPU_Mapped model"] == round(28.69 * MIB)
    assert memory.by_buffer["CUDA0 KV"] == 45 * MIB


def test_what_the_log_does_not_say_is_missing_and_not_zero() -> None:
    memory = memory_breakdown([Line(2, "print_info: n_vocab = 49152")])
    assert (memory.weights_bytes, memory.kv_bytes, memory.compute_bytes, memory.output_bytes) == (None,) * 4


def test_layers_on_an_accelerator_are_counted() -> None:
    assert offloaded_layers(LINES) == 31
    assert offloaded_layers([]) == 0


def test_layers_that_stay_on_the_cpu_are_not_counted() -> None:
    stayed = [Line(1, f"load_tensors: layer {number:3d} assigned to device CPU, is_swa = 0") for number in range(31)]
    assert offloaded_layers([*stayed, *LINES]) == 0
    gone = Line(1, "load_tensors: layer  30 assigned to device CUDA0, is_swa = 0")
    assert offloaded_layers([*stayed[:30], gone, *LINES]) == 1


def test_warnings_and_errors_are_reported_once_each() -> None:
    lines = [Line(3, "odd token"), Line(3, "odd token"), Line(2, "fine"), Line(4, "no memory")]
    assert [(log.level, log.text) for log in to_reports(lines)] == [("warning", "odd token"), ("error", "no memory")]
