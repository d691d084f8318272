// A SMART app on a port of this machine, made of fhirclient.js alone. Arguments: FHIR base URL, client id, secret or -, scope.
// Prints {"port": ...}; GET /launch begins (with iss and launch, where an EHR opens it), GET /back ends with what the app then sees, as JSON.
import http from 'node:http';
import FHIR from 'fhirclient';

const [fhir, clientId, clientSecret, scope] = process.argv.slice(2);
const kept = {};
const storage = {
  get: async (key) => kept[key],
  set: async (key, value) => { kept[key] = value; return value; },
  unset: async (key) => delete kept[key],
};

async function seen(client) {
  const patient = await client.patient.read();
  const studies = await client.patient.request('ImagingStudy');
  const before = client.state.tokenResponse.access_token;
  const refreshed = client.state.tokenResponse.refresh_token ? await client.refresh() : null;
  return {
    patient,
    studies: studies.entry.map((each) => each.resource),
    user: client.user.fhirUser,
    token: { ...client.state.tokenResponse, access_token: undefined, refresh_token: undefined },
    refreshed: refreshed && refreshed.tokenResponse.access_token !== before,
    after: await client.request(`Patient/${patient.id}`).then((found) => found.id),
  };
}

const server = http.createServer(async (request, response) => {
  const smart = FHIR(request, response, storage);
  try {
    if (request.url.startsWith('/launch')) {
      await smart.authorize({
        clientId, scope, redirectUri: `http://127.0.0.1:${server.address().port}/back`, pkceMode: 'required',
        ...(clientSecret === '-' ? {} : { clientSecret }), ...(request.url.includes('iss=') ? {} : { iss: fhir }),
      });
      return;
    }
    const told = await seen(await smart.ready());
    response.writeHead(200, { 'Content-Type': 'application/json' });
    response.end(JSON.stringify(told));
  } catch (error) {
    response.writeHead(500, { 'Content-Type': 'application/json' });
    response.end(JSON.stringify({ error: String(error), stack: error.stack }));
  }
});
server.listen(0, '127.0.0.1', () => console.log(JSON.stringify({ port: server.address().port })));
process.stdin.resume();
process.stdin.on('end', () => process.exit(0));
