// A share's secret stands in the fragment of its link, which no server is told: it goes into the form, and out of the address. And copying a link.
// Of a SMART Health Link (`shlink:/` and JSON as base64url) it is the key.
function secretOf(fragment) {
  if (!fragment.startsWith("shlink:/")) return fragment;
  try {
    return JSON.parse(atob(fragment.slice(8).replaceAll("-", "+").replaceAll("_", "/"))).key ?? "";
  } catch {
    return "";
  }
}
const secret = document.querySelector("[data-secret]");
if (secret) {
  const given = secretOf(location.hash.slice(1));
  if (/^[0-9A-Za-z_-]{20,100}$/.test(given)) secret.value = given;
  if (location.hash) history.replaceState(null, "", location.pathname);
  const missing = document.querySelector("[data-no-secret]");
  if (missing) missing.hidden = Boolean(secret.value);
}
for (const button of document.querySelectorAll("[data-copy]")) {
  const field = document.getElementById(button.dataset.copy);
  button.hidden = !navigator.clipboard;
  button.addEventListener("click", async () => {
    await navigator.clipboard.writeText(field.value);
    button.textContent = button.dataset.done;
  });
}
