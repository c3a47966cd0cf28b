// What the trace holds, at a glance.

import { ask } from "./api.js";
import { drop, histogram, recording } from "./charts.js";
import { bytes, ending, fixed, h, link, number, swatch } from "./dom.js";

const SLOWEST_REFRESH_MS = 4000;

export async function show(_, app) {
  let data = await ask("overview");
  if (!data.trajectories) return empty(app);

  const charts = {
    return: h("div", { class: "chart" }), length: h("div", { class: "chart" }),
    returns: h("div", { class: "chart low" }), lengths: h("div", { class: "chart low" }),
  };
  const parts = { facts: h("dl", { class: "facts" }), endings: h("div"), outliers: h("div"), environments: h("div"), columns: h("div", {}, h("p", { class: "muted small" }, "Reading a sample of the steps …")) };
  const hasReturns = data.distributions.return.counts.length > 0;
  const environmentsNote = h("span", { class: "muted" });
  const columnsNote = h("span", { class: "muted" });

  function fill() {
    parts.facts.replaceChildren(...facts(data));
    parts.endings.replaceChildren(...endings(data));
    parts.outliers.replaceChildren(outliers(data));
    parts.environments.replaceChildren(environments(data));
    environmentsNote.textContent = `${number(data.environments.length)} in all`;
  }
  async function draw() {
    const open = (episode) => app.go({ episode });
    if (hasReturns) {
      await recording(charts.return, data.over_recording.return, "return", open);
      await histogram(charts.returns, data.distributions.return, "return");
    }
    await recording(charts.length, data.over_recording.length, "length", open);
    await histogram(charts.lengths, data.distributions.length, "length");
  }
  async function fillColumns() {
    const found = await ask("columns");
    parts.columns.replaceChildren(columns([...data.statistics, ...found.episodes], found.steps));
    columnsNote.textContent = found.sampled ? `steps: a sample of ${number(found.sampled)}${found.reason ? `; ${found.reason}` : ""}` : found.reason ?? "";
  }
  fill();

  let refreshed = performance.now();
  return {
    title: data.env_spec ?? "Overview",
    elements: [
      h("div", { class: "head" },
        h("div", {}, h("h1", {}, data.env_spec ?? "Overview"), h("p", { class: "muted small" }, spaces(data)))),
      h("section", { class: "card", "aria-label": "In numbers" }, parts.facts),
      card("How episodes ended", parts.endings),
      h("div", { class: "columns" },
        hasReturns && card("Return over the recording", charts.return, note(curveNote(data, "return"))),
        card("Length over the recording", charts.length, note(curveNote(data, "length"))),
        hasReturns && card("Distribution of returns", charts.returns, note(data.counted)),
        card("Distribution of lengths", charts.lengths, note(data.counted))),
      h("div", { class: "columns" },
        card("Outliers", parts.outliers, note("farthest from the middle half first")),
        card("Environments", parts.environments, environmentsNote)),
      card("Columns", parts.columns, columnsNote),
    ],
    placed: async () => {
      await draw();
      fillColumns().catch(() => null);
    },
    grown: async () => {
      if (performance.now() - refreshed < SLOWEST_REFRESH_MS / 4) return;
      refreshed = performance.now();
      data = await ask("overview");
      fill();
      await draw();
    },
    close: () => Object.values(charts).forEach(drop),
  };
}

function empty(app) {
  return {
    title: "No episodes",
    elements: [h("section", { class: "card empty" }, h("h1", {}, "No episodes yet"),
      h("p", { class: "muted" }, "This page fills as soon as the first episode of a recording has ended."))],
    grown: () => app.go({}, { replace: true }),
  };
}

function card(title, content, noted) {
  return h("section", { class: "card" }, h("header", {}, h("h2", {}, title), noted), content);
}

const note = (text) => h("span", { class: "muted" }, text);

function curveNote(data, name) {
  return `${data.counted}; ${data.over_recording[name].is_thinned ? "extremes and trend" : "each, and trend"}`;
}

function spaces(data) {
  const parts = [["Observations", data.observation_space], ["actions", data.action_space]];
  return parts.filter(([, space]) => space).map(([name, space]) => `${name}: ${space}`).join(" · ");
}

function facts(data) {
  const [returns, lengths] = data.statistics;
  const fact = (name, value, small) => h("div", {}, h("dt", {}, name), h("dd", {}, value, small && h("small", {}, small)));
  return [
    fact("Episodes", number(data.trajectories)),
    fact("Steps", number(data.steps)),
    returns.mean !== null && fact("Mean return", fixed(returns.mean, 1), `± ${fixed(returns.std, 1)}`),
    fact("Mean length", fixed(lengths.mean, 1), `± ${fixed(lengths.std, 1)}`),
    data.environments.length > 0 && fact("Environments", number(data.environments.length)),
    fact("On disk", bytes(data.bytes), `${fixed(data.bytes / Math.max(data.steps, 1), 1)} bytes a step`),
  ].filter(Boolean);
}

function endings(data) {
  const bar = h("div", { class: "endings-bar", "aria-hidden": "true" }, data.endings.map(({ name, count }) => {
    const part = swatch(name);
    part.className = part.className.replace("swatch ", "");
    part.style.width = `calc(${(100 * count) / data.trajectories}% - 2px)`;
    return part;
  }));
  return [bar, h("ul", { class: "endings-list" }, data.endings.map(({ name, count }) =>
    h("li", {}, swatch(name), link({ view: "episodes", ended_by: name }, ending(name)), h("b", {}, number(count)),
      h("span", { class: "muted" }, `${fixed((100 * count) / data.trajectories, 1)} %`))))];
}

function outliers(data) {
  if (!data.outliers.length) return h("p", { class: "muted small" }, "No return or length lies far from the others.");
  return h("div", { class: "scroll" }, h("table", {},
    h("thead", {}, h("tr", {}, h("th", { class: "text" }, "Episode"), h("th", { class: "text" }, "Quantity"), h("th", {}, "Value"), h("th", {}, "Median"), h("th", { title: "Distance from the middle half of the values, in widths of it" }, "Distance"))),
    h("tbody", {}, data.outliers.map((each) => h("tr", {}, h("td", { class: "text" }, link({ episode: each.number }, number(each.number))),
      h("td", { class: "text" }, each.quantity), h("td", {}, number(each.value)), h("td", {}, number(each.median)), h("td", {}, `${fixed(each.distance, 1)} ×`))))));
}

function environments(data) {
  if (!data.environments.length) return h("p", { class: "muted small" }, "The trace does not say which environment an episode is of.");
  return h("div", { class: "scroll" }, h("table", {},
    h("thead", {}, h("tr", {}, h("th", { class: "text" }, "Environment"), h("th", {}, "Episodes"), h("th", {}, "Steps"), h("th", {}, "Mean length"), h("th", {}, "Mean return"), h("th", {}, "Range"))),
    h("tbody", {}, data.environments.slice(0, 32).map((each) => h("tr", {}, h("td", { class: "text" }, link({ view: "episodes", env: each.env }, number(each.env))),
      h("td", {}, number(each.trajectories)), h("td", {}, number(each.steps)), h("td", {}, fixed(each.length_mean, 1)), h("td", {}, fixed(each.return_mean, 1)),
      h("td", { class: "muted" }, each.return_min === null ? "–" : `${number(each.return_min)} to ${number(each.return_max)}`))))));
}

function columns(episodes, steps) {
  const names = ["min", "mean", "median", "max", "std"];
  const rows = (title, found) => found.length ? h("tbody", {}, h("tr", {}, h("th", { class: "text", colspan: "7", scope: "rowgroup" }, title)),
    found.map((each) => h("tr", {}, h("td", { class: "text name" }, each.column), names.map((name) => h("td", {}, fixed(each[name], 3))),
      h("td", { class: "muted" }, each.missing ? number(each.missing) : "–")))) : null;
  return h("div", { class: "scroll" }, h("table", {},
    h("thead", {}, h("tr", {}, h("th", { class: "text" }, "Column"), h("th", {}, "Min"), h("th", {}, "Mean"), h("th", {}, "Median"), h("th", {}, "Max"), h("th", {}, "Std"), h("th", {}, "Missing"))),
    rows("Of episodes", episodes), rows("Of steps", steps)));
}
