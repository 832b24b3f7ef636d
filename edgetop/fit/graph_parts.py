"""What the parts of a compute graph have in common: its inputs, the shapes of the weights, results per token."""

from __future__ import annotations

from edgetop.fit.graph_allocator import Graph, Result
from edgetop.fit.layers import Layer
from edgetop.fit.model_facts import ModelFacts

F32_BYTES, I32_BYTES, I64_BYTES = 4, 4, 8


class GraphParts:
    """A graph that grows layer by layer, for `n_tokens` computed together."""

    def __init__(self, facts: ModelFacts, layers: tuple[Layer, ...], n_tokens: int) -> None:
        self.graph = Graph()
        self.facts = facts
        self.layers = layers
        self.n_tokens = n_tokens
        self.n_embd = facts.n_embd or 0
        self._shapes = {tensor.name: tensor.shape for tensor in facts.tensors}
        self._by_layer: dict[str, list[tuple[str, tuple[int, ...]]]] = {}
        for tensor in facts.tensors:
            block, _, name = tensor.name.removeprefix("blk.").partition(".")
            self._by_layer.setdefault(block, []).append((name, tensor.shape))
        self._positions: Result | None = None
        self._state_rows: Result | None = None

    def has(self, layer: int, *names: str) -> bool:
        """Whether the layer has weights of one of these names."""
        return any(f"blk.{layer}.{name}.weight" in self._shapes for name in names)

    def width(self, layer: int, name: str) -> int:
        """How many numbers per token come out of a matrix: the rows of all its slices; 0 without it."""
        shape = self._shapes.get(f"blk.{layer}.{name}.weight", (0, 0))
        return shape[1] if len(shape) > 1 else 0

    def length(self, layer: int, name: str) -> int:
        """Length of a row of a weight tensor; 0 without it."""
        return self._shapes.get(f"blk.{layer}.{name}.weight", (0,))[0]

    def slices(self, layer: int, name: str) -> int:
        """Matrices of a stack, such as experts."""
        shape = self._shapes.get(f"blk.{layer}.{name}.weight", ())
        return shape[2] if len(shape) > 2 else 0

    def has_global(self, name: str) -> bool:
        """Whether the model has a tensor of this name outside of its layers."""
        return f"{name}.weight" in self._shapes

    def shapes_of(self, layer: int) -> tuple[tuple[str, tuple[int, ...]], ...]:
        """Names and shapes of a layer's weights, in the order of the file."""
        return tuple(self._by_layer.get(str(layer), ()))

    def count(self, key: str) -> int:
        """A whole number of the metadata, 0 if it is absent."""
        return max(0, self.facts.header.whole(f"{self.facts.architecture}.{key}") or 0)

    def compute(self, width: int, *sources: Result, n_tokens: int | None = None, in_place: bool = False) -> Result:
        """A result of `width` f32 numbers per token."""
        tokens = self.n_tokens if n_tokens is None else n_tokens
        return self.graph.operation(F32_BYTES * width * tokens, *sources, in_place=in_place)

    def normalise(self, source: Result, width: int, *, n_tokens: int | None = None) -> Result:
        """RMS norm, which may overwrite its source, or layer norm. The weights are then multiplied in place."""
        rms = f"{self.facts.architecture}.attention.layer_norm_rms_epsilon" in self.facts.metadata
        return self.compute(width, source, n_tokens=n_tokens, in_place=rms)

    def state_rows(self) -> None:
        """Which state belongs to which sequence, an input."""
        if self._state_rows is None:
            self._state_rows = self.graph.input(I32_BYTES)

    def place(self) -> Result:
        """The positions of the tokens, an input."""
        if self._positions is None:
            self._positions = self.graph.input(I32_BYTES * self.n_tokens)
        return self._positions
