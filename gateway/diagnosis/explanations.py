"""Every kind of finding with its meaning and its remedy: one table, which docs/diagnosis.md repeats."""

from __future__ import annotations

from dataclasses import dataclass

from gateway.diagnosis.reasons import Heals, Kind, Weight


@dataclass(frozen=True, slots=True)
class Explanation:
    meaning: str
    remedy: str
    weight: Weight
    heals: Heals


_S, _H, _N = Weight.STOPS, Weight.HURTS, Weight.NOTE
_UP, _DOWN, _LOOK, _QUIET = Heals.UPLINK, Heals.DOWNLINK, Heals.LOOKING, Heals.QUIET

_COMPARE_KEYS = (
    "compare the AppKey with the device's label or set-up tool, digit by digit, and enter it again"
)
_COMPARE_ADDR = "correct the DevAddr on the side that is wrong"
_COMPARE_NWK = "compare the NwkSKey with the device's and enter it again"

EXPLANATIONS: dict[Kind, Explanation] = {
    Kind.DEV_EUI_UNKNOWN: Explanation(
        "a device that is not registered asks to join",
        "register it with the DevEUI that was heard; if it is not yours, do nothing",
        _S,
        _UP,
    ),
    Kind.DEV_EUI_REVERSED: Explanation(
        "the DevEUI is registered with its bytes in reverse order",
        "turn the DevEUI round where it was typed in: it is written most significant byte first, as on the label",
        _S,
        _UP,
    ),
    Kind.DEV_EUI_DIGITS: Explanation(
        "the DevEUI differs from a registered one in one digit, or two digits are swapped",
        "compare the registered DevEUI with the label, delete the device and add it with the right one",
        _S,
        _UP,
    ),
    Kind.EUIS_EXCHANGED: Explanation(
        "DevEUI and JoinEUI (AppEUI) are exchanged",
        "exchange the two on the side that is wrong; the DevEUI is the one on the device's label",
        _S,
        _UP,
    ),
    Kind.JOIN_EUI_WRONG: Explanation(
        "the device joins with another JoinEUI (AppEUI) than registered",
        "set the registered JoinEUI to the one that was heard, or the device's to the one registered",
        _S,
        _UP,
    ),
    Kind.JOIN_EUI_REVERSED: Explanation(
        "the JoinEUI (AppEUI) is registered with its bytes in reverse order",
        "turn the JoinEUI round on the side that is wrong; it is written most significant byte first",
        _S,
        _UP,
    ),
    Kind.APP_KEY_WRONG: Explanation(
        "the join-request is not signed with the registered AppKey, nor with any likely mistake for it",
        _COMPARE_KEYS + "; a LoRaWAN 1.1 device signs with its NwkKey",
        _S,
        _UP,
    ),
    Kind.APP_KEY_REVERSED: Explanation(
        "the AppKey is registered with its bytes, or its digits, in reverse order",
        "enter the AppKey again, most significant byte first; some set-up tools want it the other way round",
        _S,
        _UP,
    ),
    Kind.APP_KEY_DIGITS: Explanation(
        "the AppKey differs from the device's in one digit, or two digits are swapped",
        "look at the named digit of the AppKey on the label and enter the key again",
        _S,
        _UP,
    ),
    Kind.APP_KEY_OF_ANOTHER: Explanation(
        "the device signs with the AppKey that is registered for another device",
        "the labels, or two lines of a list, were mixed up: give both devices their own keys",
        _S,
        _UP,
    ),
    Kind.APP_KEY_EXAMPLE: Explanation(
        "the device has the AppKey of a published example, and not the one registered",
        "give the device a key of its own: everybody knows this one",
        _S,
        _UP,
    ),
    Kind.ROOT_KEYS_EXCHANGED: Explanation(
        "the device signs with the key that is registered as its other root key",
        "exchange NwkKey and AppKey; a device with a single key is LoRaWAN 1.0: choose a 1.0 profile",
        _S,
        _UP,
    ),
    Kind.DEV_NONCE_REUSED: Explanation(
        "the device starts its DevNonces over: it was reset, or its memory was erased",
        "let it go on trying if it counts up; else delete it and add it again, best with a new AppKey",
        _S,
        _UP,
    ),
    Kind.JOIN_REPLAYED: Explanation(
        "an old join-request comes again while its device works",
        "nothing if it stays rare: it was refused; if it goes on, somebody nearby records and repeats frames",
        _N,
        _QUIET,
    ),
    Kind.JOIN_NONCES_USED_UP: Explanation(
        "16.7 million joins have been granted and no JoinNonce is left",
        "change the AppKeys and set the gateway up anew; find the device that joins all the time",
        _S,
        _QUIET,
    ),
    Kind.JOINS_BUT_ABP: Explanation(
        "the device asks to join, and is registered for ABP",
        "register it for OTAA with its AppKey, or set the device to ABP",
        _S,
        _UP,
    ),
    Kind.ABP_BUT_OTAA: Explanation(
        "a device that is registered for OTAA seems to send with fixed keys (ABP) and never joins",
        "set the device to OTAA, or register it for ABP with its DevAddr, NwkSKey and AppSKey",
        _S,
        _UP,
    ),
    Kind.JOIN_ASKED_TOO_SOON: Explanation(
        "the device asks again before the join-accept is due: it listens at the wrong time",
        "set the device's join receive delays to 5 s (RX1) and 6 s (RX2)",
        _S,
        _UP,
    ),
    Kind.JOIN_ACCEPT_LATE: Explanation(
        "the join-accept came too late for its receive windows",
        "look at the load of the gateway and at the way to a distant packet forwarder: the order must be there"
        " within 5 s",
        _S,
        _UP,
    ),
    Kind.JOIN_ACCEPT_WEAK: Explanation(
        "the join-accept was sent, and the device, which is heard weakly, asks on",
        "move the device or the antenna; see that the gateway's transmit power is not set low",
        _S,
        _UP,
    ),
    Kind.JOIN_ACCEPT_IN_RX2: Explanation(
        "the join-accept went out in RX2 only, and the device asks on",
        "set the device's RX2 frequency and data rate to the region's own",
        _S,
        _UP,
    ),
    Kind.JOIN_ACCEPT_UNHEARD: Explanation(
        "the join-accept was sent in time, and the device, which is heard well, asks on",
        "check its region and join receive delays (5 s and 6 s); a 1.0.4 device refuses JoinNonces it has seen:"
        " reset its join state; another gateway of ours may have answered before",
        _S,
        _UP,
    ),
    Kind.JOIN_CHANNEL: Explanation(
        "the device joins on a channel that is none of the region's join channels",
        "set the device to the gateway's region and channel plan",
        _H,
        _LOOK,
    ),
    Kind.REJOIN_REFUSED: Explanation(
        "a rejoin-request was refused",
        "let the device join anew: switch it off and on",
        _H,
        _UP,
    ),
    Kind.MOVED_AWAY: Explanation(
        "the session of the device was handed to another gateway, which answers it now",
        "nothing if that was meant; else take the session back, or let the device join here again",
        _N,
        _UP,
    ),
    Kind.IS_1_1: Explanation(
        "the device speaks LoRaWAN 1.1 and is registered as 1.0",
        "give it a profile of version 1.1 with both of its keys, or set the device to 1.0.x",
        _S,
        _UP,
    ),
    Kind.IS_1_0: Explanation(
        "the device speaks LoRaWAN 1.0 and is registered as 1.1",
        "give it a profile of version 1.0.x",
        _S,
        _UP,
    ),
    Kind.DEV_ADDR_UNKNOWN: Explanation(
        "data from a DevAddr of the private range that no device here has",
        "nothing if it is a neighbour's; else let your device join again, or check the DevAddr of an ABP device",
        _S,
        _UP,
    ),
    Kind.DEV_ADDR_OTHER_NETWORK: Explanation(
        "data of a device of another network",
        "nothing; if it is yours, it is still activated elsewhere: let it join here",
        _N,
        _UP,
    ),
    Kind.DEV_ADDR_REVERSED: Explanation(
        "the DevAddr is registered with its bytes in reverse order",
        _COMPARE_ADDR + "; it is written most significant byte first",
        _S,
        _UP,
    ),
    Kind.DEV_ADDR_DIGITS: Explanation(
        "the DevAddr differs from a registered one in one digit, or two digits are swapped",
        _COMPARE_ADDR,
        _S,
        _UP,
    ),
    Kind.DEV_ADDR_SHARED: Explanation(
        "another network's device has the same DevAddr as one of ours",
        "nothing: the keys tell them apart; an ABP device can be given another DevAddr",
        _N,
        _UP,
    ),
    Kind.SESSION_ENDED: Explanation(
        "the device goes on in a session that a later join or a change of its registration has ended",
        "let it join again: switch it off and on",
        _S,
        _UP,
    ),
    Kind.NWK_S_KEY_WRONG: Explanation(
        "data that the registered NwkSKey does not verify, nor any likely mistake for it",
        _COMPARE_NWK + "; let an OTAA device join again",
        _S,
        _UP,
    ),
    Kind.NWK_S_KEY_REVERSED: Explanation(
        "the NwkSKey is registered with its bytes in reverse order",
        "enter the NwkSKey again, most significant byte first",
        _S,
        _UP,
    ),
    Kind.NWK_S_KEY_DIGITS: Explanation(
        "the NwkSKey differs from the device's in one digit, or two digits are swapped",
        "look at the named digit of the NwkSKey and enter the key again",
        _S,
        _UP,
    ),
    Kind.SESSION_KEYS_EXCHANGED: Explanation(
        "the session keys are registered in each other's place",
        "exchange NwkSKey and AppSKey (LoRaWAN 1.1: the network session keys)",
        _S,
        _UP,
    ),
    Kind.APP_S_KEY_WRONG: Explanation(
        "frames verify, and their payloads look like noise: as with a wrong AppSKey",
        "compare the AppSKey with the device's; if that is right, the payload is compressed or encrypted by the"
        " device: choose its own codec",
        _H,
        _QUIET,
    ),
    Kind.COUNTER_RESET: Explanation(
        "the device has started its frame counter over: it has lost power or was reset",
        "let it join again; of an ABP device, allow counter resets in its profile, or delete it and add it again",
        _S,
        _UP,
    ),
    Kind.COUNTER_GAP: Explanation(
        "the frame counter is further on than can be bridged",
        "let it join again, or delete an ABP device and add it again",
        _S,
        _UP,
    ),
    Kind.SHORT_COUNTER: Explanation(
        "the device counts its frames with 16 bits only, and has run over at 65,535",
        "let it join again, of ABP delete it and add it again; ask its maker for firmware with 32-bit counters",
        _S,
        _UP,
    ),
    Kind.FRAME_REPLAYED: Explanation(
        "an old frame comes again while its device works",
        "nothing if it stays rare: it was refused; if it goes on, somebody nearby records and repeats frames",
        _N,
        _QUIET,
    ),
    Kind.DUPLICATE_FLOOD: Explanation(
        "the same frame comes again and again within a short time",
        "two forwarders on one antenna, or a forwarder that repeats: see that each gateway is connected once",
        _N,
        _QUIET,
    ),
    Kind.ACK_UNHEARD: Explanation(
        "the device repeats a confirmed uplink, as it does not hear the acknowledgement",
        "check its receive settings (RX1 delay, RX2) and the gateway's transmit power; send unconfirmed where the"
        " acknowledgement is not needed",
        _H,
        _UP,
    ),
    Kind.FRAME_DAMAGED: Explanation(
        "a single frame of a device that works does not verify",
        "nothing if it stays rare: damaged on the air without its checksum telling",
        _N,
        _UP,
    ),
    Kind.CRC_ERRORS: Explanation(
        "frames arrive damaged",
        "many of them: look at the antenna, the distance, and other senders on the channel",
        _N,
        _QUIET,
    ),
    Kind.WRONG_REGION: Explanation(
        "a frame outside the band of the gateway's region",
        "set gateway.region to where the gateway is, and the device to the same",
        _S,
        _LOOK,
    ),
    Kind.CHANNEL_UNKNOWN: Explanation(
        "a frame on a channel that the device was never given",
        "set the device to the region's default channels, or add the channel to lorawan.cflist_hz",
        _H,
        _LOOK,
    ),
    Kind.DATA_RATE_UNKNOWN: Explanation(
        "a frame with a data rate that the region does not have",
        "set the device to the gateway's region",
        _H,
        _LOOK,
    ),
    Kind.SUB_BAND_OTHER: Explanation(
        "the device uses channels outside the sub-band that the gateway hears",
        "set the device to the gateway's sub-band, or lorawan.uplink_channels to the channels the radios hear",
        _H,
        _LOOK,
    ),
    Kind.RX_WINDOW_MISSED: Explanation(
        "a downlink came too late for its receive windows",
        "raise lorawan.rx1_delay_s where the way to the packet forwarder is slow; look at the gateway's load",
        _H,
        _DOWN,
    ),
    Kind.DOWNLINK_TOO_EARLY: Explanation(
        "the forwarder called a downlink too early: its counter has started over, or the downlink was late",
        "nothing if it stays rare; else see why the forwarder restarts",
        _H,
        _DOWN,
    ),
    Kind.DOWNLINK_COLLISION: Explanation(
        "the sender was busy with another downlink at that time",
        "send fewer and shorter downlinks, or add a module that sends",
        _H,
        _DOWN,
    ),
    Kind.BEACON_COLLISION: Explanation(
        "a beacon had that time already",
        "nothing: the downlink is tried again",
        _N,
        _DOWN,
    ),
    Kind.DUTY_CYCLE_USED: Explanation(
        "the gateway has used up its share of time on air in the sub-band",
        "send fewer confirmed uplinks and downlinks, use faster data rates; see the airtime on the Radio page",
        _H,
        _DOWN,
    ),
    Kind.FREQUENCY_REFUSED: Explanation(
        "the forwarder may not send on that frequency, or not for so long",
        "compare the forwarder's region with gateway.region; set lorawan.rx2_dr to what it may send",
        _H,
        _DOWN,
    ),
    Kind.POWER_REFUSED: Explanation(
        "the forwarder cannot send with the power that was asked for",
        "set lorawan.max_eirp_dbm to what the forwarder can",
        _H,
        _DOWN,
    ),
    Kind.GPS_UNLOCKED: Explanation(
        "the forwarder has no GPS time, which class B needs",
        "give its GNSS antenna a view of the sky",
        _H,
        _DOWN,
    ),
    Kind.FORWARDER_GONE: Explanation(
        "the packet forwarder that heard the device takes no downlinks",
        "see that it runs and reaches this gateway both ways: the port of lorawan.port, UDP, through every firewall",
        _H,
        _DOWN,
    ),
    Kind.NO_WINDOW: Explanation(
        "neither receive window of an uplink can carry an answer",
        "compare the device's channels with the region's; under a dwell limit use faster data rates",
        _H,
        _LOOK,
    ),
    Kind.DOWNLINK_UNACKNOWLEDGED: Explanation(
        "confirmed downlinks were sent, and the device has acknowledged none of them",
        "check its receive settings (RX1 delay, RX2) and how well it hears the gateway",
        _H,
        _DOWN,
    ),
    Kind.CLASS_MISMATCH: Explanation(
        "downlinks reach the device after its uplinks only: it is registered as class C and behaves as class A",
        "set the device to class C, or its profile to class A; if it is class C, compare its RX2 with the gateway's",
        _H,
        _QUIET,
    ),
    Kind.SILENT: Explanation(
        "nothing was heard from the device for longer than its interval allows",
        "see whether it has power and is in its place; then look at the antenna and the channel",
        _S,
        _UP,
    ),
    Kind.NEVER_HEARD: Explanation(
        "the device was registered and has not been heard since",
        "switch it on; check its DevEUI, region and channels, and whether it is in reach",
        _S,
        _UP,
    ),
    Kind.WEAK_SIGNAL: Explanation(
        "the device is heard close to the limit of its data rate",
        "move the device or the antenna, or let ADR choose a slower data rate",
        _H,
        _LOOK,
    ),
    Kind.LOW_BATTERY: Explanation(
        "the battery of the device is nearly empty",
        "change the battery",
        _H,
        _LOOK,
    ),
    Kind.CODEC_FAILED: Explanation(
        "the codec of the device cannot read its payloads",
        "choose the codec of the device's maker; try it on the test bench with a payload that was heard",
        _H,
        _QUIET,
    ),
    Kind.NOT_PUBLISHED: Explanation(
        "the device's values are not published: its thing may not write to its channel",
        "connect the device's thing to its channel again",
        _H,
        _QUIET,
    ),
    Kind.FPORT_ZERO: Explanation(
        "the device sends application data on FPort 0, which is for MAC commands",
        "set the device to a port from 1 to 223",
        _H,
        _QUIET,
    ),
    Kind.MAC_UNREADABLE: Explanation(
        "the device sends MAC commands that its version does not define",
        "compare the version of its profile with the device's",
        _N,
        _QUIET,
    ),
    Kind.MULTICAST_UPLINK: Explanation(
        "an uplink comes from the address of a multicast group, which only receives",
        "take the group's keys out of the device's own session: it needs a DevAddr of its own",
        _H,
        _QUIET,
    ),
    Kind.TWO_SERVERS: Explanation(
        "the device is registered here, and its joins go to another server as well",
        "take it out of one of the two, or out of the filters of [[radio.server]]",
        _H,
        _QUIET,
    ),
    Kind.RADIO_SILENT: Explanation(
        "no packet forwarder is connected: nothing can be heard",
        "see that fluxgate-radio runs, or that the concentrator has power and a way to this gateway",
        _S,
        _LOOK,
    ),
    Kind.TIME_UNSET: Explanation(
        "the gateway does not know the time: devices that ask for it get no answer, and there is no class B",
        "give the gateway a time server (NTP) or a GNSS receiver",
        _H,
        _LOOK,
    ),
    Kind.STORE_FULL: Explanation(
        "verified uplinks were not stored, as the store had no room",
        "make room on the disk; the Store page tells what fills it",
        _S,
        _QUIET,
    ),
    Kind.FOREIGN_GATEWAY: Explanation(
        "downlinks of another gateway are heard",
        "nothing",
        _N,
        _QUIET,
    ),
    Kind.NOT_LORAWAN: Explanation(
        "frames that are not LoRaWAN",
        "another system on the channel: nothing; of your own simple nodes, see docs/rawlora.md",
        _N,
        _QUIET,
    ),
    Kind.UNSUPPORTED_FRAME: Explanation(
        "a frame of a kind that is not supported",
        "nothing if it is not yours; else set the device to LoRaWAN 1.0.x or 1.1",
        _N,
        _QUIET,
    ),
}
