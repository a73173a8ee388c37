"""Text that separates one tokenizer from another, and a hypothesis strategy for more of it."""

from __future__ import annotations

import unicodedata

from hypothesis import strategies as st

ACCENTS = "Éloïse déjà vu à Ångström, naïve façade, Übergröße, pięść, Việt Nam"

TEXTS = {
    "nfc": unicodedata.normalize("NFC", ACCENTS),
    "nfd": unicodedata.normalize("NFD", ACCENTS),
    "greek": "Ὁ βίος βραχύς, ἡ δὲ τέχνη μακρή. Αθήνα 2024",
    "cyrillic": "Съешь же ещё этих мягких французских булок, да выпей чаю. Ґанок",
    "arabic": "مَرْحَبًا بِالعَالَمِ، كيف حالك؟ ١٢٣٤٥٦",
    "hebrew": "שָׁלוֹם עוֹלָם, מה שלומך?",
    "devanagari": "नमस्ते दुनिया। क्षत्रिय ज्ञान १२३४",
    "thai": "สวัสดีชาวโลก น้ำใจ ๑๒๓",
    "chinese": "你好，世界！我在3月14日买了15本书。繁體中文「引號」",
    "japanese": "こんにちは世界。カタカナ、ｶﾞｷﾞｸﾞ（半角）、漢字かな交じり文",
    "hangul": "안녕하세요 세계! " + unicodedata.normalize("NFD", "한국어 조합형"),
    "code": "def f(x: int) -> str:\n\treturn f\"{x:>08_b}\" if x != 0x7f else ''  #\n\n\nclass A(B): ...\n",
    "shell": "for f in *.py; do echo \"$f\" | sed -e 's/a\\/b/c/g' >> /tmp/x_1.log 2>&1; done",
    "digits": "1 12 123 1234 12345678901234567890 3.14159 1,000,000 0xDEADBEEF v1.2.3 ½ ² Ⅷ ①",
    "digits in words": "abc123def 42nd 7up x86_64 H2O 2024-11-22T01:02:03Z",
    "emoji": "👩\u200d👩\u200d👧\u200d👦 🏳️\u200d🌈 👍🏽 👍🏿 🇩🇪🇯🇵 ❤️ ☺ 🫠",
    "spaces": "  two   three    four \t tab\t\ttabs \u00a0nbsp\u00a0 \u2003em\u2003 \u3000wide\u3000 end   ",
    "line ends": "a\nb\r\nc\r\n\r\nd\n\n\n  e \n \n\t\r\n f\r",
    "contractions": "I'm you're he's we'll they've I'd don't IT'S YOU'RE WE'LL THEY'VE I'D 'tis ’twas I’m",
    "case": "iPhone HTTPServer fooBar FOO_BAR ǅ ǆ ſ K straße STRASSE",
    "punctuation": "Wait... what?! (no) [yes] {maybe} «quoted» “curly” – — … !!!??? ;;;; ---- // \\\\\\\\",
    "marks": "e\u0301\u0323 a\u0308\u0304 \u0301alone ก\u0e31\u0e49 x\u0338 ≠",
    "format characters": "zero\u200bwidth soft\u00adhyphen bidi\u202eoverride\u202c bom\ufefftail",
    "marks of the vocabularies": "▁▁underscore ▁ Ġ Ċ ĠĠ âĢĻ",
    "empty": "",
    "space": " ",
    "newline": "\n",
}

_characters = st.one_of(
    st.characters(min_codepoint=32, max_codepoint=126),
    st.sampled_from(" \t\n\r\u00a0\u3000'’0123456789"),
    st.characters(categories=("L", "M", "N", "P", "S", "Z"), max_codepoint=0xFFFF),
    st.characters(categories=("Ll", "Lo", "So", "Nd"), min_codepoint=0x10000, max_codepoint=0x1FFFF),
)
_phrases = st.sampled_from([*(t for t in TEXTS.values() if t), "'s", "'LL", "\r\n", "   "])

texts = st.lists(st.one_of(st.text(_characters, max_size=12), _phrases), max_size=6).map("".join)
"""Any mixture of scripts, spaces, digits and the texts above."""
