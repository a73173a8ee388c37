"""Text files from a Hugging Face folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tokenizers

from edge.errors import CheckpointCorrupt, CheckpointNotFound, Unsupported
from export.checkpoint.json_file import read_json
from export.checkpoint.text import TextFiles
from export.checkpoint.tokenizer.added import add_configured, special_tokens
from export.checkpoint.tokenizer.generation import end_ids, sampling


def text_from_folder(path: Path, config: dict[str, Any]) -> TextFiles:
    """Tokenizer, chat template and generation defaults of the folder `path`, whose config.json is `config`.

    What is put around a text (BOS, EOS) is tokenizer.json's alone, as in transformers: `add_bos_token` beside
    it changes nothing.

    Raises:
        CheckpointNotFound: the folder holds no tokenizer.
        Unsupported: its tokenizer has no tokenizer.json.
        CheckpointCorrupt: one of the files is no JSON, no tokenizer, or contradicts another.
    """
    settings = _json(path / "tokenizer_config.json")
    generation = _json(path / "generation_config.json")
    tokenizer = _tokenizer(path)
    special = special_tokens(settings, _json(path / "special_tokens_map.json"))
    changed = add_configured(tokenizer, settings, _json(path / "added_tokens.json"))
    text = tokenizer.to_str() if changed else (path / "tokenizer.json").read_text("utf-8")
    return TextFiles(text, _template(path, settings), _generation(tokenizer, generation, config, special))


def _json(path: Path) -> dict[str, Any]:
    return read_json(path) if path.is_file() else {}


def _tokenizer(path: Path) -> tokenizers.Tokenizer:
    file = path / "tokenizer.json"
    try:
        return tokenizers.Tokenizer.from_str(file.read_text("utf-8"))
    except FileNotFoundError:
        pass
    except Exception as e:  # the library raises bare Exception
        raise CheckpointCorrupt(f"{file} is no tokenizer ({e}); fetch the file again") from None
    for name in ("tokenizer.model", "vocab.json"):
        if (path / name).exists():
            raise Unsupported(
                f"{path} has {name} but no tokenizer.json; write one with transformers: "
                "AutoTokenizer.from_pretrained(folder).save_pretrained(folder)"
            )
    raise CheckpointNotFound(
        f"{path} has no tokenizer.json; copy the model's tokenizer files into the folder"
    )


def _template(path: Path, settings: Mapping[str, Any]) -> str | None:
    jinja = path / "chat_template.jinja"
    try:
        return jinja.read_text("utf-8") or None
    except FileNotFoundError:
        pass
    except UnicodeDecodeError as e:
        raise CheckpointCorrupt(f"{jinja} is no UTF-8 ({e}); fetch the file again") from None
    for source, holder in (
        ("chat_template.json", _json(path / "chat_template.json")),
        ("tokenizer_config.json", settings),
    ):
        template = holder.get("chat_template")
        if isinstance(template, list):
            named = {item.get("name"): item.get("template") for item in template if isinstance(item, dict)}
            if "default" not in named:
                names = ", ".join(map(repr, named)) or "none"
                raise Unsupported(
                    f"chat_template in {path / source} names no 'default' (it has {names}); "
                    "put the one you want into chat_template.jinja"
                )
            template = named["default"]
        if isinstance(template, str):
            return template or None
        if template is not None:
            raise CheckpointCorrupt(
                f"chat_template in {path / source} is {type(template).__name__}, not text"
            )
    return None


def _generation(
    tokenizer: tokenizers.Tokenizer,
    generation: Mapping[str, Any],
    config: Mapping[str, Any],
    special: Mapping[str, str],
) -> dict[str, Any]:
    found = sampling(generation, "generation_config.json")
    declared = [
        *_ids(generation, "eos_token_id", "generation_config.json"),
        *_ids(config, "eos_token_id", "config.json"),
    ]
    if "eos_token" in special and (index := tokenizer.token_to_id(special["eos_token"])) is not None:
        declared.append(index)
    added = tokenizer.get_added_tokens_decoder()
    control = {token.content: index for index, token in added.items() if token.special}
    found["eos_token_id"] = end_ids(declared, control)
    first = [
        *_ids(generation, "bos_token_id", "generation_config.json"),
        *_ids(config, "bos_token_id", "config.json"),
    ]
    if "bos_token" in special and (index := tokenizer.token_to_id(special["bos_token"])) is not None:
        first.insert(0, index)  # the tokenizer decides what starts a text
    if first:
        found["bos_token_id"] = first[0]
    found["special_tokens"] = dict(special)
    return found


def _ids(values: Mapping[str, Any], key: str, source: str) -> list[int]:
    value = values.get(key)
    ids = [] if value is None else value if isinstance(value, list) else [value]
    for index in ids:
        if type(index) is not int or index < 0:
            raise CheckpointCorrupt(f"{key} in {source} is {value!r}, not an id or a list of ids")
    return ids
