import { useEffect, useRef, useState } from "preact/hooks";
import { ApiError, getJson, getPort, storedKey, storeKey, whoseOf, type Place } from "./api";
import { forgetReadings } from "./charts";
import { Chat } from "./chat";
import { Live } from "./live";
import { Usage } from "./usage";

const kViews = ["chat", "live", "usage"] as const;
type View = (typeof kViews)[number];

function viewOf(hash: string, port: Place | null): View {
  const named = kViews.find((view) => `#${view}` === hash);
  return named ?? (port && !port.chat ? "live" : "chat");
}

// Who may be asked: the daemon's word on its port, then whether it takes the key.
type Access = "asking" | "open" | "key" | "wrong" | "away";

export function App() {
  const [port, setPort] = useState<Place | null>(null);
  const [hash, setHash] = useState(location.hash);
  const [access, setAccess] = useState<Access>("asking");
  const [model, setModel] = useState("");
  const [fault, setFault] = useState("");
  const asked = useRef(0); // a later begin() counts alone

  useEffect(() => {
    const follow = () => setHash(location.hash);
    addEventListener("hashchange", follow);
    void begin();
    return () => removeEventListener("hashchange", follow);
  }, []);

  async function begin(): Promise<void> {
    const mine = ++asked.current;
    try {
      const found = await getPort();
      if (mine !== asked.current) return;
      setPort({ ...found, whose: null });
      if (found.needs_key && !storedKey()) return setAccess("key");
      const list = found.chat
        ? await getJson<{ data: { id: string; max_model_len: number }[] }>("v1/models")
        : { data: [] };
      const whose = await whoseOf(found); // and so, does the administrators' port take the key?
      if (mine !== asked.current) return;
      const served = list.data[0];
      setModel(served ? `${served.id}, ${served.max_model_len} tokens` : "");
      setPort({ ...found, whose });
      setAccess("open");
    } catch (thrown) {
      if (mine !== asked.current) return;
      const error = thrown as ApiError;
      setFault(error.message);
      setAccess(error.status === 401 ? "wrong" : "away");
    }
  }

  function useKey(key: string): void {
    storeKey(key);
    forgetReadings();
    setAccess("asking");
    void begin();
  }

  const view = viewOf(hash, port);
  return (
    <>
      <a class="skip" href="#main" onClick={(event) => {
        event.preventDefault();
        document.getElementById("main")?.focus();
      }}>
        Skip to the content
      </a>
      <header class="bar">
        <h1>Holdfast</h1>
        <nav aria-label="Views">
          {kViews.map((one) => (
            <a key={one} href={`#${one}`} aria-current={one === view ? "page" : undefined}>
              {one[0]!.toUpperCase() + one.slice(1)}
            </a>
          ))}
        </nav>
        <span class="model">{model}</span>
        {storedKey() && (
          <button type="button" class="quiet" onClick={() => useKey("")}>
            Forget key
          </button>
        )}
      </header>
      <main id="main" tabIndex={-1}>
        {access === "asking" && <p role="status">Asking the daemon…</p>}
        {access === "away" && (
          <div class="notice" role="alert">
            <p>{fault}</p>
            <button type="button" onClick={() => void begin()}>
              Try again
            </button>
          </div>
        )}
        {(access === "key" || access === "wrong") && (
          <KeyForm fault={access === "wrong" ? fault : ""} admin={!port?.chat} onKey={useKey} />
        )}
        {access === "open" && port && (
          // It stays while another view is looked at, so that an answer streams on.
          <div class="view" hidden={view !== "chat"}>
            {port.chat ? <Chat /> : <NoChat />}
          </div>
        )}
        {access === "open" && port && view === "live" && <Live port={port} />}
        {access === "open" && port && view === "usage" && <Usage port={port} />}
      </main>
    </>
  );
}

function NoChat() {
  return (
    <p class="notice">
      This is the port for administrators: it has the live view and the usage. Chat is on the
      daemon's other port, with a tenant's key.
    </p>
  );
}

// A header takes no more, and no daemon's key has more: what was copied along, such as quotation
// marks or a space of no width, is told by its number.
const kNotOfKeys = /[^ -~]/u;

function KeyForm(props: { fault: string; admin: boolean; onKey: (key: string) => void }) {
  const [key, setKey] = useState("");
  const [strange, setStrange] = useState("");
  const fault = strange || props.fault;
  function use(): void {
    const found = kNotOfKeys.exec(key.trim())?.[0];
    if (found) {
      const number = found.codePointAt(0)!.toString(16).toUpperCase().padStart(4, "0");
      return setStrange(`A key is of plain ASCII characters, and this has U+${number} (${found}); copy the key alone.`);
    }
    if (key.trim()) props.onKey(key.trim());
  }
  return (
    <form
      class="key"
      onSubmit={(event) => {
        event.preventDefault();
        use();
      }}
    >
      <label for="key">{props.admin ? "An administrator's key" : "Your key"}</label>
      <input
        id="key"
        type="password"
        autocomplete="off"
        spellcheck={false}
        value={key}
        aria-invalid={fault !== ""}
        aria-describedby="key-note"
        onInput={(event) => setKey(event.currentTarget.value)}
      />
      <button type="submit">Use it</button>
      {fault && (
        <p role="alert" class="fault">
          {fault}
        </p>
      )}
      <p id="key-note" class="note">
        It is kept in this tab's session storage, so that a reload need not ask again; a duplicate of
        the tab has it too, and the tab when its browser restores it. "Forget key" drops it. It is sent
        to this daemon alone.
      </p>
    </form>
  );
}
