"""How much memory the intermediate results of a compute graph take, as ggml lays them out.

ggml plans one buffer for a whole graph: it walks the nodes in order, puts each result into the smallest hole that holds
it, and frees a result once its last reader is done; some operations write over their own input. The holes that stay are
part of the size, so the plan is made here in the same way (ggml-alloc.c of llama.cpp 0c1e57098: ggml_dyn_tallocr_alloc,
ggml_dyn_tallocr_free_bytes, ggml_gallocr_allocate_node).
"""

from __future__ import annotations

ALIGNMENT_BYTES = 32
"""TENSOR_ALIGNMENT of ggml-cpu."""


class Result:
    """What an operation of the graph writes."""

    def __init__(self, size_bytes: int, *, in_place: bool = False, view_of: Result | None = None) -> None:
        self.size_bytes = -(-max(0, size_bytes) // ALIGNMENT_BYTES) * ALIGNMENT_BYTES
        self.in_place = in_place
        self.view_of = view_of
        self.readers = 0
        """Operations that still have to read it."""
        self.views = 0
        self.offset: int | None = None
        """Where it lies; `None` while it has no memory."""


class Graph:
    """Operations in the order in which they run. The planned size is read with `buffer_bytes`, once."""

    def __init__(self) -> None:
        self._inputs: list[Result] = []
        self._operations: list[tuple[Result, tuple[Result, ...]]] = []

    def input(self, size_bytes: int) -> Result:
        """Something that is filled in before the graph runs."""
        self._inputs.append(Result(size_bytes))
        return self._inputs[-1]

    def operation(self, size_bytes: int, *sources: Result, in_place: bool = False) -> Result:
        """Compute something of `size_bytes` from `sources`, over one of them of the same size if `in_place`."""
        return self._add(Result(size_bytes, in_place=in_place), sources)

    def view(self, source: Result) -> Result:
        """The same bytes in another shape."""
        whole = source.view_of or source
        return self._add(Result(source.size_bytes, view_of=whole), (source,))

    def store(self, *sources: Result) -> None:
        """Write into memory outside of the graph, such as the KV cache."""
        self._add(Result(0), sources)

    def buffer_bytes(self) -> int:
        """Size of the buffer that holds all results."""
        plan = _Plan()
        for given in self._inputs:
            plan.allocate(given)
        for result, sources in self._operations:
            for source in sources:
                source.readers += 1
            if result.view_of is not None:
                result.view_of.views += 1
        for result, sources in self._operations:
            _place(plan, result, sources)
            for source in sources:
                _release(plan, source)
        return plan.size_bytes

    def _add(self, result: Result, sources: tuple[Result, ...]) -> Result:
        self._operations.append((result, sources))
        return result


def _place(plan: _Plan, result: Result, sources: tuple[Result, ...]) -> None:
    if result.view_of is not None or not result.size_bytes:
        return
    for source in sources if result.in_place else ():
        # A view is not written over: rope, which works on one, takes new memory.
        last_read = source.readers == 1 and not source.views
        if last_read and source.offset is not None and source.size_bytes == result.size_bytes:
            result.offset, source.offset = source.offset, None
            return
    plan.allocate(result)


def _release(plan: _Plan, source: Result) -> None:
    source.readers -= 1
    if source.readers or source.views:
        return
    whole = source
    if source.view_of is not None:
        whole = source.view_of
        whole.views -= 1
    if not whole.readers and not whole.views and whole.offset is not None:
        plan.free(whole.offset, whole.size_bytes)
        whole.offset = None


class _Plan:
    """The buffer while it is planned: holes as (offset, size), ascending, the last one without an end."""

    def __init__(self) -> None:
        self.size_bytes = 0
        self._holes: list[tuple[int, int]] = [(0, 2**62)]

    def allocate(self, result: Result) -> None:
        fitting = [(size, -index) for index, (_, size) in enumerate(self._holes[:-1]) if size >= result.size_bytes]
        # Of several holes of the same size the last one is taken.
        index = -min(fitting)[1] if fitting else len(self._holes) - 1
        offset, size = self._holes[index]
        if size == result.size_bytes:
            del self._holes[index]
        else:
            self._holes[index] = (offset + result.size_bytes, size - result.size_bytes)
        result.offset = offset
        self.size_bytes = max(self.size_bytes, offset + result.size_bytes)

    def free(self, offset: int, size_bytes: int) -> None:
        self._holes.append((offset, size_bytes))
        self._holes.sort()
        merged = [self._holes[0]]
        for begin, size in self._holes[1:]:
            last_begin, last_size = merged[-1]
            if last_begin + last_size == begin:
                merged[-1] = (last_begin, last_size + size)
            else:
                merged.append((begin, size))
        self._holes = merged
