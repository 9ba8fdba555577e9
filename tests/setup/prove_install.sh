#!/usr/bin/env bash
# Proves install.sh in fresh Debian systems: debootstrap, install, run again, run the programs, uninstall.
#   sudo tests/setup/prove_install.sh [suite...]      bookworm (Python 3.11) and trixie (3.13) without arguments
# Needs root, debootstrap and a Debian mirror (MIRROR=, else the one this machine uses); some minutes a suite.
# KEEP=DIR keeps the debootstrapped systems there for the next time.
set -euo pipefail

HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
INSTALL=$HERE/../../install.sh
WORK=
ROOT=
PIDS=()
export LC_ALL=C
unset PIP_FIND_LINKS # a directory of this machine

fail() {
    printf 'FAILED: %s\n' "$*" >&2
    exit 1
}
ok() { printf 'proved: %s\n' "$*"; }

cleanup() {
    stop_programs
    if [[ -n $WORK ]]; then
        for mount in "$WORK"/*/proc "$WORK"/*/dev; do
            if mountpoint -q "$mount"; then umount "$mount"; fi
        done
        rm -rf --one-file-system "$WORK"
    fi
}

stop_programs() {
    for pid in "${PIDS[@]}"; do kill "$pid" 2>/dev/null || true; done
    for pid in "${PIDS[@]}"; do wait "$pid" 2>/dev/null || true; done
    PIDS=()
}

mirror() {
    if [[ -n ${MIRROR:-} ]]; then
        printf '%s\n' "$MIRROR"
        return
    fi
    cat /etc/apt/sources.list /etc/apt/sources.list.d/*.list /etc/apt/sources.list.d/*.sources 2>/dev/null |
        sed -nE 's/^URIs: *([^ ]*debian\/?)( .*)?$/\1/p; s/^deb (\[[^]]*\] )?([^ ]*debian\/?) .*$/\2/p' | head -1
}

make_system() {
    local suite=$1
    ROOT=$WORK/$suite
    if [[ -n ${KEEP:-} && -f $KEEP/$suite.tar ]]; then
        mkdir -p "$ROOT"
        tar -xpf "$KEEP/$suite.tar" -C "$ROOT"
    else
        debootstrap --variant=minbase --include=ca-certificates "$suite" "$ROOT" "$(mirror)" >"$WORK/debootstrap.log" 2>&1 ||
            { tail -5 "$WORK/debootstrap.log" >&2; fail "debootstrap $suite"; }
        if [[ -n ${KEEP:-} ]]; then
            mkdir -p "$KEEP"
            tar -cpf "$KEEP/$suite.tar" -C "$ROOT" .
        fi
    fi
    mount -t proc proc "$ROOT/proc"
    # Networks with an intercepting proxy have an authority of their own, which this machine knows.
    cp /etc/ssl/certs/ca-certificates.crt "$ROOT/etc/ssl/certs/ca-certificates.crt"
    cp /etc/resolv.conf "$ROOT/etc/resolv.conf"
    # What a Raspberry Pi's card has and Debian's has not.
    mkdir -p "$ROOT/boot/firmware"
    printf 'arm_64bit=1\n[cm4]\notg_mode=1\n' >"$ROOT/boot/firmware/config.txt"
}

# Names, owners, modes and contents of everything install.sh is responsible for.
picture() {
    (cd "$ROOT" && find etc/fluxgate etc/systemd/system/fluxgate* etc/sysusers.d etc/tmpfiles.d usr/local/bin boot opt/fluxgate \
        -not -name '*.pyc' \( -type f -printf '%p %u %m ' -exec sha256sum {} \; -o -printf '%p %u %m %l\n' \) | sort)
}

prove_first_run() {
    local before
    "$INSTALL" --root "$ROOT" --board dragino-hat >"$WORK/first.log" 2>&1 || { tail -30 "$WORK/first.log" >&2; fail "install.sh"; }
    chroot "$ROOT" fluxgate version | grep -q '^fluxgate [0-9]' || fail "fluxgate version"
    ok "installs; $(chroot "$ROOT" fluxgate version), $(chroot "$ROOT" python3 --version)"
    # rpi-lgpio, the fallback behind gpiod, has no wheel for Python 3.13.
    chroot "$ROOT" /opt/fluxgate/current/bin/python -c '
import sys, spidev, gpiod, serial
if sys.version_info < (3, 13): import lgpio' || fail "hardware libraries import"
    ok "the hardware libraries import"
    chroot "$ROOT" fluxgate config check --config /etc/fluxgate/fluxgate.toml >/dev/null || fail "config check"
    [[ $(chroot "$ROOT" stat -c '%U:%G %a' /etc/fluxgate/fluxgate.toml) == "root:fluxgate 640" ]] ||
        fail "owner or mode of the configuration"
    ok "writes a valid configuration that only root and the group may read"
    for group in fluxgate spi gpio dialout; do
        [[ " $(chroot "$ROOT" id -nG fluxgate-radio) " == *" $group "* ]] || fail "fluxgate-radio is not in $group"
    done
    ok "makes users and groups"
    for unit in gateway radio webui; do
        [[ -e $ROOT/etc/systemd/system/fluxgate.target.wants/fluxgate-$unit.service ]] || fail "fluxgate-$unit is not enabled"
    done
    [[ -L $ROOT/etc/systemd/system/multi-user.target.wants/fluxgate.target ]] || fail "fluxgate.target is not enabled"
    grep -q 'systemd does not run here' "$WORK/first.log" || fail "does not say that systemd is absent"
    ok "enables the units without systemd, and says so"
    grep -qx 'dtparam=spi=on' "$ROOT/boot/firmware/config.txt" || fail "SPI"
    grep -qx 'dtoverlay=spi0-1cs,cs0_pin=25' "$ROOT/boot/firmware/config.txt" || fail "overlay"
    [[ $(grep -n '^\[all\]' "$ROOT/boot/firmware/config.txt" | head -1 | cut -d: -f1) -gt 2 ]] || fail "section of config.txt"
    ok "switches SPI and the board's overlay on, for all models, and keeps a copy of config.txt"
    before=$(picture)
    "$INSTALL" --root "$ROOT" --board dragino-hat >"$WORK/second.log" 2>&1 || { tail -30 "$WORK/second.log" >&2; fail "second run"; }
    diff <(printf '%s\n' "$before") <(picture) || fail "the second run changed something"
    ok "a second run changes nothing"
}

prove_programs() {
    local port_api port_web port_mqtt port_gwmp code=
    read -r port_api port_web port_mqtt port_gwmp < <(python3 -c '
import socket
found = [socket.create_server(("127.0.0.1", 0)) for _ in range(4)]
print(*(each.getsockname()[1] for each in found))')
    cat >"$ROOT/etc/fluxgate/prove.toml" <<END
[gateway]
eui = "0200000000000001"
[lorawan]
port = $port_gwmp
[mqtt]
port = $port_mqtt
[http]
port = $port_api
workshop_port = 0
[webui]
port = $port_web
END
    chroot "$ROOT" chown root:fluxgate /etc/fluxgate/prove.toml
    mountpoint -q "$ROOT/dev" || mount --bind /dev "$ROOT/dev"
    # What StateDirectory= and RuntimeDirectory= of the units do.
    chroot "$ROOT" install -d -o fluxgate -g fluxgate -m 0700 /var/lib/fluxgate /run/fluxgate
    chroot "$ROOT" runuser -u fluxgate -- fluxgate gateway --config /etc/fluxgate/prove.toml >"$WORK/gateway.log" 2>&1 &
    PIDS+=($!)
    chroot "$ROOT" runuser -u fluxgate-webui -- fluxgate webui --config /etc/fluxgate/prove.toml >"$WORK/webui.log" 2>&1 &
    PIDS+=($!)
    for _ in {1..60}; do
        code=$(chroot "$ROOT" fluxgate claim-code --config /etc/fluxgate/prove.toml 2>/dev/null) && break
        sleep 0.5
    done
    [[ -n $code ]] || { cat "$WORK/gateway.log" >&2; fail "no claim code"; }
    for _ in {1..60}; do
        curl -fsS --noproxy '*' "http://127.0.0.1:$port_web/claim" 2>/dev/null | grep -q 'Claim this gateway' && break
        sleep 0.5
    done
    curl -fsS --noproxy '*' "http://127.0.0.1:$port_web/claim" | grep -q 'Claim this gateway' ||
        { cat "$WORK/gateway.log" "$WORK/webui.log" >&2; fail "claim page"; }
    ok "gateway and pages run as their own users; the claim page is served, the claim code printed"
    stop_programs
    rm -f "$ROOT/etc/fluxgate/prove.toml"
}

prove_offline() {
    mkdir "$WORK/wheels-$1"
    # The packages of this suite's Python, fetched once from inside, then used without any index.
    mkdir "$ROOT/var/tmp/wheels"
    cp "$HERE/../../constraints.txt" "$ROOT/var/tmp/"
    python3 - "$HERE/../../pyproject.toml" >"$ROOT/var/tmp/wanted.txt" <<'END'
import sys, tomllib
with open(sys.argv[1], "rb") as file:
    project = tomllib.load(file)
print("\n".join(project["build-system"]["requires"] + ["setuptools", "wheel"]))
print("\n".join(project["project"]["dependencies"] + project["project"]["optional-dependencies"]["pi"]))
END
    chroot "$ROOT" /opt/fluxgate/current/bin/pip download -q --disable-pip-version-check -d /var/tmp/wheels \
        -c /var/tmp/constraints.txt -r /var/tmp/wanted.txt || fail "filling the wheelhouse"
    mv "$ROOT"/var/tmp/wheels/* "$WORK/wheels-$1/"
    rm -rf "$ROOT/var/tmp/wheels" "$ROOT"/opt/fluxgate
    PIP_INDEX_URL=http://127.0.0.1:9/ "$INSTALL" --root "$ROOT" --wheelhouse "$WORK/wheels-$1" >"$WORK/offline.log" 2>&1 ||
        { tail -30 "$WORK/offline.log" >&2; fail "offline installation"; }
    chroot "$ROOT" fluxgate version >/dev/null || fail "fluxgate version after the offline installation"
    ok "installs from a wheelhouse with no package index"
}

prove_uninstall() {
    "$INSTALL" --root "$ROOT" --uninstall >/dev/null || fail "uninstall"
    [[ -f $ROOT/etc/fluxgate/fluxgate.toml && ! -e $ROOT/opt/fluxgate ]] || fail "uninstall keeps settings and removes programs"
    [[ -z $(find "$ROOT/etc/systemd" -name 'fluxgate*') ]] || fail "units are left"
    "$INSTALL" --root "$ROOT" --uninstall --purge >/dev/null || fail "purge"
    [[ ! -e $ROOT/etc/fluxgate && ! -e $ROOT/var/lib/fluxgate ]] || fail "purge leaves settings or data"
    ! chroot "$ROOT" getent passwd fluxgate fluxgate-radio fluxgate-webui >/dev/null || fail "purge leaves users"
    ok "uninstalls, and purges everything"
}

((EUID == 0)) || fail "run it as root"
command -v debootstrap >/dev/null || fail "debootstrap is missing: apt-get install debootstrap"
WORK=$(mktemp -d /var/tmp/prove-install.XXXXXX)
trap cleanup EXIT
suites=("$@")
((${#suites[@]})) || suites=(bookworm trixie)
for suite in "${suites[@]}"; do
    printf '== %s\n' "$suite"
    make_system "$suite"
    prove_first_run
    prove_programs
    prove_offline "$suite"
    prove_uninstall
done
printf 'install.sh is proved for %s\n' "${suites[*]}"
