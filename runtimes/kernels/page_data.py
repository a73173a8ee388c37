"""The bytes of KV that `Cache.export` gives: whole pages as they lie, parts of a page token by token."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from edge.artifact.pages import PAGE_TOKENS, PAGES_VERSION
from edge.errors import EngineError
from runtimes.kernels.pool import Bytes
from runtimes.kernels.pools import Pools
from runtimes.kernels.token_bytes import token_bytes

NO_PAGE = -1
"""In a block table: forgotten, or not there yet."""

Pages = Sequence[Sequence[int]]
"""Of each group of layers, the page of each block."""


def page_header(pools: Pools, start: int, stop: int) -> dict[str, Any]:
    """What the bytes of tokens [start, stop) are the bytes of."""
    spec = pools.spec
    shape = {"layers": spec.layers, "kv_heads": spec.kv_heads, "head_dim": spec.head_dim}
    return {"type": pools.kind, "pages": PAGES_VERSION, **shape, "start": start, "stop": stop}


def page_data(pools: Pools, pages: Pages, start: int, stop: int) -> bytes:
    """A line of JSON, then of each group and block the bytes of its tokens among [start, stop).

    Raises:
        EngineError: a window has forgotten some of the tokens.
    """
    tokens = token_bytes(pools.kind, pools.spec.head_dim)
    parts = [json.dumps(page_header(pools, start, stop)).encode() + b"\n"]
    for group, of_block in enumerate(pages):
        for block, first, last in _spans(start, stop):
            if of_block[block] == NO_PAGE:
                raise EngineError(
                    f"tokens [{start}, {stop}) are not all held: a sliding window has forgotten some"
                )
            heads = _heads(pools, group, of_block[block])
            whole = last - first == PAGE_TOKENS
            parts.append(heads.tobytes() if whole else tokens.read(heads, first, last).tobytes())
    return b"".join(parts)


def page_data_bytes(pools: Pools, start: int, stop: int) -> int:
    """Bytes of `page_data` behind its header."""
    spec = pools.spec
    token = token_bytes(pools.kind, spec.head_dim).nbytes
    sizes = [
        pools.head_bytes if last - first == PAGE_TOKENS else (last - first) * token
        for _, first, last in _spans(start, stop)
    ]
    return spec.layers * spec.kv_heads * sum(sizes)


def put_page_data(pools: Pools, pages: Pages, start: int, stop: int, body: memoryview) -> None:
    """Write what stands behind the header of `page_data` into the pages."""
    tokens = token_bytes(pools.kind, pools.spec.head_dim)
    at = 0
    for group, of_block in enumerate(pages):
        for block, first, last in _spans(start, stop):
            heads = _heads(pools, group, of_block[block])
            whole = last - first == PAGE_TOKENS
            size = heads.size if whole else len(heads) * (last - first) * tokens.nbytes
            part = np.frombuffer(body, np.uint8, size, at).reshape(len(heads), -1)
            if whole:
                heads[:] = part
            else:
                tokens.write(heads, first, part.reshape(len(heads), last - first, -1))
            at += size


def blocks_of(tokens: int) -> int:
    """Pages that `tokens` take."""
    return -(-tokens // PAGE_TOKENS)


def _heads(pools: Pools, group: int, page: int) -> Bytes:
    """The page as uint8 [layers · kv_heads, bytes of a head]."""
    heads = len(pools.groups[group].layers) * pools.spec.kv_heads
    whole: Bytes = pools.of[group].array[page]
    return whole[: heads * pools.head_bytes].reshape(heads, -1)


def _spans(start: int, stop: int) -> Iterator[tuple[int, int, int]]:
    """Of each block that holds some of the tokens: (block, first, last) with these counted in the block."""
    for block in range(start // PAGE_TOKENS, blocks_of(stop)):
        at = block * PAGE_TOKENS
        yield block, max(start - at, 0), min(stop - at, PAGE_TOKENS)
