// A hospital's OpenID provider: https://github.com/panva/node-oidc-provider with one client, whose people are whoever types a name.
// Arguments: the client's id, its secret, its redirect URI. Prints its URL, and ends with its standard input.
import { generateKeyPairSync } from "node:crypto";
import { createServer } from "node:http";
import { Provider } from "oidc-provider";

const [client_id, client_secret, redirect_uri] = process.argv.slice(2);
const key = (type, options) => generateKeyPairSync(type, options).privateKey.export({ format: "jwk" });
const server = createServer().listen(0, "127.0.0.1", () => {
  const issuer = `http://127.0.0.1:${server.address().port}`;
  const provider = new Provider(issuer, {
    clients: [
      { client_id, client_secret, redirect_uris: [redirect_uri] },
      { client_id: `${client_id}-es256`, client_secret, redirect_uris: [redirect_uri], id_token_signed_response_alg: "ES256" },
    ],
    claims: { openid: ["sub"], profile: ["name"] },
    conformIdTokenClaims: false,
    findAccount: (_, id) => ({ accountId: id, claims: () => ({ sub: id, name: `Dr. ${id}` }) }),
    jwks: { keys: [key("rsa", { modulusLength: 2048 }), key("ec", { namedCurve: "P-256" })] },
  });
  server.on("request", provider.callback());
  console.log(JSON.stringify({ issuer }));
});
process.stdin.resume().on("end", () => process.exit(0));
