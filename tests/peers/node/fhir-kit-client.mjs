// What an application does with fhir-kit-client. Arguments: base URL, token. Prints what each step gave, as JSON.
import { Client } from 'fhir-kit-client';

const [baseUrl, token] = process.argv.slice(2);
const client = new Client({ baseUrl, bearerToken: token });
const told = {};

const made = await client.create({ resourceType: 'Patient', body: { resourceType: 'Patient', name: [{ family: 'Kit' }] } });
const id = made.id;
told.read = await client.read({ resourceType: 'Patient', id });
told.updated = await client.update({ resourceType: 'Patient', id, body: { ...made, active: true } });
told.patched = await client.patch({
  resourceType: 'Patient', id, jsonPatch: [{ op: 'replace', path: '/active', value: false }],
});
told.vread = await client.vread({ resourceType: 'Patient', id, version: '1' });
told.history = await client.history({ resourceType: 'Patient', id });
told.typeHistory = await client.history({ resourceType: 'Patient' });
told.systemHistory = await client.history({});
for (let number = 0; number < 5; number += 1) {
  await client.create({
    resourceType: 'Observation',
    body: { resourceType: 'Observation', status: 'final', code: { text: `o${number}` }, subject: { reference: `Patient/${id}` } },
  });
}
let page = await client.search({ resourceType: 'Observation', searchParams: { subject: `Patient/${id}`, _count: 2 } });
told.pages = [page];
while (page && page.link.some((each) => each.relation === 'next')) {
  page = await client.nextPage({ bundle: page });
  told.pages.push(page);
}
told.posted = await client.search({ resourceType: 'Observation', searchParams: { subject: `Patient/${id}` }, options: { postSearch: true } });
told.compartment = await client.search({ resourceType: 'Observation', compartment: { resourceType: 'Patient', id } });
told.everything = await client.operation({ name: 'everything', resourceType: 'Patient', id, method: 'GET' });
told.validated = await client.operation({
  name: 'validate', resourceType: 'Patient', input: { resourceType: 'Patient', gender: 'x' },
});
told.transaction = await client.transaction({
  body: {
    resourceType: 'Bundle', type: 'transaction',
    entry: [
      { fullUrl: 'urn:uuid:61ebe359-bfdc-4613-8bf2-c5e300945f0a', resource: { resourceType: 'Patient', name: [{ family: 'Both' }] }, request: { method: 'POST', url: 'Patient' } },
      {
        resource: { resourceType: 'Observation', status: 'final', code: { text: 'x' }, subject: { reference: 'urn:uuid:61ebe359-bfdc-4613-8bf2-c5e300945f0a' } },
        request: { method: 'POST', url: 'Observation' },
      },
    ],
  },
});
told.batch = await client.batch({ body: { resourceType: 'Bundle', type: 'batch', entry: [{ request: { method: 'GET', url: `Patient/${id}` } }] } });
const condition = { 'If-None-Exist': 'identifier=http://example.org|kit' };
const one = { resourceType: 'Patient', identifier: [{ system: 'http://example.org', value: 'kit' }] };
told.conditional = [];
for (let number = 0; number < 2; number += 1) {
  told.conditional.push(await client.create({ resourceType: 'Patient', body: one, options: { headers: condition } }));
}
told.capabilities = await client.capabilityStatement();
await client.delete({ resourceType: 'Patient', id: told.conditional[0].id });
try {
  await client.read({ resourceType: 'Patient', id: told.conditional[0].id });
} catch (error) {
  told.gone = error.response?.status ?? error.status ?? String(error);
}
console.log(JSON.stringify(told));
