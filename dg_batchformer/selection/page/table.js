/* The table: cells, footnotes, sorting by header, arrow keys. */

/* Environments first, then what is over them. */
function tableColumns(result) {
  const ranked = result.rows.some((row) => isNumber(row.rank));
  const column = (name) => ({
    name, number: true, over: !result.environments.includes(name), value: (row) => row.cells[name]?.mean ?? null,
  });
  return [
    ...(ranked ? [{ name: "Rank", number: true, ascending: true, value: (row) => row.rank }] : []),
    { name: "Algorithm", ascending: true, value: (row) => row.label },
    ...result.columns.map(column),
  ];
}

function buildTable(result) {
  const columns = tableColumns(result);
  const firstOver = columns.find((column) => column.over);
  const head = make("tr", {}, columns.map((column) => make("th",
    { scope: "col", class: [column.number ? "number" : "name", column === firstOver ? "over" : ""].join(" "), "data-column": column.name },
    make("button", { type: "button", onclick: () => sortBy(column) }, column.name, make("span", { class: "arrow", "aria-hidden": "true" })))));
  const mixedSeeds = new Set(result.rows.map((row) => row.seeds).filter(Boolean)).size > 1;
  const footnotes = [];
  const rows = result.rows.map((row) => {
    const key = row.source ? `${row.label} (${row.source})` : row.label;
    if (row.edges?.length) footnotes.push(make("li", {}, make("b", {}, row.label), ": ", prose(row.edges.join("; ")), "."));
    const mark = row.edges?.length ? make("sup", { title: row.edges.join("; ") }, String(footnotes.length)) : null;
    const element = make("tr", { class: row.source ? "published" : "" }, columns.map((column) => {
      if (column.name === "Algorithm") return make("th", { scope: "row", class: "name" }, rowName(row, mixedSeeds, mark));
      if (column.name === "Rank") return make("td", { class: "number rank" }, isNumber(row.rank) ? String(row.rank) : "");
      const cell = row.cells[column.name];
      return make("td", { class: column === firstOver ? "number over" : "number" }, cell ? cellButton(row, key, column.name, cell) : "\u2013");
    }));
    return { row, key, element };
  });
  byId("table").replaceChildren(make("thead", {}, head), make("tbody", { onkeydown: moveByArrows }));
  byId("footnotes").replaceChildren(...footnotes);
  return { columns, rows };
}

/* The algorithm, and small under it what else its label says. */
function rowName(row, mixedSeeds, mark) {
  const own = row.label.startsWith(row.algorithm) ? row.algorithm.length : row.label.length;
  const rest = row.label.slice(own);
  return [
    make("span", { class: "algorithm" }, breakable(row.label.slice(0, own))), mark,
    rest && make("span", { class: "small" }, rest),
    row.source && make("span", { class: "small source" }, make("span", { class: "chip" }, "published"), ` ${row.source}`),
    mixedSeeds && row.seeds && make("span", { class: "small" }, `hyper-parameters ${row.seeds}`),
  ];
}

function cellButton(row, key, column, cell) {
  const place = cell.best ? "best" : cell.second ? "second best" : "";
  const mean = make(cell.best ? "strong" : cell.second ? "u" : "span", { class: "mean" }, number(cell.mean));
  const error = isNumber(cell.mean) && isNumber(cell.error) && make("span", { class: "error" }, ` \u00b1 ${fixed(cell.error)}`);
  const said = [meanText(cell) || "no number", place, cell.missing].filter(Boolean).join(", ");
  return make("button",
    { type: "button", class: "cell", tabindex: -1, "aria-expanded": "false", "aria-label": `${row.label}, ${column}: ${said}`,
      "data-key": key, "data-column": column, onclick: () => openCell(key, column) },
    make("span", {}, mean, error), cell.missing && make("span", { class: "small missing" }, cell.missing));
}

/* Another header starts in its usual direction; the same one turns round, then gives the first order back. */
function sortBy(column) {
  const [usual, turned] = column.ascending ? ["ascending", "descending"] : ["descending", "ascending"];
  const now = state.sort.endsWith(` ${column.name}`) ? state.sort.split(" ")[0] : "";
  state.sort = now === turned ? "" : `${now === usual ? turned : usual} ${column.name}`;
  showRows();
}

/* Null stands last in either direction. */
function compare(a, b, sign) {
  if (a === null || a === undefined || b === null || b === undefined) return (a ?? null) === null ? ((b ?? null) === null ? 0 : 1) : -1;
  return sign * (isNumber(a) ? a - b : a.localeCompare(b));
}

function sortedRows({ columns, rows }) {
  const [direction, ...name] = state.sort.split(" ");
  const column = columns.find((candidate) => candidate.name === name.join(" "));
  for (const th of byId("table").querySelectorAll("thead th")) {
    if (column && th.dataset.column === column.name) th.setAttribute("aria-sort", direction);
    else th.removeAttribute("aria-sort");
  }
  if (!column) return rows;
  const sign = direction === "ascending" ? 1 : -1;
  return [...rows].sort((a, b) => compare(column.value(a.row), column.value(b.row), sign));
}

const filterWords = () => state.filter.toLowerCase().split(/\s+/).filter(Boolean);
const matches = (text) => filterWords().every((word) => text.toLowerCase().includes(word));

/* Puts the rows that the filter leaves into the table, sorted; one number can be reached by Tab, the rest by arrows. */
function arrangeRows(table) {
  const shown = sortedRows(table).filter(({ key }) => matches(key));
  const body = byId("table").tBodies[0];
  const none = make("tr", {}, make("td", { colspan: table.columns.length, class: "none" }, `No algorithm matches \u201c${state.filter}\u201d.`));
  body.replaceChildren(...(shown.length ? shown.map(({ element }) => element) : [none]));
  const cells = [...body.querySelectorAll("button.cell")];
  if (cells.length && !cells.some((cell) => cell.tabIndex === 0)) cells[0].tabIndex = 0;
  return shown;
}

function moveByArrows(event) {
  const step = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] }[event.key];
  const from = event.target.closest("button.cell");
  if (!step || !from) return;
  event.preventDefault();
  const rows = [...event.currentTarget.rows].map((row) => [...row.querySelectorAll("button.cell")]).filter((cells) => cells.length);
  const row = rows.findIndex((cells) => cells.includes(from));
  const to = rows[row + step[0]]?.[rows[row].indexOf(from) + step[1]];
  if (!to) return;
  event.currentTarget.querySelectorAll("button.cell[tabindex='0']").forEach((cell) => { cell.tabIndex = -1; });
  to.tabIndex = 0;
  to.focus();
}
