import { useEffect, useState } from "preact/hooks";
import { ApiError, getJson, getPort, storedKey, storeKey, type Port } from "./api";
import { Chat } from "./chat";
import { Live } from "./live";
import { Usage } from "./usage";

const kViews = ["chat", "live", "usage"] as const;
type View = (typeof kViews)[number];

function viewOf(hash: string, port: Port | null): View {
  const named = kViews.find((view) => `#${view}` === hash);
  return named ?? (port && !port.chat ? "live" : "chat");
}

// Who may be asked: the daemon's word on its port, then whether it takes the key.
type Access = "asking" | "open" | "key" | "wrong" | "away";

export function App() {
  const [port, setPort] = useState<Port | null>(null);
  const [hash, setHash] = useState(location.hash);
  const [access, setAccess] = useState<Access>("asking");
  const [model, setModel] = useState("");
  const [fault, setFault] = useState("");

  useEffect(() => {
    const follow = () => setHash(location.hash);
    addEventListener("hashchange", follow);
    void begin();
    return () => removeEventListener("hashchange", follow);
  }, []);

  async function begin(): Promise<void> {
    try {
      const found = await getPort();
      setPort(found);
      if (found.needs_key && !storedKey()) return setAccess("key");
      if (found.chat) {
        const list = await getJson<{ data: { id: string; max_model_len: number }[] }>("v1/models");
        const served = list.data[0];
        setModel(served ? `${served.id}, ${served.max_model_len} tokens` : "");
      } else {
        await getJson("admin/v1/pins"); // does it take the key?
      }
      setAccess("open");
    } catch (thrown) {
      const error = thrown as ApiError;
      setFault(error.message);
      setAccess(error.status === 401 ? "wrong" : "away");
    }
  }

  function useKey(key: string): void {
    storeKey(key);
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
        {access === "open" && storedKey() && (
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

function KeyForm(props: { fault: string; admin: boolean; onKey: (key: string) => void }) {
  const [key, setKey] = useState("");
  return (
    <form
      class="key"
      onSubmit={(event) => {
        event.preventDefault();
        if (key.trim()) props.onKey(key.trim());
      }}
    >
      <label for="key">{props.admin ? "An administrator's key" : "Your key"}</label>
      <input
        id="key"
        type="password"
        autocomplete="off"
        spellcheck={false}
        value={key}
        aria-invalid={props.fault !== ""}
        aria-describedby="key-note"
        onInput={(event) => setKey(event.currentTarget.value)}
      />
      <button type="submit">Use it</button>
      {props.fault && (
        <p role="alert" class="fault">
          {props.fault}
        </p>
      )}
      <p id="key-note" class="note">
        It is kept in this tab's session storage, so that a reload need not ask again, and goes with
        the tab. It is sent to this daemon alone.
      </p>
    </form>
  );
}
