// npm's mqtt against a server: node mqtt_meets.mjs URL USER KEY TOPIC VERSION. Prints one line of JSON with what it saw.
import mqtt from "mqtt";

const [url, username, password, topic, version] = process.argv.slice(2);
const protocolVersion = Number(version);
const options = { username, password, protocolVersion, reconnectPeriod: 0, connectTimeout: 20_000 };
const seen = [];
const wanted = 7; // three of QoS 0 to 2, a large one, a retained one, and two of a kept session

const once = (emitter, event) => new Promise((resolve) => emitter.once(event, (...values) => resolve(values)));
const until = async (done) => {
  while (!done()) await new Promise((resolve) => setTimeout(resolve, 10));
};

const connect = async (more = {}) => {
  const client = mqtt.connect(url, { ...options, ...more });
  const [packet] = await once(client, "connect");
  return [client, packet.sessionPresent];
};

const [listener] = await connect();
listener.on("message", (name, payload, packet) =>
  seen.push({
    topic: name.slice(topic.length),
    size: payload.length,
    qos: packet.qos,
    retain: packet.retain,
    type: packet.properties?.contentType ?? null,
    pairs: packet.properties?.userProperties?.unit ?? null,
  }),
);
const granted = await listener.subscribeAsync(topic + "/#", { qos: 2 });
const [sender] = await connect();
const properties = protocolVersion === 5 ? { contentType: "text/plain", userProperties: { unit: ["Cel", "K"] } } : undefined;
for (const qos of [0, 1, 2]) await sender.publishAsync(`${topic}/${qos}`, "x", { qos, properties });
await sender.publishAsync(`${topic}/large`, Buffer.alloc(200_000), { qos: 1 });
await sender.publishAsync(`${topic}/kept`, "on", { qos: 1, retain: true });
await until(() => seen.length === 5);

const late = [];
const [second] = await connect();
second.on("message", (name, payload, packet) => late.push([name.slice(topic.length), packet.retain]));
await second.subscribeAsync(topic + "/kept", { qos: 1 });
await until(() => late.length === 1);

const kept = { clientId: `npm-${topic.slice(-8)}`, clean: false };
if (protocolVersion === 5) kept.properties = { sessionExpiryInterval: 600 };
const [before] = await connect(kept);
await before.subscribeAsync(topic + "/missed", { qos: 1 });
await before.endAsync();
for (const n of [1, 2]) await sender.publishAsync(`${topic}/missed`, `${n}`, { qos: n });
const missed = [];
const again = mqtt.connect(url, { ...options, ...kept });
again.on("message", (_name, payload) => missed.push(payload.toString()));
const [connack] = await once(again, "connect");
await until(() => missed.length === 2 && seen.length === wanted);

let refusal = null;
const stranger = mqtt.connect(url, { ...options, password: "a key nobody has, long" });
stranger.on("error", (error) => (refusal = error.code));
await once(stranger, "close");
let denied = null;
try {
  const answer = await second.subscribeAsync("channels/elsewhere/messages", { qos: 1 });
  denied = answer[0].qos;
} catch (error) {
  denied = error.code ?? 128;
}
console.log(
  JSON.stringify({ granted: granted[0].qos, seen, late, present: connack.sessionPresent, missed, refusal, denied }),
);
for (const client of [listener, sender, second, again]) await client.endAsync();
