"""Every table of the gateway, in the order in which its database has grown."""

from gateway import nats_place
from gateway.codecs import library
from gateway.devices import profiles, records
from gateway.diagnosis import store as findings
from gateway.lorawan import groupstore, macstore, orderstore, seal, store
from gateway.rawlora import store as raw_nodes
from gateway.upstream import refusals
from hub import coap, mqtt
from hub.http import MIGRATIONS as HTTP_MIGRATIONS

MIGRATIONS = (
    *store.MIGRATIONS,
    *mqtt.MIGRATIONS,
    *HTTP_MIGRATIONS,
    *coap.MIGRATIONS,
    *refusals.MIGRATIONS,
    *nats_place.MIGRATIONS,
    *orderstore.MIGRATIONS,
    *profiles.MIGRATIONS,
    *records.MIGRATIONS,
    *findings.MIGRATIONS,
    *macstore.MIGRATIONS,
    *groupstore.MIGRATIONS,
    *library.MIGRATIONS,
    *seal.MIGRATIONS,
    *raw_nodes.MIGRATIONS,
)
