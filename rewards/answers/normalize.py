"""Makes the many spellings of one answer look alike, without deciding anything about its meaning.

``clean`` undoes typography: full-width and styled characters, super- and subscripts, LaTeX spacing and font commands,
dollar signs, unicode operators, a final stop. ``key`` is the form in which two cleaned answers are compared as text,
``text_key`` the one for read text (OCR): case, quotes, articles, the final stop and full-width forms do not matter, any
other character does.
"""

from __future__ import annotations

import re
import unicodedata

_SUPER = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁽⁾ⁿ", "0123456789+-()n")
_SUB = str.maketrans("₀₁₂₃₄₅₆₇₈₉₊₋₍₎", "0123456789+-()")
_SUPER_RUN = re.compile("[⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁽⁾ⁿ]+")
_SUB_RUN = re.compile("[₀₁₂₃₄₅₆₇₈₉₊₋₍₎]+")
CIRCLED = "①②③④⑤⑥⑦⑧⑨⑩⑪⑫⑬⑭⑮⑯⑰⑱⑲⑳"
"""Numbers of statements: not digits of one number."""
_HIDDEN = "".join(chr(0xE000 + i) for i in range(len(CIRCLED)))
_HIDE, _SHOW = str.maketrans(CIRCLED, _HIDDEN), str.maketrans(_HIDDEN, CIRCLED)
_BARRED = re.compile("(?:\\d[\u0304\u0305])+")
_DOTTED = re.compile("(\\d)\u0307")
_VULGAR = re.compile(r"(\d?)\s*([¼-¾⅐-⅞])")

# Before NFKC, which would turn some of these into something else, and after it: what is left of the operators.
_CHARS = {
    **dict.fromkeys("−–—‐‑‒﹣－⁃", "-"),
    **dict.fromkeys("\u200b\u200c\u200d\u2060\ufeff\u00ad", ""),
    **dict.fromkeys("“”„‟«»〝〞＂", '"'),
    **dict.fromkeys("‘’‚‛′＇`´", "'"),
    **dict.fromkeys("→⇒", "\\to "),
    **dict.fromkeys("↔⇔", "\\iff "),
    "″": '"', "×": "\\times ", "✕": "\\times ", "÷": "/", "∕": "/", "⁄": "/", "⋅": "\\cdot ", "·": "\\cdot ",
    "∙": "\\cdot ", "∗": "*", "∶": ":", "≤": "\\le ", "⩽": "\\le ", "≥": "\\ge ", "⩾": "\\ge ", "≠": "\\ne ",
    "≈": "\\approx ", "±": "\\pm ", "∓": "\\mp ", "∞": "\\infty ", "∪": "\\cup ", "∩": "\\cap ", "∈": "\\in ",
    "∅": "\\emptyset ", "∧": "\\land ", "∨": "\\lor ", "¬": "\\lnot ", "⊕": "\\oplus ", "∖": "\\setminus ",
    "⌊": "\\lfloor ", "⌋": "\\rfloor ", "⌈": "\\lceil ", "⌉": "\\rceil ", "⟨": "\\langle ", "⟩": "\\rangle ",
    "î": "\\ivec ", "ĵ": "\\jvec ", "°": "^\\circ ", "º": "^\\circ ", "√": "\\sqrt ", "∛": "\\sqrt[3] ",
    "∠": "\\angle ", "△": "\\triangle ", "π": "\\pi ", "θ": "\\theta ", "α": "\\alpha ", "β": "\\beta ",
    "γ": "\\gamma ", "λ": "\\lambda ", "φ": "\\phi ", "ω": "\\omega ", "Δ": "\\Delta ", "ℝ": "\\mathbb{R}",
    "℃": "^\\circ C", "℉": "^\\circ F", "、": ",", "，": ",", "；": ";", "：": ":", "。": ".", "【": "[", "】": "]",
}  # fmt: skip
_TABLE = str.maketrans(_CHARS)

FONTS = (
    "text|mathrm|mathbf|textbf|mathit|textit|mathsf|mathtt|textrm|textsf|texttt|textnormal|mbox|hbox|operatorname|"
    "boldsymbol|bm|pmb|emph|underline|uline|mathcal|ensuremath|mathop|vec|overrightarrow|phantom|ce"
)
_FONT = re.compile(rf"\\(?:{FONTS})\*?\s*\{{((?:[^{{}}]|(?<=[\^_])\{{[^{{}}]{{1,9}}\}})*+)\}}")
_FONT_NAME = re.compile(rf"\\(?:{FONTS})\*?\s*(?=\{{)")
_OVER_LETTERS = re.compile(r"\\(?:overline|bar|widehat|hat)\s*\{\s*([A-Za-z]+)\s*\}|\\(?:tri)?angle(?![a-zA-Z])\s*()")
_BOLD = r"\\(?:mathbf|boldsymbol|bm|vec|hat|widehat|overrightarrow)"
_UNIT_VECTOR = re.compile(
    rf"{_BOLD}\s*\{{\s*(?:{_BOLD}\s*)?(?:\{{\s*(?:\\([ij])math|([ijk]))\s*\}}|\\([ij])math|([ijk]))\s*\}}"
    rf"|{_BOLD}\s+([ijk])(?![A-Za-z])|{_BOLD}\s*\\([ij])math"
)
_ANGLES = re.compile(r"\\langle([^,]{1,100},(?:(?!\\[lr]angle).){1,200})\\rangle(?![a-zA-Z])")
_COLOUR = re.compile(r"\\(?:textcolor|color|colorbox)\s*\{[a-zA-Z]+\}")
_DROP = re.compile(
    r"\\(?:left|right|[bB]igg?[lrm]?|displaystyle|textstyle|limits|rm|bf|it|sf|tt|mathstrut|strut|noindent|centering|"
    r"hline|nonumber|[lL]arge|LARGE|[hH]uge|normalsize)(?![a-zA-Z])\.?"
)
_FRAC = re.compile(r"\\[dtc]frac(?![a-zA-Z])")
_WIDE = re.compile(r"\\(?:q?quad|enspace|thinspace|hspace\*?\s*\{[^{}]*\}|space)(?![a-zA-Z])")
_THIN_IN_NUMBER = re.compile(r"(?<=\d)\\[,;: ](?=\d{3}(?!\d))")
_THIN = re.compile(r"(?<!\\)\\[,;:> ]|~")
_SYNONYMS = {
    r"\leq": r"\le", r"\leqslant": r"\le", r"\geq": r"\ge", r"\geqslant": r"\ge", r"\neq": r"\ne", r"\lt": "<",
    r"\gt": ">", r"\varnothing": r"\emptyset", r"\degree": r"^\circ", r"\celsius": r"^\circ C", r"\ast": "*",
    r"\lbrace": r"\{", r"\rbrace": r"\}", r"\lvert": "|", r"\rvert": "|", r"\vert": "|", r"\mid": "|",
    r"\lbrack": "[", r"\rbrack": "]", r"\wedge": r"\land", r"\vee": r"\lor", r"\neg": r"\lnot", r"\colon": ":",
    r"\varphi": r"\phi", r"\varepsilon": r"\epsilon", r"\infin": r"\infty", r"\simeq": r"\approx", r"\pounds": "£",
    r"\euro": "€", r"\textdegree": r"^\circ", r"\textquotesingle": "'", r"\divide": "/", r"\div": "/",
}  # fmt: skip
_SYNONYM = re.compile(rf"(?:{'|'.join(re.escape(k) for k in sorted(_SYNONYMS, key=len, reverse=True))})(?![a-zA-Z])")
_CIRC = re.compile(r"\^\s*\{\s*\\circ\s*\}|\^\s*\\circ(?![a-zA-Z])\s?")
_SPACES = re.compile(r"\s+")
_FREE_SPACE = re.compile(r"(?<![0-9A-Za-z]) | (?![0-9A-Za-z])")
_ESCAPED = re.compile(r"\\([%$#&_])")
_INLINE = re.compile(r"(?<![\\$A-Za-z])\$((?:\\.|[^$\\])++)\$(?![\d$])")
_IN_CIRCLE = re.compile(r"\\textcircled\s*\{\s*(1?\d|20)\s*\}")
_MATHS = re.compile(r"(?<!\\)\\[()\[\]]")
_DELIMITERS = (("$$", "$$"), ("$", "$"), ("**", "**"), ("`", "`"), ("'", "'"), ('"', '"'))

_ARTICLE = re.compile(r"\b(?:a|an|the)\s+(?=\S)")
_BETWEEN_CJK = re.compile(r"(?<=[\u3000-\u9fff\uf900-\ufaff])\s+(?=[\u3000-\u9fff\uf900-\ufaff])")


def clean(raw: str) -> str:
    """``raw`` with its typography undone. Idempotent in effect, linear, never raises."""
    s = raw if raw.isascii() else _ascii_forms(raw)
    if "$" in s and s.count("$") > 1:
        s = _INLINE.sub(_inline, s)
    if "\\" in s:
        s = _latex(s)
    if "{,}" in s or "{:}" in s:
        s = s.replace("{,}", ",").replace("{:}", ":")
    s = _SPACES.sub(" ", s).strip()
    while True:
        before = s
        if s[-1:] in {".", ",", ";"} and not s.endswith(("..", "\\,", "\\;")):
            s = s[:-1].rstrip()
        for left, right in _DELIMITERS:
            if (
                s.startswith(left)
                and s.endswith(right)
                and len(s) >= len(left) + len(right)
                and left not in (inner := s[len(left) : len(s) - len(right)])
                and right not in inner
            ):
                s = inner.strip()
        if s[:1] == "{" and _closes_at_end(s):
            s = s[1:-1].strip()
        if s == before:
            return s


def key(cleaned: str) -> str:
    """The form in which two cleaned answers are equal as text: spaces that separate nothing are gone."""
    return _FREE_SPACE.sub("", cleaned) if " " in cleaned else cleaned


def text_key(raw: str) -> str:
    """The form in which read text is compared (OCR, words)."""
    s = raw
    if "\\" in s:
        for _ in range(4):
            s, changed = _FONT.subn(r"\1", s)
            if not changed:
                break
        s = _ESCAPED.sub(r"\1", s)
        s = _THIN.sub(" ", s)
        s = s.replace("\\\\", " ")
    if not s.isascii():
        s = unicodedata.normalize("NFKC", s)
        s = s.translate(_TEXT_TABLE)
        s = _BETWEEN_CJK.sub("", s)
    s = _SPACES.sub(" ", s).strip()
    if len(s) > 2 and s[0] == "$" == s[-1]:
        s = s[1:-1].strip()
    s = s.casefold().replace('"', "").strip()
    if len(s) > 1 and s[0] == "'" == s[-1]:
        s = s[1:-1].strip()
    if s[-1:] == "." and len(s) > 1 and s[-2] != ".":
        s = s[:-1].rstrip()
    return _SPACES.sub(" ", _ARTICLE.sub("", s)).strip()


_TEXT_TABLE = str.maketrans(
    {
        **dict.fromkeys("−–—‐‑‒", "-"),
        **dict.fromkeys("\u200b\u200c\u200d\u2060\ufeff\u00ad", ""),
        **dict.fromkeys("“”„‟«»〝〞「」『』", '"'),
        **dict.fromkeys("‘’‚‛`´", "'"),
        "。": ".",
        "、": ",",
        "【": "[",
        "】": "]",
    }
)


def _ascii_forms(raw: str) -> str:
    s = _SUPER_RUN.sub(lambda m: "^{" + m.group().translate(_SUPER) + "}", raw)
    s = _SUB_RUN.sub(lambda m: "_{" + m.group().translate(_SUB) + "}", s)
    s = _VULGAR.sub(_vulgar, s)
    s = _DOTTED.sub(r"\\dot{\1}", _BARRED.sub(lambda m: f"\\overline{{{m.group()[::2]}}}", s))
    s = s.replace("根号", "\\sqrt ").translate(_HIDE)
    s = unicodedata.normalize("NFKC", s.translate(_TABLE)).translate(_TABLE)
    if not s.isascii():
        s = "".join(_digit(c) for c in s).translate(_SHOW)
    return s


def _vulgar(match: re.Match[str]) -> str:
    top, _, bottom = unicodedata.normalize("NFKC", match.group(2)).partition("\u2044")
    return f"{match.group(1)} {top}/{bottom}" if match.group(1) else f"{top}/{bottom}"


def _digit(char: str) -> str:
    """Decimal digits of other scripts (Arabic, Devanagari) as ASCII."""
    if char.isascii():
        return char
    value = unicodedata.decimal(char, None)
    return char if value is None else str(value)


def _latex(s: str) -> str:
    s = _MATHS.sub("", s.replace("\\\\%", "\\%").replace("\\!", ""))
    s = _IN_CIRCLE.sub(lambda m: CIRCLED[int(m.group(1)) - 1], s) if "\\textc" in s else s
    s = _THIN_IN_NUMBER.sub("", s)
    s = _SYNONYM.sub(lambda m: _SYNONYMS[m.group()], s)
    s = _UNIT_VECTOR.sub(lambda m: f"\\{next(filter(None, m.groups()))}vec ", s)
    s = _DROP.sub("", s)
    if r"\langle" in s:
        s = _ANGLES.sub(r"(\1)", s)
    s = _FRAC.sub(r"\\frac", s)
    s = _COLOUR.sub("", s)
    s = _WIDE.sub(" ", s)
    s = _THIN.sub(" ", s)
    for _ in range(4):  # fonts inside fonts; deeper than this is no answer but a trick
        s, changed = _FONT.subn(r" \1 ", s)
        if not changed:
            break
    s = _FONT_NAME.sub("", s)
    s = _OVER_LETTERS.sub(r"\1", s)
    s = _CIRC.sub(r"^\\circ ", s)
    return _ESCAPED.sub(r"\1", s)


def _inline(match: re.Match[str]) -> str:
    """``$8$ kg`` is mathematics, "$5 and $7" is money: there one side only has a space inside the dollar signs."""
    inner = match.group(1)
    return inner if inner[:1].isspace() == inner[-1:].isspace() else match.group()


def _closes_at_end(s: str) -> bool:
    """Whether the brace that opens ``s`` closes at its very end."""
    depth = 0
    skip = False
    for i, c in enumerate(s):
        if skip:
            skip = False
        elif c == "\\":
            skip = True
        elif c == "{":
            depth += 1
        elif c == "}":
            depth -= 1
            if depth == 0:
                return i == len(s) - 1
    return False
