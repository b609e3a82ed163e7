import { useEffect } from "preact/hooks";

// Runs `work` again and again, `pause` ms after it has ended, while the page is looked at. What it
// throws is its own affair to catch. `work` is that of the first drawing: it sees no later state.
export function usePolling(work: (signal: AbortSignal) => Promise<void>, pause: number): void {
  useEffect(() => {
    const controller = new AbortController();
    let timer = 0;
    let running = false;
    const turn = async () => {
      if (running || document.hidden || controller.signal.aborted) return;
      running = true;
      clearTimeout(timer);
      await work(controller.signal);
      running = false;
      if (!controller.signal.aborted) timer = window.setTimeout(turn, pause);
    };
    document.addEventListener("visibilitychange", turn);
    void turn();
    return () => {
      document.removeEventListener("visibilitychange", turn);
      controller.abort();
      clearTimeout(timer);
    };
  }, []);
}
