// What pointer, wheel and fingers do: one tool is chosen for the first button and one finger, the others stay where they always are.

import {
  addTool, AngleTool, annotation, CrosshairsTool, EllipticalROITool, Enums, init, LengthTool, PanTool, StackScrollTool, ToolGroupManager, WindowLevelTool, ZoomTool,
} from "@cornerstonejs/tools";
import type { Types } from "@cornerstonejs/tools";

export const TOOLS = {
  scroll: StackScrollTool, window: WindowLevelTool, zoom: ZoomTool, pan: PanTool, length: LengthTool, angle: AngleTool, region: EllipticalROITool,
  cross: CrosshairsTool,
} as const;
export type ToolName = keyof typeof TOOLS;
export const MEASURES: ReadonlyMap<string, "length" | "angle" | "region"> = new Map([
  [LengthTool.toolName, "length"], [AngleTool.toolName, "angle"], [EllipticalROITool.toolName, "region"],
]);
const { Primary, Secondary, Auxiliary, Wheel } = Enums.MouseBindings;
const ALWAYS: Partial<Record<ToolName, Types.IToolBinding[]>> = {
  scroll: [{ mouseButton: Wheel }], zoom: [{ mouseButton: Secondary }, { numTouchPoints: 2 }], pan: [{ mouseButton: Auxiliary }],
};
const PLANES_ONLY: ToolName = "cross";

const [COLOUR, CHOSEN] = ["rgb(255, 225, 90)", "rgb(140, 230, 255)"];
const STYLE = {
  color: COLOUR, colorHighlighted: CHOSEN, colorSelected: CHOSEN, colorLocked: COLOUR, lineWidth: "2", textBoxFontSize: "15px", textBoxColor: COLOUR,
  textBoxColorHighlighted: CHOSEN, textBoxColorSelected: CHOSEN, textBoxColorLocked: COLOUR,
};

let begun = false;

export interface Statistics {
  length?: number;
  angle?: number;
  area?: number;
  mean?: number;
  stdDev?: number;
  min?: number;
  max?: number;
  unit?: string;
  areaUnit?: string;
  modalityUnit?: string;
}

// Once for a page: the library keeps its tools for all of it.
export function begin(): void {
  if (begun) return;
  begun = true;
  init();
  for (const tool of Object.values(TOOLS)) addTool(tool);
  const styles = annotation.config.style.getDefaultToolStyles();
  annotation.config.style.setDefaultToolStyles({ ...styles, global: { ...styles.global, ...STYLE } });
}

export class Bindings {
  readonly #group: Types.IToolGroup;
  readonly #names: ToolName[];

  constructor(private readonly id: string, forPlanes: boolean, lines: (found: Statistics) => string[]) {
    ToolGroupManager.destroyToolGroup(id);
    this.#group = ToolGroupManager.createToolGroup(id) as Types.IToolGroup;
    this.#names = (Object.keys(TOOLS) as ToolName[]).filter((each) => forPlanes || each !== PLANES_ONLY);
    const getTextLines = (data: { cachedStats: Record<string, Statistics> }, target: string): string[] => {
      const found = data.cachedStats[target] ?? Object.values(data.cachedStats)[0];
      return found ? lines(found) : [];
    };
    for (const name of this.#names) {
      const tool = TOOLS[name].toolName;
      this.#group.addTool(tool, MEASURES.has(tool) ? { getTextLines } : {});
    }
  }

  add(viewport: string, engine: string): void {
    this.#group.addViewport(viewport, engine);
  }

  choose(chosen: ToolName): void {
    for (const name of this.#names) {
      const bindings = [...(ALWAYS[name] ?? []), ...(name === chosen ? [{ mouseButton: Primary }] : [])];
      const tool = TOOLS[name].toolName;
      if (name === PLANES_ONLY && name !== chosen) this.#group.setToolDisabled(tool);
      else this.#group.setToolPassive(tool, { removeAllBindings: true });
      if (bindings.length) this.#group.setToolActive(tool, { bindings });
    }
  }

  close(): void {
    ToolGroupManager.destroyToolGroup(this.id);
  }
}
