// The viewer's second stage, fetched when it is asked for: measuring, three planes, a series beside another, key images (Cornerstone3D).

import { cache, Enums, eventTarget, getShouldUseCPURendering, imageLoader, init, RenderingEngine, setVolumesForViewports, utilities, volumeLoader } from "@cornerstonejs/core";
import type { Types } from "@cornerstonejs/core";
import type { Lent, Place, Second } from "../viewer/lent";
import { element, told } from "./dom";
import { Images } from "./images";
import type { Opened } from "./images";
import { Marks } from "./marks";
import { Pane } from "./pane";
import { begin as beginTools, Bindings } from "./tools";
import type { ToolName } from "./tools";

type Layout = "one" | "beside" | "planes";
const { OrientationAxis, Events } = Enums;
const PLANES = [["axial", OrientationAxis.AXIAL], ["sagittal", OrientationAxis.SAGITTAL], ["coronal", OrientationAxis.CORONAL]] as const;
const TOOL_NAMES: ToolName[] = ["scroll", "window", "zoom", "pan", "length", "angle", "region", "cross"];
const MOST_BYTES = 512 << 20;
const AT_ONCE = 4;
const ENGINE = "second";

export async function begin(lent: Lent): Promise<Second> {
  init();
  beginTools();
  const made = new Bench(lent);
  await made.begin();
  return made;
}

class Bench implements Second {
  readonly #engine = new RenderingEngine(ENGINE);
  readonly #images: Images;
  readonly #marks: Marks;
  readonly #panes = element("div", { class: "panes" });
  readonly #status = element("p", { role: "status", class: "said" });
  readonly #layouts: HTMLSelectElement;
  readonly #tools = new Map<ToolName, HTMLButtonElement>();
  readonly #key: HTMLButtonElement;
  readonly #together: HTMLInputElement;
  // What was enlarged stays so, the rest is fitted anew.
  readonly #resized = new ResizeObserver(() => this.#engine.resize(true, this.#shown.some((each) => Math.abs((each.viewport?.getZoom() ?? 1) - 1) > 0.01)));
  #bindings: Bindings | null = null;
  #tool: ToolName = "scroll";
  #shown: Pane[] = [];
  #active: Pane | null = null;
  #layout: Layout = "one";
  #following = false;
  // Where two panes stood when they began to go together.
  #bases: number[] = [];

  constructor(private readonly lent: Lent) {
    const { words } = lent.config;
    this.#images = new Images(lent);
    this.#marks = new Marks({ words, named: (id) => this.#named(id), show: (id) => void this.#show(id), redraw: () => this.#engine.render() });
    this.#layouts = element("select", { id: "layout", change: () => void this.#lay(this.#layouts.value as Layout) },
      ...(["one", "beside", "planes"] as const).map((each) => element("option", { value: each }, words[each] ?? "")));
    this.#key = element("button", { type: "button", id: "key", "aria-pressed": "false", click: () => this.#marked() }, words.key ?? "");
    this.#together = element("input", { type: "checkbox", id: "together", checked: true, change: () => this.#based() });
    for (const name of TOOL_NAMES) {
      const pick = (): void => this.#choose(name);
      this.#tools.set(name, element("button", { type: "button", "data-measure": name, "aria-pressed": "false", click: pick }, words[name] ?? ""));
    }
    const { place } = lent.at;
    lent.root.replaceChildren(
      element("div", { class: "row", role: "group", "aria-label": words.tools ?? "" },
        element("button", { type: "button", id: "simple", click: () => lent.back(this.#at(place)) }, words.simple ?? ""),
        element("label", { class: "pick" }, element("span", {}, words.layout ?? ""), this.#layouts),
        ...this.#tools.values(), this.#key,
        element("label", { class: "pick", id: "together-label", hidden: true }, this.#together, element("span", {}, words.together ?? ""))),
      this.#status, element("div", { class: "bench" }, this.#panes, this.#marks.root),
    );
    if (getShouldUseCPURendering()) (this.#layouts.options[2] as HTMLOptionElement).disabled = true;
    eventTarget.addEventListener(Events.IMAGE_LOAD_FAILED, this.#unreadable);
  }

  async begin(): Promise<void> {
    this.#layouts.value = this.lent.beside === null ? "one" : "beside";
    await this.#lay(this.#layouts.value as Layout);
  }

  close(): void {
    eventTarget.removeEventListener(Events.IMAGE_LOAD_FAILED, this.#unreadable);
    this.#resized.disconnect();
    this.#marks.close();
    this.#bindings?.close();
    this.#engine.destroy();
    this.#images.close();
    cache.purgeCache();
    this.lent.root.replaceChildren();
  }

  // Another series in the pane that was used last.
  async open(study: number, series: number): Promise<void> {
    if (this.#layout === "planes") {
      await this.#lay("planes", { study, series, place: 0 });
      return;
    }
    const pane = this.#active ?? this.#shown[0];
    if (pane) await this.#open(pane, { study, series, place: 0 });
  }

  #at(place: number): Place {
    const pane = this.#active ?? this.#shown[0];
    return pane?.opened ? { study: pane.opened.study, series: pane.opened.series, place: this.#layout === "planes" ? place : pane.place } : this.lent.at;
  }

  async #lay(layout: Layout, at: Place = this.#at(0)): Promise<void> {
    const opened = await this.#images.open(at.study, at.series).catch((error: unknown) => {
      this.lent.failed(error);
      throw error;
    });
    const bytes = opened.frames.reduce((sum, each) => sum + each.rows * each.columns * 4, 0);
    const isRefused = layout === "planes" && (!opened.isVolume || bytes > MOST_BYTES);
    this.#layout = isRefused ? "one" : layout;
    this.#layouts.value = this.#layout;
    for (const pane of this.#shown) this.#engine.disableElement(pane.id);
    this.#resized.disconnect();
    this.#bindings?.close();
    this.#bindings = new Bindings(`tools-${this.#layout}`, this.#layout === "planes", this.#marks.lines);
    this.#panes.dataset.layout = this.#layout;
    (this.#tools.get("cross") as HTMLElement).hidden = this.#layout !== "planes";
    if (this.#tool === "cross" && this.#layout !== "planes") this.#tool = "scroll";
    (document.getElementById("together-label") as HTMLElement).hidden = this.#layout !== "beside";
    if (this.#layout === "planes") await this.#planes(opened);
    else await this.#stacks(at);
    for (const pane of this.#shown) this.#resized.observe(pane.box);
    this.#choose(this.#tool);
    this.#say(isRefused ? (this.lent.config.words.unplanar ?? "") : "");
  }

  async #stacks(at: Place): Promise<void> {
    const { words } = this.lent.config;
    const places = this.#layout === "beside" ? [at, this.#other(at)] : [at];
    this.#shown = places.map((each, number) => {
      const pick = element("select", { "aria-label": told(words.which, number + 1) }, ...this.#choices(each));
      const pane = new Pane(this.#paneOf, `stack-${number}`, "", this.#layout === "beside" ? pick : undefined);
      pick.addEventListener("change", () => {
        const [study, series] = pick.value.split("-").map(Number) as [number, number];
        void this.#open(pane, { study, series, place: 0 });
      });
      pane.box.addEventListener("pointerdown", () => (this.#active = pane));
      pane.box.addEventListener("focus", () => (this.#active = pane));
      return pane;
    });
    this.#panes.replaceChildren(...this.#shown.map((each) => each.root));
    this.#active = this.#shown[0] ?? null;
    await Promise.all(this.#shown.map((pane, number) => this.#open(pane, places[number] as Place)));
  }

  async #open(pane: Pane, at: Place): Promise<void> {
    try {
      const opened = await this.#images.open(at.study, at.series);
      await pane.showStack(opened, at.place);
      this.#bindings?.add(pane.id, ENGINE);
      this.#choose(this.#tool);
      this.#based();
      this.#engine.resize(true, false);
      pane.box.dataset.drawn = "exact";
    } catch (error) {
      this.lent.failed(error);
    }
  }

  async #planes(opened: Opened): Promise<void> {
    const { words } = this.lent.config;
    this.#shown = PLANES.map(([name]) => new Pane(this.#paneOf, `plane-${name}`, words[name] ?? ""));
    this.#panes.replaceChildren(...this.#shown.map((each) => each.root));
    this.#active = this.#shown[0] ?? null;
    await this.#loaded(opened);
    const id = `cornerstoneStreamingImageVolume:${opened.frames[0]?.series ?? ""}`;
    const volume = await volumeLoader.createAndCacheVolume(id, { imageIds: opened.ids });
    (volume as unknown as { load: () => void }).load();
    PLANES.forEach(([, orientation], number) => {
      const pane = this.#shown[number] as Pane;
      pane.enablePlane(opened, orientation);
      this.#bindings?.add(pane.id, ENGINE);
    });
    // The brightest of a slab as thin as can be: a slice as it is, where compositing would darken it by what lies between samples.
    await setVolumesForViewports(this.#engine, [{ volumeId: id, blendMode: Enums.BlendModes.MAXIMUM_INTENSITY_BLEND }], this.#shown.map((each) => each.id));
    const window = opened.frames[0]?.windows[0];
    if (window) {
      const voiRange = utilities.windowLevel.toLowHighRange(window.width, window.center);
      for (const pane of this.#shown) (pane.viewport as Types.IVolumeViewport).setProperties({ voiRange });
    }
    this.#engine.render();
    for (const pane of this.#shown) pane.box.dataset.drawn = "exact";
  }

  // All of a series, some at once, with what has come so far.
  async #loaded(opened: Opened): Promise<void> {
    let done = 0;
    const left = [...opened.ids];
    const next = async (): Promise<void> => {
      for (let id = left.shift(); id; id = left.shift()) {
        await imageLoader.loadAndCacheImage(id);
        this.#say(told(this.lent.config.words.coming, ++done, opened.ids.length));
      }
    };
    await Promise.all(Array.from({ length: AT_ONCE }, next));
  }

  get #paneOf() {
    return { engine: this.#engine, images: this.#images, words: this.lent.config.words, changed: (pane: Pane) => this.#changed(pane) };
  }

  #choose(name: ToolName): void {
    this.#tool = name;
    this.#bindings?.choose(name);
    for (const [each, button] of this.#tools) button.setAttribute("aria-pressed", String(each === name));
  }

  #changed(pane: Pane): void {
    this.#key.setAttribute("aria-pressed", String(this.#marks.keys.has((this.#active ?? pane).image)));
    if (this.#layout !== "beside" || !this.#together.checked || this.#following) return;
    const number = this.#shown.indexOf(pane);
    const other = this.#shown[1 - number];
    const [base, bases] = [this.#bases[number], this.#bases[1 - number]];
    if (!other?.opened || base === undefined || bases === undefined) return;
    const [was, is, from] = [pane.depth(base), pane.depth(pane.place), other.depth(bases)];
    let to = bases + pane.place - base;
    if (was !== null && is !== null && from !== null) {
      const far = other.opened.ids.map((_, place) => Math.abs((other.depth(place) ?? Infinity) - from - (is - was)));
      to = far.indexOf(Math.min(...far));
    }
    this.#following = true;
    void other.go(to).finally(() => (this.#following = false));
  }

  #based(): void {
    this.#bases = this.#shown.map((each) => (each.opened ? each.place : 0));
  }

  #marked(): void {
    const image = (this.#active ?? this.#shown[0])?.image;
    if (!image) return;
    this.#marks.toggle(image);
    this.#key.setAttribute("aria-pressed", String(this.#marks.keys.has(image)));
  }

  // The series of the other study that was asked for, else the next one there is.
  #other(at: Place): Place {
    const { studies } = this.lent.config;
    const study = this.lent.beside ?? (studies.length > 1 ? (at.study + 1) % studies.length : at.study);
    const images = (studies[study]?.series ?? []).map((each, place) => ({ each, place })).filter(({ each }) => each.kind === "image");
    const found = images.find(({ place }) => study !== at.study || place !== at.series) ?? images[0];
    return found ? { study, series: found.place, place: 0 } : at;
  }

  #choices(at: Place): HTMLOptionElement[] {
    return this.lent.config.studies.flatMap((study, number) =>
      study.series.flatMap((each, place) =>
        each.kind === "image"
          ? [element("option", { value: `${number}-${place}`, selected: number === at.study && place === at.series }, `${each.title} · ${study.date}`)]
          : [],
      ),
    );
  }

  #named(id: string): string {
    for (const pane of this.#shown) {
      const place = pane.opened?.ids.indexOf(id) ?? -1;
      if (place >= 0) return told(this.lent.config.words.image, place + 1, pane.opened?.ids.length ?? 0);
    }
    const frame = this.#images.frame(id);
    return told(this.lent.config.words.numbered, frame?.said("", "00200013")[0] ?? frame?.number ?? 1);
  }

  async #show(id: string): Promise<void> {
    for (const pane of this.#shown) {
      const place = pane.opened?.ids.indexOf(id) ?? -1;
      if (place < 0 || this.#layout === "planes") continue;
      await pane.go(place);
      pane.box.focus();
      return;
    }
    const frame = this.#images.frame(id);
    const study = this.lent.config.studies.findIndex((each) => each.uid === frame?.study);
    const series = this.lent.config.studies[study]?.series.findIndex((each) => each.uid === frame?.series) ?? -1;
    if (series < 0) return;
    const opened = await this.#images.open(study, series);
    await this.#lay("one", { study, series, place: opened.ids.indexOf(id) });
  }

  #say(text: string): void {
    this.#status.textContent = text;
  }

  readonly #unreadable = (): void => this.#say(this.lent.config.words.cannot ?? "");
}
