#!/usr/bin/env bash
# RabbitMQ for the live tests, with its management plugin: a folder below the cache with the programs `epmd` and
# `server`, and links to `rabbitmqadmin` and a browser. Everything that runs has its state in a folder that the caller
# names, listens on loopback only, and is one process that the caller ends by its id. Sourced after lib.sh.

rabbitmq_bin() { echo "$(cache_dir)/rabbitmq"; }

# The distribution's own: 3.10 on Debian 12.
rabbitmq_home() { ls -d /usr/lib/rabbitmq/lib/rabbitmq_server-*/ 2>/dev/null | sort -V | tail -n 1 | sed 's|/$||'; }

# The console is for people: a real browser, without a screen.
browser_program() { command -v chromium-headless-shell || command -v chromium || command -v google-chrome; }

setup_rabbitmq() {
    local folder work policy=/usr/sbin/policy-rc.d made='' missing=()
    folder=$(rabbitmq_bin)
    mkdir -p "$(cache_dir)"
    chmod 755 "$(cache_dir)"
    [ -n "$(rabbitmq_home)" ] && [ -x /usr/bin/rabbitmqadmin ] || missing+=(rabbitmq-server)
    if ! browser_program >/dev/null; then
        apt_update chromium
        if apt_has chromium-headless-shell; then missing+=(chromium-headless-shell); else missing+=(chromium); fi
    fi
    { have node && have npm; } || missing+=(nodejs npm)
    have python3 || missing+=(python3)
    if [ ${#missing[@]} != 0 ]; then
        # Nothing is to run by itself.
        [ -e $policy ] ||
            { printf '#!/bin/sh\nexit 101\n' | as_root tee $policy >/dev/null; as_root chmod 755 $policy; made=1; }
        apt_install "${missing[@]}"
        [ -z "$made" ] || as_root rm -f $policy
    fi
    [ "$(cat "$folder/stamp" 2>/dev/null)" = "$(rabbitmq_stamp)" ] && return 0
    work=$(mktemp -d "$(cache_dir)/rabbitmq.XXXXXX")
    rabbitmq_programs "$work"
    rabbitmq_browser "$work"
    rabbitmq_stamp >"$work/stamp"
    chmod -R go+rX "$work"
    rm -rf "$folder"
    mv -T "$work" "$folder"
}

# What the folder is made of; another way of making it makes it again.
rabbitmq_stamp() {
    {
        rabbitmq_home
        browser_program
        declare -f rabbitmq_programs rabbitmq_browser
        cat tests/clients/browser/package-lock.json
    } | sha256sum
}

rabbitmq_programs() {
    local work=$1 home epmd
    home=$(rabbitmq_home)
    epmd=$(ls -d /usr/lib/erlang/erts-*/bin/epmd /usr/bin/epmd 2>/dev/null | sort -V | tail -n 1)
    [ -n "$home" ] && [ -x "$epmd" ] || die "no RabbitMQ or no Erlang after apt-get install"
    # epmd PORT: where the nodes of one machine find each other. In the foreground, as the server's own would stay
    # behind.
    printf '#!/bin/sh\nexec %s -port "$1" -address 127.0.0.1\n' "$epmd" >"$work/epmd"
    cat >"$work/server" <<END
#!/bin/sh
# server FOLDER AMQP_PORT HTTP_PORT DISTRIBUTION_PORT EPMD_PORT
set -e
cd "\$1"
mkdir -p mnesia log
cat >rabbitmq.conf <<CONF
listeners.tcp.1 = 127.0.0.1:\$2
management.tcp.ip = 127.0.0.1
management.tcp.port = \$3
loopback_users.guest = true
collect_statistics_interval = 1000
CONF
echo '[rabbitmq_management].' >enabled_plugins
export HOME="\$1" ERL_EPMD_PORT="\$5" ERL_EPMD_ADDRESS=127.0.0.1 ERL_CRASH_DUMP="\$1/crash" ERL_CRASH_DUMP_SECONDS=0
export RABBITMQ_NODENAME=tidegate@localhost RABBITMQ_DIST_PORT="\$4" RABBITMQ_CONF_ENV_FILE="\$1/none"
export RABBITMQ_CONFIG_FILE="\$1/rabbitmq.conf" RABBITMQ_ADVANCED_CONFIG_FILE="\$1/none"
export RABBITMQ_ENABLED_PLUGINS_FILE="\$1/enabled_plugins" RABBITMQ_MNESIA_BASE="\$1/mnesia"
export RABBITMQ_LOG_BASE="\$1/log" RABBITMQ_LOGS=- RABBITMQ_PID_FILE="\$1/pid"
export RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS='-start_epmd false -kernel inet_dist_use_interface {127,0,0,1}'
# The virtual machine takes this process's place, and with it its id.
export RUNNING_UNDER_SYSTEMD=1
exec $home/sbin/rabbitmq-server
END
    chmod 755 "$work/epmd" "$work/server"
    ln -s /usr/bin/rabbitmqadmin "$work/rabbitmqadmin"
    ln -s "$home/plugins" "$work/plugins"
}

# What drives the browser: playwright-core by npm, whose lock file knows its checksum.
rabbitmq_browser() {
    local work=$1 folder=tests/clients/browser
    say "Fetching what drives the browser"
    cp $folder/package.json $folder/package-lock.json "$work"
    (cd "$work" && npm ci --silent --no-audit --no-fund --ignore-scripts </dev/null >&2) ||
        die "npm could not install $folder"
    ln -s "$(browser_program)" "$work/browser"
}
