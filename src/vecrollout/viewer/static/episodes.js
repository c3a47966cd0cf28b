// The episode table: the server filters, sorts and pages it.

import { ask, flag } from "./api.js";
import { ending, fixed, flagButton, h, number, swatch } from "./dom.js";

const PAGE = 50;
const COLUMNS = [["number", "Episode"], ["return_", "Return"], ["length", "Length"], ["ended_by", "Ended"], ["env", "Environment"], ["seed", "Seed"]];
const FILTERS = ["return_min", "return_max", "length_min", "length_max", "ended_by", "env", "seed", "flagged"];
const DESCENDING_FIRST = new Set(["return_", "length"]);

export async function show(parameters, app) {
  let state = { ...parameters };
  let data = await fetchPage();
  let asked = 0;
  const body = h("tbody");
  const head = h("tr");
  const count = h("p", { class: "muted small", role: "status" });
  const where = h("span");
  const previous = h("button", { type: "button", onclick: () => page(-1) }, "Previous");
  const next = h("button", { type: "button", onclick: () => page(1) }, "Next");
  const exported = h("div", { hidden: true });
  const exportFlagged = h("button", { type: "button", class: "main", id: "export-flagged", onclick: () => exportCommand({ flagged: "1" }) });
  const exportMatching = h("button", { type: "button", id: "export", onclick: () => exportCommand(query()) });
  const filters = filterBar(state, data, change);

  async function fetchPage() {
    return ask(`episodes?${new URLSearchParams({ ...query(), offset: state.offset ?? 0, limit: PAGE })}`);
  }
  function query() {
    return Object.fromEntries(["sort", "descending", ...FILTERS].filter((name) => state[name]).map((name) => [name, state[name]]));
  }
  async function change(changes, { keepPage = false } = {}) {
    state = { ...state, ...(keepPage ? {} : { offset: "" }), ...changes };
    app.go({ ...state, view: "episodes" }, { replace: true, quiet: true });
    exported.hidden = true;
    await load();
  }
  async function load() {
    const turn = ++asked;
    const found = await fetchPage();
    if (turn !== asked) return;
    data = found;
    fill();
  }
  async function page(step) {
    const offset = data.offset + step * PAGE;
    if (offset < 0 || offset >= data.matching) return;
    await change({ offset: offset || "" }, { keepPage: true });
    body.firstElementChild?.focus({ preventScroll: true });
  }
  function sort(column) {
    const same = (state.sort || "number") === column;
    const descending = same ? !state.descending : DESCENDING_FIRST.has(column);
    change({ sort: column === "number" ? "" : column, descending: descending ? "1" : "" });
  }
  function fill() {
    const focused = [...body.children].indexOf(document.activeElement);
    head.replaceChildren(h("th", { class: "flags", "aria-label": "Flagged" }), ...[...COLUMNS, ...data.metadata.map((name) => [name, name])].map(([column, title]) => {
      const current = (state.sort || "number") === column;
      return h("th", { class: column === "ended_by" || !COLUMNS.some(([name]) => name === column) ? "text" : "", "aria-sort": current && (state.descending ? "descending" : "ascending") },
        h("button", { type: "button", "data-sort": column, onclick: () => sort(column) }, title));
    }));
    body.replaceChildren(...data.rows.map((row) => rowOf(row)));
    if (focused >= 0) body.children[Math.min(focused, body.children.length - 1)]?.focus({ preventScroll: true });
    showExports(data.flagged);
    count.textContent = data.matching === data.trajectories ? `${number(data.trajectories)} episodes` : `${number(data.matching)} of ${number(data.trajectories)} episodes`;
    where.textContent = data.matching ? `${number(data.offset + 1)} – ${number(Math.min(data.offset + data.rows.length, data.matching))} of ${number(data.matching)}` : "No episode matches the filter.";
    previous.disabled = data.offset === 0;
    next.disabled = data.offset + PAGE >= data.matching;
  }
  function rowOf(row) {
    const toggle = async (wanted) => {
      const answer = await flag(row.number, wanted);
      row.flagged = answer.flagged;
      showExports(answer.count);
      return answer.flagged;
    };
    const button = flagButton(row.flagged, toggle);
    return h("tr", { tabindex: "0", "data-episode": String(row.number), onclick: () => app.go({ episode: row.number }) },
      h("td", {}, button),
      h("td", {}, number(row.number), row.start_step ? h("span", { class: "muted", title: "A fragment: first step in its episode" }, ` from ${number(row.start_step)}`) : null),
      h("td", {}, row.return_ === null ? "–" : fixed(row.return_, Number.isInteger(row.return_) ? 0 : 2)),
      h("td", {}, number(row.length)),
      h("td", { class: "text" }, swatch(row.ended_by), " ", ending(row.ended_by)),
      h("td", {}, row.env === null ? "–" : String(row.env)),
      h("td", {}, row.seed === null ? "–" : String(row.seed)),
      data.metadata.map((name) => h("td", { class: "text", title: String(row[name]) }, row[name] === null ? "–" : String(row[name]))));
  }
  function showExports(flagged) {
    exportFlagged.textContent = `Export flagged (${number(flagged)})`;
    exportFlagged.disabled = flagged === 0;
    exportMatching.textContent = data.matching === data.trajectories ? "Export all" : `Export filtered (${number(data.matching)})`;
    exportMatching.disabled = data.matching === 0;
  }
  async function exportCommand(selection) {
    const found = await ask(`selection?${new URLSearchParams(selection)}`);
    const text = h("pre", { tabindex: "0" }, found.command ?? (found.count ? "These are too many for a command line. Narrow the filter, or use TraceDataset.select in Python." : "No episode is selected."));
    const copy = h("button", { type: "button", onclick: async () => {
      getSelection().selectAllChildren(text);
      await navigator.clipboard.writeText(found.command).then(() => { copy.textContent = "Copied"; }, () => null);
    } }, "Copy");
    exported.hidden = false;
    exported.replaceChildren(h("section", { class: "card", "aria-label": "Command" },
      h("header", {}, h("h2", {}, `A new trace of ${number(found.count)} ${found.count === 1 ? "episode" : "episodes"}`), h("span", { class: "muted" }, "run this in a terminal")),
      h("div", { class: "command" }, text, found.command ? copy : null)));
  }
  function move(step) {
    const rows = [...body.children];
    const at = rows.indexOf(document.activeElement.closest("tr"));
    const to = rows[Math.max(0, Math.min(rows.length - 1, at < 0 ? 0 : at + step))];
    to?.focus();
    to?.scrollIntoView({ block: "nearest" });
  }
  const focusedRow = () => document.activeElement.closest("tr[data-episode]");
  fill();

  return {
    title: "Episodes",
    elements: [
      h("div", { class: "head" }, h("div", {}, h("h1", {}, "Episodes"), count),
        h("div", { class: "actions" }, exportMatching, exportFlagged)),
      exported,
      h("section", { class: "card", "aria-label": "Filter" }, filters),
      h("section", { class: "card", "aria-label": "Episodes" },
        h("div", { class: "scroll" }, h("table", { class: "rows" }, h("thead", {}, head), body)),
        h("div", { class: "pager" }, where, h("span", { class: "actions" }, previous, next))),
    ],
    keys: {
      j: { text: "Next row", act: () => move(1) },
      k: { text: "Previous row", act: () => move(-1) },
      ArrowDown: { act: () => move(1) },
      ArrowUp: { act: () => move(-1) },
      Enter: { text: "Open the episode", act: () => focusedRow()?.click() },
      f: { text: "Flag the episode", act: () => focusedRow()?.querySelector(".flag").click() },
      "/": { text: "Filter", act: () => filters.querySelector("input").focus() },
      n: { text: "Next page", act: () => page(1) },
      p: { text: "Previous page", act: () => page(-1) },
      x: { text: "Export the flagged episodes", act: () => exportFlagged.click() },
    },
    grown: load,
  };
}

function filterBar(state, data, change) {
  let waiting = null;
  const soon = (changes) => {
    clearTimeout(waiting);
    waiting = setTimeout(() => change(changes()), 150);
  };
  const entry = (name, label, width) => h("input", { type: "number", step: "any", name, "aria-label": label, value: state[name] ?? "", placeholder: width,
    oninput: () => soon(values) });
  const values = () => Object.fromEntries(FILTERS.map((name) => {
    const field = form.elements.namedItem(name);
    return [name, field.type === "checkbox" ? (field.checked ? "1" : "") : field.value];
  }));
  const pair = (name, title) => h("fieldset", {}, h("legend", {}, title),
    h("span", { class: "pair" }, entry(`${name}_min`, `${title}, at least`, "min"), "–", entry(`${name}_max`, `${title}, at most`, "max")));
  const choice = (name, title, options, text) => h("label", {}, title, h("select", { name, onchange: () => change(values()) },
    h("option", { value: "" }, "any"), options.map((each) => h("option", { value: String(each), selected: state[name] === String(each) }, text(each)))));
  const form = h("form", { class: "filters", onsubmit: (event) => event.preventDefault() },
    pair("return", "Return"), pair("length", "Length"),
    choice("ended_by", "Ended", data.endings, ending),
    choice("env", "Environment", data.environments, String),
    h("label", {}, "Seed", entry("seed", "Seed", "any")),
    h("label", { class: "check" }, h("input", { type: "checkbox", name: "flagged", checked: Boolean(state.flagged), onchange: () => change(values()) }), "Flagged"),
    h("button", { type: "button", onclick: () => {
      for (const field of form.elements) if (field.name) field.type === "checkbox" ? (field.checked = false) : (field.value = "");
      change(values());
    } }, "Clear"));
  return form;
}
