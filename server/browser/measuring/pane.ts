// One pane: a series as a stack, or one plane of its volume, with its line of text and its keys.

import { Enums, utilities } from "@cornerstonejs/core";
import type { RenderingEngine, Types } from "@cornerstonejs/core";
import { element, told } from "./dom";
import type { Images, Opened } from "./images";

const { Events, ViewportType } = Enums;
const STEPS: Record<string, number> = { ArrowUp: -1, ArrowLeft: -1, ArrowDown: 1, ArrowRight: 1, PageUp: -10, PageDown: 10, Home: -1e6, End: 1e6 };

export interface PaneOf {
  engine: RenderingEngine;
  images: Images;
  words: Record<string, string>;
  // Told when another image is shown.
  changed: (pane: Pane) => void;
}

export class Pane {
  readonly root = element("div", { class: "pane" });
  readonly box: HTMLElement;
  readonly text = element("p", { class: "place", "aria-hidden": "true" });
  opened: Opened | null = null;

  constructor(private readonly of: PaneOf, readonly id: string, readonly title = "", above?: HTMLElement) {
    this.box = element("div", { class: "box", tabindex: "0", role: "img", "aria-label": of.words.stack ?? "", keydown: (event) => this.#key(event as KeyboardEvent) });
    this.box.addEventListener("contextmenu", (event) => event.preventDefault());
    this.root.append(...(above ? [above] : []), this.box, this.text);
  }

  get viewport(): Types.IStackViewport | Types.IVolumeViewport {
    return this.of.engine.getViewport(this.id) as Types.IStackViewport | Types.IVolumeViewport;
  }

  get place(): number {
    return this.viewport.getCurrentImageIdIndex?.() ?? 0;
  }

  get image(): string {
    const { viewport } = this;
    return (viewport && viewport.getCurrentImageId()) || "";
  }

  // How far along the slices' own axis an image lies, in mm; null where it does not say.
  depth(place: number): number | null {
    const frame = this.opened?.frames[place];
    const [position, o] = [frame?.said("00209113", "00200032") ?? [], frame?.said("00209116", "00200037") ?? []];
    if (position.length !== 3 || o.length !== 6) return null;
    const [a, b, c, d, e, f] = o as [number, number, number, number, number, number];
    const [x, y, z] = position as [number, number, number];
    return x * (b * f - c * e) + y * (c * d - a * f) + z * (a * e - b * d);
  }

  async showStack(opened: Opened, place: number): Promise<void> {
    const { engine } = this.of;
    this.opened = opened;
    if (engine.getViewport(this.id)?.type !== ViewportType.STACK) {
      engine.enableElement({ viewportId: this.id, type: ViewportType.STACK, element: this.box as HTMLDivElement });
      this.box.addEventListener(Events.STACK_NEW_IMAGE, () => this.#told());
    }
    await (this.viewport as Types.IStackViewport).setStack(opened.ids, Math.min(Math.max(place, 0), opened.ids.length - 1));
    this.viewport.render();
    this.#told();
  }

  enablePlane(opened: Opened, orientation: Enums.OrientationAxis): void {
    this.opened = opened;
    this.of.engine.enableElement({ viewportId: this.id, type: ViewportType.ORTHOGRAPHIC, element: this.box as HTMLDivElement, defaultOptions: { orientation } });
    this.box.addEventListener(Events.VOLUME_NEW_IMAGE, () => this.#told());
    this.box.addEventListener(Events.CAMERA_MODIFIED, () => this.#told());
  }

  async go(place: number): Promise<void> {
    const { viewport } = this;
    const to = Math.min(Math.max(place, 0), this.#count - 1);
    if (to === this.place) return;
    if ("setImageIdIndex" in viewport) await viewport.setImageIdIndex(to);
    else utilities.scroll(viewport as unknown as Types.IViewport, { delta: to - this.#slice, volumeId: viewport.getVolumeId() });
  }

  get #count(): number {
    const { viewport } = this;
    return "setImageIdIndex" in viewport ? (this.opened?.ids.length ?? 0) : viewport.getNumberOfSlices();
  }

  get #slice(): number {
    const { viewport } = this;
    return "getSliceIndex" in viewport ? viewport.getSliceIndex() : this.place;
  }

  #told(): void {
    const said = told(this.of.words.image, this.#slice + 1, this.#count);
    this.text.textContent = this.title ? `${this.title} · ${said}` : said;
    this.box.setAttribute("aria-label", `${this.of.words.stack ?? ""}. ${this.text.textContent}`);
    this.of.changed(this);
  }

  #key(event: KeyboardEvent): void {
    const step = STEPS[event.key];
    const zoom = { "+": 1.25, "-": 0.8 }[event.key];
    if ((!step && !zoom) || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    if (step) void this.go(this.#slice + step);
    if (zoom) {
      this.viewport.setZoom(this.viewport.getZoom() * zoom);
      this.viewport.render();
    }
  }
}
