// An access code that came by QR code stands in the fragment of the address, which no server is told: it goes into the field, and out of the address.
const field = document.getElementById("code");
const given = decodeURIComponent(location.hash.slice(1));
if (field && /^[0-9A-Za-z\- ]{13,20}$/.test(given)) {
  field.value = given;
  history.replaceState(null, "", location.pathname);
  document.getElementById("day")?.focus();
}
