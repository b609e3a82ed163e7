// Why something is not to be seen, in its place.
import type { ApiError, Place } from "./api";
import { isRefusal } from "./polling";

function sentenceOf(fault: ApiError, what: string, path: string): string {
  if (fault.status === 404) {
    return `No ${what} here: what stands before the daemon, such as a balancer, does not pass ${path} on. Open the page at the daemon's own address.`;
  }
  if (fault.status === 403) return `No ${what} here: ${fault.message}.`;
  return isRefusal(fault) ? `${fault.message}.` : `${fault.message}; asking again.`;
}

export function Fault(props: { fault: ApiError | null; what: string; path: string }) {
  const { fault } = props;
  return fault && <p class="notice" role="alert">{sentenceOf(fault, props.what, props.path)}</p>;
}

// Why nothing of /metrics is shown, and so not asked for; null: it is.
export function withoutMetrics(port: Place, what: string) {
  if (port.whose === null) {
    return (
      <p class="notice">
        No {what} here: they tell of every tenant, and so are for who may see all, with an administrator's key.
        {port.admin ? "" : " The port for administrators has them."}
      </p>
    );
  }
  if (port.metrics !== false) return null;
  return (
    <p class="notice">
      No {what} here: the daemon tells them its own machine alone, as long as <code>listen.metrics</code> is not{" "}
      <code>all</code>.
    </p>
  );
}
