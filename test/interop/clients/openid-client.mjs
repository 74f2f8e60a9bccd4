// An application on npm's openid-client. It prints where to send a browser, reads where the browser came back, and prints what it learned.
//   node openid-client.mjs ISSUER CLIENT_ID REDIRECT_URI
// Then each line of standard input is a command: refresh, userinfo, logout (prints where to send the browser).
import * as client from 'openid-client'
import * as readline from 'node:readline/promises'

const [issuer, clientId, redirect_uri] = process.argv.slice(2)
const say = (event) => console.log(JSON.stringify(event))
const lines = readline.createInterface({ input: process.stdin })[Symbol.asyncIterator]()
const next = async () => (await lines.next()).value

const config = await client.discovery(new URL(issuer), clientId, undefined, client.None(), { execute: [client.allowInsecureRequests] })
const pkceCodeVerifier = client.randomPKCECodeVerifier()
const expectedState = client.randomState()
const expectedNonce = client.randomNonce()
say({ at: client.buildAuthorizationUrl(config, {
  redirect_uri, scope: 'openid profile offline_access', state: expectedState, nonce: expectedNonce,
  code_challenge: await client.calculatePKCECodeChallenge(pkceCodeVerifier), code_challenge_method: 'S256',
}).href })

// The library checks state, nonce, iss (RFC 9207), the signature and at_hash.
let tokens = await client.authorizationCodeGrant(config, new URL(await next()), { pkceCodeVerifier, expectedState, expectedNonce, idTokenExpected: true })
const { sub } = tokens.claims()
say({ claims: tokens.claims(), iss: config.serverMetadata().supportsPKCE() && config.serverMetadata().authorization_response_iss_parameter_supported })

for (let command; (command = await next());) {
  try {
    switch (command) {
      case 'refresh':
        tokens = await client.refreshTokenGrant(config, tokens.refresh_token)
        say({ claims: tokens.claims() })
        break
      case 'userinfo':
        say({ claims: await client.fetchUserInfo(config, tokens.access_token, sub) })
        break
      case 'logout':
        say({ at: client.buildEndSessionUrl(config, { id_token_hint: tokens.id_token, post_logout_redirect_uri: redirect_uri }).href })
        break
    }
  } catch (err) {
    say({ error: err.error ?? err.code, status: err.status ?? err.cause?.status })
  }
}
