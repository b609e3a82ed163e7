import type { ComponentChildren } from "preact";

export interface Column<Row> {
  name: string;
  number?: boolean;
  hint?: string;
  cell: (row: Row) => ComponentChildren;
}

export function Table<Row>(props: {
  caption: string;
  columns: Column<Row>[];
  rows: Row[];
  total?: number; // with those that are not in `rows`
  keyOf: (row: Row) => string;
  empty: string;
}) {
  const { columns, rows } = props;
  const more = (props.total ?? rows.length) - rows.length;
  return (
    <div class="table" role="region" aria-label={props.caption} tabIndex={0}>
      <table>
        <caption>{props.caption}</caption>
        <thead>
          <tr>
            {columns.map((column) => (
              <th key={column.name} scope="col" class={column.number ? "number" : undefined} title={column.hint}>
                {column.name}
              </th>
            ))}
          </tr>
        </thead>
        <tbody>
          {rows.length === 0 && (
            <tr>
              <td colSpan={columns.length} class="note">
                {props.empty}
              </td>
            </tr>
          )}
          {rows.map((row) => (
            <tr key={props.keyOf(row)}>
              {columns.map((column) => (
                <td key={column.name} class={column.number ? "number" : undefined}>
                  {column.cell(row)}
                </td>
              ))}
            </tr>
          ))}
        </tbody>
      </table>
      {more > 0 && <p class="note">and {more.toLocaleString("en")} more</p>}
    </div>
  );
}
