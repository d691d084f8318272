// Sends files in pieces, one behind the other as one long row of bytes. Where the connection is lost it asks how much has arrived, and goes on from there;
// after a reload too, when the same files are chosen. And the page of what was brought in watches how far it is.
"use strict";
const watched = document.querySelector("[data-watch]");
if (watched) {
  const bar = watched.querySelector("progress");
  const look = async () => {
    const answer = await fetch(watched.dataset.watch).catch(() => null);
    if (answer && answer.ok) {
      const told = await answer.json();
      if (told.state !== watched.dataset.state) location.reload();
      if (bar && told.total) bar.value = told.done / told.total;
    }
    setTimeout(look, 1000);
  };
  setTimeout(look, 1000);
}

const form = document.getElementById("bring-in");
if (form) {
  const at = (id) => document.getElementById(id);
  const SKIPPED = /\.(exe|dll|jar|msi|app|dmg|inf|ini|html?|css|js|txt|pdf|db)$/i;
  const wait = (seconds) => new Promise((done) => setTimeout(done, seconds * 1000));

  const say = (words) => {
    at("said").textContent = words;
    at("said").hidden = !words;
  };

  const post = (path, body, headers) =>
    fetch(`${form.dataset.root}${path}`, { method: "POST", body, headers: { "X-CSRF-Token": form.dataset.csrf, "Content-Type": "application/octet-stream", ...headers } });

  // Answers for as long as it takes: what is lost is sent again, what was refused is told.
  const patiently = async (ask) => {
    for (let tries = 0; ; tries++) {
      const answer = await ask().catch(() => null);
      if (answer && answer.status < 500 && answer.status !== 429) {
        say("");
        return answer;
      }
      say(form.dataset.failed);
      await wait(Math.min(30, 2 ** Math.min(tries, 5)));
    }
  };

  const send = async (files, id, offset, size) => {
    const most = Number(form.dataset.piece);
    while (offset < size) {
      let [start, parts, left] = [0, [], most];
      for (const file of files) {
        const from = Math.max(offset - start, 0);
        if (from < file.size && left > 0) {
          const part = file.slice(from, Math.min(file.size, from + left));
          parts.push(part);
          left -= part.size;
        }
        start += file.size;
        if (left === 0) break;
      }
      const body = new Blob(parts);
      const answer = await patiently(() => post(`/bring-in/${id}/bytes`, body, { "Upload-Offset": String(offset) }));
      if (answer.status === 409) {
        offset = (await (await patiently(() => fetch(`${form.dataset.root}/bring-in/${id}/state`))).json()).offset;
      } else if (answer.ok) {
        offset = (await answer.json()).offset;
      } else {
        throw new Error((await answer.json()).detail);
      }
      at("bar").value = offset / size;
      const words = [offset, size].map((each) => (each / 1e6).toFixed(1));
      at("far").textContent = form.dataset.sent.replace("{0}", words[0]).replace("{1}", words[1]);
    }
  };

  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const chosen = [...at("folder").files, ...at("files").files];
    const files = chosen.filter((each) => each.size && !SKIPPED.test(each.name));
    const button = form.querySelector("button");
    button.disabled = true;
    at("under-way").hidden = false;
    at("far").textContent = form.dataset.looking;
    try {
      const list = files.map((each) => ({ name: each.webkitRelativePath || each.name, size: each.size }));
      const asked = JSON.stringify({ patient: at("patient").value, files: list, left_out: chosen.length - files.length });
      const answer = await patiently(() => post("/bring-in/begin", asked, {}));
      const told = await answer.json();
      if (!answer.ok) throw new Error(told.detail);
      await send(files, told.id, told.offset, told.size);
      location.assign(`${form.dataset.root}/bring-in/${told.id}`);
    } catch (error) {
      say(error.message);
      button.disabled = false;
      at("under-way").hidden = true;
    }
  });
}
