// Passkeys (W3C Web Authentication): the one thing on these pages that takes script. A form with data-passkey asks the server for options,
// hands them to the browser, and sends what the browser's key said like any other form.
"use strict";
(() => {
  const isName = !/^[\d.]+$|^\[/.test(location.hostname); // keys are for names, not for addresses
  if (!isName) {
    document.querySelectorAll("[data-without-passkey]").forEach((each) => { each.hidden = true; });
    document.querySelectorAll("[data-passkey-by-address]").forEach((each) => { each.hidden = false; });
  }
  if (!window.PublicKeyCredential || !isName) return;

  const bytes = (text) => Uint8Array.from(atob(text.replace(/-/g, "+").replace(/_/g, "/")), (each) => each.charCodeAt(0));
  const text = (buffer) =>
    btoa(String.fromCharCode(...new Uint8Array(buffer))).replace(/\+/g, "-").replace(/\//g, "_").replace(/=+$/, "");
  const known = (list) => (list || []).map((each) => ({ ...each, id: bytes(each.id) }));

  const create = async (options) => {
    const user = { ...options.user, id: bytes(options.user.id) };
    const publicKey = { ...options, user, challenge: bytes(options.challenge), excludeCredentials: known(options.excludeCredentials) };
    const made = await navigator.credentials.create({ publicKey });
    const { clientDataJSON, attestationObject } = made.response;
    return told(made, { clientDataJSON: text(clientDataJSON), attestationObject: text(attestationObject) });
  };
  const get = async (options) => {
    const publicKey = { ...options, challenge: bytes(options.challenge), allowCredentials: known(options.allowCredentials) };
    const found = await navigator.credentials.get({ publicKey });
    const { clientDataJSON, authenticatorData, signature, userHandle } = found.response;
    return told(found, {
      clientDataJSON: text(clientDataJSON),
      authenticatorData: text(authenticatorData),
      signature: text(signature),
      userHandle: userHandle ? text(userHandle) : null,
    });
  };
  const told = (credential, response) => ({
    id: credential.id,
    rawId: text(credential.rawId),
    type: credential.type,
    response,
    clientExtensionResults: credential.getClientExtensionResults(),
  });

  const ask = async (form) => {
    const answer = await fetch(form.dataset.options, { method: "POST", body: new URLSearchParams(new FormData(form)) });
    const options = await answer.json();
    if (options.location) return location.assign(options.location);
    if (!answer.ok) throw Object.assign(new Error(), { said: options.detail });
    const credential = await (form.dataset.passkey === "create" ? create(options) : get(options));
    form.elements.response.value = JSON.stringify(credential);
    form.submit();
  };

  for (const form of document.querySelectorAll("form[data-passkey]")) {
    form.hidden = false;
    document.querySelectorAll("[data-without-passkey]").forEach((each) => { each.hidden = true; });
    document.querySelectorAll("[data-with-passkey]").forEach((each) => { each.hidden = false; });
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      const fault = form.querySelector("[role=alert]");
      fault.textContent = "";
      ask(form).catch((error) => { fault.textContent = error.said || form.dataset.failed; });
    });
  }
})();
