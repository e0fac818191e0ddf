#!/usr/bin/env bash
# MySQL's and MariaDB's servers for the live tests, each a folder below the cache with the same programs in it:
# `server` and `initialise FOLDER`, and the clients of that release under their own names. Nothing of them is started
# here, and none of them reads the machine's own configuration. Sourced after lib.sh.

# The distribution's own is 10.11 on Debian 12. The others are those of later releases of Debian, which keep no older
# ones: the series is what is pinned, and what runs says its version.
MARIADB11_SUITE=trixie
MARIADB11_SERIES=11.8
MYSQL9_SUITE=sid
MYSQL9_SERIES=9

mariadb10_bin() { echo "$(cache_dir)/mariadb-distribution"; }
mariadb11_bin() { echo "$(cache_dir)/mariadb-$MARIADB11_SERIES"; }
mysql9_bin() { echo "$(cache_dir)/mysql-$MYSQL9_SERIES"; }

setup_mysql_servers() {
    mkdir -p "$(cache_dir)"
    chmod 755 "$(cache_dir)"
    setup_distribution_mariadb
    setup_pam
    setup_later_mysql "$(mariadb11_bin)" "MariaDB $MARIADB11_SERIES" "$MARIADB11_SERIES" "$MARIADB11_SUITE" mariadb
    setup_later_mysql "$(mysql9_bin)" "MySQL $MYSQL9_SERIES" "$MYSQL9_SERIES" "$MYSQL9_SUITE" mysql
}

# How a folder was made; another way of making it makes it again.
mysql_stamp() { { echo "$@"; declare -f mysql_programs setup_distribution_mariadb setup_later_mysql; } | sha256sum; }
mysql_here() {
    local folder=$1; shift
    [ "$(cat "$folder/stamp" 2>/dev/null)" = "$(mysql_stamp "$@")" ]
}

# mysql_programs FOLDER KIND ROOT: the programs, upon the files below ROOT, which is empty for the distribution's own
# and else has its own loader and libraries.
mysql_programs() {
    local folder=$1 kind=$2 tree=$3 loader='' more='' plugins daemon program
    if [ -n "$tree" ]; then
        loader='lib=$(echo "$root"/usr/lib/*-linux-gnu)
loader=$(ls "$root"/usr/lib64/ld-linux-*.so.* "$lib"/ld-linux-*.so.* 2>/dev/null | head -n 1)
run() { program=$1; shift; exec "$loader" --library-path "$lib" "$root$program" "$@"; }'
        tree='$(cd "$(dirname "$0")" && pwd)/tree'
    else
        loader='lib=$(echo /usr/lib/*-linux-gnu)
run() { exec "$@"; }'
    fi
    put() { printf '#!/bin/sh\nroot=%s\n%s\n%s\n' "$tree" "$loader" "$2" >"$folder/$1"; chmod 755 "$folder/$1"; }
    if [ "$kind" = mysql ]; then
        # The folder that Debian's build would read and write files in is not there.
        daemon=mysqld more=' --secure-file-priv=NULL' plugins='$root/usr/lib/mysql/plugin'
        set -- mysql mysqldump mysqladmin
    else
        daemon=mariadbd plugins='$lib/libmariadb3/plugin'
        set -- mariadb mariadb-dump mariadb-admin
    fi
    for program; do
        put "$program" "run /usr/bin/$program --no-defaults --plugin-dir=\"$plugins\" \"\$@\""
    done
    # Its messages and plugins are where a server of the distribution would look for its own.
    put server "share=\$root/usr/share/mysql
[ -d \"\$root/usr/share/mariadb/english\" ] && share=\$root/usr/share/mariadb
run /usr/sbin/$daemon --no-defaults$more --lc-messages-dir=\"\$share\" --character-sets-dir=\"\$share/charsets\" \\
    --plugin-dir=\"\$root/usr/lib/mysql/plugin\" \"\$@\""
    # The superuser is root@localhost, without a password.
    if [ "$kind" = mysql ]; then
        put initialise "exec \"\$(dirname \"\$0\")/server\" --initialize-insecure --datadir=\"\$1\" \\
    --innodb-buffer-pool-size=32M"
    else
        put initialise "share=\$root/usr/share/mariadb
[ -e \"\$share/maria_add_gis_sp_bootstrap.sql\" ] || share=\$root/usr/share/mysql
mkdir -p \"\$1/mysql\"
{
    printf '%s\\n' 'create database if not exists mysql;' 'use mysql;' 'set @auth_root_socket = null;'
    for part in system_tables performance_tables system_tables_data; do cat \"\$share\"/m*_\$part.sql; done |
        sed '/@current_hostname/d'
    cat \"\$share/maria_add_gis_sp_bootstrap.sql\" \"\$share\"/m*_sys_schema.sql
} | \"\$(dirname \"\$0\")/server\" --bootstrap --datadir=\"\$1\" --skip-log-bin --innodb-fast-shutdown=1 \\
    --loose-enforce-storage-engine= 2>&1"
    fi
}

setup_distribution_mariadb() {
    local folder work policy=/usr/sbin/policy-rc.d made='' missing=()
    folder=$(mariadb10_bin)
    [ -x /usr/sbin/mariadbd ] || missing+=(mariadb-server)
    [ -x /usr/bin/mariadb-dump ] || missing+=(mariadb-client)
    if [ ${#missing[@]} != 0 ]; then
        # Nothing is to run by itself.
        [ -e $policy ] ||
            { printf '#!/bin/sh\nexit 101\n' | as_root tee $policy >/dev/null; as_root chmod 755 $policy; made=1; }
        apt_install "${missing[@]}"
        [ -z "$made" ] || as_root rm -f $policy
    fi
    mysql_here "$folder" && return 0
    work=$(mktemp -d "$(cache_dir)/mariadb.XXXXXX")
    mysql_programs "$work" mariadb ""
    mysql_put "$work" "$folder"
}

# What MariaDB's PAM plugin asks in the tests: a service of its own, which nothing else uses, and one password for
# everybody (ROLE_PASSWORD in tests/live/support/server.rs).
setup_pam() {
    local file=/etc/pam.d/tidegate-tests wanted
    wanted='# Made by scripts/setup for the live tests of Tidegate. Nobody logs in to this machine by it.
auth required pam_exec.so quiet expose_authtok /bin/sh -c [read -r password; test "$password" = "only the proxy knows"]
account required pam_permit.so'
    [ "$(cat $file 2>/dev/null)" = "$wanted" ] || echo "$wanted" | as_root tee $file >/dev/null
}

# setup_later_mysql FOLDER NAME SERIES SUITE KIND: of another release of Debian. Only unpacked, with its own libraries.
setup_later_mysql() {
    local folder=$1 name=$2 series=$3 suite=$4 kind=$5 work
    mysql_here "$folder" "$series" "$suite" && return 0
    local missing=()
    have mmdebstrap || missing+=(mmdebstrap)
    [ -e /usr/share/keyrings/debian-archive-keyring.gpg ] || missing+=(debian-archive-keyring)
    [ ${#missing[@]} = 0 ] || apt_install "${missing[@]}"
    say "Fetching $name"
    work=$(mktemp -d "$(cache_dir)/$kind.XXXXXX")
    if [ -e "$folder/tree/usr/sbin" ] && "$folder/server" --version 2>/dev/null | grep -q "Ver $series\\."; then
        mv -T "$folder/tree" "$work/tree"
    else
        mmdebstrap --quiet --variant=extract --aptopt='Acquire::Check-Valid-Until "false"' \
            --aptopt='Apt::Install-Recommends "false"' --include="$kind-server,$kind-client" \
            "$suite" "$work/tree" >&2 ||
            { rm -rf "$work"; die "$name cannot be fetched"; }
    fi
    mysql_programs "$work" "$kind" tree
    "$work/server" --version 2>/dev/null | grep -q "Ver $series\\." ||
        { rm -rf "$work"; die "what was fetched is not $name, or does not run: set its series in scripts/mysql.sh"; }
    mysql_put "$work" "$folder" "$series" "$suite"
}

# In one step, so that an interrupted run leaves nothing that looks whole.
mysql_put() {
    local work=$1 folder=$2; shift 2
    mysql_stamp "$@" >"$work/stamp"
    chmod -R go+rX "$work"
    rm -rf "$folder"
    mv -T "$work" "$folder"
}
