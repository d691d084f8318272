// RFC 2046 section 5.1.1 as WADO-RS sends it: parts as they arrive, each with the value of its Content-Location.

export interface Part {
  location: string;
  type: string;
  body: Uint8Array;
}

const BETWEEN = new Uint8Array([13, 10, 13, 10]);

export async function* parts(answer: Response): AsyncGenerator<Part> {
  const type = answer.headers.get("Content-Type") ?? "";
  const boundary = /boundary="?([^";]+)"?/.exec(type)?.[1];
  if (!boundary || !answer.body) {
    yield { location: "", type, body: new Uint8Array(await answer.arrayBuffer()) };
    return;
  }
  const mark = new TextEncoder().encode(`--${boundary}`);
  const reader = answer.body.getReader();
  let held = new Uint8Array(0);
  let begun = false;
  for (;;) {
    const { done, value } = await reader.read();
    if (value) held = joined(held, value);
    for (;;) {
      const at = indexOf(held, mark);
      if (at < 0) break;
      if (begun) yield part(held.subarray(0, at - 2));
      begun = true;
      held = held.slice(at + mark.length + 2);
    }
    if (done) return;
  }
}

function part(data: Uint8Array): Part {
  const at = indexOf(data, BETWEEN);
  const head = new TextDecoder().decode(data.subarray(0, Math.max(at, 0)));
  const field = (name: string): string => new RegExp(`^${name}:\\s*(.*)$`, "im").exec(head)?.[1]?.trim() ?? "";
  return { location: field("Content-Location"), type: field("Content-Type"), body: data.slice(at + BETWEEN.length) };
}

function joined(one: Uint8Array, other: Uint8Array): Uint8Array<ArrayBuffer> {
  const both = new Uint8Array(one.length + other.length);
  both.set(one);
  both.set(other, one.length);
  return both;
}

// Where `wanted` first stands; -1 if it does not.
export function indexOf(data: Uint8Array, wanted: Uint8Array): number {
  const first = wanted[0] as number;
  for (let at = data.indexOf(first); at >= 0; at = data.indexOf(first, at + 1)) {
    let same = 1;
    while (same < wanted.length && data[at + same] === wanted[same]) same++;
    if (same === wanted.length) return at;
  }
  return -1;
}
