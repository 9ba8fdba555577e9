"""Codecs that do what they should not: each is stopped, named, and the next call is answered by a sound process."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import textwrap

import pytest

from gateway.codecs.js import process, worker
from gateway.codecs.js.contexts import Contexts, Refused
from gateway.codecs.js.limits import CEILING_S, HOLD_AFTER
from gateway.codecs.js.worker import Verdict
from gateway.codecs.mapping import decoded

TIME = 1_760_000_000.0
BASE = "urn:dev:mac:70b3d57ed0000001:"
SOUND = "function decodeUplink(input) { return {data: {first: input.bytes[0]}}; }"

# By the engine's own limit, or killed: whichever comes first on a busy machine
LONG = "longer than|did not end"

MEMORY = f"memory|{LONG}"

# body of decodeUplink -> words of the end that it comes to
STOPPED = [
    pytest.param("for (;;);", LONG, id="endless loop"),
    pytest.param("try { for (;;); } finally { return {data: {got: 'away'}}; }", LONG, id="finally"),
    pytest.param("/(a+)+$/.test('a'.repeat(40) + 'b')", LONG, id="regular expression"),
    pytest.param("return {data: {get a() { for (;;); }}}", LONG, id="getter of the answer"),
    pytest.param("return {data: new Proxy({}, {ownKeys() { for (;;); }})}", LONG, id="proxy"),
    pytest.param("return {data: {toJSON() { for (;;); }}}", LONG, id="toJSON"),
    pytest.param("return {get errors() { for (;;); }}", LONG, id="getter of errors"),
    pytest.param("new Array(1e8).join('abc')", "did not end", id="join of holes"),
    pytest.param("return {data: 'x'.repeat(1e9)}", MEMORY, id="repeat"),
    pytest.param("return {data: 'x'.padEnd(1 << 29)}", MEMORY, id="padding"),
    pytest.param("return {data: new Uint8Array(1e9)}", MEMORY, id="typed array"),
    pytest.param("var a = []; for (;;) a.push(new Array(1000))", MEMORY, id="array of arrays"),
    pytest.param("return {data: Array(1e7).fill(1)}", MEMORY, id="long array"),
]
REFUSED = [
    pytest.param("(function f() { f(); })()", "Maximum call stack", id="recursion"),
    pytest.param(
        "throw {get message() { throw 1; }, toString() { throw 2; }}", "", id="thrown object that throws"
    ),
    pytest.param("throw new Proxy({}, {get() { throw 1; }})", "", id="thrown proxy"),
    pytest.param("throw new Error('x'.repeat(1e6))", "xxx", id="long error"),
    pytest.param("return {data: {toJSON() { throw new Error('no'); }}}", "no", id="toJSON that throws"),
    pytest.param("var o = {}; o.o = o; return {data: o}", "circular", id="circle"),
    pytest.param("return {data: 'x'.repeat(1e6)}", "longer than 65536", id="long answer"),
    pytest.param("return Promise.resolve({data: 1})", "promise", id="promise"),
    pytest.param("var s = 'x'; for (;;) s += s", "string", id="string that doubles"),
    pytest.param("return 5", "not an object", id="number"),
    pytest.param("return null", "not an object", id="null"),
    pytest.param("return {data: undefined, errors: []}", "no value", id="nothing"),
    pytest.param("return {errors: ['battery low', 'no fix']}", "battery low; no fix", id="errors"),
    pytest.param("return {errors: 'one text'}", "one text", id="one error"),
    pytest.param("return {errors: {length: 1}}", "length", id="errors that are no list"),
    pytest.param("import('os')", "not an object|no value|promise", id="module"),
    pytest.param("return {data: require('fs')}", "no module fs", id="require"),
    pytest.param("return {data: std.open('/etc/passwd')}", "std", id="std"),
    pytest.param(
        "var o = {}, p = o; for (var i = 0; i < 1e4; i++) p = p.a = {}; return {data: o}", "", id="depth"
    ),
]


@pytest.mark.parametrize(("body", "words"), STOPPED)
def test_is_stopped_and_the_next_call_is_answered(on_bench, body, words):
    async def test(bench):
        hostile, sound = bench.script(f"function decodeUplink(input) {{ {body} }}"), bench.script(SOUND)
        first, after = await asyncio.gather(bench.run(hostile), bench.run(sound, b"\x07"))
        assert first.verdict is Verdict.STOPPED
        assert any(word in first.words for word in words.split("|"))
        assert first.seconds < CEILING_S + 0.1
        assert json.loads(after.text)["r"]["data"] == {"first": 7}
        assert hostile.strikes.count == 1
        assert sound.strikes.count == 0

    on_bench(test)


@pytest.fixture(scope="module")
def contexts():
    """The engine in this process, for what needs no killing."""
    return Contexts()


def asked(contexts, number, payload="[0,215]"):
    return json.loads(contexts.call(number, f'{{"ask":"decodeUplink","bytes":{payload},"fPort":2}}', 5.0))[
        "r"
    ]


@pytest.mark.parametrize(("body", "words"), REFUSED)
def test_is_refused_in_words(contexts, body, words):
    contexts.load(1, f"function decodeUplink(input) {{ {body} }}")
    contexts.load(2, SOUND)
    made = decoded({"r": asked(contexts, 1)}, TIME, BASE, {})
    assert made.problem
    assert not made.records
    assert any(word in made.problem for word in words.split("|"))
    assert asked(contexts, 2) == {"data": {"first": 0}}


def test_a_hostile_source_is_stopped_while_it_is_loaded(on_bench):
    async def test(bench):
        script = bench.script("for (;;);\nfunction decodeUplink() {}")
        assert (await bench.worker.loaded(script)).verdict is Verdict.STOPPED
        assert (await bench.run(script)).verdict is Verdict.STOPPED
        native = bench.script("new Array(1e8).join('abc');\nfunction decodeUplink() {}")
        assert "did not end" in (await bench.run(native)).words
        assert await bench.data(SOUND) == {"first": 0}

    on_bench(test)


# Each call leaves something behind; none must find it
LEAKS = {
    "variable": "var n = 0; function decodeUplink() { return {data: {n: ++n}}; }",
    "undeclared": "function decodeUplink() { n = (typeof n === 'number' ? n : 0) + 1; return {data: {n: n}}; }",
    "let": "let n = 0; const decodeUplink = () => ({data: {n: ++n}});",
    "this": "function decodeUplink() { this.n = (this.n || 0) + 1; return {data: {n: this.n}}; }",
    "symbol": "const s = Symbol.for('n'); function decodeUplink() { globalThis[s] = (globalThis[s] || 0) + 1;"
    " return {data: {n: globalThis[s]}}; }",
    "hidden": "function decodeUplink() { var had = globalThis.n || 0; Object.defineProperty(globalThis, 'n',"
    " {value: had + 1, configurable: true}); return {data: {n: had + 1}}; }",
    "fixed": "function decodeUplink() { var had = globalThis.n || 0; if (!had) Object.defineProperty(globalThis, 'n',"
    " {value: 1}); return {data: {n: had + 1}}; }",
    "prototype": "function decodeUplink() { var p = Array[['pro', 'totype'].join('')]; try { p.n = (p.n || 0) + 1; }"
    " catch (e) {} return {data: {n: [].n || 1}}; }",
    "polluted": "function decodeUplink() { ({})['__pro' + 'to__'].n = 1 + (({}).n || 0);"
    " return {data: {n: ({}).n || 1}}; }",
    "function": "function decodeUplink(i) { var f = decodeUplink; f.n = (f.n || 0) + 1; return {data: {n: f.n}}; }",
    "eval": "function decodeUplink() { (0, eval)('var n = (typeof n === \"number\" ? n : 0) + 1');"
    " return {data: {n: n}}; }",
    "console": "function decodeUplink() { console.n = (console.n || 0) + 1; return {data: {n: console.n || 1}}; }",
    "buffer": "function decodeUplink() { Buffer.n = (Buffer.n || 0) + 1; return {data: {n: Buffer.n || 1}}; }",
    "error": "function decodeUplink() { Error.n = (Error.n || 0) + 1; Error.stackTraceLimit = (Error.stackTraceLimit ||"
    " 0) + 1; return {data: {n: Error.n || 1}}; }",
    "regexp": "var r = /a/g; function decodeUplink() { r.exec('aa'); return {data: {n: r.lastIndex}}; }",
    "outside": "}, n = 0, function () {\nfunction decodeUplink() { return {data: {n: ++n}}; }",
    "module": "module.exports = {n: 0, decodeUplink() { return {data: {n: ++module.exports.n}}; }};",
    "changes all": "Array.prototype.n = 0; function decodeUplink() { Array.prototype.n++; return {data: {n: [].n}}; }",
    "changes all, hidden": "var p = [].constructor['proto' + 'type']; p.n = 0;"
    " function decodeUplink() { p.n++; return {data: {n: [].n}}; }",
}


@pytest.mark.parametrize("source", LEAKS.values(), ids=list(LEAKS))
def test_nothing_goes_from_one_call_to_the_next(contexts, source):
    if source is LEAKS["outside"]:
        with pytest.raises(Refused, match="SyntaxError"):
            contexts.load(3, source)
        return
    contexts.load(3, source)
    for _ in range(3):
        assert asked(contexts, 3)["data"] == {"n": 1}
    text = '{"ask":"decodeUplink","bytes":[],"fPort":2}'
    answers = contexts.calls(3, [text] * 3, 5.0)
    assert [json.loads(answer)["r"]["data"] for answer in answers] == [{"n": 1}] * 3


def test_nothing_goes_from_one_codec_to_another(on_bench):
    async def test(bench):
        leaky = bench.script(
            "function decodeUplink() { secret = 1; globalThis.other = 2; return {data: {n: 1}}; }"
        )
        nosy = bench.script("function decodeUplink() { return {data: {n: typeof secret + typeof other}}; }")
        assert await bench.data(leaky) == {"n": 1}
        assert await bench.data(nosy) == {"n": "undefinedundefined"}

    on_bench(test)


def test_a_codec_that_is_stopped_again_and_again_is_on_hold_until_it_is_lifted(on_bench):
    async def test(bench):
        script = bench.script("function decodeUplink(i) { if (i.bytes[0]) for (;;); return {data: {n: 1}}; }")
        for _ in range(HOLD_AFTER):
            assert not script.strikes.held
            await bench.run(script, b"\x01")
        assert "on hold" in script.strikes.held
        script.strikes.lift()
        assert await bench.data(script, b"\x00") == {"n": 1}
        assert not script.strikes.held

    on_bench(test)


def test_the_process_killed_in_the_middle_loses_nothing(on_bench):
    async def test(bench):
        script = bench.script(
            "function decodeUplink(i) { for (var k = 0; k < 3e4; k++); return {data: {n: i.bytes}}; }"
        )
        await bench.run(script)
        answers = []
        calls = [asyncio.ensure_future(bench.run(script, bytes([n]))) for n in range(200)]
        for n, call in enumerate(calls):
            call.add_done_callback(lambda _, n=n: answers.append(n))
            if n % 50 == 10:
                await calls[n]
                os.kill(bench.worker.pid, signal.SIGKILL)
        results = await asyncio.gather(*calls)
        assert [json.loads(each.text)["r"]["data"] for each in results] == [{"n": [n]} for n in range(200)]
        assert answers == list(range(200))
        # More where the machine was so busy that the worker itself gave one up.
        assert bench.worker.counters.started >= 5
        assert script.strikes.count == 0

    on_bench(test)


def test_a_process_that_stays_silent_is_killed_though_it_should_have_ended_itself(on_bench, monkeypatch):
    """The second wall: here the child's own timer is far away."""
    monkeypatch.setattr(process, "_BOOT", process._BOOT.replace("; main()", "; c.GRACE_S = 60; main()").replace(
        "from gateway", "import gateway.codecs.js.child as c; from gateway"))  # fmt: skip

    async def test(bench):
        result = await bench.run(bench.script("function decodeUplink() { new Array(1e8).join('abc'); }"))
        assert result.verdict is Verdict.STOPPED
        assert "did not end" in result.words
        assert await bench.data(SOUND) == {"first": 0}

    on_bench(test)


def test_without_limits_the_same_codec_runs_on(on_bench, monkeypatch):
    """The control: what stops the others is our limits, not the engine."""
    boot = (
        "import gateway.codecs.js.child as c, gateway.codecs.js.contexts as k; c.GRACE_S = 600; c.LOAD_S = 600.0;"
        "made = k._made; k._made = lambda s, l: (lambda x: (x.context.set_time_limit(600), x)[1])(made(s, l))"
    )
    monkeypatch.setattr(process, "_BOOT", process._BOOT.replace("; main()", f"; {boot}; main()"))
    monkeypatch.setattr(worker, "PATIENCE_S", 600.0)

    async def test(bench):
        call = asyncio.ensure_future(bench.run(bench.script("function decodeUplink() { for (;;); }")))
        done, _ = await asyncio.wait([call], timeout=4 * CEILING_S)
        assert not done
        bench.worker.close()
        assert (await call).verdict is Verdict.LOST

    on_bench(test)


def test_a_process_that_never_starts_is_said_so(on_bench, monkeypatch):
    monkeypatch.setattr(process, "_BOOT", "raise SystemExit(3)")

    async def test(bench):
        result = await bench.run(bench.script(SOUND))
        assert result.verdict is Verdict.LOST
        assert "does not start (exit code 3)" in result.words
        assert bench.worker.counters.started == worker.START_TRIES
        assert "tried again soon" in (await bench.run(bench.script(SOUND))).words

    on_bench(test)


def confined(code: str) -> str:
    """Run Python inside the walls; what it prints."""
    body = textwrap.dedent(code)
    program = (
        "import os, socket, sys, ctypes, mmap, _socket\nfrom gateway.codecs.js import confine\n"
        "def tried(what):\n    try:\n        what()\n    except (OSError, MemoryError) as error:\n"
        "        return type(error).__name__\n    return 'done'\n"
        f"confine.enter()\n{body}"
    )
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout


def test_the_walls_hold_without_the_engine():
    """As if a codec had broken out: files, sockets, processes, executable memory, and much memory are out of reach."""
    out = confined(
        """
        print(tried(lambda: open("/etc/passwd")), tried(lambda: open("/tmp/x", "w")), tried(socket.socket),
              tried(os.fork), tried(lambda: os.execv("/bin/true", ["true"])), tried(lambda: bytearray(1 << 28)),
              tried(lambda: mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_EXEC)), tried(lambda: os.kill(1, 0)),
              tried(os.pipe), tried(lambda: bytearray(1 << 20)))
        """
    ).split()
    assert "done" not in out[:9]
    assert out[9] == "done"


def test_outside_the_walls_the_same_is_possible():
    """The control of the test before."""
    with open("/etc/passwd") as file:
        assert file.read(1)
    with socket.socket():
        pass
