"""Codecs in their engine: one kept context each, evaluated anew for each call.

A codec's source becomes the body of a function. Each call evaluates it again, so what it keeps in variables is gone
with the call; what it could reach beside its variables (prototypes, the global object's own properties) is frozen, and
names that it forgot to declare are taken away after the call. A codec that changes what is frozen for the others gets a
fresh context for each call instead. So nothing goes from one call, or device, to the next.
"""

from __future__ import annotations

import json
import re
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import _quickjs

MEMORY_LIMIT = 8 << 20  # bytes a context; a codec's needs are tenths of one
STACK_LIMIT = 256 << 10
MAX_KEPT = 32  # contexts
MAX_KEPT_BYTES = 12 << 20  # of all kept contexts
USES = 20_000  # calls of a context before a new one is made: whatever leaks in it is bounded
LOAD_S = 0.2  # CPU seconds to evaluate a source

OWN_LINES = 20_000  # prelude.js begins below; the lines of a codec are above

_PRELUDE, _BUFFER = (
    "\n" * OWN_LINES + Path(__file__).with_name(name).read_text(encoding="utf-8")
    for name in ("prelude.js", "buffer.js")
)
_WANTS_BUFFER = re.compile(r"\b(?:Buffer|atob|btoa|require)\b")

# Both have to be functions by themselves: a source that ends the body and goes on outside it fits only one of them.
_AS_EXPRESSION = "0 && (function(module,exports,require){{return(function(){{{}\n}})()}})"
_AS_METHOD = "0 && ({{a(module,exports,require){{return({{b(){{{}\n}}}})}}}})"
_NAMES = (
    "decodeUplink",
    "Decode",
    "Decoder",
    "decodeDownlink",
    "encodeDownlink",
    "Encode",
    "Encoder",
    "normalizeUplink",
)
_FACTORY = "(function(module,exports,require){{return(function(){{{}\n;return{{{}}}}})()}})"

# A source that changes the prototypes of all, as some polyfills do
_CHANGES_ALL = re.compile(
    r"\b(?:Object|Function|Array|String|Number|Boolean|Date|Math|JSON|RegExp|Error|Map|Set|Uint8Array)"
    r"(?:\.prototype)?\s*(?:\.\s*\w+|\[[^\]\n]{1,40}\])\s*=(?!=)"
    r"|\b(?:defineProperty|defineProperties|assign)\s*\(\s*(?:\w+\.prototype|Math|JSON|globalThis)\b"
)
_NAMES_GLOBAL = re.compile(r"\b(?:globalThis|this|eval|Function)\b")
_DECLARED = re.compile(
    r"\b(?:var|let|const)\b([^;]*)|\bfunction\b\s*([\w$]*\s*\([^)]*\))|\bcatch\s*\(([^)]*)\)|\bclass\s+([\w$]+)"
    r"|(\([^()]*\))\s*=>|([\w$]+)\s*=>"
)
_ASSIGNED = re.compile(
    r"(?<![\w$.\])'\"])([A-Za-z_$][\w$]*)\s*(?:(?:[-+*/%&|^]|<<|>>>?|\*\*)?=(?![=>])|\+\+|--)"
)
_WORD = re.compile(r"[\w$]+")
_MISSED = " is not defined"

# What a script sees of the end of its memory: an error, or null where there was none left for the error
_SPENT = ('{"r":{"fault":"InternalError: out of memory', '{"r":{"fault":"null"')
_MODULE_LINE = re.compile(r"^[ \t]*(?:export|import)\b", re.MULTILINE)
_PLACE = re.compile(r"<input>:(\d+)")


class Refused(Exception):
    """The source cannot be used. Carries words and a line; 0 where none is known."""

    def __init__(self, words: str, line: int = 0) -> None:
        super().__init__(words)
        self.words, self.line = words, line


class Stopped(Exception):
    """The call was ended by its time limit."""


class Spent(Exception):
    """The call used up its context's memory."""


@dataclass(slots=True)
class _Source:
    text: str  # as the body of a function
    kept: bool
    sealed: bool  # nothing can be added to the global object
    size: int = 0  # bytes of its context


@dataclass(slots=True)
class _Context:
    context: Any
    run: Callable[[str, bool], str]
    limit_s: float
    uses: int = 0


class Contexts:
    """The codecs of one process, by their numbers."""

    def __init__(self) -> None:
        self._sources: dict[int, _Source] = {}
        self._refused: dict[int, Refused] = {}  # sources that cannot be used
        self._kept: OrderedDict[int, _Context] = OrderedDict()  # the longest unused first
        self._kept_bytes = 0

    def load(self, codec: int, source: str) -> str:
        """Take a source; returns JSON on it. Raises Refused, Stopped, Spent."""
        self.forget(codec)
        try:
            body = _checked(source)
        except Refused as error:
            self._refused[codec] = error
            raise
        kept = _CHANGES_ALL.search(body) is None and not _changes_all(body)
        held = self._sources[codec] = _Source(body, kept, kept and not _adds_globals(body))
        try:
            described = self.call(codec, '{"ask":"describe"}', LOAD_S)
        except BaseException:
            self.forget(codec)
            raise
        return json.dumps({"kept": held.kept, "is": json.loads(described)["r"]})

    def forget(self, codec: int) -> None:
        self._drop(codec)
        self._sources.pop(codec, None)
        self._refused.pop(codec, None)

    def call(self, codec: int, text: str, limit_s: float, log: bool = False) -> str:
        """The JSON that prelude.js makes of one input. Raises Refused for an unknown codec, Stopped, Spent."""
        return self.calls(codec, [text], limit_s, log)[0]

    def calls(self, codec: int, texts: Sequence[str], limit_s: float, log: bool = False) -> list[str]:
        """As `call`, for several inputs within one limit: a failure is that of one of them."""
        source = self._sources.get(codec)
        if source is None:
            raise self._refused.get(codec) or Refused("the codec is not loaded")
        if not source.kept:
            return [self._run(_made(source, limit_s), text, log) for text in texts]
        context = self._kept.get(codec)
        first = context is None
        if context is None:
            context = self._keep(codec, source, limit_s)
        elif len(self._kept) > 1:
            self._kept.move_to_end(codec)
        if context.limit_s != limit_s:
            context.context.set_time_limit(limit_s)
            context.limit_s = limit_s
        context.uses += len(texts)
        try:
            whole = self._run(context, ",".join(texts), log)
        except Spent:
            self._drop(codec)
            if first:
                raise
            return self.calls(codec, texts, limit_s, log)  # perhaps it was what earlier calls had left
        except BaseException:
            self._drop(codec)
            raise
        if source.sealed and _MISSED in whole:
            # Perhaps a name that it did not declare, and could not make: as a rule one sees it beforehand.
            source.sealed = False
            self._drop(codec)
            return self.calls(codec, texts, limit_s, log)
        answers = whole.split("\n")
        if context.uses >= USES or (not source.sealed and any(each.endswith(',"x":1}') for each in answers)):
            self._drop(codec)
        return answers

    def _run(self, context: _Context, inputs: str, log: bool) -> str:
        try:
            answer = context.run(f"[{inputs}]", log)
        except _quickjs.JSException as error:
            raise _cause(error) from None
        except (TypeError, ValueError) as error:  # what the border between the languages does not know
            raise Refused(f"its answer cannot be read: {error}") from None
        if any(spent in answer for spent in _SPENT):
            raise Spent
        return answer

    def _keep(self, codec: int, source: _Source, limit_s: float) -> _Context:
        context = _made(source, limit_s)
        source.size = int(context.context.memory()["malloc_size"])
        self._kept[codec] = context
        self._kept_bytes += source.size
        while len(self._kept) > MAX_KEPT or (self._kept_bytes > MAX_KEPT_BYTES and len(self._kept) > 1):
            self._drop(next(iter(self._kept)))
        return context

    def _drop(self, codec: int) -> None:
        if self._kept.pop(codec, None) is not None:
            self._kept_bytes -= self._sources[codec].size


def _engine(source: str, limit_s: float) -> tuple[Any, Any]:
    """A context within its limits with what the source needs, and what prelude.js is."""
    context = _quickjs.Context()
    context.set_memory_limit(MEMORY_LIMIT)
    context.set_max_stack_size(STACK_LIMIT)
    if _WANTS_BUFFER.search(source):
        context.eval(_BUFFER)
    context.eval(_PRELUDE)
    pick = context.eval("(own => (delete globalThis.fluxgate, name => own[name]))(fluxgate)")
    context.set_time_limit(limit_s)
    return context, pick


def _made(source: _Source, limit_s: float) -> _Context:
    context, pick = _engine(source.text, max(limit_s, LOAD_S))
    if source.kept:
        pick("freezeAll")()
    factory = _evaluated(context, _factory(source.text))
    run = pick("runner")(factory, source.kept, source.sealed)
    return _Context(context, run, max(limit_s, LOAD_S))


def _factory(body: str) -> str:
    """A function that evaluates the codec and returns those of its functions that are known by name."""
    names = (name for name in _NAMES if name in body)
    locals_ = ",".join(f"{name}:typeof {name}==='function'?{name}:undefined" for name in names)
    return _FACTORY.format(body, locals_)


def _checked(source: str) -> str:
    """The source as the body of a function: itself, or without the words of a module. Raises Refused."""
    context, _ = _engine(source, LOAD_S)
    try:
        _parse(context, source)
    except Refused:
        if not _MODULE_LINE.search(source):
            raise
        plain = without_module_words(source)
        _parse(context, plain)
        return plain
    return source


def _parse(context: Any, source: str) -> None:
    try:
        for form in (_AS_METHOD, _AS_EXPRESSION):
            _evaluated(context, form.format(source))
    except Refused as error:  # what is missing at the end is found below it
        raise Refused(error.words, min(error.line, source.count("\n") + 1)) from None


def _evaluated(context: Any, code: str) -> Any:
    try:
        return context.eval(code)
    except _quickjs.JSException as error:
        cause = _cause(error)
        raise cause from None


def _changes_all(body: str) -> bool:
    """Whether evaluating the source changes what all codecs share; what goes wrong in it, its first call will tell."""
    context, pick = _engine(body, LOAD_S)
    try:
        return bool(pick("changes")(context.eval(_factory(body))))
    except _quickjs.JSException as error:
        cause = _cause(error)
        if isinstance(cause, Refused):
            return False
        raise cause from None


def _adds_globals(body: str) -> bool:
    """Whether the source seems to add to the global object: by name, or by assigning what it has not declared."""
    if _NAMES_GLOBAL.search(body):
        return True
    declared = {name for part in _DECLARED.findall(body) for name in _WORD.findall("".join(part))}
    return not declared.issuperset(_ASSIGNED.findall(body))


def without_module_words(source: str) -> str:
    """`export` and `import` of ES modules become what they mean inside a function; lines stay where they are."""
    text = re.sub(
        r"""^([ \t]*)import\s*(\{[^}]*\}|\w+)\s*from\s*(["'][^"'\n]*["'])""",
        r"\1const \2=require(\3)",
        source,
        flags=re.M,
    )
    text = re.sub(r"^([ \t]*)export\s+default\b", r"\1module.exports.default=", text, flags=re.M)
    text = re.sub(r"^([ \t]*)export\s*\{[^}]*\}", lambda found: "\n" * found[0].count("\n"), text, flags=re.M)
    return re.sub(r"^([ \t]*)export\s+(?=function|class|const|let|var|async)", r"\1", text, flags=re.M)


def _cause(error: Exception) -> Exception:
    """What an exception that came out of the engine means."""
    text = str(error)
    if text.startswith("InternalError: interrupted"):
        return Stopped()
    if text.startswith(("InternalError: out of memory", "null")):
        return Spent()
    words = text.partition("\n")[0][:400] or "an exception that cannot be shown"
    place = _PLACE.search(text)
    line = int(place[1]) if place else 0
    return Refused(words, line if line <= OWN_LINES else 0)
