/* The table: cells, footnotes, sorting by header, filtering, arrow keys. */

const rowKey = (row) => (row.source ? `${row.label} (${row.source})` : row.label);

/* Environments first, then what is over them. */
function tableColumns(result) {
  const firstOver = result.columns.find((name) => !result.environments.includes(name));
  const numbers = result.columns.map((name) => ({
    name, kind: name === firstOver ? "number over" : "number", value: (row) => row.cells[name]?.mean,
  }));
  const ranked = result.rows.some((row) => isNumber(row.rank));
  return [
    ...(ranked ? [{ name: "Rank", kind: "number", ascending: true, value: (row) => row.rank }] : []),
    { name: "Algorithm", kind: "name", ascending: true, value: (row) => row.label },
    ...numbers,
  ];
}

function buildTable(result) {
  const columns = tableColumns(result);
  const edged = result.rows.filter((row) => row.edges?.length);
  const rows = result.rows.map((row) => {
    const name = rowName(row, result, edged.indexOf(row) + 1);
    return { row, key: rowKey(row), element: tableRow(row, columns, name) };
  });
  const head = make("thead", {}, make("tr", {}, columns.map(headerCell)));
  byId("table").replaceChildren(head, make("tbody", { onkeydown: moveByArrows }));
  byId("footnotes").replaceChildren(...edged.map((row) =>
    make("li", {}, make("b", {}, rowKey(row)), ": ", prose(row.edges.join("; ")), ".")));
  return { columns, rows };
}

function headerCell(column) {
  const arrow = make("span", { class: "arrow", "aria-hidden": "true" });
  return make("th", { scope: "col", class: column.kind, "data-column": column.name },
    button({ onclick: () => sortBy(column) }, column.name, arrow));
}

function tableRow(row, columns, name) {
  return make("tr", { class: row.source ? "published" : null }, columns.map((column) => {
    if (column.name === "Algorithm") return make("th", { scope: "row", class: "name" }, name);
    if (column.name === "Rank") return make("td", { class: "number plain" }, String(row.rank ?? NONE));
    const cell = row.cells[column.name];
    if (!cell) return make("td", { class: `${column.kind} plain` }, NONE, make("span", { class: "error" }));
    return make("td", { class: column.kind }, cellButton(row, column.name, cell));
  }));
}

/* The algorithm, and small under it what else its label says and what sets the row apart from others. */
function rowName(row, result, footnote) {
  const own = row.label.startsWith(row.algorithm) ? row.algorithm.length : row.label.length;
  const deviation = Object.values(row.cells).some((cell) => hasError(cell) && cell.error_kind === "std");
  const seeds = new Set(result.rows.map((other) => other.seeds).filter(Boolean));
  return [
    make("span", { class: "algorithm" }, breakable(row.label.slice(0, own))),
    footnote > 0 && make("sup", { title: row.edges.join("; ") }, String(footnote)),
    own < row.label.length && small(row.label.slice(own)),
    row.source && small(`published: ${row.source}`),
    deviation && small("\u00b1 is a standard deviation"),
    seeds.size > 1 && row.seeds && small(`hyper-parameters ${row.seeds}`),
  ];
}

function cellButton(row, column, cell) {
  const [tag, place] = cell.best ? ["strong", "best"] : cell.second ? ["u", "second best"] : ["span", ""];
  const said = [meanText(cell) || "no number", place, cell.missing].filter(Boolean).join(", ");
  const attributes = {
    class: "cell", tabindex: -1, "data-column": column, "aria-expanded": "false",
    "aria-label": `${rowKey(row)}, ${column}: ${said}`, onclick: () => openCell(rowKey(row), column),
  };
  return button(attributes,
    make("span", { class: "value" }, make(tag, {}, number(cell.mean)),
      make("span", { class: "error" }, hasError(cell) && ` \u00b1 ${fixed(cell.error)}`)),
    cell.missing && small(cell.missing));
}

/* Another header starts in its usual direction; the same one turns round, then gives the first order back. */
function sortBy({ name, ascending }) {
  const turns = (ascending ? ["ascending", "descending"] : ["descending", "ascending"]).map((way) => `${way} ${name}`);
  state.sort = [...turns, ""][turns.indexOf(state.sort) + 1];
  showTable();
}

function sortedRows({ columns, rows }) {
  const [direction, ...words] = state.sort.split(" ");
  const column = columns.find((candidate) => candidate.name === words.join(" "));
  for (const header of byId("table").tHead.rows[0].cells) {
    header.ariaSort = header.dataset.column === column?.name ? direction : null;
  }
  if (!column) return rows;
  const sign = direction === "ascending" ? 1 : -1;
  const order = (a, b) => (isNumber(a) ? a - b : a.localeCompare(b));
  const [known, rest] = [true, false].map((has) => rows.filter(({ row }) => (column.value(row) != null) === has));
  return [...known.sort((a, b) => sign * order(column.value(a.row), column.value(b.row))), ...rest];
}

function matches(name) {
  const words = state.filter.toLowerCase().split(/\s+/);
  return words.every((word) => name.toLowerCase().includes(word));
}

/* Puts the rows that the filter leaves into the table, sorted. */
function arrangeRows(table) {
  const shown = sortedRows(table).filter(({ key }) => matches(key));
  const none = make("td", { colspan: table.columns.length, class: "none" }, `No name has \u201c${state.filter}\u201d.`);
  const body = byId("table").tBodies[0];
  body.replaceChildren(...(shown.length ? shown.map(({ element }) => element) : [make("tr", {}, none)]));
  const cells = [...body.querySelectorAll("button.cell")];
  if (cells.length && !cells.some((cell) => cell.tabIndex === 0)) cells[0].tabIndex = 0;
  return shown;
}

/* Tab reaches one number of the table, the arrows lead to the others. */
function moveByArrows(event) {
  const step = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] }[event.key];
  const from = event.target.closest("button.cell");
  if (!step || !from) return;
  event.preventDefault();
  const rows = [...event.currentTarget.rows].filter((row) => row.id !== "details");
  const row = rows.indexOf(from.closest("tr")) + step[0];
  const to = rows[row]?.cells[from.closest("td").cellIndex + step[1]]?.querySelector("button.cell");
  if (!to) return;
  for (const cell of event.currentTarget.querySelectorAll("button.cell")) cell.tabIndex = cell === to ? 0 : -1;
  to.focus();
}
