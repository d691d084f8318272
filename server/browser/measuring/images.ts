// Frames as Cornerstone3D takes them: values after the rescale of PS3.3 section C.11.1 and what the metadata says of plane, window and units.

import { Enums, imageLoader, metaData, utilities } from "@cornerstonejs/core";
import type { Types } from "@cornerstonejs/core";
import type { Attributes, Frame } from "../viewer/dicom";
import type { Lent } from "../viewer/lent";

export const SCHEME = "imageshare";
const { MetadataModules, VOILUTFunctionType } = Enums;
type Numbers = Float32Array | Int16Array | Uint16Array | Uint8Array;
type Kind = { new (length: number): Numbers };

export interface Opened {
  study: number;
  series: number;
  ids: string[];
  frames: Frame[];
  // Whether the three planes can be made of it: parallel grey slices of one size, evenly apart.
  isVolume: boolean;
}

export class Images {
  readonly #frames = new Map<string, Frame>();
  readonly #kinds = new Map<string, Kind>();
  readonly #opened = new Map<string, Promise<Opened>>();
  readonly #stop = new AbortController();

  constructor(private readonly lent: Lent) {
    imageLoader.registerImageLoader(SCHEME, (id: string) => ({ promise: this.#load(id), cancelFn: undefined }) as never);
    metaData.addProvider(this.#said, 10_000);
  }

  close(): void {
    this.#stop.abort();
    metaData.removeProvider(this.#said);
  }

  // The series with all its frames; asked for once.
  open(study: number, series: number): Promise<Opened> {
    const key = `${study}-${series}`;
    const found = this.#opened.get(key) ?? this.#open(study, series);
    this.#opened.set(key, found);
    return found;
  }

  frame(id: string): Frame | undefined {
    return this.#frames.get(id);
  }

  async #open(study: number, series: number): Promise<Opened> {
    const chosen = this.lent.config.studies[study];
    const wanted = chosen?.series[series];
    const answer = await this.lent.service.get(`/studies/${chosen?.uid}/series/${wanted?.uid}/metadata`, "application/dicom+json", this.#stop.signal);
    const frames = this.lent.frames((await answer.json()) as Attributes[]);
    const kind = kindOf(frames);
    const ids = frames.map((each) => {
      const id = `${SCHEME}:${each.instance}/${each.number}`;
      this.#frames.set(id, each);
      this.#kinds.set(id, kind);
      return id;
    });
    return { study, series, ids, frames, isVolume: isVolume(frames) };
  }

  async #load(id: string): Promise<Types.IImage> {
    const frame = this.#frames.get(id);
    if (!frame) throw new Error("no such image");
    try {
      return frame.plain ? await this.#grey(id, frame) : await this.#picture(id, frame);
    } catch (error) {
      if (!this.#stop.signal.aborted) this.lent.failed(error);
      throw error;
    }
  }

  async #grey(id: string, frame: Frame): Promise<Types.IImage> {
    const { lent } = this;
    const answer = await lent.service.get(`${path(frame)}/frames/${frame.number}`, lent.explicit, this.#stop.signal);
    let body = new Uint8Array();
    for await (const part of lent.parts(answer)) body = part.body as typeof body;
    const stored = lent.values(body, frame);
    const made = new (this.#kinds.get(id) as Kind)(stored.length);
    for (let place = 0; place < made.length; place++) made[place] = lent.kept(stored[place] as number, frame) * frame.slope + frame.intercept;
    const window = frame.windows[0] ?? lent.whole(stored, frame);
    return image(id, frame, made, 1, {
      windowCenter: window.center,
      windowWidth: window.width,
      voiLUTFunction: window.sigmoid ? VOILUTFunctionType.SAMPLED_SIGMOID : window.exact ? VOILUTFunctionType.LINEAR_EXACT : VOILUTFunctionType.LINEAR,
    });
  }

  // Colours, and greys with tables of their own, as the server renders them.
  async #picture(id: string, frame: Frame): Promise<Types.IImage> {
    const answer = await this.lent.service.get(`${path(frame)}/frames/${frame.number}/rendered`, "image/png", this.#stop.signal);
    const bitmap = await createImageBitmap(await answer.blob());
    const canvas = new OffscreenCanvas(frame.columns, frame.rows);
    const context = canvas.getContext("2d") as OffscreenCanvasRenderingContext2D;
    context.drawImage(bitmap, 0, 0, frame.columns, frame.rows);
    bitmap.close();
    const { data } = context.getImageData(0, 0, frame.columns, frame.rows);
    const colours = new Uint8Array((data.length / 4) * 3);
    for (let from = 0, to = 0; from < data.length; from += 4) {
      for (let colour = 0; colour < 3; colour++) colours[to++] = data[from + colour] as number;
    }
    return image(id, frame, colours, 3, { windowCenter: 128, windowWidth: 256, voiLUTFunction: VOILUTFunctionType.LINEAR });
  }

  readonly #said = (type: string, ...asked: unknown[]): unknown => {
    const frame = this.#frames.get(String(asked[0]));
    return frame && MODULES[type]?.(frame);
  };
}

function image(id: string, frame: Frame, scalarData: Numbers, numberOfComponents: number, window: Partial<Types.IImage>): Types.IImage {
  const [row, column] = frame.spacing ?? [1, 1];
  let [least, greatest] = [Infinity, -Infinity];
  for (const value of scalarData) {
    if (value < least) least = value;
    if (value > greatest) greatest = value;
  }
  const { rows, columns } = frame;
  return {
    imageId: id, rows, columns, height: rows, width: columns, color: numberOfComponents > 1, rgba: false, numberOfComponents, slope: 1, intercept: 0,
    minPixelValue: least, maxPixelValue: greatest, invert: frame.plain && frame.inverse, rowPixelSpacing: row, columnPixelSpacing: column,
    photometricInterpretation: photometric(frame), sizeInBytes: scalarData.byteLength, dataType: scalarData.constructor.name,
    preScale: { enabled: true, scaled: true, scalingParameters: { rescaleSlope: 1, rescaleIntercept: 0 } }, isPreScaled: true,
    getPixelData: () => scalarData, getCanvas: undefined,
    voxelManager: utilities.VoxelManager.createImageVoxelManager({ width: columns, height: rows, scalarData: scalarData as never, numberOfComponents }),
    ...window,
  } as unknown as Types.IImage;
}

const MODULES: Record<string, (frame: Frame) => unknown> = {
  [MetadataModules.IMAGE_PIXEL]: (frame) => {
    const bits = frame.plain ? 16 : 8;
    return {
      bitsAllocated: bits, bitsStored: bits, highBit: bits - 1, samplesPerPixel: frame.plain ? 1 : 3, photometricInterpretation: photometric(frame),
      pixelRepresentation: frame.signed || frame.intercept < 0 ? 1 : 0, rows: frame.rows, columns: frame.columns,
    };
  },
  [MetadataModules.IMAGE_PLANE]: (frame) => {
    const spacing = measured(frame) ?? frame.spacing ?? [1, 1];
    const [position, orientation] = [frame.said("00209113", "00200032"), frame.said("00209116", "00200037")];
    const cosines = orientation.length === 6 ? orientation : [1, 0, 0, 0, 1, 0];
    return {
      rows: frame.rows, columns: frame.columns, frameOfReferenceUID: frame.reference || frame.series, pixelSpacing: spacing, rowPixelSpacing: spacing[0],
      columnPixelSpacing: spacing[1], imageOrientationPatient: cosines, rowCosines: cosines.slice(0, 3), columnCosines: cosines.slice(3),
      imagePositionPatient: position.length === 3 ? position : [0, 0, frame.number - 1],
      sliceThickness: frame.said("00289110", "00180050")[0] ?? 1, usingDefaultValues: !measured(frame),
    };
  },
  [MetadataModules.GENERAL_SERIES]: (frame) => ({ modality: frame.modality, seriesInstanceUID: frame.series, studyInstanceUID: frame.study }),
  [MetadataModules.MODALITY_LUT]: () => ({ rescaleSlope: 1, rescaleIntercept: 0 }),
  [MetadataModules.VOI_LUT]: ({ windows: [first] }) => first && { windowCenter: [first.center], windowWidth: [first.width] },
  [MetadataModules.CALIBRATION]: (frame) => ultrasound(frame),
};

// Spacing in the patient, of which lengths are made: what a detector's pixels are apart (0018,1164) is none.
function measured(frame: Frame): [number, number] | null {
  const [row, column] = frame.said("00289110", "00280030");
  return row && column ? [row, column] : null;
}

// PS3.3 section C.8.5.5: regions of an ultrasound image with units of their own.
function ultrasound(frame: Frame): unknown {
  const regions = (frame.data["00186011"]?.Value ?? []) as Attributes[];
  if (!regions.length) return undefined;
  const number = (region: Attributes, tag: string): number => Number(region[tag]?.Value?.[0] ?? 0);
  return {
    sequenceOfUltrasoundRegions: regions.map((each) => ({
      regionLocationMinX0: number(each, "00186018"), regionLocationMinY0: number(each, "0018601A"), regionLocationMaxX1: number(each, "0018601C"),
      regionLocationMaxY1: number(each, "0018601E"), regionDataType: number(each, "00186014"), physicalUnitsXDirection: number(each, "00186024"),
      physicalUnitsYDirection: number(each, "00186026"), physicalDeltaX: number(each, "0018602C"), physicalDeltaY: number(each, "0018602E"),
    })),
  };
}

function photometric(frame: Frame): string {
  return frame.plain ? (frame.inverse ? "MONOCHROME1" : "MONOCHROME2") : "RGB";
}

function path(frame: Frame): string {
  return `/studies/${frame.study}/series/${frame.series}/instances/${frame.instance}`;
}

// What holds every value of the series after its rescale: one kind, because a volume has one.
function kindOf(frames: Frame[]): Kind {
  const plain = frames.filter((each) => each.plain);
  if (!plain.every((each) => Number.isInteger(each.slope) && Number.isInteger(each.intercept))) return Float32Array;
  const ends = plain.flatMap((each) => {
    const [low, high] = each.signed ? [-(2 ** (each.bitsStored - 1)), 2 ** (each.bitsStored - 1) - 1] : [0, 2 ** each.bitsStored - 1];
    return [low * each.slope + each.intercept, high * each.slope + each.intercept];
  });
  const [least, greatest] = [Math.min(...ends), Math.max(...ends)];
  if (least >= 0 && greatest <= 255) return Uint8Array;
  if (least >= -32768 && greatest <= 32767) return Int16Array;
  return least >= 0 && greatest <= 65535 ? Uint16Array : Float32Array;
}

function isVolume(frames: Frame[]): boolean {
  const [first] = frames;
  if (!first || frames.length < 3) return false;
  const orientation = first.said("00209116", "00200037");
  if (orientation.length !== 6 || !measured(first)) return false;
  const [a, b, c, d, e, f] = orientation as [number, number, number, number, number, number];
  const normal = [b * f - c * e, c * d - a * f, a * e - b * d];
  const depths = frames.map((each) => each.said("00209113", "00200032").reduce((sum, value, axis) => sum + value * (normal[axis] as number), 0));
  const alike = frames.every(
    (each) =>
      each.plain && each.rows === first.rows && each.columns === first.columns && each.reference === first.reference &&
      each.said("00209113", "00200032").length === 3 &&
      each.said("00209116", "00200037").every((value, place) => Math.abs(value - (orientation[place] as number)) < 1e-3),
  );
  depths.sort((one, other) => one - other);
  const steps = depths.slice(1).map((depth, place) => depth - (depths[place] as number));
  const mean = steps.reduce((sum, step) => sum + step, 0) / steps.length;
  return alike && mean > 0 && steps.every((step) => Math.abs(step - mean) <= mean * 0.1 + 0.01);
}
