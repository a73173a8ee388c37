"""Graphs: an artifact of graphs that are no decoder of ours, ready to run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

from numpy.typing import NDArray
from tokenizers import Tokenizer

from edge.artifact import GraphArtifact, GraphTensor
from edge.errors import ArtifactError, InvalidArgument


class Graphs:
    """Loaded graphs: an encoder, the encoder and decoders of Whisper. What `edge.load` gives for such an artifact.

    Runs are a plain call of ONNX Runtime, and may be made from several threads at once. Nothing is generated here:
    the loop around a decoder, and keys and values between its runs, are the caller's.

    Raises:
        MissingExtra, EngineError
    """

    def __init__(self, artifact: GraphArtifact, threads: int | None = None) -> None:
        # Engines are looked for when one is opened, not on import.
        from runtimes import default_threads
        from runtimes.onnxruntime.graphs import GraphSessions

        if threads is not None and threads < 1:
            raise InvalidArgument(f"threads is {threads}; give 1 or more, or none for the cores available")
        self.artifact = artifact
        self._graphs = {graph.name: graph for graph in artifact.manifest.graphs}
        self._sessions = GraphSessions(artifact, threads or default_threads())

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the graphs."""
        return tuple(self._graphs)

    @property
    def inputs(self) -> dict[str, tuple[GraphTensor, ...]]:
        """What each graph takes."""
        return {name: graph.inputs for name, graph in self._graphs.items()}

    @property
    def outputs(self) -> dict[str, tuple[GraphTensor, ...]]:
        """What each graph gives."""
        return {name: graph.outputs for name, graph in self._graphs.items()}

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer that lay beside the model, as the `tokenizers` library has it.

        Raises:
            ArtifactError: there was none, or it cannot be used.
        """
        if not self.artifact.has("tokenizer.json"):
            raise ArtifactError(
                f"{self.artifact.path} has no tokenizer.json; make the graph's inputs yourself, "
                "or export from a folder that has one"
            )
        try:
            return Tokenizer.from_str(self.artifact.text("tokenizer.json"))
        except ArtifactError:
            raise
        except Exception as e:  # the library raises Exception itself
            raise ArtifactError(
                f"{self.artifact.path / 'tokenizer.json'} is no tokenizer ({e}); export the artifact again"
            ) from None

    def run(
        self, feeds: Mapping[str, Any], graph: str | None = None, outputs: Sequence[str] | None = None
    ) -> dict[str, NDArray[Any]]:
        """The outputs of a graph by their names, as NumPy arrays.

        Args:
            feeds: an array for each of the graph's inputs, of the type and shape in `inputs`; lists of numbers are
                converted.
            graph: which one, where there are several.
            outputs: the names of those that are wanted; all by default.

        Raises:
            InvalidArgument: no such graph or output, or an input that is missing, unknown, or of another type or shape.
            EngineFailed: inputs that do not go together, or it is closed.
            ArtifactCorrupt
        """
        if graph is None:
            if len(self._graphs) > 1:
                raise InvalidArgument(f"there are several graphs; name one: {', '.join(self._graphs)}")
            graph = next(iter(self._graphs))
        if graph not in self._graphs:
            raise InvalidArgument(f"there is no graph {graph!r}; there are {', '.join(self._graphs)}")
        return self._sessions.run(self._graphs[graph], feeds, outputs)

    def close(self) -> None:
        """Release the graphs; nothing can be run afterwards."""
        self._sessions.close()

    def __enter__(self) -> Graphs:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def load_graphs(artifact: GraphArtifact, engine: str, threads: int | None, **options: Any) -> Graphs:
    """The graphs of `artifact`; `options` are (given, default) pairs of what `edge.load` takes for decoders alone.

    Raises:
        InvalidArgument: one of them is given, or another engine.
        MissingExtra, EngineError
    """
    if engine not in ("auto", "onnxruntime"):
        raise InvalidArgument(
            f"engine {engine!r} does not run the graphs of {artifact.path}; choose auto or onnxruntime"
        )
    for name, (given, default) in options.items():
        if given != default:
            raise InvalidArgument(
                f"{artifact.path} holds graphs that keep no conversation: {name} has no meaning; leave it out"
            )
    return Graphs(artifact, threads)
