// Node's Buffer as far as payload codecs use it, atob and btoa: evaluated where a source names one of them.
(function () {
  "use strict";

  const { defineProperty } = Reflect;
  const { keys: namesOf } = Object;
  const { isArray, from: listOf } = Array;
  const { fromCharCode } = String;
  const call = Function.prototype.call.bind(Function.prototype.call);

  // Text and bytes

  const BASE64 = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  const SEXTETS = new Map(Array.from(BASE64, (letter, value) => [letter, value]));
  SEXTETS.set("-", 62).set("_", 63);

  function toBase64(bytes, url) {
    let text = "";
    for (let i = 0; i < bytes.length; i += 3) {
      const bits = (bytes[i] << 16) | ((bytes[i + 1] || 0) << 8) | (bytes[i + 2] || 0);
      text += BASE64[bits >> 18] + BASE64[(bits >> 12) & 63];
      if (i + 1 < bytes.length) text += BASE64[(bits >> 6) & 63];
      if (i + 2 < bytes.length) text += BASE64[bits & 63];
    }
    if (url) return text.replace(/\+/g, "-").replace(/\//g, "_");
    return text + "=".repeat((4 - (text.length % 4)) % 4);
  }

  // As lenient as Node's: what is no letter of the alphabet is passed over; "=" ends it.
  function fromBase64(text) {
    const bytes = [];
    let bits = 0, count = 0;
    for (const letter of text) {
      if (letter === "=") break;
      const sextet = SEXTETS.get(letter);
      if (sextet === undefined) continue;
      bits = ((bits << 6) | sextet) & 0xffffff;
      count += 6;
      if (count >= 8) {
        count -= 8;
        bytes.push((bits >> count) & 255);
      }
    }
    return bytes;
  }

  function toUtf8(text) {
    const bytes = [];
    for (const letter of text) {
      let point = letter.codePointAt(0);
      if (point >= 0xd800 && point < 0xe000) point = 0xfffd;
      if (point < 0x80) bytes.push(point);
      else if (point < 0x800) bytes.push(0xc0 | (point >> 6), 0x80 | (point & 63));
      else if (point < 0x10000) bytes.push(0xe0 | (point >> 12), 0x80 | ((point >> 6) & 63), 0x80 | (point & 63));
      else
        bytes.push(
          0xf0 | (point >> 18), 0x80 | ((point >> 12) & 63), 0x80 | ((point >> 6) & 63), 0x80 | (point & 63)
        );
    }
    return bytes;
  }

  function fromUtf8(bytes) {
    let text = "";
    for (let i = 0; i < bytes.length; ) {
      const first = bytes[i];
      const more = first < 0x80 ? 0 : first >> 5 === 6 ? 1 : first >> 4 === 14 ? 2 : first >> 3 === 30 ? 3 : -1;
      let point = more === 0 ? first : first & (0x3f >> more);
      let used = 1;
      while (used <= more && (bytes[i + used] & 0xc0) === 0x80) point = (point << 6) | (bytes[i + used++] & 63);
      const least = [0, 0x80, 0x800, 0x10000][more];
      const good = more >= 0 && used === more + 1 && point >= least && point < 0x110000 && point >> 11 !== 27;
      text += String.fromCodePoint(good ? point : 0xfffd);
      i += good ? used : 1;
    }
    return text;
  }

  function toLatin1(bytes, mask) {
    let text = "";
    for (const byte of bytes) text += fromCharCode(byte & mask);
    return text;
  }

  function encoded(text, encoding) {
    switch (String(encoding === undefined ? "utf8" : encoding).toLowerCase()) {
      case "hex": {
        const bytes = [];
        for (let i = 0; i + 1 < text.length && /^[0-9a-f]{2}$/i.test(text.slice(i, i + 2)); i += 2)
          bytes.push(parseInt(text.slice(i, i + 2), 16));
        return bytes;
      }
      case "base64":
      case "base64url":
        return fromBase64(text);
      case "ascii":
      case "latin1":
      case "binary":
        return listOf(text, (letter) => letter.charCodeAt(0) & 255);
      case "ucs2":
      case "ucs-2":
      case "utf16le":
      case "utf-16le": {
        const bytes = [];
        for (let i = 0; i < text.length; i++) bytes.push(text.charCodeAt(i) & 255, text.charCodeAt(i) >> 8);
        return bytes;
      }
      case "utf8":
      case "utf-8":
        return toUtf8(text);
    }
    throw new TypeError("Unknown encoding: " + encoding);
  }

  // Node's Buffer, as far as payload codecs use it

  const UNSIGNED = ["Uint", "UInt"];

  class Buffer extends Uint8Array {
    static from(source, encodingOrOffset, length) {
      if (typeof source === "string") return Buffer.of(...encoded(source, encodingOrOffset));
      if (source instanceof ArrayBuffer) return new Buffer(source, encodingOrOffset, length);
      if (source && source.type === "Buffer" && isArray(source.data)) source = source.data;
      if (source === null || typeof source !== "object")
        throw new TypeError("Buffer.from takes a string, an array, a buffer or an ArrayBuffer");
      const made = new Buffer(source.length >>> 0);
      for (let i = 0; i < made.length; i++) made[i] = source[i];
      return made;
    }
    static alloc(size, fill, encoding) {
      const made = new Buffer(size);
      return fill === undefined ? made : made.fill(fill, 0, size, encoding);
    }
    static allocUnsafe(size) {
      return new Buffer(size);
    }
    static concat(list, length) {
      let total = 0;
      for (const each of list) total += each.length;
      const made = new Buffer(length === undefined ? total : length);
      let at = 0;
      for (const each of list) for (let i = 0; i < each.length && at < made.length; i++) made[at++] = each[i];
      return made;
    }
    static isBuffer(value) {
      return value instanceof Buffer;
    }
    static isEncoding(name) {
      try {
        encoded("", name);
        return true;
      } catch (error) {
        return false;
      }
    }
    static byteLength(value, encoding) {
      return typeof value === "string" ? encoded(value, encoding).length : value.byteLength;
    }
    static compare(a, b) {
      const least = Math.min(a.length, b.length);
      for (let i = 0; i < least; i++) if (a[i] !== b[i]) return a[i] < b[i] ? -1 : 1;
      return Math.sign(a.length - b.length);
    }
    get parent() {
      return this.buffer;
    }
    slice(start, end) {
      return this.subarray(start, end);
    }
    equals(other) {
      return Buffer.compare(this, other) === 0;
    }
    compare(other) {
      return Buffer.compare(this, other);
    }
    copy(target, targetStart = 0, start = 0, end = this.length) {
      const part = this.subarray(start, Math.min(end, start + target.length - targetStart));
      target.set(part, targetStart);
      return part.length;
    }
    fill(value, start, end, encoding) {
      if (typeof value !== "string") return super.fill(value, start, end);
      const pattern = encoded(value, typeof start === "string" ? start : encoding);
      const first = typeof start === "number" ? start : 0;
      const last = end === undefined ? this.length : end;
      for (let i = first; i < last; i++) this[i] = pattern.length ? pattern[(i - first) % pattern.length] : 0;
      return this;
    }
    indexOf(value, start = 0, encoding) {
      if (typeof value === "number") return super.indexOf(value & 255, start);
      const wanted = typeof value === "string" ? encoded(value, encoding) : value;
      for (let at = Math.max(start < 0 ? this.length + start : start, 0); at + wanted.length <= this.length; at++) {
        let same = 0;
        while (same < wanted.length && this[at + same] === wanted[same]) same++;
        if (same === wanted.length) return at;
      }
      return -1;
    }
    includes(value, start, encoding) {
      return this.indexOf(value, start, encoding) >= 0;
    }
    toString(encoding, start, end) {
      const part = start === undefined && end === undefined ? this : this.subarray(start, end);
      switch (String(encoding === undefined ? "utf8" : encoding).toLowerCase()) {
        case "hex": {
          let text = "";
          for (const byte of part) text += (byte < 16 ? "0" : "") + byte.toString(16);
          return text;
        }
        case "base64":
          return toBase64(part, false);
        case "base64url":
          return toBase64(part, true);
        case "ascii":
          return toLatin1(part, 127);
        case "latin1":
        case "binary":
          return toLatin1(part, 255);
        case "ucs2":
        case "ucs-2":
        case "utf16le":
        case "utf-16le": {
          let text = "";
          for (let i = 0; i + 1 < part.length; i += 2) text += fromCharCode(part[i] | (part[i + 1] << 8));
          return text;
        }
        case "utf8":
        case "utf-8":
          return fromUtf8(part);
      }
      throw new TypeError("Unknown encoding: " + encoding);
    }
    toJSON() {
      return { type: "Buffer", data: listOf(this) };
    }
    write(text, offset, length, encoding) {
      if (typeof offset === "string") [encoding, offset, length] = [offset, 0, undefined];
      else if (typeof length === "string") [encoding, length] = [length, undefined];
      const at = offset === undefined ? 0 : offset;
      const bytes = encoded(text, encoding).slice(0, length).slice(0, this.length - at);
      this.set(bytes, at);
      return bytes.length;
    }
    swap16() {
      for (let i = 0; i + 1 < this.length; i += 2) [this[i], this[i + 1]] = [this[i + 1], this[i]];
      return this;
    }
    swap32() {
      for (let i = 0; i + 3 < this.length; i += 4) this.subarray(i, i + 4).reverse();
      return this;
    }
  }

  function viewOf(buffer) {
    return new DataView(buffer.buffer, buffer.byteOffset, buffer.byteLength);
  }
  function within(buffer, offset, size) {
    const at = offset === undefined ? 0 : offset;
    if (typeof at !== "number") throw new TypeError('The "offset" argument must be of type number');
    if (!(at >= 0 && at + size <= buffer.length && Math.floor(at) === at))
      throw new RangeError(size > buffer.length
        ? "Attempt to access memory outside buffer bounds"
        : `The value of "offset" is out of range: ${at} and ${size} more bytes of ${buffer.length}`);
    return at;
  }
  function method(names, body) {
    for (const name of names)
      defineProperty(Buffer.prototype, name, { value: body, writable: true, configurable: true, enumerable: false });
  }
  const SIZES = { Int8: 1, Int16: 2, Int32: 4, BigInt64: 8, Float32: 4, Float64: 8 };
  const NODE_NAMES = { Float32: "Float", Float64: "Double" };
  for (const type of namesOf(SIZES))
    for (const unsigned of type[0] === "F" ? [false] : [false, true])
      for (const little of SIZES[type] === 1 ? [undefined] : [true, false]) {
        const size = SIZES[type];
        const view = unsigned ? type.replace("Int", type[0] === "B" ? "Uint" : "Uint") : type;
        const names = unsigned
          ? UNSIGNED.map((word) => type.replace("Int", word))
          : [NODE_NAMES[type] || type];
        const order = little === undefined ? "" : little ? "LE" : "BE";
        const get = DataView.prototype["get" + view], set = DataView.prototype["set" + view];
        method(names.map((name) => "read" + name + order), function (offset) {
          return call(get, viewOf(this), within(this, offset, size), little);
        });
        method(names.map((name) => "write" + name + order), function (value, offset) {
          const at = within(this, offset, size);
          call(set, viewOf(this), at, value, little);
          return at + size;
        });
      }
  for (const little of [true, false])
    for (const signed of [true, false]) {
      const names = (signed ? ["Int"] : UNSIGNED).map((name) => name + (little ? "LE" : "BE"));
      method(names.map((name) => "read" + name), function (offset, length) {
        const at = within(this, offset, length);
        let value = 0;
        for (let i = 0; i < length; i++) value = value * 256 + this[little ? at + length - 1 - i : at + i];
        return signed && value >= 2 ** (8 * length - 1) ? value - 2 ** (8 * length) : value;
      });
      method(names.map((name) => "write" + name), function (value, offset, length) {
        const at = within(this, offset, length);
        let rest = value < 0 ? value + 2 ** (8 * length) : value;
        for (let i = 0; i < length; i++, rest = Math.floor(rest / 256))
          this[little ? at + i : at + length - 1 - i] = rest % 256;
        return at + length;
      });
    }

  const shared = {
    Buffer,
    atob(text) {
      return toLatin1(fromBase64(String(text)), 255);
    },
    btoa(text) {
      return toBase64(listOf(String(text), (letter) => {
        if (letter.charCodeAt(0) > 255) throw new RangeError("btoa takes characters up to 255");
        return letter.charCodeAt(0);
      }), false);
    },
  };
  for (const name of namesOf(shared))
    defineProperty(globalThis, name, { value: shared[name], writable: true, configurable: true, enumerable: false });
})();
