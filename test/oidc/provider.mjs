// A second OpenID provider on loopback for tests: oidc-provider, with access tokens according to RFC 9068, and people who log in.
//
//   node provider.mjs CLIENT SECRET AUDIENCE SCOPES [JSON]
//
// JSON is about people: {"redirects": [...], "logouts": [...], "backchannel": URL, "listen": "127.0.0.1:0", "skew": SECONDS, "auth":
// METHOD, "jwks": {...}}. Anybody may log in by any name, which is the subject; the password does not matter. The clock is wrong by
// skew. auth is how the client authenticates, with keys for private_key_jwt.
//
// It prints its issuer once it listens, and exits when standard input is closed.
import { createServer } from 'node:http';

const [client, secret, audience, scope, json] = process.argv.slice(2);
const people = json ? JSON.parse(json) : undefined;
if (people?.skew) {
  const now = Date.now;
  Date.now = () => now() + people.skew * 1000;
}
const { Provider } = await import('oidc-provider');

const [host, port] = (people?.listen ?? '127.0.0.1:0').split(':');
const server = createServer();
server.listen(Number(port), host, () => {
  const issuer = `http://127.0.0.1:${server.address().port}`;
  const provider = new Provider(issuer, {
    clients: [{
      client_id: client,
      client_secret: secret,
      grant_types: people ? ['authorization_code'] : ['client_credentials'],
      response_types: people ? ['code'] : [],
      redirect_uris: people?.redirects ?? [],
      ...(people?.auth && { token_endpoint_auth_method: people.auth }),
      ...(people?.jwks && { jwks: people.jwks }),
      ...(people?.logouts && { post_logout_redirect_uris: people.logouts }),
      ...(people?.backchannel && { backchannel_logout_uri: people.backchannel, backchannel_logout_session_required: true }),
    }],
    scopes: people ? ['openid', 'profile', 'email'] : scope.split(' '),
    claims: { openid: ['sub', 'sid'], profile: ['name', 'preferred_username', 'roles'], email: ['email', 'email_verified'] },
    cookies: { keys: ['only for tests'] },
    fetch: (url, { dispatcher, ...options }) => globalThis.fetch(url, options), // its dispatcher does not call loopback addresses
    findAccount: (_, id) => ({
      accountId: id,
      claims: () => ({ sub: id, name: `${id} of panva`, preferred_username: id, roles: ['staff'], email: `${id}@example.org`, email_verified: true }),
    }),
    features: {
      clientCredentials: { enabled: !people },
      devInteractions: { enabled: Boolean(people) },
      backchannelLogout: { enabled: Boolean(people) },
      rpInitiatedLogout: { enabled: Boolean(people) },
      resourceIndicators: {
        enabled: !people,
        defaultResource: () => audience,
        useGrantedResource: () => true,
        getResourceServerInfo: () => ({ scope, audience, accessTokenFormat: 'jwt', accessTokenTTL: 300 }),
      },
    },
  });
  provider.on('backchannel.error', (_, error) => console.error(error));
  server.on('request', provider.callback());
  console.log(issuer);
});
process.stdin.resume();
process.stdin.on('end', () => process.exit(0));
