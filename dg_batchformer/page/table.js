/* The table (cells, footnotes, sorting, filtering, arrow keys), and the details that a cell opens. */

const rowKey = (row) => (row.source ? `${row.label} (${row.source})` : row.label);
const errorText = (cell) => (isNumber(cell.error) ? ` \u00b1 ${number(cell.error)}` : "");
const meanText = (cell) => (isNumber(cell.mean) ? number(cell.mean) + errorText(cell) : "no number");
const isDeviation = (cell) => isNumber(cell.error) && cell.error_kind === "std";

/* Environments first, then averages. */
function tableColumns(result) {
  const firstOver = result.columns.find((name) => !result.environments.includes(name));
  const ranked = result.rows.some((row) => isNumber(row.rank));
  return [
    ...(ranked ? [{ name: "Rank", kind: "number", ascending: true, value: (row) => row.rank }] : []),
    { name: "Algorithm", kind: "name", ascending: true, value: (row) => row.label },
    ...result.columns.map((name) =>
      ({ name, kind: name === firstOver ? "number over" : "number", value: (row) => row.cells[name]?.mean })),
  ];
}

function buildTable(result) {
  const columns = tableColumns(result);
  const edged = result.rows.filter((row) => row.edges.length);
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

/* The algorithm, with possible line breaks after underscores; below it, small, the rest of its label. */
function rowName(row, result, footnote) {
  const own = row.label.startsWith(row.algorithm) ? row.algorithm.length : row.label.length;
  const seeds = new Set(result.rows.map((other) => other.seeds).filter(Boolean));
  return [
    make("span", { class: "algorithm" }, row.label.slice(0, own).split(/(?<=_)/).map((part) => [make("wbr"), part])),
    footnote > 0 && make("sup", { title: row.edges.join("; ") }, String(footnote)),
    own < row.label.length && small(row.label.slice(own)),
    row.source && small(`published: ${row.source}`),
    Object.values(row.cells).some(isDeviation) && small("\u00b1 is a standard deviation"),
    seeds.size > 1 && row.seeds && small(`hyper-parameters ${row.seeds}`),
  ];
}

function cellButton(row, column, cell) {
  const [tag, place] = cell.best ? ["strong", "best"] : ["span", ""];
  const said = [meanText(cell), place, cell.missing].filter(Boolean).join(", ");
  const attributes = {
    class: "cell", tabindex: -1, "data-column": column, "aria-expanded": "false",
    "aria-label": `${rowKey(row)}, ${column}: ${said}`, onclick: () => openCell(rowKey(row), column),
  };
  return button(attributes,
    make("span", { class: "value" },
      make(tag, {}, number(cell.mean)), make("span", { class: "error" }, errorText(cell))),
    cell.missing && small(cell.missing));
}

/* A new header starts in its usual direction; the same one reverses it, then restores the first order. */
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

/* Puts the filtered rows into the table, sorted. */
function arrangeRows(table) {
  const shown = sortedRows(table).filter(({ key }) => matches(key)).map(({ element }) => element);
  const none = make("td", { colspan: table.columns.length, class: "none" }, `No algorithm has \u201c${state.filter}\u201d.`);
  const body = byId("table").tBodies[0];
  body.replaceChildren(...(shown.length ? shown : [make("tr", {}, none)]));
  const cells = [...body.querySelectorAll("button.cell")];
  if (cells.length && !cells.some((cell) => cell.tabIndex === 0)) cells[0].tabIndex = 0;
}

/* Tab reaches one number of the table, arrow keys the others. */
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

/* Opens or closes the details of a cell. */
function openCell(key, column) {
  const open = state.row === key && state.column === column;
  [state.row, state.column] = open ? ["", ""] : [key, column];
  showDetails(view);
  writeHash();
}

/* The details of the open cell: values, chosen runs, and their commands. */
function showDetails({ result, rows }) {
  byId("details")?.remove();
  byId("table").querySelector("button[aria-expanded='true']")?.setAttribute("aria-expanded", "false");
  const shown = rows.find(({ key, element }) => key === state.row && element.isConnected);
  const cell = shown?.row.cells[state.column];
  if (!cell) return;
  const opener = [...shown.element.querySelectorAll("button.cell")].find((own) => own.dataset.column === state.column);
  opener.setAttribute("aria-expanded", "true");
  const close = () => { openCell(state.row, state.column); opener.focus(); };
  const title = `${shown.key}, ${state.column}`;
  const panel = make("div", { class: "panel", role: "region", "aria-label": `Details of ${title}` },
    button({ class: "quiet close", onclick: close }, "Close"),
    make("h3", {}, title), facts(result, shown.row, cell), confusionTable(shown.row.confusion?.[state.column]),
    choicesTable(cell.choices), commands(cell));
  const onkeydown = (event) => event.key === "Escape" && close();
  shown.element.after(make("tr", { id: "details", onkeydown },
    make("td", { colspan: shown.element.cells.length }, panel)));
}

function facts(result, row, cell) {
  const error = isDeviation(cell) ? " (standard deviation)" : errorText(cell) && " (standard error)";
  const seeds = { redrawn: "redrawn in each trial", fixed: "fixed over the trials" };
  const known = [
    [result.measures.includes(state.column) ? state.column : "Accuracy", meanText(cell) + error],
    ["Source", row.source && `published: ${row.source}`],
    ["Missing", cell.missing],
    ["Trials", cell.n > 0 && String(cell.n)],
    ["By trial", Object.entries(cell.values).map(([trial, value]) => `${trial}: ${number(value)}`).join("; ")],
    ["Runs", cell.expected > 0 && `${cell.done} done of ${cell.expected} expected`],
    ["Hyper-parameters", seeds[row.seeds]],
    ["Selected by", !row.source && (result.oracle ? "test accuracy: not a fair result" : result.selection_title)],
  ];
  return make("dl", {}, known.filter(([, value]) => value).map(([name, value]) =>
    make("div", {}, make("dt", {}, name), make("dd", {}, value))));
}

/* Counts of the chosen checkpoints; the darker, the larger its share of the label. */
function confusionTable(confusion) {
  if (!confusion) return null;
  const { classes, counts } = confusion;
  const lines = counts.map((row, i) => {
    const total = row.reduce((sum, count) => sum + count, 0);
    const shade = (count) => `background: rgba(0, 114, 178, ${total ? (0.6 * count / total).toFixed(2) : 0})`;
    return make("tr", {}, make("th", { scope: "row" }, classes[i]),
      row.map((count) => make("td", { style: shade(count) }, String(count))),
      make("td", {}, total ? number(100 * row[i] / total) : NONE));
  });
  const head = ["Label", ...classes, "Accuracy"].map((name) => make("th", { scope: "col" }, name));
  return onDemand("Confusion matrix: rows are labels, columns predictions", () =>
    make("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "Confusion matrix" },
      make("table", { class: "grid confusion" }, make("thead", {}, make("tr", {}, head)), make("tbody", {}, lines))),
    classes.length <= 12);
}

function choicesTable(choices) {
  const head = ["Left out", "Trial", "Hparams seed", "Step", "Validation", "Accuracy", "Folder"];
  const values = (choice) => [
    choice.environment, choice.trial_seed, choice.hparams_seed, choice.step ?? NONE,
    number(choice.validation), number(choice.accuracy), make("code", {}, choice.folder),
  ];
  return choices.length > 0 && grid(plural(choices.length, "chosen run"), head, choices.map(values));
}

function commands(cell) {
  const trained = cell.choices.filter((choice) => choice.command);
  const blocks = trained.map((choice) => [
    small(`${choice.environment} left out, trial ${choice.trial_seed}, hparams seed ${choice.hparams_seed}`),
    codeBlock(choice.command),
  ]);
  return [
    trained.length > 0 && make("details", { open: trained.length <= 3 },
      make("summary", {}, plural(trained.length, "command that trains it", "commands that train them")), blocks),
    cell.command && [make("h4", {}, "Print this again from the folder"), codeBlock(cell.command)],
  ];
}

/* If the browser does not allow copying, the text stays selected. */
function codeBlock(text) {
  const code = make("code", {}, text);
  const copy = ({ target }) => {
    getSelection().selectAllChildren(code);
    target.textContent = document.execCommand("copy") ? "Copied" : "Selected: copy it now";
  };
  return make("div", { class: "code" }, make("pre", { tabindex: 0 }, code),
    button({ class: "quiet copy", "aria-live": "polite", onclick: copy }, "Copy"));
}
