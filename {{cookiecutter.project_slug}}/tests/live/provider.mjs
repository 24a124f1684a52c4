// The certified OpenID provider `oidc-provider` with one client, for tests; certified.py starts it.
//
// Its settings come as JSON on standard input, so that no secret is in the list of processes. It
// prints one line when it listens, keeps everything in memory, and ends on SIGTERM.

import { generateKeyPairSync, randomBytes } from "node:crypto";
import { readFileSync } from "node:fs";
import { createServer, request as httpsRequest } from "node:https";
import { createRequire } from "node:module";
import { text } from "node:stream/consumers";
import { pathToFileURL } from "node:url";

const BODY_MAX_BYTES = 10_000;

const settings = JSON.parse(await text(process.stdin));
const accounts = new Map(settings.accounts.map((account) => [account.sub, account]));
const authority = readFileSync(settings.ca);

console.info = console.error; // the library's notices: standard output is for the one line
const found = createRequire(`${settings.modules}/`).resolve("oidc-provider");
const { default: Provider, interactionPolicy } = await import(pathToFileURL(found).href);

const escaped = (value) => String(value).replace(/[&<>"']/g, (sign) => `&#${sign.charCodeAt(0)};`);

// No font, style or icon from elsewhere: the browser of the tests finds nothing beyond loopback.
const page = (title, body) =>
  `<!doctype html><html lang="en"><meta charset="utf-8"><title>${escaped(title)}</title>` +
  `<link rel="icon" href="data:,"><h1>${escaped(title)}</h1>${body}</html>`;

const loginPage = ({ acr_values: asked, login_hint: hint = "" }, complaint) => {
  const acr = asked?.split(" ").find((value) => settings.acr_values.includes(value));
  const box = `<p><label>Second factor <input name="acr" type="checkbox" value="${acr}"></label>`;
  return page(
    "Sign in at the provider",
    `${complaint ? `<p role="alert">${complaint}</p>` : ""}<form method="post">
    <p><label>Email
      <input name="login" type="email" autocomplete="username" value="${escaped(hint)}"></label>
    <p><label>Password
      <input name="password" type="password" autocomplete="current-password"></label>
    ${acr ? box : ""}
    <p><button name="answer" value="yes">Sign in</button>
    <button name="answer" value="no">Cancel</button></form>`,
  );
};

// Whoever is signed in with less than a request asks for signs in again; by itself, the library
// takes acr_values as a wish.
const policy = interactionPolicy.base();
const isLess = ({ oidc: { params, result, session } }) =>
  Boolean(params.acr_values) &&
  !params.acr_values.split(" ").includes(session.acr) &&
  !result?.login;
policy
  .get("login")
  .checks.add(new interactionPolicy.Check("acr", "a higher level of sign-in is asked for", isLess));

const { privateKey } = generateKeyPairSync("rsa", { modulusLength: 2048 });

const provider = new Provider(settings.issuer, {
  acrValues: settings.acr_values,
  claims: { email: ["email", "email_verified"] },
  clients: [{ ...settings.client, backchannel_logout_session_required: true }],
  conformIdTokenClaims: false, // email is in the ID token as well, as most providers have it
  cookies: { keys: [randomBytes(32).toString("hex")] },
  features: {
    backchannelLogout: { enabled: true },
    devInteractions: { enabled: false }, // any password would do, and its pages load a font
    rpInitiatedLogout: {
      enabled: true,
      logoutSource(ctx, form) {
        ctx.body = page(
          "Sign out at the provider?",
          `${form}<button form="op.logoutForm" name="logout" value="yes">Sign out</button>
          <button form="op.logoutForm">Stay</button>`,
        );
      },
      postLogoutSuccessSource(ctx) {
        ctx.body = page("Signed out at the provider", "");
      },
    },
  },
  // The application's name does not resolve, and the library calls no server on loopback itself.
  fetch: (url, options) => askApplication(new URL(url), options),
  findAccount(ctx, sub) {
    const account = accounts.get(sub);
    const { password, ...claims } = account ?? {};
    return account && { accountId: sub, claims: () => claims };
  },
  interactions: { policy },
  jwks: { keys: [{ ...privateKey.export({ format: "jwk" }), alg: "RS256", use: "sig" }] },
  // Nobody is asked for consent: client and provider are one organisation's.
  async loadExistingGrant({ oidc: { client, params, session } }) {
    const { accountId } = session;
    const { clientId } = client;
    const known = await provider.Grant.find(session.grantIdFor(clientId));
    const grant = known ?? new provider.Grant({ accountId, clientId });
    grant.addOIDCScope(params.scope);
    await grant.save();
    return grant;
  },
  pkce: { required: () => true },
  renderError(ctx, { error, error_description: description = "" }) {
    ctx.body = page("Refused by the provider", `<p>${escaped(error)}: ${escaped(description)}</p>`);
  },
});

for (const event of ["authorization.error", "backchannel.error", "grant.error", "server_error"]) {
  provider.on(event, (ctx, error) => {
    const { expose, message, error_description: description, error_detail: detail } = error;
    console.error(event, expose ? `${message}: ${detail ?? description}` : error);
  });
}

/** Send what the provider says to the application where it listens; return its answer. */
function askApplication({ host, hostname, pathname, search }, { method, headers, body, signal }) {
  return new Promise((resolve, reject) => {
    const options = {
      host: "127.0.0.1",
      port: settings.application_port,
      servername: hostname,
      path: pathname + search,
      method,
      headers: { ...Object.fromEntries(headers), host },
      ca: authority,
      signal,
    };
    httpsRequest(options, (answer) => {
      answer.resume();
      resolve(new Response(null, { status: answer.statusCode }));
    })
      .on("error", reject)
      .end(String(body));
  });
}

/** Read the fields of a form; throw if they are too many, which is answered with 500. */
async function fieldsOf(request) {
  let body = "";
  for await (const part of request) {
    body += part;
    if (body.length > BODY_MAX_BYTES) throw new Error("the form is too large");
  }
  return Object.fromEntries(new URLSearchParams(body));
}

/** Show the login page, and take what was filled in (OpenID Connect Core 1.0, section 3.1.2.3). */
async function interact(request, response) {
  const { params, prompt } = await provider.interactionDetails(request, response);
  const finish = (result) => provider.interactionFinished(request, response, result);
  if (prompt.name !== "login") return finish({ consent: {} });
  let complaint = "";
  if (request.method === "POST") {
    const { login, password, acr, answer } = await fieldsOf(request);
    if (answer === "no") return finish({ error: "access_denied", error_description: "cancelled" });
    const known = settings.accounts.find(({ email }) => email === login);
    if (known?.password === password) {
      return finish({ login: { accountId: known.sub, acr, amr: acr ? ["pwd", "otp"] : ["pwd"] } });
    }
    complaint = "Wrong address or password.";
  }
  response.setHeader("Content-Type", "text/html; charset=utf-8");
  response.setHeader("Cache-Control", "no-store");
  response.end(loginPage(params, complaint));
}

await provider.Client.find(settings.client.client_id); // throws if the client is not valid

const answered = provider.callback();
const tls = { cert: readFileSync(settings.cert), key: readFileSync(settings.key) };
const server = createServer(tls, (request, response) => {
  if (!request.url.startsWith("/interaction/")) return answered(request, response);
  interact(request, response).catch((error) => {
    console.error("interaction", error);
    response.statusCode = 500;
    response.end();
  });
});

process.on("SIGTERM", () => {
  server.close(() => process.exit(0));
  server.closeAllConnections();
});
server.listen(settings.port, "127.0.0.1", () => console.log(`listening: ${settings.issuer}`));
