// An answer token by token, each shaded by how probable it was; what else could have stood there is
// shown for the one that is pointed at or has the focus. One stop of the Tab key, arrows within.
import { useState } from "preact/hooks";
import type { Token } from "./answer";

const percent = (logprob: number): string => {
  const share = Math.exp(logprob) * 100;
  return `${share >= 99.95 || share < 0.05 ? share.toFixed(2) : share.toFixed(1)} %`;
};
const shown = (token: string): string =>
  token.replace(/\n/g, "⏎").replace(/\t/g, "⇥").replace(/^ | $/g, "␣") || "∅";

// Five shades suffice for the eye; numbers are a glance away.
const shadeOf = (logprob: number): number => Math.min(4, Math.floor((1 - Math.exp(logprob)) * 5));

export function Tokens(props: { tokens: Token[] }) {
  const [at, setAt] = useState(0);
  const [open, setOpen] = useState(false);
  const token = props.tokens[Math.min(at, props.tokens.length - 1)];
  function move(event: KeyboardEvent): void {
    const steps: Record<string, number> = {
      ArrowRight: at + 1,
      ArrowLeft: at - 1,
      Home: 0,
      End: props.tokens.length - 1,
    };
    const next = steps[event.key];
    if (next === undefined) return;
    event.preventDefault();
    const to = Math.max(0, Math.min(props.tokens.length - 1, next));
    setAt(to);
    const list = event.currentTarget as HTMLElement;
    (list.querySelectorAll("button")[to] as HTMLElement | undefined)?.focus();
  }
  return (
    <div class="tokens" onMouseLeave={() => setOpen(false)}>
      <p class="token-list" role="group" aria-label="Tokens; arrow keys go from one to the next" onKeyDown={move}>
        {props.tokens.map((one, index) => (
          <>
            <button
              key={index}
              type="button"
              class={`token shade-${shadeOf(one.logprob)}`}
              tabIndex={index === at ? 0 : -1}
              aria-label={`${shown(one.token)}, ${percent(one.logprob)}`}
              onFocus={() => {
                setAt(index);
                setOpen(true);
              }}
              onMouseEnter={() => {
                setAt(index);
                setOpen(true);
              }}
            >
              {one.token.replace(/\n/g, "⏎")}
            </button>
            {one.token.includes("\n") && <br />}
          </>
        ))}
      </p>
      <div class="alternatives" hidden={!open || !token}>
        {token && (
          <table>
            <caption>
              <code>{shown(token.token)}</code> had {percent(token.logprob)}
            </caption>
            <thead>
              <tr>
                <th scope="col">Token</th>
                <th scope="col" class="number">
                  Probability
                </th>
              </tr>
            </thead>
            <tbody>
              {token.top.map((one) => (
                <tr key={one.token} class={one.token === token.token ? "chosen" : undefined}>
                  <td>
                    <code>{shown(one.token)}</code>
                  </td>
                  <td class="number">{percent(one.logprob)}</td>
                </tr>
              ))}
            </tbody>
          </table>
        )}
      </div>
    </div>
  );
}
