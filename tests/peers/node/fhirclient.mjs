// What an application does with SMART's fhirclient.js. Arguments: base URL, token. Prints what each step gave, as JSON.
import FHIR from 'fhirclient';

const [serverUrl, token] = process.argv.slice(2);
const client = new FHIR.FhirClient(serverUrl);
const authorization = { Authorization: `Bearer ${token}` };
const ask = (requestOptions, options) => client.fhirRequest(requestOptions.url ?? requestOptions, {
  ...requestOptions, ...options, headers: { ...authorization, ...requestOptions.headers },
});
const told = {};

const made = await client.create({ resourceType: 'Patient', name: [{ family: 'Smart' }] }, { headers: { ...authorization, 'Content-Type': 'application/fhir+json' } });
told.read = await ask({ url: `Patient/${made.id}` });
told.updated = await client.update({ ...made, active: true }, { headers: { ...authorization, 'Content-Type': 'application/fhir+json' } });
told.patched = await client.patch(`Patient/${made.id}`, [{ op: 'replace', path: '/active', value: false }], { headers: authorization });
told.history = await ask({ url: `Patient/${made.id}/_history` });
for (let number = 0; number < 5; number += 1) {
  await client.create(
    { resourceType: 'Observation', status: 'final', code: { text: `o${number}` }, subject: { reference: `Patient/${made.id}` } },
    { headers: { ...authorization, 'Content-Type': 'application/fhir+json' } },
  );
}
told.pages = [];
for await (const page of client.pages(`Observation?subject=Patient/${made.id}&_count=2`, { headers: authorization })) {
  told.pages.push(page);
}
told.resources = [];
for await (const each of client.resources(`Observation?subject=Patient/${made.id}&_count=2`, { headers: authorization })) {
  told.resources.push(each);
}
told.transaction = await ask({
  url: '', method: 'POST', headers: { 'Content-Type': 'application/fhir+json' },
  body: JSON.stringify({
    resourceType: 'Bundle', type: 'transaction',
    entry: [{ resource: { resourceType: 'Patient', active: true }, request: { method: 'POST', url: 'Patient' } }],
  }),
});
const condition = {
  url: 'Patient', method: 'POST',
  headers: { 'Content-Type': 'application/fhir+json', 'If-None-Exist': 'identifier=http://example.org|smart' },
  body: JSON.stringify({ resourceType: 'Patient', identifier: [{ system: 'http://example.org', value: 'smart' }] }),
};
told.conditional = [await ask(condition), await ask(condition)];
told.version = await client.getFhirVersion();
told.release = await client.getFhirRelease();
const deleted = await client.delete(`Patient/${told.conditional[0].id}`, { headers: authorization });
told.deleted = deleted?.status ?? null;
try {
  await ask({ url: `Patient/${told.conditional[0].id}` });
} catch (error) {
  told.gone = error.statusCode ?? String(error);
}
console.log(JSON.stringify(told));
