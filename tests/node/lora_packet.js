// Judges LoRaWAN frames with the npm package lora-packet.
// Reads one JSON request a line on stdin, writes one JSON answer a line on stdout; bytes are hex.

"use strict";

const readline = require("node:readline");
const lora = require("lora-packet");
const { decryptFOpts } = require("lora-packet/out/lib/crypto");

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

  // LoRaWAN 1.1. Where a message integrity code takes an acknowledged counter, `conf` is its two bytes as signed.

  build11({ mtype, devAddr, fctrl, fcnt, fport, payload, fopts, conf, txDr, txCh, keys }) {
    const high = fcntHigh(fcnt);
    const up = mtype.endsWith("Up");
    const fields = { MType: mtype, DevAddr: hex(devAddr), FCtrl: fctrl, FCnt: fcnt & 0xffff };
    Object.assign(fields, { FPort: fport, FOpts: hex(fopts), payload: hex(payload) });
    if (fopts) fields.FOpts = decryptFOpts(lora.fromFields(fields), hex(keys.nwkSEnc), high);
    const cipherKey = fport === 0 ? keys.nwkSEnc : keys.appS;
    const signed = up ? Buffer.concat([hex(conf).reverse(), Buffer.from([txDr, txCh])]) : hex(conf);
    const packet = lora.fromFields(fields, hex(cipherKey), hex(keys.fNwkSInt), hex(keys.sNwkSInt), high, signed);
    return { phy: packet.getPHYPayload().toString("hex") };
  },

  open11({ phy, fcnt, conf, txDr, txCh, keys }) {
    const packet = lora.fromWire(hex(phy));
    const high = fcntHigh(fcnt);
    const fport = packet.getFPort();
    const signed =
      packet.getDir() === "up"
        ? Buffer.concat([hex(conf).reverse(), Buffer.from([txDr, txCh])])
        : hex(conf);
    return {
      mtype: packet.getMType(),
      fport,
      fopts: packet.FOpts.length ? decryptFOpts(packet, hex(keys.nwkSEnc), high).toString("hex") : "",
      payload:
        fport === null ? "" : lora.decrypt(packet, hex(keys.appS), hex(keys.nwkSEnc), high).toString("hex"),
      mic: lora.verifyMIC(packet, hex(keys.fNwkSInt), hex(keys.sNwkSInt), high, signed),
    };
  },

  rejoinRequest({ phy, sNwkSInt, jsInt }) {
    const packet = lora.fromWire(hex(phy));
    const text = (part) => (part ? part.toString("hex") : "");
    return {
      mtype: packet.getMType(),
      kind: packet.RejoinType[0],
      netId: text(packet.NetID),
      joinEui: text(packet.AppEUI),
      devEui: text(packet.DevEUI),
      count: text(packet.RJCount0), // of type 1 it reads other bytes than those of the count
      mic: lora.verifyMIC(packet, hex(sNwkSInt), hex(jsInt)),
    };
  },

  joinAccept11({ phy, sealedWith, nwkKey, appKey, devEui, joinEui, devNonce, requestType }) {
    const packet = lora.fromWire(lora.decryptJoinAccept(lora.fromWire(hex(phy)), hex(sealedWith)));
    const js = lora.generateJSKeys(hex(nwkKey), hex(devEui));
    packet.JoinReqType = Buffer.from([requestType]);
    packet.JoinEUI = hex(joinEui);
    packet.DevNonce = hex(devNonce);
    const keys = lora.generateSessionKeys11(hex(appKey), hex(nwkKey), hex(joinEui), packet.AppNonce, hex(devNonce));
    return {
      optNeg: Boolean(packet.getDLSettingsOptNeg()),
      joinNonce: packet.AppNonce.toString("hex"),
      devAddr: packet.DevAddr.toString("hex"),
      mic: lora.verifyMIC(packet, js.JSIntKey, hex(nwkKey)),
      keys: [keys.FNwkSIntKey, keys.SNwkSIntKey, keys.NwkSEncKey, keys.AppSKey].map((key) => key.toString("hex")),
      js: [js.JSIntKey, js.JSEncKey].map((key) => key.toString("hex")),
    };
  },

  buildJoinAccept11({ joinNonce, netId, devAddr, dlSettings, rxDelay, cflist, sealedWith, jsInt, joinEui, devNonce, requestType }) {
    const fields = { MType: "Join Accept", AppNonce: hex(joinNonce), NetID: hex(netId), DevAddr: hex(devAddr) };
    Object.assign(fields, { DLSettings: hex(dlSettings), RxDelay: hex(rxDelay), CFList: hex(cflist) });
    Object.assign(fields, { JoinReqType: Buffer.from([requestType]), AppEUI: hex(joinEui), DevNonce: hex(devNonce) });
    const packet = lora.fromFields(fields);
    packet.JoinEUI = hex(joinEui);
    lora.recalculateMIC(packet, hex(jsInt), undefined);
    return { phy: Buffer.concat([packet.MHDR, lora.decryptJoin(packet, hex(sealedWith))]).toString("hex") };
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
