"""Finds numbers in a lesson's prose that no code cell and no output of the lesson contains."""

import re
from decimal import Decimal

# 1,024 or 1 024 or 1_024, 0.25, .5, 1e-3. Not 32 in float32, 18 in ResNet-18, 11 in 3.11.2.
_GROUPED = r"\d{1,3}(?:[,_\u00a0\u202f\u2009]\d{3})+(?!\d)"
_NUMBER = re.compile(rf"(?<![\w.])(?:{_GROUPED}|\d++(?:_\d++)*+)?(?:\.\d++|(?<=\d))(?:[eE][+-]?\d++)?(?!\.\d)")
_REFERRED = re.compile(
    r"\b(?:lessons?|exercises?|sections?|equations?|eqs?\.|tables?|figures?|fig\.|chapters?|appendix|§)\s*"
    r"\(?\d[\d.]*\)?(?:(?:\s*(?:,|–|-|and|to|or)\s*)+\(?\d[\d.]*\)?)*",
    re.IGNORECASE,
)
_NAME = re.compile(r"(?<![\w.])[A-Za-z]\w*(?:-\d+)+\w*")  # CIFAR-100, WRN-28-10
_MARKUP = [
    re.compile(r"^(?:```|~~~).*?^(?:```|~~~)\s*$", re.DOTALL | re.MULTILINE),  # code blocks
    re.compile(r"``.*?``|`[^`\n]*`"),  # code spans
    re.compile(r"(?<=\])\([^)\s]*(?:\s+\"[^\"]*\")?\)|https?://\S+"),  # link targets
    re.compile(r"<[^>]+>"),
    re.compile(r"^#{1,6} .*$", re.MULTILINE),  # headings
    re.compile(r"^.*[●○]{3}.*$", re.MULTILINE),  # difficulty and minutes of an exercise
    re.compile(r"^\s*(?:>\s*)*\d+[.)]\s", re.MULTILINE),  # ordinals of a list
    re.compile(r"_(?:\{[^}]*\}|\w)(?=.*\$)"),  # subscripts in LaTeX
    _REFERRED,
    _NAME,
]
_MULTIPLES = {"k": 1_000, "K": 1_000, "M": 1_000_000, "G": 1_000_000_000}
_EXEMPT_PLAIN = 10
_YEARS = range(1950, 2031)


def unsupported_numbers(notebook: dict) -> list[str]:
    """Complaints, one for each number in prose that stands in no code cell's source and no text output."""
    known = _known_numbers(notebook)
    complaints = []
    for position, text in _prose(notebook):
        for pattern in _MARKUP:
            text = pattern.sub(" ", text)
        for found in _NUMBER.finditer(text):
            if found[0] and not any(value in known for value in _readings(found, text)) and not _exempt(found, text):
                line = " ".join(text[max(0, found.start() - 40) : found.end() + 20].split())
                complaints.append(f"cell {position}: {found[0]} stands in no cell and no output (“…{line}…”)")
    return complaints


def _prose(notebook: dict) -> list[tuple[int, str]]:
    """(position, text) of the markdown cells between the bootstrap cell and the references."""
    prose, started = [], False
    for position, cell in enumerate(notebook["cells"]):
        if cell["cell_type"] == "code":
            started = started or "bootstrap" in cell["metadata"].get("tags", [])
        elif started and cell["cell_type"] == "markdown":
            text, *references = re.split(r"^## References", cell["source"], maxsplit=1, flags=re.MULTILINE)
            prose.append((position, text))
            if references:
                break
    return prose


def _known_numbers(notebook: dict) -> set[Decimal]:
    texts = []
    for cell in notebook["cells"]:
        if cell["cell_type"] != "code":
            continue
        texts.append(cell["source"])
        for output in cell.get("outputs", []):
            texts.append(output.get("text", ""))
            data = output.get("data", {})
            texts += [data.get(f"text/{kind}", "") for kind in ("plain", "markdown", "latex")]
            # Of HTML the text only: sizes and colours in its tags and scripts support nothing.
            html = re.sub(r"<(script|style)\b.*?</\1>", " ", _joined(data.get("text/html", "")), flags=re.DOTALL)
            texts.append(re.sub(r"<[^>]*>", " ", html))
    known = set()
    for text in map(_joined, texts):
        known |= {_value(found[0]) for found in _NUMBER.finditer(text) if found[0]}
        # (1,128) is two numbers in code, however much it looks like one.
        known |= {Decimal(number) for number in re.findall(r"(?<![\w.])\d+(?![\w.])", text)}
    return known


def _joined(text: str | list[str]) -> str:
    return text if isinstance(text, str) else "".join(text)


def _value(text: str) -> Decimal:
    return Decimal(re.sub(r"[,_\u00a0\u202f\u2009]", "", text))


def _readings(found: re.Match, text: str) -> list[Decimal]:
    """The values that support a number: itself, the fraction for a percentage, 75,000 for 75k."""
    value, rest = _value(found[0]), text[found.end() :]
    readings = [value]
    if re.match(r"[\s\u00a0\u202f\\]*(?:%|per ?cent)", rest):
        readings.append(value / 100)
    suffix = re.match(r"([kKMG])\b", rest)
    if suffix:
        readings.append(value * _MULTIPLES[suffix[1]])
    million = re.match(r"\s+(thousand|million|billion)\b", rest)
    if million:
        readings.append(value * {"thousand": 1_000, "million": 1_000_000, "billion": 1_000_000_000}[million[1]])
    return readings


def _exempt(found: re.Match, text: str) -> bool:
    """Whole numbers up to ten and years need no support; percentages, thousands and millions do."""
    if not found[0].isdigit() or len(_readings(found, text)) > 1:
        return False
    return int(found[0]) <= _EXEMPT_PLAIN or int(found[0]) in _YEARS
