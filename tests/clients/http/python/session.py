"""What a person does all day with the official clients for Python: `session.py elasticsearch|opensearch day|refusals`.
It prints what it sees, one line each, and nothing that differs from run to run."""

import os
import sys

product, part = sys.argv[1:]
url, user, secret, prefix = (os.environ[f"TEST_{name}"] for name in ("URL", "USER", "SECRET", "PREFIX"))
login = (user, secret) if user else None
if product == "elasticsearch":
    from elasticsearch import ApiError as Refused
    from elasticsearch import Elasticsearch, helpers

    client = Elasticsearch(url, basic_auth=login, request_timeout=60)
    document = "document"
else:
    from opensearchpy import OpenSearch, helpers
    from opensearchpy.exceptions import TransportError as Refused

    client = OpenSearch([url], http_auth=login, timeout=60)
    document = "body"

logs, more, secret_index = f"{prefix}logs-1", f"{prefix}logs-2", f"{prefix}secret"


def body(**members):
    """Elasticsearch's client takes the members of a body as arguments, OpenSearch's takes a body."""
    return members if product == "elasticsearch" else {"body": members}


def show(name, value):
    print(f"{name}: {value!r}", flush=True)


def status(answer):
    return answer.meta.status if product == "elasticsearch" else None


def hits(answer):
    return answer["hits"]["total"]["value"], [(hit["_index"], hit["_id"]) for hit in answer["hits"]["hits"]]


def day():
    for name in (logs, more):
        created = client.indices.create(
            index=name,
            **body(
                mappings={"properties": {"user": {"type": "keyword"}, "text": {"type": "text"}, "at": {"type": "date"}}},
                settings={"number_of_shards": 1, "number_of_replicas": 0},
            ),
        )
        show("create index", dict(created))
    show("exists", bool(client.indices.exists(index=logs)))
    for number in range(3):
        answer = client.index(
            index=logs, id=f"d/{number}", **{document: {"user": "kim", "text": f"hello {number}", "n": number}}
        )
        show("index", (answer["result"], answer["_version"]))
    show("index without id", client.index(index=more, refresh="true", **{document: {"user": "ä"}})["result"])
    actions = [{"_index": logs, "_id": f"b{n}", "_source": {"user": "lee", "text": "bulk", "n": n}} for n in range(500)]
    actions += [
        {"_op_type": "create", "_index": more, "_id": "c", "_source": {"user": "c"}},
        {"_op_type": "update", "_index": logs, "_id": "b1", "doc": {"n": 1000}},
        {"_op_type": "delete", "_index": logs, "_id": "b2"},
    ]
    show("bulk", helpers.bulk(client, actions, chunk_size=100))
    show("parallel bulk", sum(ok for ok, _ in helpers.parallel_bulk(client, actions[:50], chunk_size=10)))
    client.indices.refresh(index=f"{logs},{more}")
    show("get", client.get(index=logs, id="d/1")["_source"])
    show("get some", client.get(index=logs, id="d/1", _source_includes=["n"])["_source"])
    show("source", dict(client.get_source(index=logs, id="d/2")))
    show("is there", bool(client.exists(index=logs, id="nobody")))
    wanted = [{"_index": logs, "_id": "d/0"}, {"_index": more, "_id": "c"}, {"_index": logs, "_id": "none"}]
    show("mget", [hit["found"] for hit in client.mget(**body(docs=wanted))["docs"]])
    show("mget of one", [hit["found"] for hit in client.mget(index=logs, **body(ids=["d/0", "b3"]))["docs"]])
    show("count", client.count(index=f"{logs},{more}")["count"])
    query = {"bool": {"must": [{"match": {"text": "hello"}}], "filter": [{"term": {"user": "kim"}}]}}
    show("search", hits(client.search(index=logs, **body(query=query, sort=[{"n": "desc"}], size=2))))
    found = client.search(
        index=f"{logs},{more}",
        **body(
            query={"match_all": {}},
            size=0,
            track_total_hits=True,
            aggs={"who": {"terms": {"field": "user"}, "aggs": {"most": {"max": {"field": "n"}}}}},
        ),
    )
    show("aggregations", found["aggregations"])
    found = client.search(
        index=logs, **body(query={"match": {"text": "hello"}}, highlight={"fields": {"text": {}}}, sort=["_doc"])
    )
    show("highlights", [hit["highlight"] for hit in found["hits"]["hits"]])
    searches = [{"index": logs}, {"query": {"term": {"user": "kim"}}}, {"index": [more]}, {"query": {"match_all": {}}}]
    key = "searches" if product == "elasticsearch" else "body"
    show("msearch", [hits(one)[0] for one in client.msearch(**{key: searches})["responses"]])
    show("field caps", sorted(client.field_caps(index=logs, fields="*")["fields"]))
    show("explain", client.explain(index=logs, id="d/1", **body(query={"match": {"text": "hello"}}))["matched"])
    show("validate", client.indices.validate_query(index=logs, **body(query={"match_all": {}}))["valid"])
    show("term vectors", sorted(client.termvectors(index=logs, id="d/1", fields=["text"])["term_vectors"]))
    show("update", client.update(index=logs, id="d/1", **body(doc={"text": "new"}))["result"])
    show("delete", client.delete(index=logs, id="d/2", refresh="true")["result"])
    if product == "opensearch":
        by_query = client.delete_by_query(index=logs, refresh="true", **body(query={"range": {"n": {"gte": 490}}}))
        show("delete by query", by_query["deleted"])
        changed = client.update_by_query(index=logs, refresh="true", **body(query={"term": {"user": "kim"}}))
        show("update by query", changed["updated"])
        copied = client.reindex(
            refresh="true", **body(source={"index": logs, "query": {"term": {"user": "kim"}}}, dest={"index": more})
        )
        show("reindex", copied["created"])
        show("info", client.info()["tagline"])
    show("mapping", client.indices.get_mapping(index=logs)[logs])
    client.indices.put_mapping(index=logs, **body(properties={"later": {"type": "ip"}}))
    show("settings", client.indices.get_settings(index=logs)[logs]["settings"]["index"]["number_of_shards"])
    settings = {"settings" if product == "elasticsearch" else "body": {"index": {"refresh_interval": "7s"}}}
    show("put settings", dict(client.indices.put_settings(index=logs, **settings)))
    show("put alias", dict(client.indices.put_alias(index=more, name=f"{prefix}logs-now")))
    actions = [
        {"remove": {"index": more, "alias": f"{prefix}logs-now"}},
        {"add": {"indices": [logs, more], "alias": f"{prefix}logs-all"}},
    ]
    show("update aliases", dict(client.indices.update_aliases(**body(actions=actions))))
    show("aliases", dict(client.indices.get_alias(index=f"{logs},{more}")))
    show("search an alias", hits(client.search(index=f"{prefix}logs-all", size=0))[0])
    show("stats", client.indices.stats(index=more, metric="docs")["indices"][more]["primaries"]["docs"]["count"])
    show("cat", client.cat.indices(index=logs, h="index,docs.count", format="json"))
    show("health", client.cluster.health(index=logs)["status"])
    analyzed = client.indices.analyze(index=logs, **body(field="text", text="Two words"))
    show("analyze", [token["token"] for token in analyzed["tokens"]])
    show("forcemerge", client.indices.forcemerge(index=logs)["_shards"]["failed"])
    show("close", client.indices.close(index=more)["acknowledged"])
    show("open", client.indices.open(index=more)["acknowledged"])
    for name in (logs, more):
        show("delete index", dict(client.indices.delete(index=name)))


def refusals():
    lookup = {"terms": {"user": {"index": secret_index, "id": "1", "path": "users"}}}
    searches = [{"index": logs}, {"query": {"match_all": {}}}, {"index": secret_index}, {"query": {"match_all": {}}}]
    key = "searches" if product == "elasticsearch" else "body"
    wanted = [{"_index": secret_index, "_id": "1"}]
    attempts = {
        "get": lambda: client.get(index=secret_index, id="1"),
        "exists": lambda: client.get_source(index=secret_index, id="1"),
        "index": lambda: client.index(index=secret_index, **{document: {"a": 1}}),
        "update": lambda: client.update(index=secret_index, id="1", **body(doc={"a": 1})),
        "delete": lambda: client.delete(index=secret_index, id="1"),
        "search": lambda: client.search(index=secret_index),
        "search of all": lambda: client.search(),
        "search of two": lambda: client.search(index=[logs, secret_index]),
        "search of many": lambda: client.search(index=["*", secret_index]),
        "search that looks up": lambda: client.search(index=logs, **body(query=lookup)),
        "count": lambda: client.count(index=secret_index),
        "mget": lambda: client.mget(index=logs, **body(docs=wanted)),
        "msearch": lambda: client.msearch(**{key: searches}),
        "bulk": lambda: helpers.bulk(client, [{"_index": logs, "a": 1}, {"_index": secret_index, "a": 1}]),
        "delete by query": lambda: client.delete_by_query(index=secret_index, **body(query={"match_all": {}})),
        "reindex": lambda: client.reindex(**body(source={"index": secret_index}, dest={"index": logs})),
        "create index": lambda: client.indices.create(index=secret_index),
        "delete index": lambda: client.indices.delete(index=secret_index),
        "delete all": lambda: client.indices.delete(index="*"),
        "mapping": lambda: client.indices.get_mapping(),
        "aliases": lambda: client.indices.put_alias(index=secret_index, name=f"{prefix}logs-x"),
        "cat": lambda: client.cat.indices(),
        "nodes": lambda: client.nodes.info(),
        "settings of the cluster": lambda: client.cluster.put_settings(**body(persistent={})),
        "templates": lambda: client.indices.put_index_template(name="x", **body(index_patterns=["*"])),
        "scripts": lambda: client.put_script(id="x", **body(script={"lang": "painless", "source": "1"})),
        # Elasticsearch's transport knows neither the login nor what is an error.
        "users": lambda: (client if product == "elasticsearch" else client.transport).perform_request(
            "GET", "/_security/user", headers={"accept": "application/json"}
        ),
    }
    for name, attempt in attempts.items():
        try:
            attempt()
            show(name, "done")
        except Refused as error:
            show(name, error.status_code if error.status_code == 403 else str(error))


{"day": day, "refusals": refusals}[part]()
