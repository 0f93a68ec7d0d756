// An OpenID provider (oidc-provider, certified) on one port of 127.0.0.1, with its own pages. It believes every name that is typed there. It ends with its standard input, so that it does not outlive the test.
//
// Arguments: the folder with node_modules, the port, the address that browsers go back to. It says `ready` when it listens.
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';

const [home, port, redirect] = process.argv.slice(2);
const require = createRequire(join(home, 'node_modules/'));
const { Provider } = await import(pathToFileURL(require.resolve('oidc-provider')));

const provider = new Provider(`http://127.0.0.1:${port}`, {
  clients: [{
    client_id: 'tidegate-console',
    client_secret: 'a secret of two',
    redirect_uris: [redirect],
    grant_types: ['authorization_code', 'urn:ietf:params:oauth:grant-type:device_code'],
  }],
  claims: { openid: ['sub'], email: ['email', 'email_verified'], groups: ['groups'] },
  conformIdTokenClaims: false,
  features: { deviceFlow: { enabled: true } },
  findAccount: (_, id) => ({
    accountId: id,
    claims: () => ({ sub: id, email: id, email_verified: !id.startsWith('unverified'), groups: ['qa'] }),
  }),
});
const server = provider.listen(Number(port), '127.0.0.1', () => console.log('ready'));
for await (const _ of process.stdin);
server.close();
process.exit(0);
