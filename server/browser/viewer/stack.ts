// One series as a stack: which frame is shown, through which window, how it lies on the canvas. Rendered pictures first, full bits for the one that stays.

import type { Frame, Window } from "./dicom";
import { frames as framesOf } from "./dicom";
import { painted, table, values, whole } from "./greys";
import type { Values } from "./greys";
import { parts } from "./multipart";
import type { Service } from "./service";

const QUALITY = 60;
const STILL = 180;
export const EXPLICIT = 'multipart/related; type="application/octet-stream"; transfer-syntax=1.2.840.10008.1.2.1';
const PICTURES = 'multipart/related; type="image/jpeg"';
const KEPT = 40;

interface Shown {
  preview?: ImageBitmap;
  exact?: ImageBitmap;
  stored?: Values;
}

export class Stack {
  frames: Frame[] = [];
  place = 0;
  window: Window | null = null;
  inverse = false;
  zoom = 1;
  x = 0;
  y = 0;
  turn = 0;
  // Told of whatever changes: what is shown, or how much of it has come.
  changed: () => void = () => {};
  failed: (error: unknown) => void = () => {};
  loaded = 0;
  #shown: Shown[] = [];
  #full: number[] = [];
  #still = 0;
  #wanted = 0;
  #stop = new AbortController();
  #painted = { place: -1, key: "", bitmap: null as HTMLCanvasElement | null };

  constructor(private readonly service: Service, readonly study: string, readonly series: string) {}

  get frame(): Frame | undefined {
    return this.frames[this.place];
  }

  get path(): string {
    return `/studies/${this.study}/series/${this.series}`;
  }

  // The metadata, then the full bits of `place` and the pictures of all.
  async open(place: number): Promise<void> {
    this.#wanted = place;
    const answer = await this.service.get(`${this.path}/metadata`, "application/dicom+json", this.#stop.signal);
    this.frames = framesOf(await answer.json());
    this.#shown = this.frames.map(() => ({}));
    this.place = Math.min(Math.max(place, 0), Math.max(this.frames.length - 1, 0));
    this.changed();
    if (!this.frames.length) return;
    await this.#fetchFull(this.place);
    await this.#fetchPictures();
  }

  // What did not come before the connection was lost.
  async goOn(): Promise<void> {
    if (!this.frames.length) return this.open(this.#wanted);
    await this.#fetchFull(this.place);
    if (this.loaded < this.frames.length) await this.#fetchPictures();
  }

  close(): void {
    this.#stop.abort();
    for (const each of this.#shown) {
      each.preview?.close();
      each.exact?.close();
    }
    this.#shown = [];
  }

  go(place: number): void {
    const to = Math.min(Math.max(Math.round(place), 0), this.frames.length - 1);
    if (to === this.place || to < 0) return;
    this.place = to;
    this.changed();
    clearTimeout(this.#still);
    this.#still = window.setTimeout(() => void this.#fetchFull(to), STILL);
  }

  reset(): void {
    [this.window, this.inverse, this.zoom, this.x, this.y, this.turn] = [null, false, 1, 0, 0, 0];
    this.changed();
  }

  // The window in force: what was chosen, else the frame's own.
  get inForce(): Window | null {
    const stored = this.#shown[this.place]?.stored;
    return this.window ?? this.frame?.windows[0] ?? (stored && this.frame ? whole(stored, this.frame) : null);
  }

  // Whether the full bits are on the canvas.
  get isExact(): boolean {
    const shown = this.#shown[this.place];
    return Boolean(shown?.exact || shown?.stored);
  }

  get hasPicture(): boolean {
    const shown = this.#shown[this.place];
    return Boolean(shown && (shown.preview || shown.exact || shown.stored));
  }

  draw(canvas: HTMLCanvasElement): boolean {
    const frame = this.frame;
    const picture = this.#picture();
    if (!frame || !picture) return false;
    const context = canvas.getContext("2d") as CanvasRenderingContext2D;
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.fillStyle = "#000";
    context.fillRect(0, 0, canvas.width, canvas.height);
    const [width, height] = size(frame);
    const sideways = this.turn % 2 === 1;
    const fit = Math.min(canvas.width / (sideways ? height : width), canvas.height / (sideways ? width : height)) * this.zoom;
    context.translate(canvas.width / 2 + this.x, canvas.height / 2 + this.y);
    context.rotate((this.turn * Math.PI) / 2);
    context.scale(fit, fit);
    context.imageSmoothingEnabled = fit < 3;
    // Where the values are not at hand the picture is turned around.
    context.filter = this.inverse && !this.#shown[this.place]?.stored ? "invert(1)" : "none";
    context.drawImage(picture, -width / 2, -height / 2, width, height);
    context.filter = "none";
    return true;
  }

  // The pixels of the frame as they are shown, one for one: for who measures.
  pixels(): ImageData | null {
    const picture = this.#picture();
    if (!picture || !this.frame) return null;
    const canvas = new OffscreenCanvas(this.frame.columns, this.frame.rows);
    const context = canvas.getContext("2d") as OffscreenCanvasRenderingContext2D;
    context.drawImage(picture, 0, 0, this.frame.columns, this.frame.rows);
    return context.getImageData(0, 0, this.frame.columns, this.frame.rows);
  }

  #picture(): CanvasImageSource | null {
    const shown = this.#shown[this.place];
    const frame = this.frame;
    if (!shown || !frame) return null;
    const inForce = this.inForce;
    if (shown.stored && inForce) return this.#windowed(shown.stored, frame, inForce);
    return shown.exact ?? shown.preview ?? null;
  }

  #windowed(stored: Values, frame: Frame, inForce: Window): HTMLCanvasElement {
    const key = JSON.stringify([inForce, this.inverse]);
    const had = this.#painted;
    if (had.bitmap && had.place === this.place && had.key === key) return had.bitmap;
    const canvas = had.bitmap ?? document.createElement("canvas");
    if (canvas.width !== frame.columns || canvas.height !== frame.rows) [canvas.width, canvas.height] = [frame.columns, frame.rows];
    const context = canvas.getContext("2d") as CanvasRenderingContext2D;
    const image = context.createImageData(frame.columns, frame.rows);
    painted(stored, table(frame, inForce, this.inverse), image);
    context.putImageData(image, 0, 0);
    this.#painted = { place: this.place, key, bitmap: canvas };
    return canvas;
  }

  async #fetchFull(place: number): Promise<void> {
    const frame = this.frames[place];
    const shown = this.#shown[place];
    if (!frame || !shown || shown.stored || shown.exact) return;
    const at = `${this.path}/instances/${frame.instance}/frames/${frame.number}`;
    try {
      if (frame.plain) {
        const answer = await this.service.get(at, EXPLICIT, this.#stop.signal);
        for await (const part of parts(answer)) shown.stored = values(part.body, frame);
      } else {
        const answer = await this.service.get(`${at}/rendered`, "image/png", this.#stop.signal);
        shown.exact = await createImageBitmap(await answer.blob());
      }
    } catch (error) {
      this.#told(error);
      return;
    }
    this.#full.push(place);
    while (this.#full.length > KEPT) {
      const old = this.#shown[this.#full.shift() as number];
      if (old && old !== this.#shown[this.place]) {
        old.exact?.close();
        delete old.stored;
        delete old.exact;
      }
    }
    this.changed();
  }

  // Pictures of all frames in one request for single-frame images, else one for each instance.
  async #fetchPictures(): Promise<void> {
    const byName = new Map(this.frames.map((each, place) => [`${each.instance}/${each.number}`, place]));
    const instances = [...new Set(this.frames.map((each) => each.instance))];
    const paths = instances.length === this.frames.length ? [this.path] : instances.map((each) => `${this.path}/instances/${each}`);
    for (const path of paths) {
      try {
        const answer = await this.service.get(`${path}/rendered?quality=${QUALITY}`, PICTURES, this.#stop.signal);
        for await (const part of parts(answer)) await this.#keep(part, byName);
      } catch (error) {
        this.#told(error);
        return;
      }
    }
  }

  async #keep(part: { location: string; body: Uint8Array }, byName: Map<string, number>): Promise<void> {
    const found = /instances\/([0-9.]+)(?:\/frames\/(\d+))?/.exec(part.location);
    const place = found ? byName.get(`${found[1]}/${found[2] ?? 1}`) : 0;
    const shown = place === undefined ? undefined : this.#shown[place];
    if (!shown || shown.preview) return;
    shown.preview = await createImageBitmap(new Blob([part.body as BlobPart], { type: "image/jpeg" }));
    this.loaded++;
    this.changed();
  }

  #told(error: unknown): void {
    if (!this.#stop.signal.aborted) this.failed(error);
  }
}

// On the screen: pixels that are not square are shown as wide as they are.
function size(frame: Frame): [number, number] {
  const [row, column] = frame.spacing ?? [1, 1];
  const ratio = row > 0 && column > 0 ? column / row : 1;
  return [frame.columns * Math.max(ratio, 1), frame.rows * Math.max(1 / ratio, 1)];
}
