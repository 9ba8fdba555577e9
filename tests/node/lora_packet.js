// Judges LoRaWAN frames with the npm package lora-packet.
// Reads one JSON request a line on stdin, writes one JSON answer a line on stdout; bytes are hex.

"use strict";

const readline = require("node:readline");
const lora = require("lora-packet");

const hex = (text) => Buffer.from(text, "hex");
const fcntHigh = (fcnt) => {
  const bytes = Buffer.alloc(2);
  bytes.writeUInt16LE(fcnt >>> 16); // the two bytes in the order in which they are signed
  return bytes;
};

const operations = {
  // A data frame encrypted and signed by the oracle; fcnt has 32 bits. It builds none without FPort.
  build({ mtype, devAddr, fctrl, fcnt, fport, payload, fopts, nwkSKey, appSKey }) {
    const fields = { MType: mtype, DevAddr: hex(devAddr), FCtrl: fctrl, FCnt: fcnt & 0xffff };
    Object.assign(fields, { FPort: fport, FOpts: hex(fopts), payload: hex(payload) });
    const packet = lora.fromFields(fields, hex(appSKey), hex(nwkSKey), undefined, fcntHigh(fcnt));
    return { phy: packet.getPHYPayload().toString("hex") };
  },

  // What the oracle reads in a data frame, with its verdict on the MIC.
  open({ phy, fcnt, nwkSKey, appSKey }) {
    const packet = lora.fromWire(hex(phy));
    const high = fcntHigh(fcnt);
    const fport = packet.getFPort();
    return {
      mtype: packet.getMType(),
      dir: packet.getDir(),
      devAddr: packet.DevAddr.toString("hex"),
      fcnt: packet.getFCnt(),
      fport,
      ack: packet.getFCtrlACK(),
      adr: packet.getFCtrlADR(),
      adrAckReq: packet.getFCtrlADRACKReq(),
      fpending: packet.getFCtrlFPending(),
      fopts: packet.FOpts.toString("hex"),
      mic: lora.verifyMIC(packet, hex(nwkSKey), undefined, high),
      payload: fport === null ? "" : lora.decrypt(packet, hex(appSKey), hex(nwkSKey), high).toString("hex"),
    };
  },

  joinRequest({ phy, appKey }) {
    const packet = lora.fromWire(hex(phy));
    return {
      mtype: packet.getMType(),
      joinEui: packet.AppEUI.toString("hex"),
      devEui: packet.DevEUI.toString("hex"),
      devNonce: packet.DevNonce.toString("hex"),
      mic: lora.verifyMIC(packet, undefined, hex(appKey)),
    };
  },

  buildJoinRequest({ joinEui, devEui, devNonce, appKey }) {
    const fields = { MType: 0, AppEUI: hex(joinEui), DevEUI: hex(devEui), DevNonce: hex(devNonce) };
    const packet = lora.fromFields(fields, undefined, undefined, hex(appKey));
    return { phy: packet.getPHYPayload().toString("hex") };
  },

  joinAccept({ phy, appKey, devNonce }) {
    const sealed = lora.fromWire(hex(phy));
    const packet = lora.fromWire(lora.decryptJoinAccept(sealed, hex(appKey)));
    const keys = lora.generateSessionKeys10(hex(appKey), packet.NetID, packet.AppNonce, hex(devNonce));
    return {
      mtype: packet.getMType(),
      joinNonce: packet.AppNonce.toString("hex"),
      netId: packet.NetID.toString("hex"),
      devAddr: packet.DevAddr.toString("hex"),
      dlSettings: packet.DLSettings.toString("hex"),
      rxDelay: packet.RxDelay.toString("hex"),
      cflist: packet.CFList ? packet.CFList.toString("hex") : "",
      mic: lora.verifyMIC(packet, undefined, hex(appKey)),
      nwkSKey: keys.NwkSKey.toString("hex"),
      appSKey: keys.AppSKey.toString("hex"),
    };
  },
};

readline.createInterface({ input: process.stdin }).on("line", (line) => {
  const { op, ...args } = JSON.parse(line);
  let answer;
  try {
    answer = operations[op](args);
  } catch (error) {
    answer = { error: String(error) };
  }
  process.stdout.write(JSON.stringify(answer) + "\n");
});
