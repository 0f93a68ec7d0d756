// An OpenID provider (oauth2-mock-server) on one port of 127.0.0.1, told what to do by lines of JSON on its standard input, each
// answered by one line. It ends with its input, so that it does not outlive the test.
//
// Arguments: the folder with node_modules, the port.
import { createPublicKey } from 'node:crypto';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { pathToFileURL } from 'node:url';

const [home, port] = process.argv.slice(2);
const entry = join(home, 'node_modules/oauth2-mock-server/dist/index.mjs');
const { OAuth2Server } = await import(pathToFileURL(entry));

let server;
const fresh = async () => {
  server = new OAuth2Server();
  await server.issuer.keys.generate('RS256');
};
const start = () => server.start(Number(port), '127.0.0.1');
const answer = async (path, options) => {
  const response = await fetch(`http://127.0.0.1:${port}${path}`, options);
  if (!response.ok) throw new Error(`${path}: ${response.status}`);
  return response.json();
};

const steps = {
  start,
  stop: () => server.stop(),
  // All keys are new ones from now on, as after an incident.
  async rotate() {
    await server.stop();
    await fresh();
    await start();
  },
  discover: () => answer('/.well-known/openid-configuration'),
  // From the token endpoint, as a pipeline gets it.
  async token({ claims }) {
    server.service.once('beforeTokenSigning', (token) => Object.assign(token.payload, claims));
    const form = new URLSearchParams({ grant_type: 'client_credentials', scope: 'openid' });
    return (await answer('/token', { method: 'POST', body: form })).access_token;
  },
  async pem() {
    const { keys } = await answer('/jwks');
    return createPublicKey({ key: keys[0], format: 'jwk' }).export({ type: 'spki', format: 'pem' });
  },
};

await fresh();
await start();
console.log(JSON.stringify({ issuer: server.issuer.url }));
for await (const line of createInterface({ input: process.stdin })) {
  const asked = JSON.parse(line);
  const done = await steps[asked.do](asked);
  console.log(JSON.stringify(done ?? null));
}
process.exit(0);
