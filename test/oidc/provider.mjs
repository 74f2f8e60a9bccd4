// A second OpenID provider on loopback for tests: oidc-provider, with access tokens according to RFC 9068.
//
//   node provider.mjs CLIENT SECRET AUDIENCE SCOPES
//
// It prints its issuer once it listens, and exits when standard input is closed.
import { createServer } from 'node:http';
import { Provider } from 'oidc-provider';

const [client, secret, audience, scope] = process.argv.slice(2);
const server = createServer();
server.listen(0, '127.0.0.1', () => {
  const issuer = `http://127.0.0.1:${server.address().port}`;
  const provider = new Provider(issuer, {
    clients: [{
      client_id: client, client_secret: secret, grant_types: ['client_credentials'], response_types: [], redirect_uris: [],
    }],
    scopes: scope.split(' '),
    features: {
      clientCredentials: { enabled: true },
      devInteractions: { enabled: false },
      resourceIndicators: {
        enabled: true,
        defaultResource: () => audience,
        useGrantedResource: () => true,
        getResourceServerInfo: () => ({ scope, audience, accessTokenFormat: 'jwt', accessTokenTTL: 300 }),
      },
    },
  });
  server.on('request', provider.callback());
  console.log(issuer);
});
process.stdin.resume();
process.stdin.on('end', () => process.exit(0));
