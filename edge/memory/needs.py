"""What a model needs of memory, part by part, before anything is loaded."""

from __future__ import annotations

import mmap
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from edge.artifact import KvGroup, Manifest, ModelSpec, kv_groups, planned_kv, stored_kv_type
from edge.artifact.kv import GPU_ENGINES
from edge.artifact.pages import KV_NAMES

if TYPE_CHECKING:
    from runtimes.site import Site

CHUNK = 128
"""Tokens of a prefill call; a test holds it to the engines' own."""
PREFILL_SLICE = 1024
"""Tokens after which a prefill lets sliding windows forget."""
_MIB = 1 << 20
# Measured, see docs/memory.md: an empty process with all libraries, and the tokenizer for each token it knows.
_RUNTIME, _TOKENIZER_PER_TOKEN = 72 * _MIB, 1100
# What ONNX Runtime's own operators hold beside each byte of weights: packed copies, and fp16 widened to fp32.
_STOCK_COPIES = {"int4": 0.6, "int8": 0.6, "fp16": 1.2}
_NO_COPIES = ("cpu", *GPU_ENGINES)
# Bytes for a weight that the portable engine has dequantized, measured: float32, and an embedding that is tied twice.
_DEQUANTIZED = 6
# CUDA's MatMulNBits makes a matrix float16 for a prompt: a part at a time where it has more rows and bytes than these.
_WHOLE_ROWS, _WHOLE_BYTES, _PART_ROWS = 65536, 256 * _MIB, 32768
# Bits of a weight in blocks of 32, scales included.
_CODED_BITS = {"int4": 4.5, "int8": 8.5}


@dataclass(frozen=True, kw_only=True)
class Needs:
    """A model on an engine, with KV kept as `groups` say; all sizes in bytes."""

    spec: ModelSpec
    weights: int
    """All of them, with the engine's copies: weights that are mapped and dropped are read again for every token."""
    engine: str
    groups: tuple[KvGroup, ...]
    read: int = 0
    """Of the weights as they are stored, what one decoded token reads."""
    buckets: tuple[int, ...] = ()
    """Tokens that a cache can have room for; none where it has as many as are asked for."""
    more: str = ""
    """The command that makes room for more, its --context aside."""
    staged: int = 0
    """What calls are fed, give and take while they run, as far as the engine says so, where weights and KV are."""
    pinned: int = 0
    """What they are fed and give in the host's memory, where that is another."""
    card: int | None = None
    """What is free of a GPU's own memory, where weights and KV are; None where they are in the host's."""

    @classmethod
    def of(
        cls,
        spec: ModelSpec,
        weights: int,
        kind: str,
        engine: str,
        kv: str | None = None,
        *,
        read: int | None = None,
    ) -> Needs:
        """Of `weights` bytes stored as `kind` (int4, int8, fp16, fp32), of which a token reads `read`: None is all.

        KV is of type `kv` (float32, float16, int8, int4), or the engine's default.
        """
        if engine == "portable":
            copies = _DEQUANTIZED * spec.parameters
        elif engine == "cuda":
            copies = _second_table(spec, kind)
        else:
            copies = 0 if engine in _NO_COPIES else _stock_copies(spec, weights, kind)
        return cls(
            spec=spec,
            weights=weights + copies,
            engine=engine,
            groups=kv_groups(spec, engine, kv),
            read=weights if read is None else read,
        )

    @classmethod
    def of_artifact(cls, manifest: Manifest, engine: str, kv: str | None = None) -> Needs:
        """Of an artifact's weights on `engine`.

        Without `kv` it is what the artifact has or was planned with, or else the engine's default.
        """
        return cls.of(
            manifest.spec,
            manifest.weight_bytes,
            str(manifest.recipe.get("weights")),
            engine,
            kv or stored_kv_type(manifest, engine) or KV_NAMES.get(planned_kv(manifest) or ""),
            read=manifest.decode_bytes,
        )

    @property
    def stored(self) -> int:
        """Bytes of the weights without what the portable engine dequantizes."""
        return self.weights - (_DEQUANTIZED * self.spec.parameters if self.engine == "portable" else 0)

    def with_kv(self, kind: str) -> Needs:
        """The same with KV of another type."""
        return replace(self, groups=kv_groups(self.spec, self.engine, kind))

    def at(self, site: Site) -> Needs:
        """The same where the engine has said what it would load, and where."""
        return replace(
            self,
            weights=site.weights or self.weights,
            buckets=site.buckets,
            more=site.more,
            staged=site.staged,
            pinned=site.pinned,
            card=site.card,
        )

    @property
    def longest(self) -> int:
        """Tokens that a conversation can have: the model's context, or the largest bucket."""
        return min(self.spec.context, max(self.buckets, default=self.spec.context))

    @property
    def kv_type(self) -> str:
        """What keys and values are kept as."""
        return self.groups[0].type

    @property
    def kv_name(self) -> str:
        """What users call that."""
        return next(name for name, kind in KV_NAMES.items() if kind == self.kv_type)

    @property
    def kv_bytes_per_token(self) -> int:
        """One more token over all layers."""
        return sum(group.bytes_per_token for group in self.groups)

    @property
    def shares_prefixes(self) -> bool:
        """Whether what one conversation has read is of use to another: a window has forgotten its beginning."""
        return not any(group.window for group in self.groups)

    def held(self, context: int) -> int:
        """Tokens that there is room for where `context` are wanted."""
        return min((each for each in self.buckets if each >= context), default=context)

    def kv(self, context: int) -> int:
        """One conversation of `context` tokens: whole pages or the whole bucket, and of a window that forgets no more
        than it keeps."""
        tokens = self.held(context)
        return sum(_group_bytes(group, tokens, forgets=self.engine == "cpu") for group in self.groups)

    def workspace(self, context: int) -> int:
        """A prefill chunk in flight, the logits, the rotary tables as far as `context` or its bucket reaches, and what
        the engine said."""
        spec = self.spec
        widths = (
            4 * spec.hidden_size
            + (spec.heads + 2 * spec.kv_heads) * spec.head_dim
            + 2 * spec.intermediate_size
        )
        floats = 4 * (CHUNK * widths + 2 * spec.vocab_size)
        if self.engine == "cuda":
            # The tables are constants of the graph, in float16.
            return floats + 2 * spec.context * spec.head_dim + _dequantized(spec) + self.staged
        return floats + 4 * self.held(context) * spec.head_dim + self.staged

    @property
    def runtime(self) -> int:
        """Interpreter, libraries and tokenizer."""
        return _RUNTIME + _TOKENIZER_PER_TOKEN * self.spec.vocab_size


def largest_context(needs: Needs, free: int, sessions: int) -> int:
    """Tokens that each of `sessions` conversations can have where `free` bytes hold them and the workspace."""

    def fits(context: int) -> bool:
        return sessions * needs.kv(context) + needs.workspace(context) <= free

    low, high = 0, needs.longest
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(middle) else (low, middle - 1)
    return low


def _dequantized(spec: ModelSpec) -> int:
    """The largest matrix, or part of one, as float16: CUDA's MatMulNBits makes one for a prompt, and drops it."""

    def of(rows: int) -> int:
        whole = 2 * rows * spec.hidden_size
        return 2 * _PART_ROWS * spec.hidden_size if rows > _WHOLE_ROWS and whole > _WHOLE_BYTES else whole

    return max(of(2 * spec.intermediate_size), of(spec.vocab_size))


def _second_table(spec: ModelSpec, kind: str) -> int:
    """A tied embedding of codes is two constants to a graph, of one place in the file and two on a GPU."""
    if not spec.tied or kind.startswith("fp"):
        return 0
    return int(spec.vocab_size * spec.hidden_size * _CODED_BITS.get(kind, max(_CODED_BITS.values())) / 8)


def _stock_copies(spec: ModelSpec, weights: int, kind: str) -> int:
    if kind == "fp32":
        # A tied head is packed apart from the embedding.
        return 4 * spec.vocab_size * spec.hidden_size if spec.tied else 0
    return int(weights * _STOCK_COPIES.get(kind, max(_STOCK_COPIES.values())))


def _group_bytes(group: KvGroup, context: int, *, forgets: bool) -> int:
    tokens = context
    if group.window and forgets:
        # Whole pages, so one more than the window fills; what a slice adds is forgotten behind it.
        tokens = min(context, group.window + PREFILL_SLICE + group.page_tokens)
    page = group.bytes_per_token * group.page_tokens
    if group.page_tokens > 1:
        page = -(-page // mmap.PAGESIZE) * mmap.PAGESIZE
    return -(-tokens // group.page_tokens) * page
