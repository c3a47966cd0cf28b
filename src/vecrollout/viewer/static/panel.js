// What is shown of an episode: who it is, its images, its infos, its curves with a cursor.

import { ask, flag } from "./api.js";
import { drop, strips, zoom } from "./charts.js";
import { details, ending, fixed, flagButton, h, number, swatch } from "./dom.js";

const SAMPLED_AHEAD = 3;
const CLICK_PX = 4;

export function panel(data, { last, every, ranges, seek, hover, zoomed, closed, showAll }) {
  const outputs = new Map(); // name of a curve → where its value at the cursor stands
  const plots = [];
  let view = [0, last];
  let current = 0;

  // Images, and what is fetched of a step. A step is asked for when the answer to the one before has come.
  const pictures = data.images.map(({ name: source, first }) => ({ source, first, img: h("img", { alt: `${source} at the step of the cursor`, decoding: "async" }) }));
  const info = h("div", { class: "info" });
  let wanted = null;
  let busy = false;
  const address = (source, step) => `api/episodes/${data.number}/steps/${step}/image?${new URLSearchParams({ source, v: data.version })}`;

  async function fetchStep() {
    if (busy || wanted === null) return;
    busy = true;
    while (wanted !== null) {
      const step = wanted;
      wanted = null;
      const pending = pictures.map(({ source, first, img }) => {
        // A fragment has no frame of its first state.
        img.style.visibility = step < first ? "hidden" : "";
        if (step < first) return null;
        img.src = address(source, step);
        return img.decode().catch(() => null);
      });
      const found = await ask(`episodes/${data.number}/steps/${step}${every}`).catch(() => null);
      await Promise.all(pending);
      if (found) showStep(found);
    }
    busy = false;
    for (const { source } of pictures)
      for (let ahead = 1; ahead <= SAMPLED_AHEAD; ahead += 1)
        if (current + ahead <= data.length) new Image().src = address(source, current + ahead);
  }
  function showStep(found) {
    for (const [name, output] of outputs) output.textContent = name in found.values ? number(found.values[name]) : "";
    info.replaceChildren(found.info === null ? h("p", { class: "muted" }, found.step === data.length ? "The last observation has no info." : "Infos were not recorded.")
      : Object.keys(found.info).length ? details(found.info) : h("p", { class: "muted" }, "This step has no infos."));
    info.dataset.step = String(found.step);
  }

  // Cursors, in percent of the strips' width, which all have the same range of steps.
  const percent = (step) => (100 * (step - view[0])) / (view[1] - view[0] || 1);
  function place(cursor, step) {
    const left = step === null ? -1 : percent(step);
    cursor.hidden = left < 0 || left > 100;
    cursor.style.left = `${left}%`;
  }
  function stepAt(plot, event) {
    const box = plot.getBoundingClientRect();
    const share = Math.max(0, Math.min(1, (event.clientX - box.left) / box.width));
    return view[0] + share * (view[1] - view[0]);
  }

  function group({ title, curves, left_out }) {
    const chart = h("div");
    const cursor = h("span", { class: "cursor" });
    const ghost = h("span", { class: "cursor ghost", hidden: true });
    const plot = h("div", { class: "plot", "data-group": title }, chart, ghost, cursor);
    let from = null;
    plot.addEventListener("pointerdown", (event) => { from = event.button ? null : event; });
    plot.addEventListener("pointermove", (event) => hover(stepAt(plot, event)));
    plot.addEventListener("pointerleave", () => { hover(null); from = null; });
    plot.addEventListener("pointerup", (event) => {
      if (!from) return;
      const [begin, end] = [stepAt(plot, from), stepAt(plot, event)].sort((a, b) => a - b);
      if (Math.abs(event.clientX - from.clientX) <= CLICK_PX) seek(stepAt(plot, event));
      else if (end - begin >= 1) zoomed([Math.floor(begin), Math.ceil(end)]);
      from = null;
    });
    plot.addEventListener("dblclick", () => zoomed([0, last]));
    plots.push({ chart, cursor, ghost, curves: curves.map((curve) => ({ ...curve, steps: curve.y.every((value) => value === null || Number.isInteger(value)) })) });
    const names = h("ul", { class: "names" }, curves.map(({ name }) => {
      const output = h("output");
      outputs.set(name, output);
      return h("li", {}, h("code", { title: name }, name), output);
    }));
    return h("section", { class: "card" },
      h("header", {}, h("h2", {}, title), left_out ? h("button", { type: "button", onclick: showAll }, `${number(left_out)} more`) : null),
      h("div", { class: "strips" }, names, plot));
  }

  const groups = data.groups.map(group);
  const facts = [
    ["Return", data.return === null ? "–" : typeof data.return === "number" ? fixed(data.return, Number.isInteger(data.return) ? 0 : 3) : data.return],
    ["Length", `${number(data.length)} steps`],
    ["Ended", h("span", {}, swatch(data.ended_by), " ", ending(data.ended_by), data.terminated && data.truncated ? " (and truncated)" : "")],
    data.start_step ? ["Fragment", `from step ${number(data.start_step)} of its episode`] : null,
    ["Environment", data.env === null ? "–" : String(data.env)],
    ["Seed", data.seed === null ? "–" : String(data.seed)],
    ["Recording", data.recording === null ? "–" : `${data.recording} / ${data.id ?? "–"}`],
  ].filter(Boolean);
  const extra = (title, value) => value && Object.keys(value).length ? h("section", { class: "card info more" }, h("header", {}, h("h2", {}, title)), details(value)) : null;

  const element = h("article", { class: "episode", "aria-label": `Episode ${data.number}`, "data-episode": String(data.number) },
    h("div", { class: "side" },
      pictures.length ? h("section", { class: "card stage" }, pictures.map(({ source, img }) => h("figure", {}, img, h("figcaption", {}, source)))) : null,
      h("section", { class: "card" },
        h("header", {}, h("h2", {}, `Episode ${number(data.number)}`), h("span", {}, flagButton(data.flagged, async (wanted_) => (await flag(data.number, wanted_)).flagged),
          closed ? h("button", { type: "button", onclick: closed, "aria-label": `Close episode ${data.number}` }, "Close") : null)),
        h("dl", { class: "identity" }, facts.flatMap(([name, value]) => [h("dt", {}, name), h("dd", {}, value)]))),
      h("section", { class: "card more" }, h("header", {}, h("h2", {}, "Infos of the step")), info),
      extra("Metadata", data.metadata),
      extra("Info of the reset", data.reset_info)),
    h("div", { class: "curves" }, groups));

  return {
    element,
    draw: () => Promise.all(plots.map(({ chart, curves }) => strips(chart, curves, last, ranges))),
    seek(step) {
      current = Math.min(step, data.length);
      for (const { cursor } of plots) place(cursor, step);
      wanted = current;
      fetchStep();
    },
    hover(step) {
      for (const { ghost } of plots) place(ghost, step);
    },
    async zoom(range) {
      view = range;
      for (const { cursor } of plots) place(cursor, current);
      await Promise.all(plots.map(({ chart }) => zoom(chart, range)));
    },
    close: () => plots.forEach(({ chart }) => drop(chart)),
  };
}
