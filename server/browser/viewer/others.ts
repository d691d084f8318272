// What of a study is no stack of images: documents, films, reports as text. Each is put into `place`, or it is said that it can't be shown.

import type { Attributes } from "./dicom";
import { text } from "./dicom";
import { indexOf, parts } from "./multipart";
import type { Service } from "./service";

type Item = Attributes;
const WHOLE = 'multipart/related; type="application/dicom"; transfer-syntax=*';
const ITEM = 0xe000fffe;
const PIXELS = new Uint8Array([0xe0, 0x7f, 0x10, 0x00, 0x4f, 0x42, 0, 0, 0xff, 0xff, 0xff, 0xff]);

export async function show(kind: string, path: string, service: Service, place: HTMLElement, words: Record<string, string>): Promise<void> {
  const answer = await service.get(`${path}/metadata`, "application/dicom+json");
  const instances = (await answer.json()) as Attributes[];
  place.replaceChildren();
  for (const each of instances) {
    if (kind === "report") place.append(...report(each));
    else if (kind === "document") place.append(await file(each, "00420011", text(each, "00420012") || "application/pdf", service, words));
    else if (kind === "video") place.append(await film(each, path, service, words));
    else place.append(paragraph(words.cannot ?? ""));
  }
}

async function bytes(data: Attributes, tag: string, service: Service): Promise<Blob | null> {
  const found = data[tag];
  if (found?.InlineBinary) return new Blob([Uint8Array.from(atob(found.InlineBinary), (each) => each.charCodeAt(0))]);
  return found?.BulkDataURI ? first(await service.get(found.BulkDataURI, "*/*")) : null;
}

async function first(answer: Response): Promise<Blob | null> {
  for await (const part of parts(answer)) return new Blob([part.body as BlobPart]);
  return null;
}

async function file(data: Attributes, tag: string, type: string, service: Service, words: Record<string, string>): Promise<HTMLElement> {
  const content = await bytes(data, tag, service);
  if (!content) return paragraph(words.cannot ?? "");
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([content], { type: type === "application/pdf" ? type : "application/octet-stream" }));
  link.textContent = text(data, "00420010") || (words.document ?? "");
  link.className = "button";
  if (type === "application/pdf") link.target = "_blank";
  else link.download = "document";
  return link;
}

// A film is one stream of bytes over all fragments (PS3.5 section 8.2.5); no frame of it can be asked for by itself.
async function film(data: Attributes, path: string, service: Service, words: Record<string, string>): Promise<HTMLElement> {
  const answer = await service.get(`${path}/instances/${text(data, "00080018")}`, WHOLE);
  let content: Uint8Array[] = [];
  for await (const part of parts(answer)) content = fragments(part.body);
  if (!content.length) return paragraph(words.cannot ?? "");
  const video = document.createElement("video");
  video.controls = true;
  video.setAttribute("aria-label", text(data, "0008103E") || (words.film ?? ""));
  video.src = URL.createObjectURL(new Blob(content as BlobPart[], { type: "video/mp4" }));
  const frame = document.createElement("div");
  video.addEventListener("error", () => frame.replaceChildren(paragraph(words.cannot ?? "")));
  frame.append(video);
  return frame;
}

// PS3.5 section A.4: the items of encapsulated Pixel Data, without the first, which is the Basic Offset Table.
function fragments(file: Uint8Array): Uint8Array[] {
  const found: Uint8Array[] = [];
  const begin = indexOf(file, PIXELS);
  const view = new DataView(file.buffer, file.byteOffset, file.byteLength);
  for (let at = begin + PIXELS.length; begin >= 0 && at + 8 <= file.length && view.getUint32(at, true) === ITEM; ) {
    const length = view.getUint32(at + 4, true);
    found.push(file.subarray(at + 8, at + 8 + length));
    at += 8 + length;
  }
  return found.slice(1);
}

// PS3.3 section C.17.3: the content tree of a structured report as headings and paragraphs.
function report(data: Attributes): HTMLElement[] {
  return [heading(2, meaning(data, "0040A043") || text(data, "0008103E")), ...items(data, 3)];
}

function items(data: Attributes, level: number): HTMLElement[] {
  return ((data["0040A730"]?.Value ?? []) as Item[]).flatMap((item) => {
    const name = meaning(item, "0040A043");
    const below = items(item, Math.min(level + 1, 6));
    const value = said(item);
    if (text(item, "0040A040") === "CONTAINER") return name ? [heading(level, name), ...below] : below;
    if (!value) return below;
    const one = paragraph("");
    if (name) {
      const bold = document.createElement("b");
      bold.textContent = `${name}: `;
      one.append(bold);
    }
    one.append(value);
    return [one, ...below];
  });
}

function said(item: Item): string {
  const measured = (item["0040A300"]?.Value?.[0] ?? {}) as Item;
  switch (text(item, "0040A040")) {
    case "TEXT":
      return text(item, "0040A160");
    case "CODE":
      return meaning(item, "0040A168");
    case "NUM":
      return `${text(measured, "0040A30A")} ${text((measured["004008EA"]?.Value?.[0] ?? {}) as Item, "00080100")}`.trim();
    case "PNAME":
      return text(item, "0040A123").replaceAll("^", " ");
    case "DATE":
      return text(item, "0040A121");
    case "DATETIME":
      return text(item, "0040A120");
    default:
      return "";
  }
}

function meaning(item: Item, tag: string): string {
  return text((item[tag]?.Value?.[0] ?? {}) as Item, "00080104");
}

function heading(level: number, words: string): HTMLElement {
  const made = document.createElement(`h${level}`);
  made.textContent = words;
  return made;
}

export function paragraph(words: string): HTMLElement {
  const made = document.createElement("p");
  made.textContent = words;
  return made;
}
