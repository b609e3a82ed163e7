import { useEffect, useState } from "preact/hooks";
import type { ApiError } from "./api";

// The same question would have the same answer; not so a 429, by which too many ask at once.
export const isRefusal = ({ status }: ApiError): boolean => status >= 400 && status < 500 && status !== 429;

// Runs `work` again and again, `pause` ms after it has ended, while the page is looked at, until it
// is refused, or has succeeded where `once` says that it will find no more; anew when `about` changes.
// `work` is that of the drawing in which it did: it sees no later state. The last run's fault.
export function usePolling(
  work: (signal: AbortSignal) => Promise<void>,
  pause: number,
  about: unknown = null,
  once = false,
): ApiError | null {
  const [fault, setFault] = useState<ApiError | null>(null);
  useEffect(() => {
    const controller = new AbortController();
    let timer = 0;
    let running = false;
    let over = false;
    const turn = async () => {
      if (running || over || document.hidden || controller.signal.aborted) return;
      running = true;
      clearTimeout(timer);
      try {
        await work(controller.signal);
        if (controller.signal.aborted) return;
        over = once;
        setFault(null);
      } catch (thrown) {
        if (controller.signal.aborted) return;
        over = isRefusal(thrown as ApiError);
        setFault(thrown as ApiError);
      }
      running = false;
      if (!over) timer = window.setTimeout(turn, pause);
    };
    document.addEventListener("visibilitychange", turn);
    void turn();
    return () => {
      document.removeEventListener("visibilitychange", turn);
      controller.abort();
      clearTimeout(timer);
    };
  }, [about]);
  return fault;
}
