// Requests to /dicomweb with the page's token, which is renewed before it expires. Nothing is kept outside this page's memory.

import type { Config } from "./config";

export class Ended extends Error {}

const EARLY = 60_000;

export class Service {
  #token: string;
  #expires: number;
  #handle: string;
  #renewing: Promise<void> | null = null;

  constructor(private readonly config: Config) {
    this.#token = config.token;
    this.#expires = config.expires * 1000;
    this.#handle = config.handle;
  }

  get base(): string {
    return `${this.config.root}/dicomweb`;
  }

  // Throws `Ended` where the session, share or launch behind the page is over.
  async get(path: string, accept: string, signal?: AbortSignal): Promise<Response> {
    if (Date.now() > this.#expires - EARLY) await this.#renew();
    let answer = await this.#asked(path, accept, signal);
    if (answer.status === 401) {
      await this.#renew();
      answer = await this.#asked(path, accept, signal);
    }
    if (answer.status === 401) throw new Ended();
    if (!answer.ok) throw new Error(`${answer.status}`);
    return answer;
  }

  // What other parts (stage two) send with their own requests.
  async header(): Promise<string> {
    if (Date.now() > this.#expires - EARLY) await this.#renew();
    return `Bearer ${this.#token}`;
  }

  #asked(path: string, accept: string, signal?: AbortSignal): Promise<Response> {
    const url = /^https?:/.test(path) ? this.#ours(path) : `${this.base}${path}`;
    return fetch(url, { headers: { Accept: accept, Authorization: `Bearer ${this.#token}` }, credentials: "omit", signal });
  }

  // BulkDataURIs are absolute; the token goes to our own server alone, under whichever name the page was opened.
  #ours(url: string): string {
    const path = new URL(url).pathname;
    return `${this.config.root}${path.slice(path.indexOf("/dicomweb"))}`;
  }

  #renew(): Promise<void> {
    this.#renewing ??= this.#renewed().finally(() => {
      this.#renewing = null;
    });
    return this.#renewing;
  }

  async #renewed(): Promise<void> {
    const body = new URLSearchParams({ handle: this.#handle });
    const answer = await fetch(`${this.config.root}/viewer/token`, { method: "POST", body, credentials: "omit" });
    if (!answer.ok) throw answer.status < 500 ? new Ended() : new Error(`${answer.status}`);
    const told = (await answer.json()) as { token: string; expires: number; handle: string };
    this.#token = told.token;
    this.#expires = told.expires * 1000;
    this.#handle = told.handle;
  }
}
