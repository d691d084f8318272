// Pointer, wheel and keys on the canvas. One finger or button scrolls through the stack, or does what was chosen; two fingers zoom and move.

import type { Stack } from "./stack";

export type Tool = "scroll" | "window" | "zoom" | "pan";

export function listen(canvas: HTMLCanvasElement, stack: () => Stack | null, tool: () => Tool, act: (name: string) => void): void {
  const pointers = new Map<number, PointerEvent>();
  let carried = 0;

  canvas.addEventListener("pointerdown", (event) => {
    pointers.set(event.pointerId, event);
    canvas.setPointerCapture(event.pointerId);
    carried = 0;
  });
  for (const name of ["pointerup", "pointercancel"] as const) canvas.addEventListener(name, (event) => pointers.delete(event.pointerId));
  canvas.addEventListener("pointermove", (event) => {
    const before = pointers.get(event.pointerId);
    const shown = stack();
    if (!before || !shown) return;
    const [dx, dy] = [event.clientX - before.clientX, event.clientY - before.clientY];
    const other = [...pointers.values()].find((each) => each.pointerId !== event.pointerId);
    pointers.set(event.pointerId, event);
    const ratio = canvas.width / canvas.clientWidth;
    if (other) {
      const [was, is] = [before, event].map((each) => Math.hypot(each.clientX - other.clientX, each.clientY - other.clientY)) as [number, number];
      if (was > 0) shown.zoom = limited(shown.zoom * (is / was));
      shown.x += (dx * ratio) / 2;
      shown.y += (dy * ratio) / 2;
    } else if (event.buttons & 2 || event.buttons & 4 || tool() === "pan") {
      shown.x += dx * ratio;
      shown.y += dy * ratio;
    } else if (tool() === "zoom") {
      shown.zoom = limited(shown.zoom * Math.exp(-dy / 200));
    } else if (tool() === "window") {
      const window = shown.inForce;
      if (window) {
        const step = Math.max(window.width, 20) / 300;
        shown.window = { ...window, center: window.center + dy * step, width: Math.max(window.width + dx * step, 1) };
      }
    } else {
      carried += dy;
      const step = Math.max(2, Math.min(24, canvas.clientHeight / Math.max(shown.frames.length, 1)));
      const whole = Math.trunc(carried / step);
      carried -= whole * step;
      shown.go(shown.place + whole);
      return;
    }
    shown.changed();
  });
  canvas.addEventListener("contextmenu", (event) => event.preventDefault());
  canvas.addEventListener(
    "wheel",
    (event) => {
      const shown = stack();
      if (!shown) return;
      event.preventDefault();
      if (event.ctrlKey) {
        shown.zoom = limited(shown.zoom * Math.exp(-event.deltaY / 200));
        shown.changed();
      } else shown.go(shown.place + Math.sign(event.deltaY));
    },
    { passive: false },
  );
  canvas.addEventListener("keydown", (event) => {
    const name = event.ctrlKey || event.metaKey || event.altKey ? undefined : KEYS[event.key];
    if (!name) return;
    event.preventDefault();
    act(name);
  });
}

const KEYS: Record<string, string> = {
  ArrowUp: "previous", ArrowLeft: "previous", ArrowDown: "next", ArrowRight: "next", PageUp: "back", PageDown: "on", Home: "first", End: "last",
  "+": "larger", "-": "smaller", "=": "larger", i: "invert", r: "rotate", " ": "play", "0": "reset", Escape: "reset",
};

export function limited(zoom: number): number {
  return Math.min(Math.max(zoom, 0.2), 30);
}
