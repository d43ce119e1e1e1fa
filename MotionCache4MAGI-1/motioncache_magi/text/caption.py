"""Cleans a prompt in the way the captions of MAGI-1's training data were cleaned (the DeepFloyd-IF recipe)."""

import html
import re
import warnings
from urllib.parse import unquote_plus

import ftfy

from motioncache.extras import require_extra

Rule = tuple[re.Pattern[str], str]
_SUFFIX = "(?:png|jpg|jpeg|bmp|webp|eps|pdf|apk|mp4)"


def _rule(pattern: str, replacement: str = "") -> Rule:
    return re.compile(pattern), replacement


_ADDRESSES = (
    _rule("<person>", "person"),  # placeholder of anonymised captions
    _rule(r"\b(?:https?|www):(?:/{1,3}|(?=\w))"),  # scheme; the next rule takes the domain after it
    _rule(r"\b[a-z\d.-]+\.(?:com|co|ru|net|org|edu|gov|it)[\w/-]*\b/?"),  # domain and path, but not the query
)
_SIGNS = (
    _rule(r"@\w+"),  # user name
    # CJK strokes, katakana extensions, enclosed and compatibility forms, extension A, hexagrams, unified ideographs
    _rule(r"[\u31c0-\u31ef\u31f0-\u31ff\u3200-\u32ff\u3300-\u33ff\u3400-\u4dbf\u4dc0-\u4dff\u4e00-\u9fff]"),
    _rule(
        r"[\u058a\u05be\u1400\u1806\u2010-\u2015\u2e17\u2e1a\u2e3a\u2e3b\u2e40"
        r"\u301c\u3030\u30a0\ufe31\ufe32\ufe58\ufe63\uff0d]",
        "-",
    ),  # every dash
    _rule(r"[`\u00b4\u00ab\u00bb\u201c\u201d\u00a8]", '"'),  # double quotes
    _rule(r"[\u2018\u2019]", "'"),  # single quotes
    _rule("&quot;?"),  # entities that were escaped twice
    _rule("&amp"),
    _rule(r"\d{1,3}(?:\.\d{1,3}){3}", " "),  # IPv4 address
    _rule(r"\d:\d\d\s+$"),  # time at the end
    _rule(r"\\n", " "),  # newline, spelt out
    _rule(r"#\d{1,3}\b"),  # counter: #12
    _rule(r"#\d{5,}\b"),  # article number: #12345
    _rule(r"\b\d{6,}\b"),  # bare id: 123456
    _rule(rf"\S+\.{_SUFFIX}"),  # file name
    _rule(r"[\"']{2,}", '"'),  # repeated quotes
    _rule(r"\.{2,}", " "),  # ellipsis of dots
    _rule(r"[#®•©™&@·º½¾¿¡§~()\[\]{}|\\/*]+", " "),  # signs that say nothing
    _rule(r"\s+\.\s+", " "),  # dot that stands alone
)
_NOISE = (
    _rule(r"\b[a-zA-Z]{1,3}\d{3,15}\b"),  # id: img1234
    _rule(r"\b[a-zA-Z]+\d+[a-zA-Z]+\b"),  # id: abc12def
    _rule(r"\b\d+[a-zA-Z]+\d+\b"),  # id: 12ab34
    _rule(r"(?:worldwide\s+)?(?:free\s+)?shipping"),  # words of shops and of stock photographs
    _rule(r"(?:free\s)?download(?:\sfree)?"),
    _rule(r"\bclick\b\s(?:for|on)\s\w+"),
    _rule(rf"\b{_SUFFIX}(?:\simages?)?"),  # file type; like the two above, also at the start of a longer word
    _rule(r"\bpage\s+\d+\b"),
    _rule(r"\b\d*(?:[a-zA-Z]+\d+){2,}[a-zA-Z]*\b", " "),  # id: j2d1a2a
    _rule(r"\b\d+\.?\d*[x\u0445\u00d7]\d+\.?\d*\b"),  # size: 12.5x30, also with a Cyrillic x or a multiplication sign
    _rule(r"\b\s+:\s+", ": "),  # colon that stands alone
    _rule(r"(\D[,./])\b", r"\1 "),  # word glued to a mark
    _rule(r"\s+", " "),
    _rule(r"^[\"'](.+)[\"']$", r"\1"),  # quotes around everything
    _rule(r"^['_,\-:;]"),  # mark at the start
    _rule(r"['_,\-:+]$"),  # mark at the end
    _rule(r"^\.\S+$"),  # nothing but .word
)
_JOINT = re.compile("[-_]")
_MOST_JOINTS = 3


def clean_caption(text: str) -> str:
    """Turn a prompt to lower case and remove markup, addresses, ids, file names and CJK characters.

    The result may be empty. The recipe is applied twice, as in the official code: the second pass removes what the
    first one uncovers.
    """
    return _clean_once(_clean_once(text))


def _clean_once(text: str) -> str:
    text = unquote_plus(text).strip().lower()
    text = _apply(_ADDRESSES, text)
    text = _without_markup(text)
    text = _apply(_SIGNS, text)
    text = _split_joined_words(text)
    text = html.unescape(html.unescape(ftfy.fix_text(text))).strip()
    return _apply(_NOISE, text).strip()


def _apply(rules: tuple[Rule, ...], text: str) -> str:
    for pattern, replacement in rules:
        text = pattern.sub(replacement, text)
    return text


def _without_markup(text: str) -> str:
    require_extra("bs4", "cleaning a prompt")
    from bs4 import BeautifulSoup, MarkupResemblesLocatorWarning

    with warnings.catch_warnings():  # a prompt that looks like a file name or an address is still a prompt
        warnings.simplefilter("ignore", MarkupResemblesLocatorWarning)
        return BeautifulSoup(text, "html.parser").text


def _split_joined_words(text: str) -> str:
    """Replace dashes and underscores by spaces if there are so many that they stand for spaces."""
    return _JOINT.sub(" ", text) if len(_JOINT.findall(text)) > _MOST_JOINTS else text
