/* What stands behind a cell: its values, the chosen runs, the commands that make them. */

function showDetails(result, rows) {
  byId("details")?.remove();
  byId("table").querySelector("button[aria-expanded='true']")?.setAttribute("aria-expanded", "false");
  const shown = rows.find(({ key }) => key === state.row);
  const cell = shown?.row.cells[state.column];
  if (!cell) return;
  const opener = [...shown.element.querySelectorAll("button.cell")].find((own) => own.dataset.column === state.column);
  opener.setAttribute("aria-expanded", "true");
  const close = () => { openCell(state.row, state.column); opener.focus(); };
  const title = `${shown.key}, ${state.column}`;
  const panel = make("div", { class: "panel", role: "region", "aria-label": `Details of ${title}` },
    button({ class: "quiet close", onclick: close }, "Close"),
    make("h3", {}, title), facts(result, shown.row, cell), choicesTable(cell), commands(cell));
  const onkeydown = (event) => event.key === "Escape" && close();
  shown.element.after(make("tr", { id: "details", onkeydown },
    make("td", { colspan: shown.element.cells.length }, panel)));
}

function facts(result, row, cell) {
  const error = cell.error_kind === "std" ? " (standard deviation)" : " (standard error)";
  const seeds = { redrawn: "redrawn in each trial", fixed: "fixed over the trials" };
  const known = [
    ["Accuracy", (meanText(cell) || "no number") + (hasError(cell) ? error : "")],
    ["Source", row.source && `published: ${row.source}`],
    ["Missing", cell.missing],
    ["Trials", cell.n > 0 && String(cell.n)],
    ["By trial", Object.entries(cell.values ?? {}).map(([trial, value]) => `${trial}: ${fixed(value)}`).join("; ")],
    ["Runs", cell.expected > 0 && `${cell.done} done of ${cell.expected} expected`],
    ["Hyper-parameters", seeds[row.seeds]],
    ["Chosen by", !row.source && (result.oracle ? "test accuracy: not a fair number" : result.selection_title)],
  ];
  return make("dl", {}, known.filter(([, value]) => value).map(([name, value]) =>
    make("div", {}, make("dt", {}, name), make("dd", {}, value))));
}

function choicesTable(cell) {
  if (!cell.choices?.length) return null;
  const head = ["Left out", "Trial", "Hparams seed", "Step", "Validation", "Accuracy", "Folder"];
  const values = (choice) => [
    choice.environment, choice.trial_seed, choice.hparams_seed, choice.step ?? NONE,
    number(choice.validation), number(choice.accuracy), make("code", {}, choice.folder),
  ];
  return grid(plural(cell.choices.length, "chosen run"), head, cell.choices.map(values));
}

function commands(cell) {
  const trained = (cell.choices ?? []).filter((choice) => choice.command);
  const blocks = trained.map((choice) => [
    small(`${choice.environment} left out, trial ${choice.trial_seed}, hparams seed ${choice.hparams_seed}`),
    codeBlock(choice.command),
  ]);
  return [
    trained.length > 0 && make("details", { open: trained.length <= 3 },
      make("summary", {}, plural(trained.length, "command that trains it", "commands that train them")), blocks),
    cell.command && [make("h4", {}, "The same from the folder"), codeBlock(cell.command)],
  ];
}

function codeBlock(text) {
  const code = make("code", {}, text);
  const copier = button({ class: "quiet copy", "aria-live": "polite", onclick: () => copy(copier, code) }, "Copy");
  return make("div", { class: "code" }, make("pre", { tabindex: 0 }, code), copier);
}

/* Where a browser does not let the page copy, the text is left selected. */
function copy(copier, code) {
  getSelection().selectAllChildren(code);
  copier.textContent = document.execCommand("copy") ? "Copied" : "Selected: copy it now";
}
