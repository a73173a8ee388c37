"""How a byte-level BPE tokenizer prepares and splits text, by the name a GGUF file gives it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from edge.errors import Unsupported

Json = dict[str, Any]

NFC: Json = {"type": "NFC"}

# One regular expression each; they decide which bytes may ever meet in one token.
QWEN2 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_UPPER_THEN_LOWER = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
_UPPER_FIRST = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*"
_CONTRACTION = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
_PUNCTUATION_AND_SPACE = r" ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
TEKKEN = rf"{_UPPER_THEN_LOWER}|{_UPPER_FIRST}|\p{{N}}|{_PUNCTUATION_AND_SPACE}"
GPT4O = (
    rf"{_UPPER_THEN_LOWER}{_CONTRACTION}|{_UPPER_FIRST}{_CONTRACTION}"
    rf"|\p{{N}}{{1,3}}|{_PUNCTUATION_AND_SPACE}"
)
DEEPSEEK_V3 = (
    r"""[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"""
    r"| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
# Code points of the letters that DeepSeek LLM's own file lists: most of those with a case, not all.
_DEEPSEEK_LETTERS = (
    "41-5a 61-7a b5 c0-d6 d8-f6 f8-1ba 1bc-1bf 1c4-293 295-2af 370-373 376 377 37b-37d 37f 386 "
    "388-38a 38c 38e-3a1 3a3-3f5 3f7-481 48a-52f 531-556 10a0-10c5 13a0-13f5 13f8-13fd 1c90-1cba "
    "1cbd-1cbf 1d00-1d2b 1d6b-1d77 1d79-1d9a 1e00-1f15 1f18-1f1d 1f20-1f45 1f48-1f4d 1f50-1f57 1f59 "
    "1f5b 1f5d 1f5f-1f7d 1f80-1fb4 1fb6-1fbc 1fbe 1fc2-1fc4 1fc6-1fcc 1fd0-1fd3 1fd6-1fdb 1fe0-1fec "
    "1ff2-1ff4 1ff6-1ffc 2102 2107 210a-2113 2115 2119-211d 2124 2126 2128 212a-212d 212f-2134 2139 "
    "213c-213f 2145-2149 214e 2183 2184 2c00-2c7b 2c7e-2ce4 2ceb-2cee 2cf2 2cf3 a640-a66d a680-a69b "
    "a722-a76f a771-a787 a78b-a78e ab70-abbf fb00-fb06 fb13-fb17 ff21-ff3a ff41-ff5a 10400-1044f "
    "104b0-104d3 104d8-104fb 10c80-10cb2 10cc0-10cf2 118a0-118df 1e900-1e943 "
)
_DEEPSEEK_PUNCTUATION = "\\s?[!-/:-~\uff01-\uff0f\uff1a-\uff5e\u2018-\u201f\u3000-\u3002]+"
_DEEPSEEK_CJK = "[\u4e00-\u9fa5\u0800-\u4e00\uac00-\ud7ff]+"
_HAN_AND_KANA = "[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+"


def _letters(ranges: str) -> str:
    return "".join("-".join(chr(int(end, 16)) for end in item.split("-")) for item in ranges.split())


def _split(pattern: str) -> Json:
    return {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}


def _digits(individual: bool) -> Json:
    return {"type": "Digits", "individual_digits": individual}


def _byte_level(words: bool) -> Json:
    # `words` splits as GPT-2 does; without it the steps before have split already.
    return {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": words}


@dataclass(frozen=True)
class Presplit:
    """What happens to text before byte-pair merging."""

    steps: tuple[Json, ...]
    """Pre-tokenizers in the order they run; exactly one is ByteLevel."""
    normalizer: Json | None = None
    whole_words: bool = False
    """A piece that is a token as it stands is taken whole, whatever the merges say."""
    adds_bos: bool = False
    """Whether BOS starts a text where the file does not say."""

    def pre_tokenizer(self, prefix_space: bool) -> Json:
        """The tokenizers library's JSON.

        `prefix_space` puts a space before a text that has none, but only where bytes are the one step:
        transformers leaves longer sequences as they are.
        """
        if len(self.steps) == 1:
            return {**self.steps[0], "add_prefix_space": prefix_space}
        return {"type": "Sequence", "pretokenizers": list(self.steps)}


def _regex(pattern: str, *, normalizer: Json | None = None, whole_words: bool = False) -> Presplit:
    # The two families that take words whole are also those whose files may leave BOS unsaid.
    return Presplit((_split(pattern), _byte_level(False)), normalizer, whole_words, adds_bos=whole_words)


_GPT2 = Presplit((_byte_level(True),))
_DIGITS = Presplit((_digits(True), _byte_level(True)))
_DIGITS_NFC = Presplit((_digits(True), _byte_level(True)), NFC)
_LLAMA3 = _regex(LLAMA3, whole_words=True)
_QWEN2 = _regex(QWEN2, normalizer=NFC)
_DEEPSEEK_CODER = Presplit(
    (
        _split("[\r\n]"),
        _split(r"\s?\p{L}+"),
        _split(r"\s?\p{P}+"),
        _split(_DEEPSEEK_CJK),
        _digits(True),
        _byte_level(False),
    )
)
_DEEPSEEK_LLM = Presplit(
    (
        _split("[\r\n]"),
        _split(rf"\s?[{_letters(_DEEPSEEK_LETTERS)}]+"),
        _split(_DEEPSEEK_PUNCTUATION),
        _split(r"\s+$"),
        _split(_DEEPSEEK_CJK),
        _digits(True),
        _byte_level(False),
    )
)
_DEEPSEEK_V3 = Presplit(
    (_split(r"\p{N}{1,3}"), _split(_HAN_AND_KANA), _split(DEEPSEEK_V3), _byte_level(False))
)
_FALCON = Presplit(
    (
        {"type": "Punctuation", "behavior": "Contiguous"},
        _byte_level(True),
        _digits(False),
        _split("[0-9][0-9][0-9]"),
    )
)

# A row says what the model's published tokenizer does; a name for which that is only likely has no row.
PRESPLITS: dict[str, Presplit] = {
    "gpt-2": _GPT2,
    "smollm": _DIGITS,
    "starcoder": _DIGITS,
    "refact": _DIGITS,
    "command-r": _DIGITS_NFC,
    "llama-bpe": _LLAMA3,
    "llama3": _LLAMA3,
    "llama-v3": _LLAMA3,
    "dbrx": _regex(LLAMA3),
    "qwen2": _QWEN2,
    "deepseek-r1-qwen": _QWEN2,
    "deepseek-llm": _DEEPSEEK_LLM,
    "deepseek-coder": _DEEPSEEK_CODER,
    "deepseek-v3": _DEEPSEEK_V3,
    "tekken": _regex(TEKKEN, whole_words=True),
    "gpt-4o": _regex(GPT4O),
    "falcon": _FALCON,
}


def presplit(name: str | None) -> Presplit:
    """The rule named by `tokenizer.ggml.pre`.

    Raises:
        Unsupported: no name, a name that stands for none, or one Edgewise does not know.
    """
    if name in PRESPLITS:
        return PRESPLITS[name]
    known = ", ".join(sorted(PRESPLITS))
    if name is None or name == "default":
        said = "has no tokenizer.ggml.pre" if name is None else "says tokenizer.ggml.pre 'default'"
        raise Unsupported(
            f"the GGUF file {said}, so how its tokenizer splits text is not known; convert the model again "
            f"with a newer converter, or export its Hugging Face folder. Known pre-tokenizers: {known}"
        )
    raise Unsupported(
        f"pre-tokenizer {name!r} (tokenizer.ggml.pre) is not known to Edgewise; export the model's Hugging "
        f"Face folder instead, which carries its tokenizer.json. Known pre-tokenizers: {known}"
    )
