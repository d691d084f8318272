// What a relying party does with openid-client. Argument: JSON with `issuer`, `client`, `how` (none, secret, key), `secret` or `key` (a JWK),
// `scope`, `aud`, `verifier`, `state`, `nonce`, `redirect`, and `callback` in the second run. Prints JSON.
// The first run prints where to send the browser; the second what came of it; with `service` there is no browser.
import * as client from 'openid-client';

const given = JSON.parse(process.argv[2]);

async function authentication() {
  if (given.how === 'secret') return given.post ? client.ClientSecretPost(given.secret) : client.ClientSecretBasic(given.secret);
  if (given.how === 'none') return client.None();
  const rsa = given.key.kty === 'RSA';
  const algorithm = rsa ? { name: 'RSASSA-PKCS1-v1_5', hash: 'SHA-384' } : { name: 'ECDSA', namedCurve: 'P-384' };
  const key = await crypto.subtle.importKey('jwk', { ...given.key, alg: undefined }, algorithm, false, ['sign']);
  return client.PrivateKeyJwt({ key, kid: given.key.kid });
}

const config = await client.discovery(new URL(given.issuer), given.client, { client_secret: given.secret }, await authentication(), {
  execute: [client.allowInsecureRequests], algorithm: given.oauth ? 'oauth2' : 'oidc',
});
const told = { issuer: config.serverMetadata().issuer };
if (given.service) {
  const tokens = await client.clientCredentialsGrant(config, { scope: given.scope });
  told.tokens = { ...tokens };
  told.introspected = await client.tokenIntrospection(config, tokens.access_token);
} else if (!given.callback) {
  told.url = client.buildAuthorizationUrl(config, {
    redirect_uri: given.redirect, scope: given.scope, aud: given.aud, state: given.state, nonce: given.nonce,
    code_challenge: await client.calculatePKCECodeChallenge(given.verifier), code_challenge_method: 'S256',
  }).href;
} else {
  const tokens = await client.authorizationCodeGrant(config, new URL(given.callback), {
    pkceCodeVerifier: given.verifier, expectedState: given.state, expectedNonce: given.nonce, idTokenExpected: true,
  });
  told.claims = tokens.claims();
  told.tokens = { ...tokens };
  const refreshed = await client.refreshTokenGrant(config, tokens.refresh_token);
  told.refreshed = { ...refreshed };
  await client.tokenRevocation(config, refreshed.refresh_token);
  try {
    await client.refreshTokenGrant(config, refreshed.refresh_token);
  } catch (error) {
    told.after = error.error;
  }
  try {
    await client.authorizationCodeGrant(config, new URL(given.callback), {
      pkceCodeVerifier: given.verifier, expectedState: given.state, expectedNonce: given.nonce,
    });
  } catch (error) {
    told.again = error.error;
  }
}
console.log(JSON.stringify(told));
