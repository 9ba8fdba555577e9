// An independent MQTT codec, the npm package mqtt-packet: a list of requests as JSON on stdin, the answers on stdout.
// {build: packet, version} -> hex; {read: hex, version} -> packet. Bytes within packets are {hex: "..."}.

"use strict";

const mqtt = require("mqtt-packet");

function revive(value) {
  if (Array.isArray(value)) return value.map(revive);
  if (value === null || typeof value !== "object") return value;
  if (typeof value.hex === "string") return Buffer.from(value.hex, "hex");
  return Object.fromEntries(Object.entries(value).map(([name, each]) => [name, revive(each)]));
}

function plain(value) {
  if (Buffer.isBuffer(value)) return { hex: value.toString("hex") };
  if (Array.isArray(value)) return value.map(plain);
  if (value === null || typeof value !== "object") return value;
  return Object.fromEntries(Object.entries(value).map(([name, each]) => [name, plain(each)]));
}

function read(wire, version) {
  const parser = mqtt.parser({ protocolVersion: version });
  let found = null;
  parser.on("packet", (packet) => (found = packet));
  parser.on("error", (error) => (found = { error: error.message }));
  parser.parse(Buffer.from(wire, "hex"));
  return plain(found);
}

const answers = JSON.parse(require("node:fs").readFileSync(0, "utf8")).map(({ build, read: wire, version }) =>
  build ? mqtt.generate(revive(build), { protocolVersion: version }).toString("hex") : read(wire, version),
);
process.stdout.write(JSON.stringify(answers));
