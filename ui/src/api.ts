// What the page asks of its daemon: always the origin that it came from, by paths beside /ui/, so
// that it works behind a proxy that puts a path before them.

// The key is of this tab alone, and gone with it; a reload keeps it, where the browser lets us store
// anything. Nothing else is stored.
const kKeyName = "holdfast.key";

let key = "";
try {
  key = sessionStorage.getItem(kKeyName) ?? "";
} catch {
  // kept in memory, then
}
export const storedKey = (): string => key;
export function storeKey(given: string): void {
  key = given;
  try {
    if (key) sessionStorage.setItem(kKeyName, key);
    else sessionStorage.removeItem(kKeyName);
  } catch {
    // likewise
  }
}

export class ApiError extends Error {
  constructor(
    readonly status: number, // 0: the daemon was not reached
    readonly code: string,
    message: string,
  ) {
    super(message);
  }
}

// What the port that the page came from has (/ui/port).
export interface Port {
  chat: boolean;
  admin: boolean;
  metrics?: boolean; // /metrics answers us; an older daemon does not say
  needs_key: boolean;
}
// And whose counts the page shows of /metrics, which has everybody's: "" of all tenants, else of this
// one; null: of none.
export interface Place extends Port {
  whose: string | null;
}

const urlOf = (path: string): string => new URL(`../${path}`, document.baseURI).href;

async function ask(path: string, init: RequestInit = {}): Promise<Response> {
  const headers = new Headers(init.headers);
  if (key) headers.set("Authorization", `Bearer ${key}`);
  let response: Response;
  try {
    response = await fetch(urlOf(path), { ...init, headers, cache: "no-store", credentials: "omit" });
  } catch (fault) {
    if (fault instanceof DOMException && fault.name === "AbortError") throw fault;
    throw new ApiError(0, "unreachable", "the daemon does not answer");
  }
  if (!response.ok) throw await errorOf(response);
  return response;
}

async function errorOf(response: Response): Promise<ApiError> {
  try {
    const { error } = await response.json();
    return new ApiError(response.status, error.code ?? "", error.message);
  } catch {
    return new ApiError(response.status, "", `the daemon answered ${response.status}`);
  }
}

export const getJson = async <T>(path: string, signal?: AbortSignal): Promise<T> =>
  (await ask(path, { signal })).json();

export const getText = async (path: string, signal?: AbortSignal): Promise<string> =>
  (await ask(path, { signal })).text();

export const getPort = (): Promise<Port> => getJson<Port>("ui/port");

// What the key of this tab may see where keys are needed: the daemon shows the whole queue to those
// alone who see all. With no /admin to ask, as behind a balancer, it counts as one tenant's.
export async function whoseOf(port: Port): Promise<string | null> {
  if (!port.needs_key) return "";
  if (!port.admin) return null;
  try {
    const queue = await getJson<{ whole?: object; tenants: { tenant: string }[] }>("admin/v1/queue");
    return queue.whole ? "" : (queue.tenants[0]?.tenant ?? null);
  } catch (thrown) {
    if ((thrown as ApiError).status === 404) return null;
    throw thrown;
  }
}

// Server-sent events of one answer, each parsed; ends at [DONE]. An error within is thrown.
export async function* postEvents(
  path: string,
  body: unknown,
  signal: AbortSignal,
): AsyncGenerator<any, void, void> {
  const response = await ask(path, {
    method: "POST",
    body: JSON.stringify(body),
    headers: { "Content-Type": "application/json" },
    signal,
  });
  const reader = response.body!.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) throw new ApiError(0, "cut", "the answer was cut off");
      const events = (text + value).split("\n\n");
      text = events.pop()!;
      for (const event of events) {
        const data = event
          .split("\n")
          .filter((line) => line.startsWith("data:"))
          .map((line) => line.slice(5).trimStart())
          .join("\n");
        if (data === "") continue; // a comment that keeps the connection alive
        if (data === "[DONE]") return;
        const json = JSON.parse(data);
        if (json.error) throw new ApiError(response.status, json.error.code ?? "", json.error.message);
        yield json;
      }
    }
  } finally {
    void reader.cancel().catch(() => {}); // it may have failed, or been aborted, before
  }
}
