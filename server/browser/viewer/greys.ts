// From stored values to grey (PS3.3 sections C.11.1 and C.11.2.1.2): rescale, window, polarity; one table for all values that there can be.

import type { Frame, Window } from "./dicom";

export type Values = Int16Array | Uint16Array | Uint8Array | Int8Array;

// Little-endian frames as WADO-RS sends them in Explicit VR Little Endian.
export function values(body: Uint8Array, frame: Frame): Values {
  const count = frame.rows * frame.columns;
  const buffer = body.byteOffset % 2 ? body.slice().buffer : body.buffer;
  const offset = body.byteOffset % 2 ? 0 : body.byteOffset;
  if (frame.bitsAllocated <= 8) return frame.signed ? new Int8Array(buffer, offset, count) : new Uint8Array(buffer, offset, count);
  return frame.signed ? new Int16Array(buffer, offset, count) : new Uint16Array(buffer, offset, count);
}

// The window of a frame that names none: from its least to its greatest value, without padding.
export function whole(stored: Values, frame: Frame): Window {
  let least = Infinity;
  let greatest = -Infinity;
  for (const raw of stored) {
    const value = kept(raw, frame);
    if (value === frame.padding) continue;
    if (value < least) least = value;
    if (value > greatest) greatest = value;
  }
  if (least > greatest) [least, greatest] = [0, 1];
  const [low, high] = [least * frame.slope + frame.intercept, greatest * frame.slope + frame.intercept].sort((a, b) => a - b) as [number, number];
  return { center: (low + high) / 2, width: Math.max(high - low, 1e-6), exact: true, sigmoid: false };
}

// A grey for each stored value, by its bits.
export function table(frame: Frame, window: Window, inverse: boolean): Uint8Array {
  const size = 1 << (frame.bitsAllocated <= 8 ? 8 : 16);
  const greys = new Uint8Array(size);
  const turned = frame.inverse !== inverse;
  for (let bits = 0; bits < size; bits++) {
    const value = kept(frame.signed && bits >= size / 2 ? bits - size : bits, frame);
    const grey = shown(value * frame.slope + frame.intercept, window);
    greys[bits] = turned ? 255 - Math.round(grey) : Math.round(grey);
  }
  return greys;
}

export function painted(stored: Values, greys: Uint8Array, image: ImageData): void {
  const pixels = new Uint32Array(image.data.buffer);
  const mask = greys.length - 1;
  for (let place = 0; place < pixels.length; place++) {
    pixels[place] = 0xff000000 | ((greys[(stored[place] as number) & mask] as number) * 0x010101);
  }
}

function shown(value: number, { center, width, exact, sigmoid }: Window): number {
  if (sigmoid) return 255 / (1 + Math.exp((-4 * (value - center)) / width));
  const [middle, span] = exact ? [center, width] : [center - 0.5, width - 1];
  if (value <= middle - span / 2) return 0;
  if (value > middle + span / 2) return 255;
  return ((value - middle) / span + 0.5) * 255;
}

// Bits above those that are stored are not part of the value.
export function kept(value: number, { bitsAllocated, bitsStored, signed }: Frame): number {
  const unused = 32 - bitsStored;
  if (bitsStored >= bitsAllocated) return value;
  return signed ? (value << unused) >> unused : (value << unused) >>> unused;
}
