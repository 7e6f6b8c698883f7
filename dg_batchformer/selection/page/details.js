/* What stands behind a cell: its values, the chosen runs, the commands that make them. */

function showDetails(result, rows) {
  byId("details")?.remove();
  for (const open of byId("table").querySelectorAll("button.cell[aria-expanded='true']")) {
    open.setAttribute("aria-expanded", "false");
    open.removeAttribute("aria-controls");
  }
  const shown = rows.find(({ key }) => key === state.row);
  const cell = shown?.row.cells[state.column];
  if (!cell) return;
  const button = [...shown.element.querySelectorAll("button.cell")].find((own) => own.dataset.column === state.column);
  button.setAttribute("aria-expanded", "true");
  button.setAttribute("aria-controls", "details");
  const close = () => { openCell(state.row, state.column); button.focus(); };
  const title = `${shown.row.label}, ${state.column}`;
  shown.element.after(make("tr", { id: "details", onkeydown: (event) => event.key === "Escape" && close() },
    make("td", { colspan: shown.element.cells.length }, make("div", { class: "panel", role: "region", "aria-label": `Details of ${title}` },
      make("button", { type: "button", class: "quiet close", onclick: close }, "Close"),
      make("h3", {}, title), facts(result, shown.row, cell), choicesTable(cell), commands(cell)))));
}

function facts(result, row, cell) {
  const kind = cell.error_kind === "std" ? "standard deviation" : "standard error";
  const trials = Object.entries(cell.values ?? {});
  const facts = [
    ["Accuracy", [meanText(cell) || "no number", isNumber(cell.error) && ` (${kind})`]],
    ["Source", row.source && `published: ${row.source}`],
    ["Missing", cell.missing],
    ["Trials", isNumber(cell.n) && String(cell.n)],
    ["By trial", trials.map(([trial, value], i) => [i ? "; " : "", `${trial}: ${fixed(value)}`])],
    ["Runs", isNumber(cell.expected) && cell.expected > 0 && `${cell.done} done of ${cell.expected} expected`],
    ["Hyper-parameters", row.seeds && `${row.seeds}${row.seeds === "redrawn" ? " in each trial" : " over the trials"}`],
    ["Chosen by", result.oracle ? "test accuracy, which makes this no fair number" : !row.source && result.selection_title],
  ];
  return make("dl", {}, facts.filter(([, value]) => value && value.length)
    .map(([name, value]) => make("div", {}, make("dt", {}, name), make("dd", {}, value))));
}

function choicesTable(cell) {
  if (!cell.choices?.length) return null;
  const head = ["Left out", "Trial", "Hparams seed", "Step", "Validation", "Accuracy", "Folder"];
  return make("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "Chosen runs" }, make("table", { class: "choices" },
    make("caption", {}, cell.choices.length === 1 ? "The chosen run" : `The ${cell.choices.length} chosen runs`),
    make("thead", {}, make("tr", {}, head.map((name) => make("th", { scope: "col" }, name)))),
    make("tbody", {}, cell.choices.map((choice) => make("tr", {},
      [choice.environment, choice.trial_seed, choice.hparams_seed, choice.step, number(choice.validation), number(choice.accuracy)]
        .map((value) => make("td", {}, String(value ?? "\u2013"))),
      make("td", {}, make("code", {}, choice.folder ?? "")))))));
}

function commands(cell) {
  const trained = (cell.choices ?? []).filter((choice) => choice.command);
  const blocks = trained.map((choice) => [
    make("p", { class: "small" }, `${choice.environment} left out, trial ${choice.trial_seed}, hparams seed ${choice.hparams_seed}`), codeBlock(choice.command)]);
  return [
    cell.command && [make("h4", {}, "Prints these commands"), codeBlock(cell.command)],
    trained.length > 0 && make("details", { open: trained.length <= 3 },
      make("summary", {}, trained.length === 1 ? "The command that trains the run" : `The ${trained.length} commands that train the runs`), blocks),
  ];
}

function codeBlock(text) {
  const code = make("code", {}, text);
  return make("div", { class: "code" }, make("pre", { tabindex: 0 }, code),
    make("button", { type: "button", class: "quiet copy", "aria-live": "polite", onclick: (event) => copy(event.currentTarget, code) }, "Copy"));
}

/* Where the page may not write to the clipboard (a file:// page, a frame), the text is left selected. */
async function copy(button, code) {
  try {
    await navigator.clipboard.writeText(code.textContent);
    button.textContent = "Copied";
  } catch {
    getSelection().selectAllChildren(code);
    button.textContent = document.execCommand("copy") ? "Copied" : "Selected: copy it now";
  }
  setTimeout(() => { button.textContent = "Copy"; }, 3000);
}
