"""Every kind of finding: a name is what the API takes and gives, `explanations` tells what it means and what to do."""

from __future__ import annotations

import enum


class Weight(enum.IntEnum):
    """What a finding costs; of several the heaviest is shown first."""

    NOTE = 1  # nothing is lost
    HURTS = 2  # something is lost, or soon will be
    STOPS = 3  # the device cannot work like this


class Heals(enum.Enum):
    """What shows that a finding is over."""

    UPLINK = enum.auto()  # the next good uplink of the device
    DOWNLINK = enum.auto()  # a downlink that a gateway has sent, or that the device has acknowledged
    LOOKING = enum.auto()  # the regular look does not find it any more
    QUIET = enum.auto()  # it has not been seen again for a day


class Kind(enum.StrEnum):
    # Joining
    DEV_EUI_UNKNOWN = "dev_eui_unknown"
    DEV_EUI_REVERSED = "dev_eui_reversed"
    DEV_EUI_DIGITS = "dev_eui_digits"
    EUIS_EXCHANGED = "euis_exchanged"
    JOIN_EUI_WRONG = "join_eui_wrong"
    JOIN_EUI_REVERSED = "join_eui_reversed"
    APP_KEY_WRONG = "app_key_wrong"
    APP_KEY_REVERSED = "app_key_reversed"
    APP_KEY_DIGITS = "app_key_digits"
    APP_KEY_OF_ANOTHER = "app_key_of_another"
    APP_KEY_EXAMPLE = "app_key_example"
    ROOT_KEYS_EXCHANGED = "root_keys_exchanged"
    DEV_NONCE_REUSED = "dev_nonce_reused"
    JOIN_REPLAYED = "join_replayed"
    JOIN_NONCES_USED_UP = "join_nonces_used_up"
    JOINS_BUT_ABP = "joins_but_abp"
    ABP_BUT_OTAA = "abp_but_otaa"
    JOIN_ASKED_TOO_SOON = "join_asked_too_soon"
    JOIN_ACCEPT_LATE = "join_accept_late"
    JOIN_ACCEPT_WEAK = "join_accept_weak"
    JOIN_ACCEPT_IN_RX2 = "join_accept_in_rx2"
    JOIN_ACCEPT_UNHEARD = "join_accept_unheard"
    JOIN_CHANNEL = "join_channel"
    REJOIN_REFUSED = "rejoin_refused"
    MOVED_AWAY = "moved_away"
    # Versions
    IS_1_1 = "is_1_1"
    IS_1_0 = "is_1_0"
    # Addresses and session keys
    DEV_ADDR_UNKNOWN = "dev_addr_unknown"
    DEV_ADDR_OTHER_NETWORK = "dev_addr_other_network"
    DEV_ADDR_REVERSED = "dev_addr_reversed"
    DEV_ADDR_DIGITS = "dev_addr_digits"
    DEV_ADDR_SHARED = "dev_addr_shared"
    SESSION_ENDED = "session_ended"
    NWK_S_KEY_WRONG = "nwk_s_key_wrong"
    NWK_S_KEY_REVERSED = "nwk_s_key_reversed"
    NWK_S_KEY_DIGITS = "nwk_s_key_digits"
    SESSION_KEYS_EXCHANGED = "session_keys_exchanged"
    APP_S_KEY_WRONG = "app_s_key_wrong"
    # Counters and repetitions
    COUNTER_RESET = "counter_reset"
    COUNTER_GAP = "counter_gap"
    SHORT_COUNTER = "short_counter"
    FRAME_REPLAYED = "frame_replayed"
    DUPLICATE_FLOOD = "duplicate_flood"
    ACK_UNHEARD = "ack_unheard"
    FRAME_DAMAGED = "frame_damaged"
    CRC_ERRORS = "crc_errors"
    # Channels and data rates
    WRONG_REGION = "wrong_region"
    CHANNEL_UNKNOWN = "channel_unknown"
    DATA_RATE_UNKNOWN = "data_rate_unknown"
    SUB_BAND_OTHER = "sub_band_other"
    # Downlinks
    RX_WINDOW_MISSED = "rx_window_missed"
    DOWNLINK_TOO_EARLY = "downlink_too_early"
    DOWNLINK_COLLISION = "downlink_collision"
    BEACON_COLLISION = "beacon_collision"
    DUTY_CYCLE_USED = "duty_cycle_used"
    FREQUENCY_REFUSED = "frequency_refused"
    POWER_REFUSED = "power_refused"
    GPS_UNLOCKED = "gps_unlocked"
    FORWARDER_GONE = "forwarder_gone"
    NO_WINDOW = "no_window"
    DOWNLINK_UNACKNOWLEDGED = "downlink_unacknowledged"
    CLASS_MISMATCH = "class_mismatch"
    # The device
    SILENT = "silent"
    NEVER_HEARD = "never_heard"
    WEAK_SIGNAL = "weak_signal"
    LOW_BATTERY = "low_battery"
    CODEC_FAILED = "codec_failed"
    NOT_PUBLISHED = "not_published"
    FPORT_ZERO = "fport_zero"
    MAC_UNREADABLE = "mac_unreadable"
    MULTICAST_UPLINK = "multicast_uplink"
    TWO_SERVERS = "two_servers"
    # The gateway and the air
    RADIO_SILENT = "radio_silent"
    TIME_UNSET = "time_unset"
    STORE_FULL = "store_full"
    FOREIGN_GATEWAY = "foreign_gateway"
    NOT_LORAWAN = "not_lorawan"
    UNSUPPORTED_FRAME = "unsupported_frame"


# Explanations that rule each other out: with more frames a judgement gets better, and the last one counts.
ONE_OF: tuple[frozenset[Kind], ...] = (
    frozenset({Kind.COUNTER_RESET, Kind.FRAME_REPLAYED, Kind.SHORT_COUNTER}),
    frozenset({Kind.DEV_NONCE_REUSED, Kind.JOIN_REPLAYED}),
    frozenset({Kind.APP_S_KEY_WRONG, Kind.CODEC_FAILED}),
    frozenset(
        {
            Kind.NWK_S_KEY_WRONG,
            Kind.NWK_S_KEY_REVERSED,
            Kind.NWK_S_KEY_DIGITS,
            Kind.SESSION_KEYS_EXCHANGED,
            Kind.DEV_ADDR_SHARED,
        }
    ),
    frozenset(
        {
            Kind.APP_KEY_WRONG,
            Kind.APP_KEY_REVERSED,
            Kind.APP_KEY_DIGITS,
            Kind.APP_KEY_OF_ANOTHER,
            Kind.APP_KEY_EXAMPLE,
            Kind.ROOT_KEYS_EXCHANGED,
        }
    ),
    frozenset(
        {
            Kind.JOIN_ASKED_TOO_SOON,
            Kind.JOIN_ACCEPT_LATE,
            Kind.JOIN_ACCEPT_WEAK,
            Kind.JOIN_ACCEPT_IN_RX2,
            Kind.JOIN_ACCEPT_UNHEARD,
        }
    ),
)
