# Sourced by the scripts one directory up; `setup run`, `setup test` or `setup bench` installs what
# is missing: Debian packages, the virtual environment .venv, the locked requirements, storefs itself.
# When nothing is missing it says nothing and takes a few hundredths of a second.
# PYTHON=/path/to/python chooses an interpreter (3.11 or newer; others must be able to execute it).
# shellcheck shell=bash

top=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd -P)
venv=$top/.venv
# How storefs itself gets into $venv: what pip is given. scripts/install sets both.
itself=(-e "$top")

# What runs besides Python, as command:package. The one list; what compiling needs is further down.
run_commands=(fusermount3:fuse3)
test_commands=(git:git jq:jq nano:nano rsync:rsync systemd-analyze:systemd vim:vim)

setup() {
    local kind=$1
    if is_ready "$kind"; then return; fi
    # One at a time; the loser of the race finds everything done. The lock is on the checkout
    # itself, for .venv may be deleted, and no child inherits it: a daemon that apt starts would
    # keep it for ever.
    (
        flock --nonblock 9 || { say "waiting for another set-up of $top" && flock 9; }
        if ! is_ready "$kind"; then install_all "$kind" 9<&- >&2; fi
    ) 9<"$top"
}

is_ready() {
    [[ -z $(missing_commands "$1") && -f $venv/.ready-$1 && $(<"$venv/.ready-$1") == "$(digest)" ]] &&
        is_chosen_python
}

install_all() {
    local kind=$1 python ready
    [[ -z ${PYTHON:-} ]] || find_python >/dev/null ||
        die "PYTHON=$PYTHON is no Python 3.11 or newer"
    install_packages "$kind"
    python=$(find_python)
    if ! is_venv; then
        say "making $venv with $python"
        rm -rf "$venv"
        "$python" -m venv "$venv"
    fi
    say "installing the locked requirements"
    # Each kind adds to the others; but what was made from other files is not ready any more.
    for ready in "$venv"/.ready-*; do
        [[ -f $ready && $(<"$ready") == "$(digest)" ]] || rm -f "$ready"
    done
    # pyfuse3 is compiled here, with the locked build tools rather than with today's newest ones.
    pip_install --require-hashes -r "$top/requirements/build.txt"
    pip_install --require-hashes --no-build-isolation -r "$top/requirements/$kind.txt"
    pip_install --no-deps --no-build-isolation "${itself[@]}"
    digest >"$venv/.ready-run" # it is part of every other kind
    digest >"$venv/.ready-$kind"
}

pip_install() {
    "$venv/bin/python" -I -m pip install --quiet --no-input --disable-pip-version-check "$@"
}

# Everything that .venv was made from. An interpreter that is gone makes it differ as well.
digest() {
    {
        identity "$venv/bin/python" || :
        echo "$top"
        cat "$top"/requirements/*.txt "$top/pyproject.toml"
    } | sha256sum
}

# False after an upgrade of Python (3.13 does not see what 3.11 installed) and for a checkout that
# was moved or copied (the commands in bin/ name the old place).
is_venv() {
    "$venv/bin/python" -Ic 'import pip' 2>/dev/null &&
        grep -qF "$venv/bin/" "$venv/bin/pip" && is_chosen_python
}

is_chosen_python() {
    [[ -z ${PYTHON:-} || $(identity "$PYTHON") == "$(identity "$venv/bin/python")" ]]
}

identity() {
    "$1" -IS -c 'import sys; print(sys.base_prefix, *sys.version_info)' 2>/dev/null
}

# Debian's own first: another user can execute it, unlike one below somebody's home directory.
find_python() {
    local python
    for python in ${PYTHON:-/usr/bin/python3 python3}; do
        if "$python" -Ic 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            command -v "$python"
            return
        fi
    done
    return 1
}

missing_commands() {
    local kind=$1 pair commands=("${run_commands[@]}")
    if [[ $kind == test ]]; then commands+=("${test_commands[@]}"); fi
    for pair in "${commands[@]}"; do
        command -v "${pair%%:*}" >/dev/null || echo "${pair#*:}"
    done
    if [[ $kind != run ]]; then missing_servers "$kind"; fi
}

# Debian has these off the PATH of a user.
missing_servers() {
    command -v initdb >/dev/null || compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null ||
        echo postgresql
    [[ $1 != test ]] || command -v pgbouncer >/dev/null || [[ -x /usr/sbin/pgbouncer ]] ||
        echo pgbouncer
}

# Looks for what is needed, not for package names: a Python or compiler of one's own is fine.
missing_packages() {
    local python header='import os, sysconfig; os.stat(sysconfig.get_path("include") + "/Python.h")'
    missing_commands "$1"
    command -v gcc >/dev/null || echo gcc libc6-dev
    command -v pkg-config >/dev/null || echo pkg-config
    pkg-config --exists fuse3 2>/dev/null || echo libfuse3-dev
    if python=$(find_python); then
        "$python" -Ic 'import ensurepip' 2>/dev/null || echo python3-venv
        "$python" -Ic "$header" 2>/dev/null || echo python3-dev
    else
        echo python3 python3-venv python3-dev
    fi
}

install_packages() {
    local packages root=()
    mapfile -t packages < <(missing_packages "$1" | tr ' ' '\n')
    if ((${#packages[@]} == 0)); then return; fi

    local apt=(apt-get install -y --no-install-recommends "${packages[@]}")
    command -v apt-get >/dev/null || die "this machine lacks what Debian calls: ${packages[*]}"
    if ((EUID != 0)); then
        may_sudo || die "packages are missing; as root run:" "    apt-get update && ${apt[*]}"
        root=(sudo)
    fi
    say "installing ${packages[*]}"
    # An update may fail over a source that has nothing to do with us; the installation decides.
    "${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get update -qq || :
    forbid_cluster "${packages[@]}"
    # RUNLEVEL: what is installed for tests is not started as a service.
    "${root[@]}" env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 "${apt[@]}" -qq \
        -o DPkg::Lock::Timeout=300
    "${root[@]}" rm -f "$no_cluster"
    packages=$(missing_packages "$1" | tr '\n' ' ')
    [[ -z $packages ]] || die "still missing after the installation (is PYTHON wrong?): $packages"
}

# Debian's package makes and starts a database server of its own; the tests start theirs.
no_cluster=/etc/postgresql-common/createcluster.d/storefs-tests.conf
forbid_cluster() {
    [[ " $* " == *' postgresql '* ]] || return 0
    "${root[@]}" mkdir -p "${no_cluster%/*}"
    echo 'create_main_cluster = false' | "${root[@]}" tee "$no_cluster" >/dev/null
}

# Without a terminal sudo must not ask for a password; with one it may.
may_sudo() {
    command -v sudo >/dev/null && { sudo -n true 2>/dev/null || { [[ -t 0 && -t 2 ]] && sudo -v; }; }
}

say() {
    echo "${0##*/}: $*" >&2
}

die() {
    say "$1"
    shift
    if (($#)); then printf '%s\n' "$@" >&2; fi
    exit 1
}
