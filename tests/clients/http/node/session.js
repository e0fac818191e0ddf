// What a person does all day with the official clients for JavaScript: `session.js elasticsearch|opensearch
// day|refusals`. It prints what it sees, one line each, and nothing that differs from run to run.
'use strict';

const [product, part] = process.argv.slice(2);
const elastic = product === 'elasticsearch';
const { TEST_URL: node, TEST_USER: username, TEST_SECRET: password, TEST_PREFIX: prefix } = process.env;
const { Client } = require(elastic ? '@elastic/elasticsearch' : '@opensearch-project/opensearch');
const auth = username ? { username, password } : undefined;
const client = new Client({ node, auth, requestTimeout: 60000 });
const logs = `${prefix}logs-1`, more = `${prefix}logs-2`, secret = `${prefix}secret`;

// OpenSearch's client wants members of a body in `body`, and answers with it beside the status.
const body = (members) => (elastic ? members : { body: members });
const doc = (document) => (elastic ? { document } : { body: document });
const of = (answer) => (elastic ? answer : answer.body);
const show = (name, value) => console.log(`${name}: ${JSON.stringify(value)}`);

async function day() {
  for (const index of [logs, more]) {
    const properties = { user: { type: 'keyword' }, text: { type: 'text' } };
    show('create index', of(await client.indices.create({ index, ...body({ mappings: { properties } }) })));
  }
  for (let n = 0; n < 3; n++) {
    const answer = of(await client.index({ index: logs, id: `d ${n}`, ...doc({ user: 'kim', text: `hello ${n}`, n }) }));
    show('index', [answer.result, answer._version]);
  }
  const datasource = Array.from({ length: 300 }, (_, n) => ({ user: 'lee', n }));
  const bulk = await client.helpers.bulk({
    datasource, onDocument: ({ n }) => ({ index: { _index: n % 2 ? logs : more, _id: `b${n}` } }), flushBytes: 5000, retries: 0,
  });
  show('bulk', [bulk.total, bulk.successful, bulk.failed]);
  await client.indices.refresh({ index: [logs, more] });
  show('get', of(await client.get({ index: logs, id: 'd 1' }))._source);
  show('exists', await client.exists({ index: logs, id: 'd 1' }).then(of));
  const docs = [{ _index: logs, _id: 'd 0' }, { _index: more, _id: 'b0' }];
  show('mget', of(await client.mget(body({ docs }))).docs.map((one) => one.found));
  show('count', of(await client.count({ index: `${logs},${more}` })).count);
  const found = of(await client.search({
    index: logs,
    ...body({ query: { match: { text: 'hello' } }, sort: [{ n: 'asc' }], aggs: { who: { terms: { field: 'user' } } } }),
  }));
  show('search', [found.hits.hits.map((hit) => hit._id), found.aggregations]);
  const searches = [{ index: logs }, { query: { term: { user: 'kim' } } }, { index: more }, { query: { match_all: {} } }];
  const answers = of(await client.msearch(elastic ? { searches } : { body: searches })).responses;
  show('msearch', answers.map((one) => one.hits.total.value));
  show('update', of(await client.update({ index: logs, id: 'd 1', ...body({ doc: { text: 'new' } }) })).result);
  show('delete', of(await client.delete({ index: logs, id: 'd 2', refresh: true })).result);
  if (!elastic) {
    const query = { range: { n: { gte: 200 } } };
    show('delete by query', of(await client.deleteByQuery({ index: logs, refresh: true, body: { query } })).deleted);
  }
  show('mapping', of(await client.indices.getMapping({ index: logs })));
  show('cat', of(await client.cat.indices({ index: logs, h: 'index,docs.count', format: 'json' })));
  show('delete index', of(await client.indices.delete({ index: [logs, more] })));
}

async function refusals() {
  const searches = [{ index: logs }, {}, { index: secret }, {}];
  const lookup = { terms: { user: { index: secret, id: '1', path: 'users' } } };
  const attempts = {
    get: () => client.get({ index: secret, id: '1' }),
    index: () => client.index({ index: secret, ...doc({ a: 1 }) }),
    delete: () => client.delete({ index: secret, id: '1' }),
    search: () => client.search({ index: secret }),
    'search of all': () => client.search(),
    'search that looks up': () => client.search({ index: logs, ...body({ query: lookup }) }),
    mget: () => client.mget(body({ docs: [{ _index: secret, _id: '1' }] })),
    msearch: () => client.msearch(elastic ? { searches } : { body: searches }),
    bulk: () => client.bulk(elastic
      ? { operations: [{ index: { _index: secret } }, { a: 1 }] } : { body: [{ index: { _index: secret } }, { a: 1 }] }),
    'delete index': () => client.indices.delete({ index: secret }),
    nodes: () => client.nodes.info(),
    cat: () => client.cat.indices(),
  };
  for (const [name, attempt] of Object.entries(attempts)) {
    await attempt().then(() => show(name, 'done'), (error) => show(name, error.statusCode ?? String(error)));
  }
}

({ day, refusals })[part]().catch((error) => {
  console.error(error);
  process.exitCode = 1;
});
