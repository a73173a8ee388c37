"""Talk: questions as a model's users put them, to which it gives the answers itself."""

from __future__ import annotations

from tokenizers import Tokenizer

from edge.errors import ArtifactError, InvalidArgument
from edge.template import ChatTemplate
from export.checkpoint import TextFiles


def question_ids(question: str, text: TextFiles, tokenizer: Tokenizer) -> list[int]:
    """Tokens up to where the answer begins: in the checkpoint's chat template, plain where it has none that works."""
    if text.chat_template is not None:
        try:
            template = ChatTemplate(text.chat_template, text.generation.get("special_tokens"))
            rendered = template.render([{"role": "user", "content": question}])
            return list(tokenizer.encode(rendered, add_special_tokens=False).ids)
        except (ArtifactError, InvalidArgument):
            # The export tells of it elsewhere: who runs the artifact may never talk to it.
            pass
    return list(tokenizer.encode(f"Question: {question}\nAnswer:").ids)
