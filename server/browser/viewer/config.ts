// What the page brings along for its script: in a block of JSON that the script reads once and takes out of the page, so that the token is in memory only.

export interface SeriesOfPage {
  uid: string;
  title: string;
  kind: "image" | "video" | "document" | "report" | "other";
  frames: number;
}

export interface StudyOfPage {
  uid: string;
  title: string;
  date: string;
  series: SeriesOfPage[];
}

export interface Config {
  root: string;
  token: string;
  expires: number;
  handle: string;
  studies: StudyOfPage[];
  first: { study: number; series: number; place: number };
  // Where the second stage is, and which study it begins beside, if any.
  second: string;
  beside: number | null;
  words: Record<string, string>;
}

export function taken(): Config {
  const block = document.getElementById("viewer-config");
  if (!block) throw new Error("the page has no configuration");
  const config = JSON.parse(block.textContent ?? "") as Config;
  block.remove();
  return config;
}
