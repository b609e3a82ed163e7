// Where KV lies: one strip of cells a tier, shared out by state or by tenant. A cell stands for a
// number of blocks, not for a place in memory; whoever has any block has a cell.

export interface Part {
  name: string;
  blocks: number;
  look: string; // class of its cells and of its mark in the legend
}

const kColumns = 60;
const kRows = 4;
const kCells = kColumns * kRows;
const kSize = 10;

// As many cells as its share, at least one if it has anything; the largest part gives what is over.
export function cellsOf(parts: Part[], capacity: number): number[] {
  const total = Math.max(capacity, 1);
  const cells = parts.map((part) => (part.blocks > 0 ? Math.max(1, Math.round((part.blocks / total) * kCells)) : 0));
  const over = cells.reduce((sum, n) => sum + n, 0) - kCells;
  if (over !== 0 && cells.length > 0) {
    const largest = cells.indexOf(Math.max(...cells));
    cells[largest] = Math.max(0, cells[largest]! - over);
  }
  return cells;
}

function pathOf(from: number, to: number): string {
  let path = "";
  for (let cell = from; cell < to; ++cell) {
    // Down the columns, so that a part is a band.
    const x = Math.floor(cell / kRows) * kSize;
    const y = (cell % kRows) * kSize;
    path += `M${x} ${y}h${kSize - 1}v${kSize - 1}h-${kSize - 1}z`;
  }
  return path;
}

export function KvMap(props: { title: string; parts: Part[]; capacity: number; blockBytes: number }) {
  const { parts, capacity } = props;
  const cells = cellsOf(parts, capacity);
  let from = 0;
  const label = `${props.title}: ${parts
    .filter((part) => part.blocks > 0)
    .map((part) => `${part.name} ${part.blocks} blocks`)
    .join(", ")}, of ${capacity}`;
  return (
    <figure class="kv-map">
      <figcaption>{props.title}</figcaption>
      <svg role="img" aria-label={label} viewBox={`0 0 ${kColumns * kSize - 1} ${kRows * kSize - 1}`}>
        {parts.map((part, index) => {
          const start = from;
          from += cells[index]!;
          return <path key={part.name} class={part.look} d={pathOf(start, from)} />;
        })}
      </svg>
      <ul class="legend" aria-label={`Parts of ${props.title}`}>
        {parts.map((part) => (
          <li key={part.name}>
            <svg viewBox="0 0 10 10" width="12" height="12" aria-hidden="true">
              <rect class={part.look} x="0.5" y="0.5" width="9" height="9" />
            </svg>
            {part.name} <b>{part.blocks.toLocaleString("en")}</b>
          </li>
        ))}
      </ul>
    </figure>
  );
}

// Hatches, so that what matters differs without its colour, too. Drawn once a page.
export function Patterns() {
  return (
    <svg width="0" height="0" aria-hidden="true" class="patterns">
      <defs>
        <pattern id="hatch" width="4" height="4" patternUnits="userSpaceOnUse" patternTransform="rotate(45)">
          <rect width="4" height="4" class="hatch-ground" />
          <rect width="1.6" height="4" class="hatch-line" />
        </pattern>
        <pattern id="dots" width="5" height="5" patternUnits="userSpaceOnUse">
          <rect width="5" height="5" class="dots-ground" />
          <circle cx="2.5" cy="2.5" r="1.2" class="dots-dot" />
        </pattern>
      </defs>
    </svg>
  );
}
