"""Each way in which codecs are written, with sources like those of real devices; Node is the judge of the Buffer."""

import json
import shutil
import subprocess

import pytest

from gateway.codecs import CodecError
from gateway.codecs.js.contexts import Contexts, Refused, without_module_words
from gateway.codecs.library import bytes_of, downlink_input, uplink_input
from gateway.codecs.mapping import Fault, answer_of, decoded, result_of
from hub.senml import Record

TIME = 1_760_000_000.0
BASE = "urn:dev:mac:70b3d57ed0000001:"

# One soil probe in every form: 2 bytes signed temperature in tenths, 1 byte moisture in per cent
BODY = """
  var t = (bytes[0] << 8) | bytes[1];
  if (t & 0x8000) t -= 0x10000;
  var data = {temperature: t / 10, moisture_pct: bytes[2], port: fPort};
"""
FORMS = {
    "TS013": "function decodeUplink(input) { var bytes = input.bytes, fPort = input.fPort;" + BODY
    + "return {data: data}; }",
    "strict": "'use strict'; const decodeUplink = ({bytes, fPort}) => {" + BODY + "return {data}; };",
    "TTN v2": "function Decoder(bytes, port) { var fPort = port;" + BODY + "return data; }",
    "ChirpStack v3": "function Decode(fPort, bytes, variables) {" + BODY + "return data; }",
    "CommonJS": "function decode(input) { var bytes = input.bytes, fPort = input.fPort;" + BODY
    + "return {data: data}; }\nmodule.exports = { decodeUplink: decode };",
    "exports": "exports.decodeUplink = function (input) { var bytes = input.bytes, fPort = input.fPort;" + BODY
    + "return {data: data}; };",
    "exports if there are": "function Decoder(bytes, fPort) {" + BODY + "return data; }\n"
    "if (typeof module !== 'undefined') module.exports = {Decoder: Decoder};",
    "ES module": "import { Buffer } from 'buffer';\nexport function decodeUplink(input) { var bytes = input.bytes,"
    " fPort = input.fPort;" + BODY + "return {data: data}; }",
    "ES default": "const codec = { decodeUplink(input) { var bytes = input.bytes, fPort = input.fPort;" + BODY
    + "return {data: data}; } };\nexport default codec;",
    "ES list": "function decodeUplink(input) { var bytes = input.bytes, fPort = input.fPort;" + BODY
    + "return {data: data}; }\nexport { decodeUplink };",
    "Buffer": "function decodeUplink(input) { const b = Buffer.from(input.bytes); return {data: {temperature:"
    " b.readInt16BE(0) / 10, moisture_pct: b.readUInt8(2), port: input.fPort}}; }",
    "forgotten var": "function decodeUplink(input) { bytes = input.bytes; fPort = input.fPort;" + BODY
    + "return {data: data}; }",
    "polyfill": "if (!Array.prototype.last) { Array.prototype.last = function () { return this[this.length - 1]; }; }\n"
    "function decodeUplink(input) { var bytes = input.bytes, fPort = input.fPort;" + BODY
    + "data.moisture_pct = bytes.last(); return {data: data}; }",
    "bare answer": "function decodeUplink(input) { var bytes = input.bytes, fPort = input.fPort;" + BODY
    + "return data; }",
    "classes": "class Probe { constructor(b) { this.b = b; } "
    "get t() { return (this.b[0] << 24 >> 16 | this.b[1]) / 10; } "
    "toString() { return 'probe'; } }\nfunction ProbeError(m) { this.name = 'ProbeError'; this.message = m; }\n"
    "ProbeError.prototype = Object.create(Error.prototype); ProbeError.prototype.constructor = ProbeError;\n"
    "function decodeUplink(i) { try { throw new ProbeError('x'); } catch (e) { if (e.name !== 'ProbeError' ||"
    " e.constructor !== ProbeError) return {errors: [e.name]}; } return {data: {temperature: new Probe(i.bytes).t,"
    " moisture_pct: i.bytes[2], port: i.fPort}}; }",
}  # fmt: skip


@pytest.fixture
def contexts():
    """The engine in this process: what a codec gives does not depend on where it runs."""
    return Contexts()


def call(contexts, source, ask="decodeUplink", text=None, payload=b"\xff\xec\x2a", fport=3):
    number = abs(hash(source))
    if number not in contexts._sources:
        contexts.load(number, source)
    return answer_of(
        contexts.call(
            number, f'{{"ask":"{ask}",{(text or uplink_input(fport, payload, TIME))[1:]}', 5.0, True
        )
    )


@pytest.mark.parametrize("source", FORMS.values(), ids=list(FORMS))
def test_every_form_of_a_decoder_gives_the_same(contexts, source):
    call(contexts, source)
    answer = call(contexts, source)
    assert result_of(answer)["data"] == {"temperature": -2.0, "moisture_pct": 42, "port": 3}
    made = decoded(answer, TIME, BASE, {})
    assert [(r.name.removeprefix(BASE), r.unit, r.value) for r in made.records] == [
        ("temperature", "Cel", -2.0),
        ("moisture_pct", "/100", 42.0),
        ("port", "", 3.0),
    ]


ENCODERS = {
    "TS013": "function encodeDownlink(input) { return {bytes: [input.data.on ? 1 : 0, input.data.level], fPort: 12}; }",
    "TTN v2": "function Encoder(object, port) { return [object.on ? 1 : 0, object.level]; }",
    "ChirpStack v3": "function Encode(fPort, obj, variables) { return [obj.on ? 1 : 0, obj.level]; }",
    "bytes of a Buffer": "function encodeDownlink(i) { var b = Buffer.alloc(2); b.writeUInt8(i.data.on ? 1 : 0, 0);"
    " b.writeUInt8(i.data.level, 1); return {bytes: b, fPort: i.fPort}; }",
    "negative byte": "function encodeDownlink(i) { return {bytes: [i.data.on ? 1 : 0, i.data.level << 24 >> 24]}; }",
}


@pytest.mark.parametrize("source", ENCODERS.values(), ids=list(ENCODERS))
def test_every_form_of_an_encoder(contexts, source):
    answer = call(contexts, source, "encodeDownlink", downlink_input(12, {"on": True, "level": 200}))
    assert bytes_of(answer, 12) == (12, b"\x01\xc8")
    assert bytes_of(answer, 40)[0] == 40


def test_records_become_the_data_of_an_encoder(contexts):
    records = [
        Record(BASE + "on", bool_value=True),
        Record("level", value=7.0),
        Record("mode", string_value="eco"),
    ]
    source = "function encodeDownlink(i) { return {bytes: [i.data.on ? 1 : 0, i.data.level, i.data.mode.length]}; }"
    assert bytes_of(call(contexts, source, "encodeDownlink", downlink_input(None, records)), None) == (
        1,
        b"\x01\x07\x03",
    )


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("return {errors: ['level is 0 to 100']}", "level is 0 to 100"),
        ("return {bytes: [1.5]}", "1.5, which is no byte"),
        ("return {bytes: [256]}", "256, which is no byte"),
        ("return {bytes: ['a']}", "a, which is no byte"),
        ("return {bytes: null}", "no bytes"),
        ("return {bytes: new Array(300).fill(0)}", "300 bytes"),
        ("return {bytes: [1], fPort: 0}", "port 0"),
        ("return {bytes: [1], fPort: 'x'}", "port x"),
        ("throw new Error('unknown command')", "unknown command"),
    ],
)
def test_an_encoder_that_gives_no_payload_is_refused(contexts, body, words):
    answer = call(
        contexts, f"function encodeDownlink(i) {{ {body} }}", "encodeDownlink", downlink_input(None, {})
    )
    with pytest.raises(CodecError, match=words):
        bytes_of(answer, None)


def test_a_downlink_can_be_read_back(contexts):
    source = "function decodeDownlink(input) { return {data: {on: input.bytes[0] === 1}}; }"
    assert result_of(call(contexts, source, "decodeDownlink", payload=b"\x01"))["data"] == {"on": True}


def test_a_function_that_is_not_there_is_named(contexts):
    with pytest.raises(Fault, match="none of the functions encodeDownlink, Encode, Encoder"):
        result_of(call(contexts, FORMS["TS013"], "encodeDownlink", downlink_input(1, {})))


def test_a_normalized_payload_has_units(contexts):
    source = """
    function decodeUplink(i) { return {data: {t: i.bytes[1] / 10, b: 3.6}}; }
    function normalizeUplink(i) { return {data: [{air: {temperature: i.data.t}, battery: i.data.b},
      {time: '2025-10-09T08:00:00Z', air: {temperature: 3}}]}; }
    """
    made = decoded(call(contexts, source), TIME, BASE, {})
    assert [(r.name.removeprefix(BASE), r.unit, r.value, r.time) for r in made.records] == [
        ("t", "", 23.6, TIME),
        ("b", "", 3.6, TIME),
        ("normalized/0/air/temperature", "Cel", 23.6, TIME),
        ("normalized/0/battery", "V", 3.6, TIME),
        ("normalized/1/air/temperature", "Cel", 3.0, 1_759_996_800.0),
    ]


def test_errors_name_the_line_of_the_source(contexts):
    source = "// a codec\nfunction helper(b) {\n  return b.missing.field;\n}\n"
    source += "function decodeUplink(i) {\n  return {data: helper(i.bytes)};\n}"
    made = decoded(call(contexts, source), TIME, BASE, {})
    assert made.problem.endswith("(line 3)")
    assert "undefined" in made.problem
    inside = "function decodeUplink(i) {\n\n  return {data: {a: Buffer.from(i.bytes).readInt32LE(1)}};\n}"
    assert decoded(call(contexts, inside), TIME, BASE, {}).problem == (
        "RangeError: Attempt to access memory outside buffer bounds (line 3)"
    )


@pytest.mark.parametrize(
    ("source", "line"),
    [
        ("function decodeUplink(input) {\n  return {data: };\n}", 2),
        ("var a = 1;\n\nvar b = ;", 3),
        ("{{{", 1),
        ("}", 1),
    ],
)
def test_a_source_that_is_no_javascript_is_refused_with_its_line(contexts, source, line):
    with pytest.raises(Refused, match="SyntaxError") as refused:
        contexts.load(1, source)
    assert refused.value.line == line


def test_the_log_is_kept_for_the_bench_and_bounded(contexts):
    source = """function decodeUplink(i) {
      console.log('bytes', i.bytes, {a: 1}, undefined, null, 5n, Symbol('s'));
      console.error({toJSON() { throw 1; }});
      for (var k = 0; k < 1000; k++) console.log('x'.repeat(1000));
      return {data: {a: 1}}; }"""
    log = call(contexts, source)["l"]
    assert log[0] == 'bytes [255,236,42] {"a":1} undefined null 5 Symbol(s)'
    assert log[1] == "[not shown]"
    assert len(log) == 100
    assert len(log[2]) == 400


def test_what_json_cannot_carry_is_named_or_converted(contexts):
    source = """function decodeUplink(i) { return {data: {nan: NaN, inf: -Infinity, none: undefined, nil: null,
      big: 10n, fn() {}, sym: Symbol('x'), at: i.recvTime, bytes: new Uint8Array([1, 2]), map: new Map([[1, 2]]),
      text: 'ok'}}; }"""
    answer = call(contexts, source)
    made = decoded(answer, TIME, BASE, {})
    assert [
        (r.name.removeprefix(BASE), r.value if r.value is not None else r.string_value) for r in made.records
    ] == [
        ("big", 10.0),
        ("at", "2025-10-09T08:53:20.000Z"),
        ("bytes/0", 1.0),
        ("bytes/1", 2.0),
        ("text", "ok"),
    ]
    assert made.notes[:2] == ("nan is NaN and is left out", "inf is -Infinity and is left out")


def test_words_of_modules_in_texts_stay(contexts):
    source = (
        "var text = `\nexport default nothing\n`;\nfunction decodeUplink() { return {data: {text: text}}; }"
    )
    assert result_of(call(contexts, source))["data"] == {"text": "\nexport default nothing\n"}


def test_lines_stay_where_they_are_without_the_words_of_a_module():
    source = "import x from 'buffer';\nexport {\n  a,\n  b\n};\nexport const c = 1;\nexport default c;"
    plain = without_module_words(source)
    assert plain.count("\n") == source.count("\n")
    assert plain.splitlines()[5:] == ["const c = 1;", "module.exports.default= c;"]


# The Buffer and its companions: each expression gives the same as in Node
BUFFER = [
    "Buffer.from('héllo wörld €😀').toString('hex')",
    "Buffer.from('68656c6c6fzz', 'hex').toString()",
    "Buffer.from('abc', 'hex').toString('hex')",
    "Buffer.from('aGk_-w==', 'base64').toString('hex')",
    "Buffer.from('aGk', 'base64').toString('latin1')",
    "Buffer.from([1, 2, 3, 250]).toString('base64')",
    "Buffer.from([251, 255]).toString('base64url')",
    "Buffer.from([0xe2, 0x82, 0xac, 0xff, 0xc3, 0x28]).toString('utf8')",
    "Buffer.from([72, 200]).toString('ascii')",
    "Buffer.from('ÿa', 'latin1').toString('hex')",
    "Buffer.from('aé', 'utf16le').toString('hex')",
    "Buffer.from([97, 0, 233, 0]).toString('ucs2')",
    "[1,2,4].map(n => Buffer.from([255, 254, 253, 252])[n === 1 ? 'readInt8' : 'readInt' + n * 8 + 'BE'](0))",
    "[2,4].map(n => Buffer.from([1, 254, 253, 252])['readUInt' + n * 8 + 'LE'](0))",
    "Buffer.from([1, 2, 3, 4, 5, 6]).readUIntBE(1, 3)",
    "Buffer.from([255, 2, 3, 4, 5, 255]).readIntLE(0, 6)",
    "Buffer.from([255, 255, 128]).readIntBE(0, 3)",
    "Buffer.from([66, 246, 233, 121]).readFloatBE(0)",
    "Buffer.from([0, 0, 0, 0, 0, 0, 248, 63]).readDoubleLE(0)",
    "String(Buffer.from([0, 0, 0, 0, 0, 0, 1, 0]).readBigUInt64BE(0))",
    "(b => (b.writeInt16LE(-2, 0), b.writeUInt32BE(4000000000, 2), b.toString('hex')))(Buffer.alloc(6))",
    "(b => (b.writeFloatBE(1.5, 0), b.writeDoubleLE(-2.25, 4), b.toString('hex')))(Buffer.alloc(12))",
    "(b => (b.writeIntBE(-70000, 0, 3), b.writeUIntLE(70000, 3, 3), b.toString('hex')))(Buffer.alloc(6))",
    "(b => [b.writeUInt8(5, 0), b.writeInt32BE(1, 1)])(Buffer.alloc(5))",
    "(b => (b.write('héllo', 1), b.toString('hex')))(Buffer.alloc(8))",
    "(b => (b.write('ff00', 'hex'), b.toString('hex')))(Buffer.alloc(3))",
    "Buffer.concat([Buffer.from([1]), Buffer.from([2, 3])]).toJSON()",
    "Buffer.concat([Buffer.from([1]), Buffer.from([2, 3])], 2).length",
    "Buffer.alloc(3, 7).toJSON().data",
    "Buffer.alloc(5, 'ab').toString()",
    "Buffer.from([1, 2, 3]).fill(9, 1).toJSON().data",
    "Buffer.from([1, 2, 3]).equals(Buffer.from([1, 2, 3]))",
    "[[1, 2], [1, 3], [1]].map(x => Buffer.compare(Buffer.from([1, 2]), Buffer.from(x)))",
    "(b => (b.slice(1, 3)[0] = 9, Array.from(b)))(Buffer.from([1, 2, 3, 4]))",
    "(b => [b.subarray(1, 3).length, b.slice(-2).toString('hex')])(Buffer.from([1, 2, 3, 4]))",
    "Buffer.from([1, 2, 3, 2]).indexOf(2)",
    "Buffer.from('hello').indexOf('lo')",
    "Buffer.from('hello').includes('xx')",
    "(b => (b.copy(b, 2, 0, 2), Array.from(b)))(Buffer.from([1, 2, 3, 4]))",
    "Array.from(Buffer.from([1, 2, 3, 4]).swap16())",
    "Array.from(Buffer.from([1, 2, 3, 4]).reverse())",
    "Buffer.byteLength('€')",
    "Buffer.isBuffer(Buffer.alloc(1)) && !Buffer.isBuffer(new Uint8Array(1))",
    "Buffer.isEncoding('hex') && !Buffer.isEncoding('nonsense')",
    "JSON.stringify(Buffer.from([1, 2]))",
    "Buffer.from(JSON.parse(JSON.stringify(Buffer.from([1, 2])))).length",
    "Buffer.from([256, -1, 3.7]).toJSON().data",
    "Buffer.from([1, 2, 3]).map(x => x * 2).toString('hex')",
    "[...Buffer.from([1, 2])].length",
    "btoa('hello') + atob('aGVsbG8=')",
    "require('buffer').Buffer === Buffer",
    "(() => { try { Buffer.from([1]).readUInt16BE(0); } catch (e) { return e instanceof RangeError; } })()",
    "(() => { try { Buffer.from(5); } catch (e) { return e instanceof TypeError; } })()",
    "(() => { try { Buffer.from('a', 'nonsense'); } catch (e) { return e instanceof TypeError; } })()",
]


def test_the_buffer_is_nodes(contexts):
    """Node itself says what is right."""
    node = shutil.which("node")
    assert node, "node is missing: it judges our Buffer"
    script = f"console.log(JSON.stringify({json.dumps(BUFFER)}.map(e => eval(e))))"
    judged = json.loads(
        subprocess.run([node, "-e", script], capture_output=True, check=True, text=True).stdout
    )
    for expression, wanted in zip(BUFFER, judged, strict=True):
        answer = call(contexts, f"function decodeUplink() {{ return {{data: {{is: {expression}}}}}; }}")
        assert answer["r"].get("data", answer["r"]) == {"is": wanted}, expression


def test_sources_of_all_forms_give_what_node_gives(contexts):
    node = shutil.which("node")
    assert node
    plain = {name: text for name, text in FORMS.items() if not name.startswith("ES")}
    program = """
      const forms = JSON.parse(process.argv[1]), out = {};
      for (const [name, source] of Object.entries(forms)) {
        const module = {exports: {}};
        const f = new Function('module', 'exports', 'require', source + `
          ;return typeof decodeUplink === 'function' ? decodeUplink : module.exports.decodeUplink
          ? module.exports.decodeUplink : typeof Decoder === 'function' ? i => ({data: Decoder(i.bytes, i.fPort)})
          : i => ({data: Decode(i.fPort, i.bytes, {})})`)(module, module.exports, require);
        const made = f({bytes: [255, 236, 42], fPort: 3});
        out[name] = made.data || made;
      }
      console.log(JSON.stringify(out));"""
    judged = json.loads(
        subprocess.run(
            [node, "-e", program, json.dumps(plain)], capture_output=True, check=True, text=True
        ).stdout
    )
    for name, source in plain.items():
        assert result_of(call(contexts, source))["data"] == judged[name], name
