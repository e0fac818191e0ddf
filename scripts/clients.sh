#!/usr/bin/env bash
# The real clients of the live tests: installed by setup_clients into one folder outside the repository,
# each in the version that is pinned here or in the lock files below tests/clients/. Sourced after lib.sh.

PGJDBC_VERSION=42.7.14
PGJDBC_SHA256=73914527305a40cce504b0d3d90b23caf565136912d607ae8ae7c5895512332c
CONNECTORJ_VERSION=26.10.0
CONNECTORJ_SHA256=cef70caf532833c9ab8f41f74773ce22c08bf503fad215c9c2ee1e9db87e759e
MARIADB_JDBC_VERSION=4.0.0
MARIADB_JDBC_SHA256=bb1211dac59ef4c54b7a8ad4755a913d36d2e81b34ca1d4cb9ffa9d5633df01f
# pgx is as old as its module says; what is fetched where there is no such Go is this one.
GO_WANTED=1.25
GO_VERSION=1.26.8
# Debian's next release has PostgreSQL 18's clients; pg_dump refuses servers newer than itself.
PG18_CLIENT_SUITE=forky

clients_dir() { echo "$(cache_dir)/clients"; }

# client_here NAME FILE…: is clients/NAME made of exactly these files of the repository, and of these pins?
client_stamp() {
    {
        declare -p ${!PGJDBC_*} ${!CONNECTORJ_*} ${!MARIADB_JDBC_*} GO_VERSION PG18_CLIENT_SUITE
        sha256sum "$@"
    } | sha256sum
}
client_here() {
    local name=$1; shift
    [ "$(cat "$(clients_dir)/$name/stamp" 2>/dev/null)" = "$(client_stamp "$@")" ]
}

# client_put NAME WORK FILE…: puts the finished folder WORK into its place, in one step.
client_put() {
    local name=$1 work=$2; shift 2
    client_stamp "$@" >"$work/stamp"
    chmod -R go+rX "$work"
    rm -rf "$(clients_dir)/$name"
    mv -T "$work" "$(clients_dir)/$name"
}

# client_work NAME: an empty folder to build in. Python's environments cannot be moved, so it is the place itself.
client_work() {
    rm -rf "$(clients_dir)/$1"
    mkdir -p "$(clients_dir)/$1"
    echo "$(clients_dir)/$1"
}

setup_clients() {
    mkdir -p "$(clients_dir)"
    chmod 755 "$(cache_dir)" "$(clients_dir)"
    setup_python_clients python tests/clients/python
    setup_python_clients http-python tests/clients/http/python
    # It says that it wants a newer Python than Debian 12 has; its grammars do not.
    setup_python_clients http-grammars tests/clients/http/grammars --ignore-requires-python
    setup_node_clients node tests/clients/node
    setup_node_clients http-node tests/clients/http/node
    setup_java_clients
    setup_go_clients
    setup_pg18_clients
    [ -x /usr/bin/sysbench ] || apt_install sysbench
}

# setup_python_clients NAME FOLDER [OPTION]: clients for Python, by pip, whose lock file knows every file's checksum:
# psycopg, asyncpg, pgcli, PyMySQL and MySQL's own; in environments of their own Elasticsearch's and OpenSearch's, and
# the grammars of ES|QL.
setup_python_clients() {
    local lock=$2/requirements.txt work python
    client_here "$1" "$lock" && return 0
    # The distribution's own, where there are several: another may be without its parts, or go away.
    for python in /usr/bin/python3 python3; do
        have "$python" && "$python" -c 'import ensurepip, venv' 2>/dev/null && break
        python=
    done
    if [ -z "$python" ]; then apt_install python3 python3-venv; python=/usr/bin/python3; fi
    say "Fetching clients in Python"
    work=$(client_work "$1")
    "$python" -m venv "$work" >&2 || die "$python cannot make an environment"
    "$work/bin/python" -m pip install --quiet --disable-pip-version-check --require-hashes --only-binary :all: \
        ${3:+"$3"} -r "$lock" >&2 || die "pip could not install $lock"
    client_stamp "$lock" >"$work/stamp"
    chmod -R go+rX "$work"
}

# setup_node_clients NAME FOLDER: node-postgres, postgres.js and mysql2, or Elasticsearch's and OpenSearch's own, by
# npm, whose lock file knows every package's checksum.
setup_node_clients() {
    local folder=$2 work
    client_here "$1" "$folder/package-lock.json" && return 0
    { have node && have npm; } || apt_install nodejs npm
    say "Fetching clients in JavaScript"
    work=$(client_work "$1.new")
    cp "$folder/package.json" "$folder/package-lock.json" "$work"
    (cd "$work" && npm ci --silent --no-audit --no-fund --ignore-scripts </dev/null >&2) ||
        die "npm could not install $folder"
    client_put "$1" "$work" "$folder/package-lock.json"
}

# java_jar WORK GROUP NAME VERSION SHA256: by Maven, or from the last time.
java_jar() {
    local work=$1 group=$2 name=$3 version=$4 sum=$5 jar=$3-$4.jar
    if [ -e "$(clients_dir)/java/$jar" ]; then cp "$(clients_dir)/java/$jar" "$work"
    else
        say "Fetching $name $version"
        mvn -q -B -Dstyle.color=never dependency:copy -Dartifact="$group:$name:$version:jar" \
            -DoutputDirectory="$work" </dev/null >&2 || die "Maven could not fetch $name"
    fi
    echo "$sum  $work/$jar" | sha256sum -c --quiet - >&2 ||
        die "the downloaded $name is not the one that was pinned"
}

# PgJDBC and the two for MySQL and MariaDB.
setup_java_clients() {
    local folder=tests/clients/java work
    client_here java $folder/* && return 0
    have javac || apt_install default-jdk-headless
    have mvn || apt_install maven
    work=$(client_work java.new)
    java_jar "$work" org.postgresql postgresql $PGJDBC_VERSION $PGJDBC_SHA256
    java_jar "$work" com.mysql mysql-connector-j $CONNECTORJ_VERSION $CONNECTORJ_SHA256
    java_jar "$work" org.mariadb.jdbc mariadb-java-client $MARIADB_JDBC_VERSION $MARIADB_JDBC_SHA256
    javac -cp "$work/*" -d "$work" $folder/*.java >&2 || die "javac failed on $folder"
    ln -s postgresql-$PGJDBC_VERSION.jar "$work/postgresql.jar"
    ln -s mysql-connector-j-$CONNECTORJ_VERSION.jar "$work/mysql.jar"
    ln -s mariadb-java-client-$MARIADB_JDBC_VERSION.jar "$work/mariadb.jar"
    client_put java "$work" $folder/*
}

go_here() {
    local go
    for go in "$(command -v go)" /usr/local/go/bin/go "$(clients_dir)/toolchain/bin/go"; do
        [ -x "$go" ] && at_least "$(GOTOOLCHAIN=local "$go" env GOVERSION 2>/dev/null | sed 's/^go//')" "$GO_WANTED" &&
            { echo "$go"; return 0; }
    done
    return 1
}

# An older Go fetches a newer one as a module, whose checksum Go's own database of checksums knows.
setup_go() {
    go_here >/dev/null && return 0
    have go || apt_install golang-go
    local module work
    case $(uname -m) in
        x86_64) module=golang.org/toolchain@v0.0.1-go$GO_VERSION.linux-amd64 ;;
        aarch64) module=golang.org/toolchain@v0.0.1-go$GO_VERSION.linux-arm64 ;;
        *) die "no Go is known for $(uname -m); install Go $GO_WANTED or newer" ;;
    esac
    say "Fetching Go $GO_VERSION"
    work=$(client_work toolchain.new)
    (cd "$work" && GOTOOLCHAIN=local GOFLAGS=-modcacherw GOMODCACHE=$work/modules go mod download "$module" >&2) ||
        die "Go could not fetch $module"
    # Modules hold no modes.
    chmod -R u+w,go+rX "$work"
    chmod 755 "$work/modules/$module"/bin/* "$work/modules/$module"/pkg/tool/*/*
    rm -rf "$(clients_dir)/toolchain"
    mv -T "$work/modules/$module" "$(clients_dir)/toolchain"
    rm -rf "$work"
    go_here >/dev/null || die "the fetched Go does not run"
}

# pgx, lib/pq and MySQL's driver, and the tests of pgx and of that one, which come with their modules.
setup_go_clients() {
    local folder=tests/clients/go work go pgx mysql package
    client_here go $folder/* && return 0
    setup_go
    go=$(go_here)
    say "Building clients in Go"
    work=$(client_work go.new)
    (cd $folder && GOFLAGS=-buildvcs=false "$go" build -o "$work/clients" .) >&2 || die "Go could not build $folder"
    pgx=$(cd $folder && "$go" list -m -f '{{.Dir}}' github.com/jackc/pgx/v5) || die "Go does not find pgx"
    cp -r "$pgx" "$work/pgx"
    chmod -R u+w "$work/pgx"
    for package in . pgconn pgxpool stdlib; do
        (cd "$work/pgx/$package" && GOFLAGS=-buildvcs=false "$go" test -c -o "suite.test" .) >&2 ||
            die "Go could not build pgx's tests"
    done
    mysql=$(cd $folder && "$go" list -m -f '{{.Dir}}' github.com/go-sql-driver/mysql) ||
        die "Go does not find its driver"
    cp -r "$mysql" "$work/mysql"
    chmod -R u+w "$work/mysql"
    (cd "$work/mysql" && GOFLAGS=-buildvcs=false "$go" test -c -o "suite.test" .) >&2 ||
        die "Go could not build the tests of MySQL's driver"
    client_put go "$work" $folder/*
}

# psql, pg_dump and pg_restore of PostgreSQL 18 with its libpq. Only unpacked, with its own libraries.
setup_pg18_clients() {
    local work program
    client_here pg18 /dev/null && return 0
    local missing=()
    have mmdebstrap || missing+=(mmdebstrap)
    [ -e /usr/share/keyrings/debian-archive-keyring.gpg ] || missing+=(debian-archive-keyring)
    [ ${#missing[@]} = 0 ] || apt_install "${missing[@]}"
    say "Fetching PostgreSQL 18's clients"
    work=$(client_work pg18.new)
    mmdebstrap --quiet --variant=extract --aptopt='Acquire::Check-Valid-Until "false"' \
        --aptopt='Apt::Install-Recommends "false"' --include=postgresql-client-18 $PG18_CLIENT_SUITE "$work/tree" >&2 ||
        die "PostgreSQL 18's clients cannot be fetched"
    for program in psql pg_dump pg_restore; do
        cat >"$work/$program" <<END2
#!/bin/sh
tree=\$(dirname "\$0")/tree
lib=\$(echo "\$tree"/usr/lib/*-linux-gnu)
loader=\$(ls "\$tree"/usr/lib64/ld-linux-*.so.* "\$lib"/ld-linux-*.so.* 2>/dev/null | head -n 1)
exec "\$loader" --library-path "\$lib" "\$tree/usr/lib/postgresql/18/bin/$program" "\$@"
END2
        chmod 755 "$work/$program"
    done
    "$work/psql" --version >/dev/null || die "the fetched psql does not run"
    client_put pg18 "$work" /dev/null
}
