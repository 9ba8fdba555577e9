// Reads packets with npm's mqtt-packet: node mqtt_packets.mjs VERSION, a JSON list of hex on standard input.
// Prints a JSON list of their kinds, "" where one is refused or not whole.
import { createRequire } from "node:module";
import { readFileSync } from "node:fs";

const mqtt = createRequire(import.meta.url)("mqtt-packet");
const protocolVersion = Number(process.argv[2]);
const kinds = JSON.parse(readFileSync(0, "utf8")).map((hex) => {
  const parser = mqtt.parser({ protocolVersion });
  let kind = "";
  parser.on("packet", (packet) => (kind = packet.cmd));
  parser.on("error", () => (kind = ""));
  try {
    parser.parse(Buffer.from(hex, "hex"));
  } catch {
    return "";
  }
  return kind;
});
console.log(JSON.stringify(kinds));
