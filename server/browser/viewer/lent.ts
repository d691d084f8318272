// What the first stage lends to the second, which is built apart, so that none of it is sent twice and all requests have one token.

import type { Config } from "./config";
import type { frames } from "./dicom";
import type { kept, values, whole } from "./greys";
import type { parts } from "./multipart";
import type { Service } from "./service";

export interface Place {
  study: number;
  series: number;
  place: number;
}

export interface Lent {
  config: Config;
  service: Service;
  frames: typeof frames;
  parts: typeof parts;
  values: typeof values;
  whole: typeof whole;
  kept: typeof kept;
  explicit: string;
  // An empty element of the page, to fill.
  root: HTMLElement;
  at: Place;
  // The other study to begin beside, if the page was opened for that.
  beside: number | null;
  failed: (error: unknown) => void;
  // Back to the first stage, at the image that was shown.
  back: (at: Place) => void;
}

export interface Second {
  // Another series, in the pane that was used last.
  open: (study: number, series: number) => Promise<void>;
  close: () => void;
}
