// The attributes of DICOM JSON (PS3.18 annex F) that it takes to show frames.

export type Attributes = Record<string, { vr: string; Value?: unknown[]; BulkDataURI?: string; InlineBinary?: string } | undefined>;

export interface Window {
  center: number;
  width: number;
  exact: boolean;
  sigmoid: boolean;
}

export interface Frame {
  study: string;
  series: string;
  instance: string;
  number: number;
  rows: number;
  columns: number;
  bitsAllocated: number;
  bitsStored: number;
  signed: boolean;
  slope: number;
  intercept: number;
  inverse: boolean;
  // Whether its numbers can be windowed here: grey, without tables of its own.
  plain: boolean;
  padding: number | null;
  windows: Window[];
  spacing: [number, number] | null;
  modality: string;
  // Frame of Reference UID; empty where there is none.
  reference: string;
  // The values of an attribute: of the frame's functional group `sequence`, else of the instance.
  said: (sequence: string, tag: string) => number[];
  data: Attributes;
}

export function text(data: Attributes, tag: string): string {
  const value = data[tag]?.Value?.[0];
  if (value && typeof value === "object") return String((value as { Alphabetic?: string }).Alphabetic ?? "");
  return value === undefined || value === null ? "" : String(value);
}

export function numbers(data: Attributes, tag: string): number[] {
  return (data[tag]?.Value ?? []).map(Number).filter(Number.isFinite);
}

// All frames of the instances of one series, in their order.
export function frames(instances: Attributes[]): Frame[] {
  const found = instances.flatMap(of);
  const place = (each: Frame): number => numbers(each.data, "00200013")[0] ?? Number.MAX_SAFE_INTEGER;
  return found.sort((one, other) => place(one) - place(other) || (one.instance < other.instance ? -1 : one.instance > other.instance ? 1 : one.number - other.number));
}

function of(data: Attributes): Frame[] {
  const rows = numbers(data, "00280010")[0] ?? 0;
  const columns = numbers(data, "00280011")[0] ?? 0;
  const count = rows && columns ? (numbers(data, "00280008")[0] ?? 1) : 0;
  return Array.from({ length: count }, (_, place) => frame(data, place, rows, columns));
}

function frame(data: Attributes, place: number, rows: number, columns: number): Frame {
  const photometric = text(data, "00280004");
  const groups = [item(data, "52009230", place), item(data, "52009229", 0)];
  const grouped = (sequence: string, tag: string): number[] => {
    for (const group of groups) {
      const inner = group && item(group, sequence, 0);
      const found = inner ? numbers(inner, tag) : [];
      if (found.length) return found;
    }
    return numbers(data, tag);
  };
  const bitsAllocated = numbers(data, "00280100")[0] ?? 8;
  const signed = numbers(data, "00280103")[0] === 1;
  return {
    study: text(data, "0020000D"), series: text(data, "0020000E"), instance: text(data, "00080018"), number: place + 1, rows, columns,
    bitsAllocated, bitsStored: numbers(data, "00280101")[0] ?? bitsAllocated, signed,
    slope: grouped("00289145", "00281053")[0] ?? 1, intercept: grouped("00289145", "00281052")[0] ?? 0,
    inverse: photometric === "MONOCHROME1" || text(data, "20500020") === "INVERSE",
    plain: photometric.startsWith("MONOCHROME") && !data["00283000"] && !data["00283010"] && bitsAllocated >= 8 && bitsAllocated <= 16,
    padding: numbers(data, "00280120")[0] ?? null,
    windows: windows(grouped("00289132", "00281050"), grouped("00289132", "00281051"), text(data, "00281056")),
    spacing: pair(grouped("00289110", "00280030")) ?? pair(numbers(data, "00181164")),
    modality: text(data, "00080060"), reference: text(data, "00200052"), said: grouped, data,
  };
}

function windows(centers: number[], widths: number[], name: string): Window[] {
  const made = centers.map((center, place) => ({
    center, width: widths[place] ?? 0, exact: name === "LINEAR_EXACT", sigmoid: name === "SIGMOID",
  }));
  return made.filter((each) => each.width >= 1 || (each.width > 0 && (each.exact || each.sigmoid)));
}

function pair(found: number[]): [number, number] | null {
  return found.length > 1 ? [found[0] as number, found[1] as number] : null;
}

function item(data: Attributes, tag: string, place: number): Attributes | undefined {
  return data[tag]?.Value?.[place] as Attributes | undefined;
}
