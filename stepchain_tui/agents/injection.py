"""A heuristic look at requests for text that tries to take an agent over.

It finds the phrases that such attempts are made of, also where they are spaced out, written in full-width letters or
broken up by invisible characters. It cannot find what is said in other words, and it cannot tell an attempt from a text
about attempts: what it flags is shown, and a person may let it through.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from typing import Any

SHOWN = 160
"""Characters of the flagged text that are shown."""
_MAX_DEPTH = 200

_EARLIER = r"(?:previous|prior|preceding|earlier|above|foregoing|former|existing|original|initial|current|system)"
_RULES = r"(?:instructions?|prompts?|directives?|directions|commands|orders|rules|guidelines|messages?|conversation)"
_DROP = r"(?:ignore|disregard|forget|override|overrule|bypass|skip|neglect|discard|drop|stop following|do not follow)"
_FILL = r"(?:(?:all|any|every|everything|each|of|the|these|those|that|your|my|our|other|and|in|from) ){0,5}"
_LIMITS = (
    r"(?:safety|ethical|moral|your content|your security) (?:rules|guidelines|filters?|polic(?:y|ies)|restrictions)"
)

_PHRASES = (
    # another's rules are to be dropped
    rf"\b{_DROP} {_FILL}{_EARLIER} {_FILL}{_RULES}\b",
    rf"\b{_DROP} {_FILL}{_RULES} {_FILL}"
    r"(?:above|before|so far|given|you (?:were|have been|got)|earlier|previously)\b",
    rf"\b{_DROP} (?:all |every )?(?:of )?your {_FILL}{_RULES}\b",
    r"\b(?:ignore|forget|disregard) (?:everything|anything|all) (?:that )?(?:was |is |were )?"
    r"(?:above|before|said|you (?:were|have been) told|you know)\b",
    r"\b(?:ignoriere|vergiss|missachte) (?:alle |die |deine |bitte ){0,3}(?:vorherigen|bisherigen|obigen|früheren) "
    r"(?:anweisungen|regeln|befehle|vorgaben)\b",
    r"\b(?:ignorez?|oublie[sz]?) (?:toutes? )?(?:les |tes |vos )?(?:instructions|consignes|règles) "
    r"(?:précédentes|antérieures|ci-dessus)\b",
    r"\b(?:ignora|olvida) (?:todas )?(?:las |tus )?(?:instrucciones|reglas|órdenes) (?:anteriores|previas)\b",
    # another person is to be played, without rules
    r"\byou are (?:now |henceforth )(?:in )?(?:dan\b|developer mode|jailbroken|unrestricted|free (?:of|from)|"
    r"no longer (?:bound|restricted|an? ))",
    r"\b(?:act|behave|respond|answer|pretend|roleplay) (?:as|like|to be|that you are|you are) "
    r"(?:if you (?:were|are) )?(?:dan\b|an? (?:unrestricted|uncensored|unfiltered|jailbroken|amoral))",
    r"\b(?:pretend|act as if|imagine) (?:that )?you (?:have|had|are under) no (?:rules|restrictions|limits|"
    r"limitations|guidelines|filters?|instructions)\b",
    r"\b(?:enable|enter|activate|switch to) (?:developer|dan|jailbreak|god|sudo|unrestricted) mode\b",
    rf"\b(?:bypass|disable|circumvent|turn off|evade|ignore) {_FILL}{_LIMITS}\b",
    # what an agent was told is to be given away
    r"\b(?:reveal|show|print|repeat|output|display|tell|give|leak|disclose|quote|dump)(?: me| us| back| out)? "
    r"(?:all |exactly |verbatim |the |your |full |entire |complete |hidden |secret |original |initial ){1,5}"
    r"(?:system (?:prompt|message|instructions?)|(?:hidden|secret|initial|original) (?:prompt|instructions?)|"
    r"developer (?:message|prompt))",
    r"\b(?:reveal|repeat|print|leak|disclose) your (?:prompt|instructions)\b",
    r"\brepeat (?:everything|all (?:the )?(?:words|text)|the (?:words|text)) (?:above|before)\b",
    # a turn of another speaker is forged
    r"<\|?(?:im_start|im_end|start_header_id|end_header_id|eot_id|endoftext|begin_of_text)\|?>",
    r"<\|(?:system|assistant|user|developer)\|>",
    r"\[/?inst\]|<</?sys>>",
    r"</?(?:system_prompt|system_message|system_instructions?)>",
    r"(?:^|\n) ?#{2,4} ?(?:system|new instructions?|developer)(?: (?:prompt|message|override))? ?:? ?(?=\n|$)",
    r"\b(?:begin|start|end) (?:of )?(?:new |updated )?system (?:prompt|message|instructions)\b",
    r"(?:^|\n) ?(?:system (?:override|prompt|message)|new (?:system )?instructions?|admin override) ?:",
    r"\byour (?:new|real|true|actual|only) (?:instructions?|task|goal|objective|purpose|rules?) (?:is|are|will be) "
    r"(?:now |to )",
    r"\bfrom now on,? you (?:will|must|shall|are to|should) (?:only |always |never )?(?:obey|ignore|disregard|"
    r"answer as|act as|respond as|follow my)",
)
_WORDS = (
    *("ignor", "disregard", "forget", "override", "overrule", "bypass", "skip", "neglect", "discard", "drop", "follow"),
    *("vergiss", "missachte", "oubli", "olvida", "you are now", "you are henceforth", "act as", "behave", "respond"),
    *("answer", "pretend", "roleplay", "imagine", "enable", "enter", "activate", "switch", "disable", "circumvent"),
    *(
        "turn off",
        "evade",
        "reveal",
        "show",
        "print",
        "repeat",
        "output",
        "display",
        "tell",
        "give",
        "leak",
        "disclose",
    ),
    *("quote", "dump", "<", "[", "##", "system", "instruction", "admin", "your", "from now"),
)
"""Every phrase has one of these in it: a long text without them is done with quickly."""
_PATTERNS = tuple(map(re.compile, _PHRASES))
_CLOSED = tuple(re.compile(phrase.replace(" ", " ?")) for phrase in _PHRASES)
"""The same without the spaces between words, which cannot be told from those between letters that stand apart."""
_INVISIBLE = dict.fromkeys(
    (0x00AD, 0x034F, 0x061C, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x180E, 0xFEFF), ""
) | dict.fromkeys((*range(0x200B, 0x2010), *range(0x202A, 0x202F), *range(0x2060, 0x2070), *range(0xFE00, 0xFE10)), "")
_LOOK_ALIKE = str.maketrans("аеорсухіјѕԁɡıοеνՕ", "aeopcyxijsdgioevo")
_SPACES = re.compile(r"[^\S\n]+")
_LINES = re.compile(r" ?\n[\s]*")
_SPACED_OUT = re.compile(r"(?<!\w)(?:\w[ .\-_*]){5,}\w(?!\w)")
_BREAKS = re.compile(r"[ .\-_*]+")


def find_injection(request: Any) -> str:
    """Return the text in `request` that looks like an attempt to take over, or an empty string.

    Args:
        request: Text, or anything with texts in it: mappings (keys too), lists, models, dataclasses.
    """
    text = _plain("\n".join(_texts(request, set(), 0)))
    if any(word in text for word in _WORDS):
        found = _search(_PATTERNS, text) or _search(_PATTERNS, text.replace("\n", " "))
        if found:
            return found
    closed, runs = _SPACED_OUT.subn(lambda found: _BREAKS.sub("", found.group()), text.replace("\n", " "))
    return _search(_CLOSED, closed) if runs else ""


def _search(patterns: Iterable[re.Pattern[str]], text: str) -> str:
    """Return the text that the first of the patterns finds, shortened; empty where none does."""
    for pattern in patterns:
        found = pattern.search(text)
        if found is not None:
            return " ".join(found.group().split())[:SHOWN]
    return ""


def _plain(text: str) -> str:
    """Return text as it is read: no invisible characters, no look-alikes, lower case, single spaces."""
    if text.isascii():
        text = text.lower()
    else:
        text = unicodedata.normalize("NFKC", text.translate(_INVISIBLE)).casefold().translate(_LOOK_ALIKE)
    return _LINES.sub("\n", _SPACES.sub(" ", text))


def _texts(value: Any, seen: set[int], depth: int) -> Iterator[str]:
    if isinstance(value, str):
        yield value
        return
    if value is None or isinstance(value, bool | int | float) or depth > _MAX_DEPTH or id(value) in seen:
        return
    seen.add(id(value))
    if isinstance(value, bytes | bytearray):
        yield bytes(value).decode("utf-8", "replace")
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _texts(key, seen, depth + 1)
            yield from _texts(item, seen, depth + 1)
    elif isinstance(value, list | tuple | AbstractSet):
        for item in value:
            yield from _texts(item, seen, depth + 1)
    elif hasattr(value, "__dict__") and not isinstance(value, type):
        yield from _texts(vars(value), seen, depth + 1)
    else:
        yield str(value)
