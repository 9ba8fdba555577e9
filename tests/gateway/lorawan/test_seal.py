"""Keys at rest: the envelope, its earlier form, a new host key cut short anywhere, and a lost data key."""

from __future__ import annotations

import asyncio
import contextlib
import random
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from typer.testing import CliRunner

from gateway import keyring
from gateway.cli import app
from gateway.lorawan.seal import DATA_KEYS, HostKey, Sealer, opened
from gateway.migrations import MIGRATIONS
from hub.database import Migration
from hub.hub import Hub

KEY_1, KEY_2, HOST = bytes(range(32)), bytes(range(1, 33)), HostKey(b"h" * 32)
SECRET, HERE = b"sixteen byte key", b"lorawan/0011223344556677/app_key"


def form_1(data: bytes, context: bytes, nonce: bytes = b"n" * 12) -> bytes:
    """What versions before the envelope have stored."""
    return nonce + AESGCM(b"h" * 32).encrypt(nonce, data, context)


def test_a_sealed_key_says_under_which_data_key():
    assert Sealer({1: KEY_1, 7: KEY_2}).seal(SECRET, HERE)[:5] == b"\x02\0\0\0\x07"
    sealed = Sealer({7: KEY_2}).seal(SECRET, HERE)
    assert Sealer({7: KEY_2, 9: KEY_1}).unseal(sealed, HERE) == SECRET
    with pytest.raises(ValueError, match="data key that is not here"):
        Sealer({9: KEY_1}).unseal(sealed, HERE)


@pytest.mark.parametrize("at", [0, 4, 5, 16, 17, 32, 33, 48])
def test_a_changed_byte_anywhere_does_not_open(at):
    sealer = Sealer({1: KEY_1}, HOST)
    sealed = bytearray(sealer.seal(SECRET, HERE))
    sealed[at] ^= 1
    with pytest.raises(ValueError, match="sealed under"):
        sealer.unseal(bytes(sealed), HERE)


def test_damaged_bytes_raise_nothing_but_value_error():
    rng = random.Random(5)
    sealer = Sealer({1: KEY_1}, HOST)
    vectors = [sealer.seal(SECRET, HERE), form_1(SECRET, HERE)]
    for _ in range(5_000):
        damaged = bytearray(rng.choice(vectors))
        for _ in range(rng.randrange(1, 4)):
            if damaged and rng.random() < 0.5:
                damaged[rng.randrange(len(damaged))] ^= 1 << rng.randrange(8)
            else:
                del damaged[rng.randrange(len(damaged) + 1) :]
        if bytes(damaged) not in vectors:
            with pytest.raises(ValueError, match="sealed under"):
                sealer.unseal(bytes(damaged), HERE)


def test_the_first_form_opens_and_is_stale():
    sealer = Sealer({1: KEY_1}, HOST)
    sealed = form_1(SECRET, HERE)
    assert sealer.unseal(sealed, HERE) == SECRET
    assert sealer.stale(sealed)
    assert not sealer.stale(sealer.seal(SECRET, HERE))
    assert Sealer({1: KEY_1, 2: KEY_2}).stale(sealer.seal(SECRET, HERE))


def test_a_nonce_of_the_first_form_that_looks_like_a_head_still_opens():
    sealed = form_1(SECRET, HERE, b"\x02\0\0\0\x01nnnnnnn")
    assert Sealer({1: KEY_1}, HOST).unseal(sealed, HERE) == SECRET


def test_a_wrapped_data_key_opens_with_its_host_key_and_number_only():
    _, (key_id, wrapped) = HOST.wrap(3, KEY_1)
    assert KEY_1 not in wrapped
    assert opened(HOST, [(key_id, wrapped)]) == {3: KEY_1}
    assert opened(HOST, [(4, wrapped)]) == {}
    assert opened(HostKey(b"x" * 32), [(key_id, wrapped)]) == {}


def test_nothing_of_a_key_shows():
    for text in (repr(HOST), str(HOST), repr(Sealer({1: KEY_1}, HOST)), str(Sealer({1: KEY_1}))):
        assert "hidden" in text
        assert KEY_1.hex() not in text
        assert repr(KEY_1)[2:-1] not in text
    with pytest.raises(ValueError, match="32 bytes"):
        HostKey(b"short")


# The keyring on disk


@pytest.fixture
def with_hub(tmp_path: Path) -> Callable[..., None]:
    """Runs what it is given on the hub of a data directory, opened and closed again."""

    def run(work, migrations: tuple[Migration, ...] = MIGRATIONS) -> None:
        async def main() -> None:
            hub = Hub.open(tmp_path, migrations=migrations)
            try:
                await work(hub)
            finally:
                await hub.close()

        asyncio.run(main())

    return run


@contextlib.contextmanager
def database(folder: Path) -> Iterator[sqlite3.Connection]:
    with contextlib.closing(sqlite3.connect(folder / "log.db")) as db, db:
        yield db


DEVICE = "0011223344556677"
ADD = (
    "INSERT INTO lorawan_device(dev_eui, activation, name, app_key, codec, thing_id, channel_id)"
    " VALUES (?, 'otaa', '', ?, 'raw', '', '')"
)
READ = "SELECT app_key FROM lorawan_device"


def test_a_new_host_key_rewrites_data_keys_and_nothing_else(tmp_path, with_hub):
    seen = {}

    async def first(hub):
        sealer = await keyring.opened_sealer(tmp_path, hub)
        await hub.log.write([(ADD, (DEVICE, sealer.seal(SECRET, HERE)))])
        seen["host"] = (tmp_path / keyring.HOST_KEY_FILE).read_bytes()
        await keyring.replace_host_key(tmp_path, hub, sealer)

    async def second(hub):
        sealer = await keyring.opened_sealer(tmp_path, hub)
        ((sealed,),) = hub.log.query(READ)
        assert sealer.unseal(sealed, HERE) == SECRET
        assert not sealer.stale(sealed)
        seen["sealed"] = sealed

    with_hub(first)
    with database(tmp_path) as db:
        before = db.execute(READ).fetchone()[0]
    assert (tmp_path / keyring.HOST_KEY_FILE).read_bytes() != seen["host"]
    assert not (tmp_path / keyring.NEXT_KEY_FILE).exists()
    with_hub(second)
    assert seen["sealed"] == before


@pytest.mark.parametrize("point", ["before the commit", "before the file", "before the end"])
def test_a_new_host_key_cut_short_anywhere_loses_nothing(tmp_path, with_hub, monkeypatch, point):
    """Cut short by an error at that point: what is on disk then is what a power cut leaves."""

    class Cut(Exception):
        pass

    async def first(hub):
        sealer = await keyring.opened_sealer(tmp_path, hub)
        await hub.log.write([(ADD, (DEVICE, sealer.seal(SECRET, HERE)))])

        async def no_commit(*_):
            raise Cut

        def no_file(path, data):
            raise Cut

        if point == "before the commit":
            monkeypatch.setattr(hub.log, "write", no_commit)
        elif point == "before the file":
            monkeypatch.setattr(keyring, "_finish_replacing", no_file)
        else:
            monkeypatch.setattr(keyring, "load_secret", lambda *_: no_file(*_[:2]))
        with contextlib.suppress(Cut):
            await keyring.replace_host_key(tmp_path, hub, sealer)
        monkeypatch.undo()

    async def second(hub):
        sealer = await keyring.opened_sealer(tmp_path, hub)
        ((sealed,),) = hub.log.query(READ)
        assert sealer.unseal(sealed, HERE) == SECRET

    with_hub(first)
    assert (tmp_path / keyring.NEXT_KEY_FILE).exists()
    with_hub(second)
    assert not (tmp_path / keyring.NEXT_KEY_FILE).exists()
    with_hub(second)


def test_with_another_host_key_nothing_opens_and_a_fresh_data_key_is_made(tmp_path, with_hub, caplog):
    async def first(hub):
        sealer = await keyring.opened_sealer(tmp_path, hub)
        await hub.log.write([(ADD, (DEVICE, sealer.seal(SECRET, HERE)))])

    async def second(hub):
        sealer = await keyring.opened_sealer(tmp_path, hub)
        ((sealed,),) = hub.log.query(READ)
        with pytest.raises(ValueError, match="sealed under"):
            sealer.unseal(sealed, HERE)
        assert sealer.seal(SECRET, HERE)[1:5] == b"\0\0\0\x02"

    with_hub(first)
    for file in tmp_path.glob(f"{keyring.HOST_KEY_FILE}*"):
        file.unlink()
    with_hub(second)
    assert "data keys 1 cannot be opened" in caplog.text


def test_a_damaged_data_key_comes_from_the_copy(tmp_path, with_hub, caplog):
    async def first(hub):
        sealer = await keyring.opened_sealer(tmp_path, hub)
        await hub.log.write([(ADD, (DEVICE, sealer.seal(SECRET, HERE)))])

    async def second(hub):
        sealer = await keyring.opened_sealer(tmp_path, hub)
        ((sealed,),) = hub.log.query(READ)
        assert sealer.unseal(sealed, HERE) == SECRET

    with_hub(first)
    with database(tmp_path) as db:
        db.execute(f"UPDATE {DATA_KEYS} SET wrapped = zeroblob(60)")
    with_hub(second)
    assert "data keys 1 are taken from the log's copy" in caplog.text
    caplog.clear()
    with_hub(second)
    assert caplog.text == ""


def test_a_database_damaged_as_a_whole_takes_its_data_key_from_the_copy_too(tmp_path, with_hub):
    async def first(hub):
        sealer = await keyring.opened_sealer(tmp_path, hub)
        await hub.log.write([(ADD, (DEVICE, sealer.seal(SECRET, HERE)))])

    async def second(hub):
        sealer = await keyring.opened_sealer(tmp_path, hub)
        ((sealed,),) = hub.log.query(READ)
        assert sealer.unseal(sealed, HERE) == SECRET

    with_hub(first)
    (tmp_path / "log.db").write_bytes(b"damaged" * 1000)
    with_hub(second)


def test_what_an_earlier_version_has_sealed_is_sealed_anew(tmp_path, with_hub):
    async def first(hub):
        keyring.load_secret(tmp_path / keyring.HOST_KEY_FILE, 32, "")
        host = (tmp_path / keyring.HOST_KEY_FILE).read_bytes()[:32]
        nonce = b"n" * 12
        old = nonce + AESGCM(host).encrypt(nonce, SECRET, HERE)
        await hub.log.write([(ADD, (DEVICE, old)), (ADD, ("8899aabbccddeeff", b"damaged"))])
        sealer = await keyring.opened_sealer(tmp_path, hub)
        await keyring.seal_anew(hub, sealer)
        (sealed,), (damaged,) = hub.log.query(f"{READ} ORDER BY dev_eui")
        assert sealer.unseal(sealed, HERE) == SECRET
        assert not sealer.stale(sealed)
        assert damaged == b"damaged"
        with contextlib.closing(hub.log.reader()) as reader:
            assert keyring.sealed_anew(reader.connection, sealer) == []

    with_hub(first)


def test_the_command_makes_a_new_host_key(tmp_path):
    settings = tmp_path / "fluxgate.toml"
    data = tmp_path / "data"
    settings.write_text(f'[gateway]\ndata_dir = "{data}"\nruntime_dir = "{tmp_path}"\n')
    runner = CliRunner()
    keys = set()
    for _ in range(2):
        answer = runner.invoke(app, ["new-host-key", "--config", str(settings)])
        assert answer.exit_code == 0, answer.output
        keys.add((data / keyring.HOST_KEY_FILE).read_bytes())
    assert len(keys) == 2
