// The viewer's first stage: a stack of images on a canvas, for every device, with keyboard and screen reader; the page was shown before this runs.

import { taken } from "./config";
import { frames } from "./dicom";
import { limited, listen } from "./gestures";
import type { Tool } from "./gestures";
import { kept, values, whole } from "./greys";
import type { Lent, Place, Second } from "./lent";
import { parts } from "./multipart";
import { show } from "./others";
import { Ended, Service } from "./service";
import { EXPLICIT, Stack } from "./stack";

const config = taken();
const service = new Service(config);
const words = config.words;
const at = <T extends HTMLElement>(id: string): T => document.getElementById(id) as T;
const canvas = at<HTMLCanvasElement>("canvas");
const first = at<HTMLImageElement>("first");
const slider = at<HTMLInputElement>("slider");
const status = at("status");
const levels = at("levels");
const panel = at("other");
const presets = at<HTMLSelectElement>("presets");
const AGAIN = 3000;
const PRESETS: Record<string, [number, number]> = { soft: [40, 400], lung: [-600, 1500], bone: [300, 1500], brain: [40, 80], liver: [60, 160] };

let stack: Stack | null = null;
let opened = { study: config.first.study, series: config.first.series };
let second: Second | null = null;
let tool: Tool = "scroll";
let playing = 0;
let again = 0;
let losses = 0;
let waiting = false;

function changed(): void {
  if (waiting) return;
  waiting = true;
  requestAnimationFrame(() => {
    waiting = false;
    drawn();
  });
}

function drawn(): void {
  if (!stack) return;
  const ratio = window.devicePixelRatio || 1;
  const [width, height] = [Math.round(canvas.clientWidth * ratio), Math.round(canvas.clientHeight * ratio)];
  if (canvas.width !== width || canvas.height !== height) [canvas.width, canvas.height] = [width, height];
  if (stack.draw(canvas)) {
    first.hidden = true;
    canvas.dataset.drawn = stack.isExact ? "exact" : "picture";
  }
  const count = stack.frames.length;
  slider.max = String(Math.max(count - 1, 0));
  slider.value = String(stack.place);
  slider.disabled = count < 2;
  slider.setAttribute("aria-valuetext", told(words.image, stack.place + 1, count));
  status.textContent = count ? told(words.image, stack.place + 1, count) : (words.loading ?? "");
  canvas.setAttribute("aria-label", `${words.stack ?? ""}. ${status.textContent}`);
  canvas.dataset.loaded = String(stack.loaded);
  const window_ = stack.inForce;
  levels.textContent = window_ && stack.frame?.plain ? `W ${Math.round(window_.width)} L ${Math.round(window_.center)}` : "";
}

function told(template: string | undefined, ...values: number[]): string {
  return values.reduce<string>((text, value, place) => text.replace(`{${place}}`, String(value)), template ?? "");
}

function failed(error: unknown): void {
  stop();
  const ended = error instanceof Ended;
  const lost = error instanceof TypeError; // fetch's own, and that of a body which breaks off
  const note = at("problem");
  note.textContent = (ended ? words.ended : lost ? words.lost : words.failed) ?? "";
  note.hidden = false;
  clearTimeout(again);
  losses++;
  if (lost) again = window.setTimeout(() => void goOn(), AGAIN);
  if (!ended) return;
  stack?.close();
  stack = null;
  closeSecond();
  first.remove();
  canvas.getContext("2d")?.clearRect(0, 0, canvas.width, canvas.height);
  at("stage").remove();
}

// After the connection was lost: what is not here yet.
async function goOn(): Promise<void> {
  clearTimeout(again);
  again = 0;
  const before = losses;
  await stack?.goOn().catch(failed);
  if (losses === before) at("problem").hidden = true;
}

function open(study: number, series: number, place: number): void {
  const chosen = config.studies[study];
  const wanted = chosen?.series[series];
  if (!chosen || !wanted) return;
  stop();
  for (const button of document.querySelectorAll<HTMLButtonElement>("[data-series]")) {
    button.setAttribute("aria-pressed", String(button.dataset.series === `${study}-${series}`));
  }
  opened = { study, series };
  const isImage = wanted.kind === "image";
  if (second && isImage) {
    void second.open(study, series);
    return;
  }
  closeSecond();
  stack?.close();
  stack = null;
  delete canvas.dataset.drawn;
  at("stage").hidden = !isImage;
  at("tools").hidden = !isImage;
  panel.hidden = isImage;
  if (!isImage) {
    first.hidden = true;
    status.textContent = wanted.title;
    void show(wanted.kind, `/studies/${chosen.uid}/series/${wanted.uid}`, service, panel, words).catch(failed);
    return;
  }
  const made = new Stack(service, chosen.uid, wanted.uid);
  made.changed = changed;
  made.failed = failed;
  stack = made;
  presets.value = "";
  void made.open(place).catch(failed);
}

const ACTS: Record<string, (shown: Stack) => void> = {
  previous: (shown) => shown.go(shown.place - 1),
  next: (shown) => shown.go(shown.place + 1),
  back: (shown) => shown.go(shown.place - 10),
  on: (shown) => shown.go(shown.place + 10),
  first: (shown) => shown.go(0),
  last: (shown) => shown.go(shown.frames.length - 1),
  larger: (shown) => (shown.zoom = limited(shown.zoom * 1.25)),
  smaller: (shown) => (shown.zoom = limited(shown.zoom / 1.25)),
  rotate: (shown) => (shown.turn = (shown.turn + 1) % 4),
  invert: (shown) => (shown.inverse = !shown.inverse),
  reset: (shown) => {
    presets.value = "";
    shown.reset();
  },
  play: () => (playing ? stop() : play()),
  save: (shown) => void save(shown),
};

// The image as it is shown, one pixel for each of its own.
async function save(shown: Stack): Promise<void> {
  const pixels = shown.pixels();
  if (!pixels) return;
  const whole = new OffscreenCanvas(pixels.width, pixels.height);
  whole.getContext("2d")?.putImageData(pixels, 0, 0);
  const link = document.createElement("a");
  link.href = URL.createObjectURL(await whole.convertToBlob({ type: "image/png" }));
  link.download = `image-${shown.place + 1}.png`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}

// The second stage takes the place of the first, and gives it back.
async function measure(beside: number | null): Promise<void> {
  if (second || status.dataset.busy) return;
  stop();
  status.dataset.busy = "yes";
  status.textContent = words.loading ?? "";
  const root = at("second");
  try {
    const { begin } = (await import(/* @vite-ignore */ config.second)) as { begin: (lent: Lent) => Promise<Second> };
    for (const id of ["stage", "tools", "status"]) at(id).hidden = true;
    root.hidden = false;
    const place: Place = { ...opened, place: stack?.place ?? 0 };
    const back = (to: Place): void => {
      closeSecond();
      open(to.study, to.series, to.place);
    };
    second = await begin({ config, service, frames, parts, values, whole, kept, explicit: EXPLICIT, root, at: place, beside, failed, back });
    root.querySelector<HTMLElement>(".box")?.focus();
  } catch (error) {
    closeSecond();
    failed(error);
  } finally {
    delete status.dataset.busy;
  }
}

function closeSecond(): void {
  second?.close();
  second = null;
  at("second").hidden = true;
  status.hidden = false;
}

function act(name: string): void {
  if (name === "measure") void measure(null);
  if (!stack) return;
  if (name !== "play") stop();
  ACTS[name]?.(stack);
  changed();
}

function play(): void {
  const shown = stack;
  if (!shown || shown.frames.length < 2) return;
  playing = window.setInterval(() => shown.go((shown.place + 1) % shown.frames.length), 100);
  at("play").setAttribute("aria-pressed", "true");
}

function stop(): void {
  clearInterval(playing);
  playing = 0;
  at("play").setAttribute("aria-pressed", "false");
}

listen(canvas, () => stack, () => tool, act);
slider.addEventListener("input", () => stack?.go(Number(slider.value)));
presets.addEventListener("change", () => {
  const found = PRESETS[presets.value];
  if (!stack) return;
  stack.window = found ? { center: found[0], width: found[1], exact: false, sigmoid: false } : null;
  changed();
});
for (const button of document.querySelectorAll<HTMLButtonElement>("[data-act]")) {
  button.addEventListener("click", () => act(button.dataset.act ?? ""));
}
for (const button of document.querySelectorAll<HTMLButtonElement>("[data-tool]")) {
  button.addEventListener("click", () => {
    tool = button.dataset.tool as Tool;
    for (const each of document.querySelectorAll("[data-tool]")) each.setAttribute("aria-pressed", String(each === button));
  });
}
for (const button of document.querySelectorAll<HTMLButtonElement>("[data-series]")) {
  const [study, series] = (button.dataset.series ?? "").split("-").map(Number) as [number, number];
  button.addEventListener("click", () => open(study, series, 0));
}
// Small pictures of the series that are in sight, once the first image is there.
const seen = new IntersectionObserver((entries) => {
  for (const { target, isIntersecting } of entries) {
    if (!isIntersecting) continue;
    seen.unobserve(target);
    void thumbnail(target as HTMLImageElement);
  }
});

async function thumbnail(image: HTMLImageElement): Promise<void> {
  const [study, series] = (image.dataset.thumbnail ?? "").split("-").map(Number) as [number, number];
  const chosen = config.studies[study];
  const answer = await service.get(`/studies/${chosen?.uid}/series/${chosen?.series[series]?.uid}/thumbnail?viewport=96,96`, "image/jpeg").catch(() => null);
  if (!answer) return;
  image.src = URL.createObjectURL(await answer.blob());
  image.hidden = false;
}

const waitForFirst = window.setInterval(() => {
  if (!canvas.dataset.drawn && panel.hidden) return;
  clearInterval(waitForFirst);
  for (const image of document.querySelectorAll("[data-thumbnail]")) seen.observe(image);
}, 200);
new ResizeObserver(changed).observe(canvas);
window.addEventListener("online", () => {
  if (again) void goOn();
});
// For tests and benchmarks of what is on the screen: pixels, never the token.
Object.assign(canvas, { shownPixels: () => stack?.pixels() });
open(config.first.study, config.first.series, config.first.place);
if (config.beside !== null) void measure(config.beside);
