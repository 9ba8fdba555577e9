// What a codec finds besides ECMAScript, and the functions that call it. Evaluated once in each context, some
// thousand lines down, so that line numbers tell it from the codec. Nothing in here is reachable for a codec but what
// `shared` holds.
var fluxgate = (function () {
  "use strict";

  const { parse, stringify } = JSON;
  const { ownKeys, getPrototypeOf, getOwnPropertyDescriptor, defineProperty, deleteProperty, preventExtensions } = Reflect;
  const { freeze, keys: namesOf } = Object;
  const { from: listOf } = Array;
  const DateOf = Date;

  const OWN_LINES = 20000; // those of the codec are up to this one
  const MAX_LOG_LINES = 100;
  const MAX_LOG_WIDTH = 400; // characters
  const MAX_ANSWER = 65536; // characters of JSON
  const MAX_NOTES = 16;
  const NONE = [];

  // The console of the test bench

  let log = [];
  function shown(value) {
    if (typeof value === "string") return value;
    try {
      const text = typeof value === "object" && value !== null ? stringify(value) : undefined;
      return text === undefined ? String(value) : text;
    } catch (error) {
      return "[not shown]";
    }
  }
  function print(...values) {
    if (log.length < MAX_LOG_LINES) log.push(values.map(shown).join(" ").slice(0, MAX_LOG_WIDTH));
  }
  const console = { log: print, info: print, warn: print, error: print, debug: print, trace: print };

  function require(name) {
    if ((name === "buffer" || name === "node:buffer") && globalThis.Buffer) return MODULE;
    throw new Error(`there is no module ${name}: a codec has to be one file (only "buffer" is there)`);
  }
  const MODULE = { Buffer: globalThis.Buffer };

  defineProperty(globalThis, "console", { value: console, writable: true, configurable: true, enumerable: false });
  // What no codec needs, and a few names less to look through after each call
  for (const name of ["Atomics", "SharedArrayBuffer", "WeakRef", "FinalizationRegistry", "performance",
    "queueMicrotask", "navigator", "Iterator", "DOMException", "gc", "DisposableStack", "AsyncDisposableStack"])
    deleteProperty(globalThis, name);

  // Everything that one call could leave for the next: all objects that can be reached from the global one

  function intrinsics() {
    const found = new Set();
    const waiting = [
      globalThis, require, MODULE,
      function* () {}, async function () {}, async function* () {}, async () => {}, (function* () {})(),
      (async function* () {})(), [][Symbol.iterator](), ""[Symbol.iterator](), new Map()[Symbol.iterator](),
      new Set()[Symbol.iterator](), "".matchAll(/x/g), (function () { return arguments; })(),
    ];
    while (waiting.length) {
      const each = waiting.pop();
      if (each === null || (typeof each !== "object" && typeof each !== "function") || found.has(each)) continue;
      found.add(each);
      waiting.push(getPrototypeOf(each));
      for (const key of ownKeys(each)) {
        const property = getOwnPropertyDescriptor(each, key);
        waiting.push(property.value, property.get, property.set);
      }
    }
    return found;
  }

  // Assigning a name that a frozen prototype has would fail (`error.name = ...`, `this.constructor = ...`). On the
  // prototypes of everyday objects such names become accessors, which give the object a property of its own.
  function assignable(prototype) {
    for (const key of ownKeys(prototype)) {
      const property = getOwnPropertyDescriptor(prototype, key);
      if (!property.configurable || !("value" in property) || key === Symbol.iterator) continue;
      const value = property.value;
      defineProperty(prototype, key, {
        get() { return value; },
        set(wanted) {
          if (this === prototype) throw new TypeError(`${String(key)} belongs to all codecs and is read-only`);
          defineProperty(this, key, { value: wanted, writable: true, enumerable: true, configurable: true });
        },
        enumerable: property.enumerable,
        configurable: false,
      });
    }
  }

  function freezeAll() {
    for (const name of ["stackTraceLimit", "prepareStackTrace"]) deleteProperty(Error, name);
    const all = intrinsics();
    for (const prototype of [Object.prototype, Function.prototype, Error.prototype]) assignable(prototype);
    for (const each of [TypeError, RangeError, SyntaxError, ReferenceError, EvalError, URIError])
      assignable(each.prototype);
    all.delete(globalThis); // names that a codec forgets to declare become properties of it for one call
    for (const each of all) freeze(each);
    for (const key of ownKeys(globalThis)) {
      const property = getOwnPropertyDescriptor(globalThis, key);
      if (property.configurable)
        defineProperty(globalThis, key, "value" in property ? { configurable: false, writable: false } : { configurable: false });
    }
  }
  function sizeOf(all) {
    let size = 0;
    for (const each of all) size += ownKeys(each).length;
    return size;
  }

  // The functions of a codec, by what is asked of it; each entry: name, and how it is called

  const SHAPES = {
    decodeUplink: [
      ["decodeUplink", (f, i) => answer(f(inputOf(i)))],
      ["Decode", (f, i) => ({ data: f(i.fPort, i.bytes, i.variables) })],
      ["Decoder", (f, i) => ({ data: f(i.bytes, i.fPort) })],
    ],
    decodeDownlink: [["decodeDownlink", (f, i) => answer(f(inputOf(i)))]],
    encodeDownlink: [
      ["encodeDownlink", (f, i) => bytesOf(answer(f({ data: i.data, fPort: i.fPort, variables: i.variables })))],
      ["Encode", (f, i) => bytesOf({ bytes: f(i.fPort, i.data, i.variables), fPort: i.fPort })],
      ["Encoder", (f, i) => bytesOf({ bytes: f(i.data, i.fPort), fPort: i.fPort })],
    ],
  };
  const NAMES = ["decodeUplink", "Decode", "Decoder", "decodeDownlink", "encodeDownlink", "Encode", "Encoder", "normalizeUplink"];

  function inputOf(i) {
    return { bytes: i.bytes, fPort: i.fPort, recvTime: new DateOf(i.recvTime), variables: i.variables };
  }
  function answer(result) {
    if (result === null || typeof result !== "object") throw new Error(`it returned ${shown(result)}, not an object`);
    if (typeof result.then === "function") throw new Error("it returned a promise: it has to answer at once");
    if (result.data === undefined && result.errors === undefined && result.bytes === undefined)
      return { data: result, warnings: ["the answer has no data: all of it is taken as data"] };
    return result;
  }
  function bytesOf(result) {
    const bytes = result.bytes;
    const given = bytes === undefined || bytes === null ? null : listOf(bytes);
    return { bytes: given, fPort: result.fPort, warnings: result.warnings, errors: result.errors };
  }

  function found(name, locals, module) {
    const { exports } = module;
    const standard = exports && exports.default;
    for (const place of [locals, exports, standard])
      if (place && typeof place[name] === "function") return place[name];
    return name === "decodeUplink" && typeof exports === "function" ? exports : undefined;
  }

  // JSON that says what JSON cannot carry

  function written(value) {
    const notes = [];
    let text;
    try {
      text = stringify(value);
    } catch (error) {
      text = stringify(value, (key, each) => (typeof each === "bigint" ? Number(each) : each));
    }
    if (text !== undefined && text.includes("null"))
      stringify(value, (key, each) => {
        if (typeof each === "number" && each - each !== 0 && notes.length < MAX_NOTES)
          notes.push(`${key.slice(0, 64)} is ${each} and is left out`);
        return typeof each === "bigint" ? Number(each) : each;
      });
    return [text, notes];
  }

  function fault(error) {
    let words = "an exception that cannot be shown", line = 0;
    try {
      if (error instanceof Error) words = error.name + ": " + error.message;
      else words = typeof error === "string" ? error : shown(error);
      const place = /<input>:(\d+)/g;
      for (const match of String(error.stack).matchAll(place))
        if (Number(match[1]) <= OWN_LINES) {
          line = Number(match[1]);
          break;
        }
    } catch (another) {}
    return { fault: String(words).slice(0, MAX_LOG_WIDTH), line };
  }

  function called(factory, ask, i) {
    const module = { exports: {} };
    const locals = factory(module, module.exports, require);
    if (ask === "describe") return { functions: NAMES.filter((name) => found(name, locals, module)) };
    for (const [name, way] of SHAPES[ask]) {
      const asked = locals[name] || found(name, locals, module);
      if (!asked) continue;
      const result = way(asked, i);
      const normalize = ask === "decodeUplink" && found("normalizeUplink", locals, module);
      if (!normalize || (result.errors && result.errors.length)) return result;
      const normal = normalize({ data: result.data, fPort: i.fPort, recvTime: new DateOf(i.recvTime) });
      const { data, warnings, errors } = result;
      return { data, warnings, errors, normalized: normal && normal.data, normalErrors: normal && normal.errors };
    }
    const wanted = SHAPES[ask].map(([name]) => name).join(", ");
    throw new Error(`the codec has none of the functions ${wanted}`);
  }

  // `text` is a JSON list of inputs, each with what to ask in `ask`. The answer is a line of JSON for each:
  // {"r": ..., "l": log lines, "n": notes}, and "x" where the context cannot be used again.
  function runner(factory, known) {
    return function (text, wantsLog) {
      const answers = [];
      for (const input of parse(text)) {
        log = [];
        let result, answer, failure, notes = NONE;
        try {
          result = called(factory, input.ask, input);
          answer = stringify(result);
        } catch (error) {
          failure = error === undefined ? "undefined" : error;
        }
        if (answer === undefined || answer.length > MAX_ANSWER || answer.includes("null"))
          [answer, notes] = rarely(result, failure);
        const clean = known === null || tidy(known);
        if (wantsLog && log.length) answer += ',"l":' + stringify(log);
        if (notes.length) answer += ',"n":' + stringify(notes);
        answers.push(clean ? '{"r":' + answer + "}" : '{"r":' + answer + ',"x":1}');
      }
      return answers.join("\n"); // in one piece: long sums of strings are not
    };
  }

  // The rarer answers: exceptions, what JSON cannot carry, what is too long.
  function rarely(result, failure) {
    if (result === undefined && failure !== undefined) return [stringify(fault(failure)), NONE];
    try {
      const [answer, notes] = written(result);
      if (answer === undefined) return ["null", notes];
      if (answer.length <= MAX_ANSWER) return [answer, notes];
      throw new Error(`its answer is longer than ${MAX_ANSWER} characters`);
    } catch (error) {
      return [stringify(fault(error)), NONE];
    }
  }

  // Take away what the call left on the global object; false where that cannot be.
  function tidy(known) {
    const keys = ownKeys(globalThis);
    if (keys.length === known.size) return true;
    let clean = true;
    for (const key of keys) if (!known.has(key)) clean = deleteProperty(globalThis, key) && clean;
    return clean;
  }

  return {
    // Whether the codec, once evaluated, has changed what all codecs share.
    changes(factory) {
      const all = intrinsics();
      all.delete(globalThis);
      const before = sizeOf(all);
      const module = { exports: {} };
      factory(module, module.exports, require);
      return sizeOf(all) !== before;
    },
    // Freeze all that one call could leave for the next.
    freezeAll,
    // The function that calls the codec. `kept`: more than once. `sealed`: nothing can be added to the global object;
    // where something can, it is taken away after each call.
    runner(factory, kept, sealed) {
      if (sealed) preventExtensions(globalThis);
      return runner(factory, kept && !sealed ? new Set(ownKeys(globalThis)) : null);
    },
  };
})();
