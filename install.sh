#!/usr/bin/env bash
# Installs Fluxgate on Raspberry Pi OS or Debian, 64 bit, Python 3.11 or newer. Safe to run again: it changes
# only what is not as it should be, and updates in a new directory before it switches over.
set -euo pipefail
umask 022 # the services have to read what root installs

readonly PREFIX=/opt/fluxgate
readonly CONFIG=/etc/fluxgate/fluxgate.toml
readonly PAGES_KEY=/etc/fluxgate/pages.key
readonly UNITS=(fluxgate.target fluxgate-gateway.service fluxgate-webui.service fluxgate-radio.service)
readonly PACKAGES=(ca-certificates python3 python3-venv)
readonly BUILD_PACKAGES=(gcc libc6-dev python3-dev) # spidev comes as source
readonly KEPT_RELEASES=2                            # the running one and the one before

SOURCE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
ROOT=${DESTDIR:-}
BOARD=
WHEELHOUSE=
DRY_RUN=0
UNINSTALL=0
PURGE=0
START=1
REBOOT=0
STAGED=

usage() {
    cat <<'END'
usage: sudo ./install.sh [options]

  --board NAME       the LoRa board: dragino-hat, adafruit-bonnet, uputronics-dual, quad-spi, generic
  --wheelhouse DIR   take Python packages from DIR only (no internet)
  --root DIR         install into the system below DIR, for example a card's root (also: DESTDIR=DIR)
  --no-start         install and enable, start nothing now
  --dry-run          say what would be done, change nothing
  --uninstall        remove the programs; settings and data stay
  --purge            with --uninstall: settings, data and users too
  --help             this text
END
}

say() { printf '%s\n' "$*"; }
step() { printf '==> %s\n' "$*"; }
die() {
    printf 'install.sh: %s\n' "$*" >&2
    exit 1
}

# Everything that changes the system goes through `run` (on this machine) or `inside` (in the target system).
run() {
    if ((DRY_RUN)); then
        say "    would run: $*"
    else
        "$@"
    fi
}

inside() {
    if [[ -n $ROOT ]]; then
        run chroot "$ROOT" "$@"
    else
        run "$@"
    fi
}

# Questions only, never changes: also asked in a dry run.
asks() {
    if [[ -n $ROOT ]]; then
        chroot "$ROOT" "$@"
    else
        "$@"
    fi
}

cleanup() {
    if [[ -n $STAGED && -d $STAGED ]]; then
        rm -rf "$STAGED"
    fi
}
trap cleanup EXIT

read_options() {
    while (($#)); do
        case $1 in
        --board | --wheelhouse | --root)
            (($# >= 2)) || die "$1 needs a value"
            case $1 in
            --board) BOARD=$2 ;;
            --wheelhouse) WHEELHOUSE=$2 ;;
            --root) ROOT=$2 ;;
            esac
            shift
            ;;
        --no-start) START=0 ;;
        --dry-run) DRY_RUN=1 ;;
        --uninstall) UNINSTALL=1 ;;
        --purge) PURGE=1 ;;
        --help | -h)
            usage
            exit 0
            ;;
        *)
            usage >&2
            die "unknown option: $1"
            ;;
        esac
        shift
    done
    ROOT=${ROOT%/}
    if [[ -n $ROOT ]]; then
        [[ -d $ROOT ]] || die "there is no directory $ROOT"
        ROOT=$(cd "$ROOT" && pwd)
    fi
    ((!PURGE || UNINSTALL)) || die "--purge goes with --uninstall"
    if [[ -n $WHEELHOUSE ]]; then
        [[ -d $WHEELHOUSE ]] || die "there is no directory $WHEELHOUSE"
        WHEELHOUSE=$(cd "$WHEELHOUSE" && pwd)
    fi
    if [[ -n $BOARD && ! -f $SOURCE/radio/data/boards/$BOARD.toml ]]; then
        die "unknown board: $BOARD; known are $(known_boards)"
    fi
    ((DRY_RUN || EUID == 0)) || die "run it as root: sudo ./install.sh"
}

known_boards() {
    local file names=()
    for file in "$SOURCE"/radio/data/boards/*.toml; do
        names+=("$(basename "$file" .toml)")
    done
    say "${names[*]}"
}

# Running on a booted systemd, and not for another root.
systemd_runs() { [[ -z $ROOT && -d /run/systemd/system ]]; }

check_machine() {
    step "Checking the machine"
    local bits version
    bits=$(asks getconf LONG_BIT 2>/dev/null || say 0)
    [[ $bits == 64 ]] || die "a 64-bit system is needed; this one has $bits bits (Raspberry Pi OS 64-bit)"
    [[ -x $ROOT/usr/bin/apt-get ]] || die "apt-get is needed: Raspberry Pi OS or Debian"
    if version=$(asks python3 -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null); then
        asks python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
            die "Python 3.11 or newer is needed (Debian 12 bookworm or later); this is $version"
        say "    64 bit, Python $version"
    else
        say "    64 bit, Python comes with the packages"
    fi
}

install_packages() {
    step "System packages"
    local name missing=()
    for name in "${PACKAGES[@]}" "${BUILD_PACKAGES[@]}"; do
        # shellcheck disable=SC2016 # ${Status} is dpkg-query's
        if [[ $(asks dpkg-query -W -f='${Status}' "$name" 2>/dev/null || true) != "install ok installed" ]]; then
            missing+=("$name")
        fi
    done
    if ((${#missing[@]} == 0)); then
        say "    all there"
        return
    fi
    say "    missing: ${missing[*]}"
    inside env DEBIAN_FRONTEND=noninteractive apt-get -q update
    inside env DEBIAN_FRONTEND=noninteractive apt-get -qy install --no-install-recommends "${missing[@]}"
}

ensure_group() {
    asks getent group "$1" >/dev/null || inside groupadd --system "$1"
}

# ensure_user NAME HOME GROUP...: a system user with a group of its name, also in each GROUP.
ensure_user() {
    local name=$1 home=$2 group
    shift 2
    ensure_group "$name"
    asks getent passwd "$name" >/dev/null ||
        inside useradd --system --gid "$name" --home-dir "$home" --no-create-home --shell /usr/sbin/nologin "$name"
    for group in "$@"; do
        ensure_group "$group"
        [[ " $(asks id -nG "$name" 2>/dev/null || true) " == *" $group "* ]] ||
            inside usermod --append --groups "$group" "$name"
    done
}

make_users() {
    step "Users: one for each process"
    # systemd/fluxgate.sysusers says the same for images that are built with sysusers.d.
    ensure_group fluxgate-radio
    ensure_user fluxgate /var/lib/fluxgate fluxgate-radio
    ensure_user fluxgate-radio / fluxgate spi gpio dialout
    ensure_user fluxgate-webui / fluxgate
}

# The overlay a board needs beside dtparam=spi=on; most need none.
overlay_of() {
    case $1 in
    dragino-hat) say "dtoverlay=spi0-1cs,cs0_pin=25" ;;
    quad-spi | fluxgate-sim-4) say "dtoverlay=spi1-2cs" ;;
    esac
}

boot_config() {
    local file
    for file in "$ROOT/boot/firmware/config.txt" "$ROOT/boot/config.txt"; do
        if [[ -f $file ]]; then
            say "$file"
            return
        fi
    done
}

add_boot_line() {
    local file=$1 line=$2
    if grep -qxF "$line" "$file"; then
        return
    fi
    say "    $file: $line"
    REBOOT=1
    if ((DRY_RUN)); then
        return
    fi
    [[ -e $file.before-fluxgate ]] || cp -p "$file" "$file.before-fluxgate"
    # A section filter such as [cm4] may be the last one of the file: ours must hold for every model.
    printf '\n# Fluxgate\n[all]\n%s\n' "$line" >>"$file"
}

enable_spi() {
    step "SPI"
    local file overlay
    file=$(boot_config)
    if [[ -z $file ]]; then
        say "    no config.txt: not a Raspberry Pi, nothing to do"
        return
    fi
    if systemd_runs && command -v raspi-config >/dev/null; then
        if [[ $(raspi-config nonint get_spi) != 0 ]]; then
            run raspi-config nonint do_spi 0
            REBOOT=1
        fi
    else
        add_boot_line "$file" "dtparam=spi=on"
    fi
    overlay=$(overlay_of "$BOARD")
    if [[ -n $overlay ]]; then
        add_boot_line "$file" "$overlay"
    fi
    ((REBOOT)) || say "    enabled already"
}

# A name for what is installed: the version and a hash of the sources, so that the same is never built twice.
release_name() {
    local version hash
    version=$(sed -n 's/^__version__ = "\(.*\)"$/\1/p' "$SOURCE/gateway/__init__.py")
    [[ -n $version ]] || die "no version in $SOURCE/gateway/__init__.py: is this a whole copy of Fluxgate?"
    hash=$(cd "$SOURCE" && list_sources | sort -z | xargs -0 sha256sum | sha256sum)
    say "$version-${hash:0:8}"
}

list_sources() {
    find gateway radio webui hw_sim platform pyproject.toml constraints.txt README.md LICENSE \
        -name __pycache__ -prune -o -type f -print0
}

# pip has to read the sources from inside the target system.
stage_sources() {
    STAGED=$(mktemp -d "$ROOT/var/tmp/fluxgate.XXXXXX")
    (cd "$SOURCE" && list_sources | tar --null --files-from=- -cf -) | tar -xf - -C "$STAGED"
    if [[ -n $WHEELHOUSE ]]; then
        mkdir "$STAGED/wheelhouse"
        cp "$WHEELHOUSE"/* "$STAGED/wheelhouse/"
    fi
}

build_release() {
    local release=$1 directory=$PREFIX/$1 staged
    step "Programs: $directory"
    if [[ -f $ROOT$directory/.complete ]]; then
        say "    there already"
        return
    fi
    if ((DRY_RUN)); then
        say "    would make a virtual environment and install fluxgate[pi] into it"
        return
    fi
    stage_sources
    staged=${STAGED#"$ROOT"}
    local options=(--quiet --disable-pip-version-check --no-cache-dir --constraint "$staged/constraints.txt")
    if [[ -n $WHEELHOUSE ]]; then
        options+=(--no-index --find-links "$staged/wheelhouse")
    fi
    rm -rf "$ROOT$directory"
    mkdir -p "$ROOT$PREFIX"
    inside python3 -m venv "$directory"
    inside "$directory/bin/pip" install "${options[@]}" "${staged}[pi]"
    inside "$directory/bin/python" -m compileall -q "$directory/lib"
    inside "$directory/bin/fluxgate" version
    touch "$ROOT$directory/.complete"
}

switch_release() {
    local release=$1 link=$PREFIX/current
    if [[ $(readlink "$ROOT$link" 2>/dev/null || true) == "$release" ]]; then
        return
    fi
    step "Switching over to $release"
    # A rename replaces the link in one step: there is always a whole release behind it.
    run ln -sfn "$release" "$ROOT$link.new"
    run mv -T "$ROOT$link.new" "$ROOT$link"
    run ln -sfn "$link/bin/fluxgate" "$ROOT/usr/local/bin/fluxgate"
    run sync -f "$ROOT$PREFIX"
}

remove_old_releases() {
    local directory current kept=0
    current=$(readlink "$ROOT$PREFIX/current" 2>/dev/null || true)
    while IFS= read -r directory; do
        if [[ $(basename "$directory") == "$current" ]]; then
            continue
        fi
        kept=$((kept + 1))
        if ((kept >= KEPT_RELEASES)); then
            say "    removing $directory"
            run rm -rf "$directory"
        fi
    done < <(find "$ROOT$PREFIX" -mindepth 1 -maxdepth 1 -type d -printf '%T@ %p\n' 2>/dev/null | sort -rn | cut -d' ' -f2-)
}

has_module() { grep -q '^\[\[radio\.module\]\]' "$ROOT$CONFIG" 2>/dev/null; }

ask_board() {
    if [[ -n $BOARD ]] || ((DRY_RUN)) || has_module || [[ ! -t 0 ]]; then
        return
    fi
    say "Which LoRa board is on this machine? $(known_boards)"
    read -r -p "Name, or Enter for none (another packet forwarder sends the frames): " BOARD
    if [[ -n $BOARD && ! -f $SOURCE/radio/data/boards/$BOARD.toml ]]; then
        die "unknown board: $BOARD"
    fi
}

write_config() {
    step "Settings: $CONFIG"
    if [[ -f $ROOT$CONFIG ]]; then
        say "    kept as it is"
    elif ((DRY_RUN)); then
        say "    would write the defaults; admin pages open to the local network"
    else
        mkdir -p "$ROOT/etc/fluxgate"
        # Phones have to reach the pages; every other door stays on loopback until somebody opens it.
        asks "$PREFIX/current/bin/fluxgate" config show --defaults |
            sed '/^\[webui\]/,/^\[/s/^host = "127.0.0.1"/host = "0.0.0.0"/' >"$ROOT$CONFIG.new"
        mv "$ROOT$CONFIG.new" "$ROOT$CONFIG"
    fi
    if [[ -n $BOARD ]] && ! has_module; then
        say "    one module of $BOARD; channel and spreading factor: section [[radio.module]]"
        if ((!DRY_RUN)); then
            printf '\n[[radio.module]]\nboard = "%s"\n' "$BOARD" >>"$ROOT$CONFIG"
        fi
    fi
    # By it the gateway believes its pages, another user's process, whom they ask for.
    if ((!DRY_RUN)) && [[ ! -s $ROOT$PAGES_KEY ]]; then
        (umask 077 && head -c 32 /dev/urandom | base64 | tr '+/' '-_' | tr -d '=\n' >"$ROOT$PAGES_KEY")
    fi
    inside chown root:fluxgate /etc/fluxgate "$CONFIG" "$PAGES_KEY"
    inside chmod 0750 /etc/fluxgate
    inside chmod 0640 "$CONFIG" "$PAGES_KEY"
    inside "$PREFIX/current/bin/fluxgate" config check --config "$CONFIG"
}

install_units() {
    step "Services"
    local unit
    for unit in "${UNITS[@]}"; do
        run install -D -m 0644 "$SOURCE/systemd/$unit" "$ROOT/etc/systemd/system/$unit"
    done
    run install -D -m 0644 "$SOURCE/systemd/fluxgate.sysusers" "$ROOT/etc/sysusers.d/fluxgate.conf"
    run install -D -m 0644 "$SOURCE/systemd/fluxgate.tmpfiles" "$ROOT/etc/tmpfiles.d/fluxgate.conf"
}

# What `systemctl enable` does, for a system that is not running.
enable_by_link() {
    run mkdir -p "$ROOT/etc/systemd/system/$2.wants"
    run ln -sfn "../$1" "$ROOT/etc/systemd/system/$2.wants/$1"
}

enable_units() {
    local unit wanted=(fluxgate-gateway.service fluxgate-webui.service)
    if has_module || [[ -n $BOARD ]]; then
        wanted+=(fluxgate-radio.service)
    else
        say "    no [[radio.module]] in $CONFIG: the radio service stays off (run again with --board)"
    fi
    if ! systemd_runs; then
        say "    systemd does not run here: enabled by links, they start at the next boot"
        enable_by_link fluxgate.target multi-user.target
        for unit in "${wanted[@]}"; do
            enable_by_link "$unit" fluxgate.target
        done
        return
    fi
    run systemd-tmpfiles --create fluxgate.conf
    run systemctl daemon-reload
    run systemctl --quiet enable fluxgate.target "${wanted[@]}"
    if ((START)); then
        run systemctl restart fluxgate.target "${wanted[@]}"
    fi
}

webui_port() {
    local port
    port=$(sed -n '/^\[webui\]/,/^\[/s/^port = \([0-9]*\).*/\1/p' "$ROOT$CONFIG" 2>/dev/null || true)
    say "${port:-8000}"
}

say_goodbye() {
    local port address code=
    port=$(webui_port)
    say ""
    if ((DRY_RUN)); then
        say "Nothing was changed (--dry-run)."
        return
    fi
    if ! systemd_runs || ((!START)); then
        say "Installed. After the next start of the system open http://<its address>:$port/"
        say "and get the one-time code with: sudo fluxgate claim-code"
        return
    fi
    for _ in {1..30}; do
        code=$(fluxgate claim-code 2>/dev/null) && break
        sleep 1
    done
    # Nobody knows a code any more that was printed before a restart: make another.
    [[ -n $code ]] || code=$(fluxgate claim-code --new 2>/dev/null) || code=
    say "Fluxgate is running. Open one of"
    for address in "$(hostname).local" $(hostname -I 2>/dev/null); do
        [[ $address == *:* ]] && address="[$address]"
        say "    http://$address:$port/"
    done
    if [[ -n $code ]]; then
        say "One-time code to claim it:  $code"
        address=$(hostname -I 2>/dev/null | cut -d ' ' -f 1)
        if [[ -n $address && $address != *:* ]]; then
            say "or scan this with a phone on the same network:"
            fluxgate claim-code --qr --url "http://$address:$port" 2>/dev/null | tail -n +2 || true
        fi
    else
        say "It is claimed already, or still starting: sudo fluxgate claim-code"
    fi
    if ((REBOOT)) && [[ ! -e /dev/spidev0.0 ]]; then
        say "SPI was switched on: restart the machine once (sudo reboot) before the radio can work."
    fi
}

uninstall() {
    step "Removing Fluxgate"
    local unit
    if systemd_runs; then
        run systemctl --quiet disable --now "${UNITS[@]}" || true
    fi
    for unit in "${UNITS[@]}"; do
        run rm -f "$ROOT/etc/systemd/system/$unit" \
            "$ROOT/etc/systemd/system/fluxgate.target.wants/$unit" \
            "$ROOT/etc/systemd/system/multi-user.target.wants/$unit"
    done
    run rm -f "$ROOT/etc/sysusers.d/fluxgate.conf" "$ROOT/etc/tmpfiles.d/fluxgate.conf" "$ROOT/usr/local/bin/fluxgate"
    run rm -rf "$ROOT/etc/systemd/system/fluxgate.target.wants" "${ROOT}$PREFIX"
    if systemd_runs; then
        run systemctl daemon-reload
    fi
    if ((!PURGE)); then
        say "Settings stay in /etc/fluxgate, data in /var/lib/fluxgate and /var/lib/fluxgate-radio (--purge removes them)."
        return
    fi
    run rm -rf "$ROOT/etc/fluxgate" "$ROOT/var/lib/fluxgate" "$ROOT/var/lib/fluxgate-radio"
    for unit in fluxgate-webui fluxgate-radio fluxgate; do
        asks getent passwd "$unit" >/dev/null && inside userdel "$unit"
        asks getent group "$unit" >/dev/null && inside groupdel "$unit"
    done
    say "Settings, data and users are gone. SPI stays on."
}

main() {
    read_options "$@"
    if ((UNINSTALL)); then
        uninstall
        return
    fi
    local release
    check_machine
    ask_board
    install_packages
    make_users
    enable_spi
    release=$(release_name)
    build_release "$release"
    switch_release "$release"
    remove_old_releases
    write_config
    install_units
    enable_units
    say_goodbye
}

main "$@"
