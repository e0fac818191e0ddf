"""The vendor's own tests of its API, `differential.py SPECIFICATION FOLDER…`, as a list of requests: each that only reads
is sent around the proxy, through it by somebody with a grant for everything, and through it by somebody whose grant
covers each name but not everything. The three must answer the same: status, headers that matter, body. Each that writes
is sent through the proxy, or around it where it is refused, so that what follows finds what it expects.

Prints what differs, and at the end how many were compared."""

import base64
import collections
import glob
import http.client
import json
import os
import re
import sys
from urllib.parse import quote

import yaml

specification, folders = sys.argv[1], sys.argv[2:]
direct, proxied = (int(os.environ[f"TEST_{name}"]) for name in ("DIRECT", "PROXIED"))
people = {"everything": os.environ["TEST_EVERYTHING"], "names": os.environ["TEST_NAMES"]}
HEADERS = ("content-type", "content-length", "x-elastic-product", "warning", "location", "content-encoding")
# What the proxy refuses, whoever asks.
OURS = re.compile(r"\[TG\d+\]")
# What differs from one answer to the next, with or without a proxy.
MOVING = re.compile(r'"(?:took|[a-z_]*(?:in_millis|_time|timestamp|uptime)[a-z_]*|_scroll_id|pit_id)" ?: ?(?:"[^"]*"|[\d.]+),?')
# An error quotes the path that was asked, in which names stand for wildcards.
QUOTED = re.compile(r"request \[/[^\]]*\]")
ALSO_READ = ("search", "count", "msearch", "mget", "explain", "field_caps", "termvectors", "mtermvectors", "analyze",
             "validate_query", "rank_eval")

apis = {}
for name in glob.glob(f"{specification}/api/*.json"):
    with open(name) as file:
        apis.update(json.load(file))


class Way:
    def __init__(self, port, proof):
        self.connection = http.client.HTTPConnection("localhost", port, timeout=60)
        self.proof = proof and "Basic " + base64.b64encode(proof.encode()).decode()

    def answer(self, method, target, body, headers):
        self.connection.request(method, target, body, headers)
        return self.connection.getresponse()

    def ask(self, method, target, body):
        headers = {"Accept": "application/json"} if not target.startswith("/_cat") else {}
        if body is not None:
            headers["Content-Type"] = "application/json"
        if self.proof:
            headers["Authorization"] = self.proof
        try:
            answer = self.answer(method, target, body, headers)
        except (http.client.RemoteDisconnected, ConnectionError):
            # It may close after a request that it did not read whole, as clients know.
            self.connection.close()
            answer = self.answer(method, target, body, headers)
        data = answer.read()
        said = {name: answer.headers.get(name) for name in HEADERS}
        return answer.status, said, data


around = Way(direct, None)
through = {name: Way(proxied, proof) for name, proof in people.items()}
counts, differences = collections.Counter(), []


def text(value):
    if isinstance(value, bool):
        return json.dumps(value)
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)


def request(api, arguments):
    """Method, target and body, as a client would make them of the specification."""
    arguments = dict(arguments or {})
    body = arguments.pop("body", None)
    arguments.pop("ignore", None)
    fitting = [path for path in apis[api]["url"]["paths"] if all(part in arguments for part in path.get("parts", {}))]
    if not fitting:
        return None
    path = max(fitting, key=lambda path: len(path.get("parts", {})))
    target = path["path"]
    for part in path.get("parts", {}):
        value = arguments.pop(part)
        target = target.replace("{%s}" % part, quote(text(value), safe=",*"))
    if arguments:
        target += "?" + "&".join(f"{name}={quote(text(value), safe='')}" for name, value in arguments.items())
    methods = path["methods"]
    method = "POST" if body is not None and "POST" in methods else methods[0]
    if body is not None:
        if isinstance(body, list):
            body = "".join((line if isinstance(line, str) else json.dumps(line)).rstrip("\n") + "\n" for line in body)
        elif not isinstance(body, str):
            body = json.dumps(body, default=str)
        if api in ("bulk", "msearch", "msearch_template") and not body.endswith("\n"):
            body += "\n"
        body = body.encode()
    return method, target, body


def filled(value, stash):
    if isinstance(value, str):
        return stash.get(value.strip("${}"), value) if value.startswith("$") else value
    if isinstance(value, list):
        return [filled(one, stash) for one in value]
    if isinstance(value, dict):
        return {name: filled(one, stash) for name, one in value.items()}
    return value


def comparable(answer):
    status, headers, data = answer
    said = data.decode("utf-8", "replace")
    moved = QUOTED.sub("", MOVING.sub("", said)) if status >= 400 else MOVING.sub("", said)
    # Then the length may be another.
    headers = {name: value for name, value in headers.items() if name != "content-length" or moved == said}
    try:
        # In which order members come is a server's own whim.
        moved = json.dumps(json.loads(moved), sort_keys=True)
    except ValueError:
        pass
    return status, headers, moved


def reads(api, method):
    return method in ("GET", "HEAD") or api.split(".")[-1] in ALSO_READ


def step(api, arguments):
    if api not in apis:
        return None
    asked = request(api, arguments)
    if asked is None:
        return None
    method, target, body = asked
    if not reads(api, method):
        answer = through["everything"].ask(*asked)
        if OURS.search(answer[2].decode("utf-8", "replace")):
            counts["written, refused"] += 1
            answer = around.ask(*asked)
        else:
            counts["written"] += 1
        return answer
    answer = around.ask(*asked)
    for name, way in through.items():
        seen = way.ask(*asked)
        if OURS.search(seen[2].decode("utf-8", "replace")) or method == "HEAD" and seen[0] in (400, 403):
            counts[f"{name}, refused"] += 1
        elif comparable(seen) == comparable(answer):
            counts[f"{name}, the same"] += 1
        else:
            # It may have moved between the two.
            again = around.ask(*asked)
            if comparable(seen) != comparable(again) and comparable(answer) == comparable(again):
                differences.append((name, method, target, comparable(answer), comparable(seen)))
            else:
                counts[f"{name}, moving"] += 1
    return answer


def wipe():
    around.ask("DELETE", "/*,-.*?expand_wildcards=open,closed,hidden", None)
    _, _, found = around.ask("GET", "/_cat/indices?h=index&expand_wildcards=all", None)
    for index in found.decode().split():
        around.ask("DELETE", f"/{index}", None)
    for kind in ("_index_template", "_template", "_component_template"):
        around.ask("DELETE", f"/{kind}/*", None)
    # What is done around the proxy counts within a second; what may change names through it, at once.
    through["everything"].ask("DELETE", "/_component_template/none-such", None)


def play(steps, stash):
    last = None
    for one in steps or []:
        if "set" in one and last:
            for path, name in one["set"].items():
                try:
                    value = json.loads(last[2])
                    for part in path.split("."):
                        value = value[int(part)] if isinstance(value, list) else value[part]
                    stash[name] = value
                except (ValueError, KeyError, IndexError, TypeError):
                    pass
        if "do" in one:
            for api, arguments in one["do"].items():
                if api not in ("catch", "headers", "allowed_warnings", "allowed_warnings_regex", "warnings",
                               "warnings_regex", "node_selector"):
                    last = step(api, filled(arguments, stash)) or last


for folder in folders:
    pattern = folder if "/" in folder else folder + "/*"
    for name in sorted(glob.glob(f"{specification}/test/{pattern}.y*ml")):
        with open(name) as file:
            try:
                parts = [part for part in yaml.safe_load_all(file) if part]
            except yaml.YAMLError:
                continue
        setup = [steps for part in parts for title, steps in part.items() if title == "setup"]
        for part in parts:
            for title, steps in part.items():
                if title in ("setup", "teardown"):
                    continue
                wipe()
                stash = {}
                for steps_of_setup in setup:
                    play(steps_of_setup, stash)
                play(steps, stash)
                counts["sections"] += 1
wipe()
for difference in differences:
    print("differs:", *difference, sep="\n  ")
print(json.dumps(counts))
