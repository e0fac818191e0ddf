# Shared by the scripts in this folder; sourced by bash, after `cd` to the root of the repository.
# Nothing in here starts or stops a service of the machine: the tests run servers of their own.

set -euo pipefail

say() { printf '\033[1m%s\033[0m\n' "$*" >&2; }
die() { printf 'error: %s\n' "$*" >&2; exit 1; }
have() { command -v "$1" >/dev/null 2>&1; }

# The PostgreSQL of the newest version that the tests use: one pinned, portable build of the real
# server, from Maven Central, by Maven's own client (so its settings for mirrors and proxies apply).
PG18_VERSION=18.4.0
PG18_SHA256_amd64=401d4e69baba9072d3772607710df0d47b39a7632c6b01b2a5f5d85a9514e212
PG18_SHA256_arm64v8=a9ec284923b9a7d2db41509bfb88c3d0eeb9f4aa5e2b29ea0aac5e8dbaf4c335

# Downloads are kept outside the repository. The servers refuse to run as root and then run as
# `postgres`, who cannot look into root's home.
cache_dir() {
    if [ "$(id -u)" = 0 ]; then echo /var/cache/tidegate-tests
    else echo "${XDG_CACHE_HOME:-$HOME/.cache}/tidegate-tests"; fi
}

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"
    elif have sudo; then sudo -- "$@"
    else die "this needs root: $* (become root, or install sudo)"; fi
}

APT_UPDATED=
apt_update() {
    [ -z "$APT_UPDATED" ] || return 0
    have apt-get || die "only Debian and Ubuntu are known here; install what is missing by hand: $*"
    as_root apt-get update -qq || die "apt-get update failed; what is missing: $*"
    APT_UPDATED=1
}

# Is there a package of this name to be had?
apt_has() { [ -n "$(apt-cache --quiet=0 show --no-all-versions "$1" 2>/dev/null)" ]; }

apt_install() {
    apt_update "$@"
    say "Installing $*"
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" \
        </dev/null >&2 || die "apt-get could not install $*"
}

# Is version $1 at least $2?
at_least() { [ "$(printf '%s\n%s\n' "$2" "$1" | sort -V | head -n 1)" = "$2" ]; }

rust_wanted() { sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml; }

rust_here() {
    have cargo && have rustc || return 1
    at_least "$(rustc --version | awk '{print $2}')" "$(rust_wanted)"
}

# A toolchain, where there is none: the distribution's, if it is new enough, else its rustup.
# Debian 12 has a current one under the name that its browsers are built with, `cargo-web`.
setup_rust() {
    [ -x "$HOME/.cargo/bin/cargo" ] && PATH="$HOME/.cargo/bin:$PATH"
    if ! rust_here; then
        local wanted; wanted=$(rust_wanted)
        if have rustup; then
            say "Updating the Rust toolchain (needed: $wanted)"
            rustup toolchain install stable --profile minimal -c clippy -c rustfmt >&2
            rustup default stable >&2
        else
            apt_update cargo
            if apt_new_enough cargo "$wanted"; then apt_install cargo rustc rust-clippy rustfmt
            elif apt_new_enough cargo-web "$wanted"; then
                apt_install cargo-web rustc-web rust-web-clippy rustfmt-web
            elif apt_has rustup; then
                apt_install rustup
                rustup toolchain install stable --profile minimal -c clippy -c rustfmt >&2
                rustup default stable >&2
            fi
        fi
        hash -r
        rust_here || die "Rust $wanted or newer is needed and apt has none; install it with rustup and run this again"
    fi
    have cc || apt_install build-essential
    # What links without the C library's headers is rare, but a compiler alone is not enough.
    [ -e /usr/include/stdio.h ] || apt_install libc6-dev
}

# Does apt have this package in a version whose upstream part is at least $2? Debian's cargo was
# numbered apart from Rust (0.66 for 1.65) up to 2023; such a number is never new enough, rightly.
apt_new_enough() {
    local version
    version=$(apt-cache show --no-all-versions "$1" 2>/dev/null | sed -n 's/^Version: \([0-9.]*\).*/\1/p' | head -n 1)
    [ -n "$version" ] && at_least "$version" "$2"
}

have_clippy() { cargo clippy --version >/dev/null 2>&1 && cargo fmt --version >/dev/null 2>&1; }

setup_clippy() {
    have_clippy && return 0
    if have rustup; then rustup component add clippy rustfmt >&2
    elif [ -n "$(dpkg-query -W -f '${Version}' cargo-web 2>/dev/null)" ]; then apt_install rust-web-clippy rustfmt-web
    else apt_install rust-clippy rustfmt; fi
    have_clippy || die "cargo clippy and cargo fmt are needed; add them to the Rust toolchain in use"
}

# The folder of the distribution's own PostgreSQL server: 15 on Debian 12, else the oldest there is.
distribution_pg_bin() {
    local bin
    for bin in /usr/lib/postgresql/15/bin $(ls -d /usr/lib/postgresql/*/bin 2>/dev/null | sort -V); do
        [ -x "$bin/postgres" ] && [ -x "$bin/initdb" ] && { echo "$bin"; return 0; }
    done
    return 1
}

setup_distribution_pg() {
    if ! distribution_pg_bin >/dev/null; then
        apt_update postgresql
        if apt_has postgresql-15; then apt_install postgresql-15; else apt_install postgresql; fi
        distribution_pg_bin >/dev/null || die "no PostgreSQL server under /usr/lib/postgresql after apt-get install"
    fi
    have psql || apt_install postgresql-client
}

# Languages whose interpreters keep state of their own, for the tests of what a reset does not clear: Perl in the
# distribution's server, Tcl in the newest.
setup_languages() {
    local version missing=()
    version=$(distribution_pg_bin | sed -n 's|^/usr/lib/postgresql/\([0-9]*\)/bin$|\1|p')
    if [ -n "$version" ] && [ ! -e "/usr/lib/postgresql/$version/lib/plperl.so" ]; then
        missing+=("postgresql-plperl-$version")
    fi
    ldconfig -p 2>/dev/null | grep -q 'libtcl8\.6' || [ -e "/usr/lib/$(uname -m)-linux-gnu/libtcl8.6.so" ] ||
        missing+=(libtcl8.6)
    [ ${#missing[@]} = 0 ] || apt_install "${missing[@]}"
}

newest_pg_bin() {
    local bin
    for bin in /usr/lib/postgresql/18/bin "$(cache_dir)/postgresql-$PG18_VERSION/bin"; do
        [ -x "$bin/postgres" ] && [ -x "$bin/initdb" ] && { echo "$bin"; return 0; }
    done
    return 1
}

setup_newest_pg() {
    newest_pg_bin >/dev/null && return 0
    local machine sum file work cache
    case $(uname -m) in
        x86_64) machine=amd64; sum=$PG18_SHA256_amd64 ;;
        aarch64) machine=arm64v8; sum=$PG18_SHA256_arm64v8 ;;
        *) die "no build of PostgreSQL 18 is known for $(uname -m); put one at /usr/lib/postgresql/18" ;;
    esac
    local missing=()
    have mvn || missing+=(maven default-jre-headless)
    have unzip || missing+=(unzip)
    have xz || missing+=(xz-utils)
    [ ${#missing[@]} = 0 ] || apt_install "${missing[@]}"
    cache=$(cache_dir)
    mkdir -p "$cache"
    work=$(mktemp -d "$cache/download.XXXXXX")
    file=embedded-postgres-binaries-linux-$machine
    say "Fetching PostgreSQL $PG18_VERSION"
    mvn -q -B -Dstyle.color=never dependency:copy -Dartifact="io.zonky.test.postgres:$file:$PG18_VERSION:jar" \
        -DoutputDirectory="$work" </dev/null >&2 ||
        { rm -rf "$work"; die "Maven could not fetch PostgreSQL $PG18_VERSION"; }
    echo "$sum  $work/$file-$PG18_VERSION.jar" | sha256sum -c --quiet - >&2 \
        || { rm -rf "$work"; die "the downloaded PostgreSQL $PG18_VERSION is not the one that was pinned"; }
    mkdir "$work/tree"
    unzip -qp "$work/$file-$PG18_VERSION.jar" '*.txz' | tar -xJ -C "$work/tree"
    "$work/tree/bin/postgres" --version >/dev/null ||
        { rm -rf "$work"; die "PostgreSQL $PG18_VERSION does not run on this machine"; }
    chmod -R go+rX "$work/tree"
    chmod 755 "$cache"
    # In one step, so that an interrupted run leaves nothing that looks whole.
    mv -T "$work/tree" "$cache/postgresql-$PG18_VERSION" 2>/dev/null || newest_pg_bin >/dev/null \
        || die "cannot put PostgreSQL into $cache"
    rm -rf "$work"
}

show_versions() {
    printf '  %s\n' "$(rustc --version)" "$(psql --version)" "$("$(distribution_pg_bin)/postgres" --version)" >&2
    [ "${1:-}" = tests ] || return 0
    printf '  %s\n' "$("$(newest_pg_bin)/postgres" --version)" >&2
    local server
    for server in "$(mariadb10_bin)" "$(mariadb11_bin)" "$(mysql9_bin)"; do
        printf '  %s\n' "$("$server/server" --version 2>/dev/null | sed 's|^.*/||')" >&2
    done
    sed -n 's|^[^ ]*/lib org\.\(elasticsearch\|opensearch\):[a-z]*search:\([0-9.]*\) .*|  \1 \2|p' \
        tests/servers/maven.lock >&2
}
