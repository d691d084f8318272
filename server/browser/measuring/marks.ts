// What was measured and which images were marked, as lists that everybody can read and go through; they are kept as long as the page.

import { eventTarget } from "@cornerstonejs/core";
import { annotation, Enums } from "@cornerstonejs/tools";
import type { Types } from "@cornerstonejs/tools";
import { element, told } from "./dom";
import { MEASURES } from "./tools";
import type { Statistics } from "./tools";

const { Events } = Enums;
const CHANGES = [Events.ANNOTATION_COMPLETED, Events.ANNOTATION_MODIFIED, Events.ANNOTATION_REMOVED];

export interface MarksOf {
  words: Record<string, string>;
  // "Image 3 of 20" of an image, and the way to it.
  named: (image: string) => string;
  show: (image: string) => void;
  redraw: () => void;
}

export class Marks {
  readonly keys = new Set<string>();
  readonly root: HTMLElement;
  readonly #measured = element("ul", { id: "measured" });
  readonly #key = element("ul", { id: "keys" });
  readonly #all: HTMLButtonElement;
  #waiting = false;

  constructor(private readonly of: MarksOf) {
    const { words } = of;
    this.#all = element("button", { type: "button", click: () => this.#clear() }, words.unmeasure ?? "");
    this.root = element(
      "section", { class: "marks", tabindex: "0", "aria-label": words.marks ?? "" },
      element("h2", {}, words.measured ?? ""), this.#measured,
      element("p", { class: "row" }, this.#all),
      element("h2", {}, words.keys ?? ""), this.#key,
    );
    for (const name of CHANGES) eventTarget.addEventListener(name, this.#changed);
    this.draw();
  }

  close(): void {
    for (const name of CHANGES) eventTarget.removeEventListener(name, this.#changed);
  }

  // Marks an image, or no longer.
  toggle(image: string): void {
    if (!this.keys.delete(image)) this.keys.add(image);
    this.draw();
  }

  // "23.4 mm", or what there is of a region.
  lines = (found: Statistics): string[] => {
    const { words } = this.of;
    const number = (value: number): string => value.toLocaleString(document.documentElement.lang, { maximumFractionDigits: Math.abs(value) < 100 ? 1 : 0 });
    if (found.length !== undefined) return [`${number(found.length)} ${found.unit ?? ""}`];
    if (found.angle !== undefined) return [Number.isFinite(found.angle) ? `${number(found.angle)}°` : ""];
    const unit = found.modalityUnit && found.modalityUnit !== "raw" ? ` ${found.modalityUnit}` : "";
    const lines = found.area === undefined ? [] : [told(words.area, `${number(found.area)} ${found.areaUnit ?? ""}`)];
    if (typeof found.mean === "number") lines.push(told(words.mean, `${number(found.mean)}${unit}`, number(found.stdDev ?? 0)));
    if (typeof found.min === "number" && typeof found.max === "number") lines.push(told(words.span, `${number(found.min)}${unit}`, `${number(found.max)}${unit}`));
    return lines;
  };

  draw(): void {
    const { words, named, show } = this.of;
    const made = annotation.state.getAllAnnotations().filter((each) => MEASURES.has(toolOf(each)) && Object.keys(each.data.cachedStats ?? {}).length);
    const nothing = element("li", { class: "none" }, words.nothing ?? "");
    this.#all.disabled = !made.length;
    this.#measured.replaceChildren(...(made.length ? made.map((each) => this.#entry(each)) : [nothing]));
    const keys = [...this.keys].map((each) => element("li", {}, element("button", { type: "button", click: () => show(each) }, named(each))));
    this.#key.replaceChildren(...(keys.length ? keys : [nothing.cloneNode(true) as HTMLElement]));
  }

  #entry(made: Types.Annotation): HTMLElement {
    const { words, named, show, redraw } = this.of;
    const found = Object.values((made.data.cachedStats ?? {}) as Record<string, Statistics>)[0] ?? {};
    const text = [words[MEASURES.get(toolOf(made)) ?? ""] ?? "", ...this.lines(found)].join(" · ");
    const image = made.metadata?.referencedImageId ?? "";
    const remove = (): void => {
      annotation.state.removeAnnotation(made.annotationUID as string);
      redraw();
      this.draw();
    };
    return element(
      "li", {}, element("span", {}, text), " ",
      ...(image ? [element("button", { type: "button", click: () => show(image) }, named(image)), " "] : []),
      element("button", { type: "button", "aria-label": `${words.remove}: ${text}`, click: remove }, words.remove ?? ""),
    );
  }

  #clear(): void {
    annotation.state.removeAllAnnotations();
    this.of.redraw();
    this.draw();
  }

  readonly #changed = (): void => {
    if (this.#waiting) return;
    this.#waiting = true;
    requestAnimationFrame(() => {
      this.#waiting = false;
      this.draw();
    });
  };
}

function toolOf(made: Types.Annotation): string {
  return made.metadata?.toolName ?? "";
}
