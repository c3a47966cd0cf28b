// One episode, or two side by side: a player, images, infos, and a strip of curve for each dimension.

import { ask } from "./api.js";
import { h, icon, number } from "./dom.js";
import { panel } from "./panel.js";

const SPEEDS = [1, 2, 5, 10, 30, 60, 120];
const USUAL_SPEED = 10;

export async function show(parameters, app) {
  const every = parameters.all ? "?all=1" : "";
  const numbers = [parameters.episode, parameters.compare].filter((each) => each !== undefined && each !== "");
  const found = await Promise.all(numbers.map((each) => ask(`episodes/${Number(each)}${every}`)));
  const last = Math.max(...found.map((each) => each.length));
  let step = Math.max(0, Math.min(last, Number(parameters.step) || 0));
  let speed = SPEEDS.includes(Number(parameters.speed)) ? Number(parameters.speed) : USUAL_SPEED;
  let trajectories = found[0].trajectories;
  let target = found[0].number; // keys can be quicker than answers

  const panels = found.map((data) => panel(data, {
    last, every, ranges: ranges(found), seek: (to) => { pause(); seek(to); }, hover, zoomed,
    closed: found.length > 1 && (() => app.go({ ...parameters, episode: found.find((each) => each !== data).number, compare: "" })),
    showAll: () => app.go({ ...parameters, step, all: "1" }),
  }));

  // The player.
  const scrubber = h("input", { type: "range", min: "0", max: String(last), step: "1", value: String(step), "aria-label": "Step", oninput: () => { pause(); seek(Number(scrubber.value)); } });
  const at = h("span", { class: "at" });
  const playButton = h("button", { type: "button", class: "icon", id: "play", onclick: () => toggle() });
  const speeds = h("select", { "aria-label": "Speed", onchange: () => { speed = Number(speeds.value); } },
    SPEEDS.map((each) => h("option", { value: String(each), selected: each === speed }, `${each} steps/s`)));
  let frame = null;

  function seek(to) {
    step = Math.max(0, Math.min(last, Math.round(to)));
    scrubber.value = String(step);
    at.replaceChildren("step ", h("b", {}, number(step)), ` / ${number(last)}`);
    for (const each of panels) each.seek(step);
    remember();
  }
  let remembering = null;
  function remember() {
    // Browsers limit how often an address may change.
    remembering ??= setTimeout(() => {
      remembering = null;
      app.go({ ...parameters, step: step || "" }, { replace: true, quiet: true });
    }, 250);
  }
  function play() {
    if (step >= last) seek(0);
    let before = performance.now();
    let behind = 0;
    const tick = (now) => {
      behind += ((now - before) / 1000) * speed;
      before = now;
      if (behind >= 1) {
        seek(step + Math.floor(behind));
        behind %= 1;
      }
      if (step >= last) pause();
      else frame = requestAnimationFrame(tick);
    };
    frame = requestAnimationFrame(tick);
    showPlaying();
  }
  function pause() {
    cancelAnimationFrame(frame);
    frame = null;
    showPlaying();
  }
  const toggle = () => (frame === null ? play() : pause());
  function showPlaying() {
    playButton.replaceChildren(icon(frame === null ? "play" : "pause"));
    playButton.setAttribute("aria-label", frame === null ? "Play" : "Pause");
    playButton.title = `${frame === null ? "Play" : "Pause"} (Space)`;
  }
  function hover(to) {
    for (const each of panels) each.hover(to);
  }
  function zoomed(range) {
    for (const each of panels) each.zoom(range);
  }
  function neighbour(by) {
    const to = Math.max(0, Math.min(trajectories - 1, target + by));
    if (to === target) return;
    target = to;
    app.go({ ...parameters, episode: to, step: "" });
  }
  function compare() {
    if (found.length > 1) return app.go({ ...parameters, compare: "", step });
    const field = h("input", { type: "number", min: "0", max: String(trajectories - 1), "aria-label": "Episode to compare with", placeholder: `0 – ${trajectories - 1}`, id: "compare-with" });
    const form = h("form", { class: "actions", onsubmit: (event) => {
      event.preventDefault();
      if (field.value !== "") app.go({ ...parameters, compare: field.value, step });
    } }, field, h("button", { type: "submit" }, "Compare"));
    compareButton.replaceWith(form);
    field.focus();
  }
  const compareButton = h("button", { type: "button", id: "compare", title: "Compare (c)", onclick: compare }, found.length > 1 ? "Close comparison" : "Compare with …");
  const previousButton = h("button", { type: "button", class: "icon", "aria-label": "Previous episode", title: "Previous episode ([)", onclick: () => neighbour(-1) }, icon("previous"));
  const nextButton = h("button", { type: "button", class: "icon", "aria-label": "Next episode", title: "Next episode (])", onclick: () => neighbour(1) }, icon("next"));
  const position = h("p", { class: "muted small" });
  function showPosition() {
    position.textContent = `${number(trajectories)} ${trajectories === 1 ? "episode" : "episodes"} in the trace${found[0].env_spec ? ` · ${found[0].env_spec}` : ""}`;
    previousButton.disabled = found[0].number === 0;
    nextButton.disabled = found[0].number >= trajectories - 1;
  }
  showPosition();
  showPlaying();

  return {
    title: `Episode ${numbers.join(" and ")}`,
    elements: [
      h("div", { class: "head" },
        h("div", {}, h("h1", {}, found.length > 1 ? `Episodes ${number(found[0].number)} and ${number(found[1].number)}` : `Episode ${number(found[0].number)}`), position),
        h("div", { class: "actions" }, previousButton, nextButton, compareButton)),
      h("div", { class: "player" }, playButton, scrubber, at, speeds),
      h("div", { class: `episodes ${found.length > 1 ? "two" : "one"}` }, panels.map((each) => each.element)),
    ],
    placed: async () => {
      seek(step);
      await Promise.all(panels.map((each) => each.draw()));
    },
    keys: {
      " ": { text: "Play, pause", act: toggle },
      ArrowLeft: { text: "Step back", act: () => { pause(); seek(step - 1); } },
      ArrowRight: { text: "Step forward", act: () => { pause(); seek(step + 1); } },
      "Shift ArrowLeft": { text: "Ten steps back", act: () => { pause(); seek(step - 10); } },
      "Shift ArrowRight": { text: "Ten steps forward", act: () => { pause(); seek(step + 10); } },
      Home: { text: "First step", act: () => { pause(); seek(0); } },
      End: { text: "Last step", act: () => { pause(); seek(last); } },
      "[": { text: "Previous episode", act: () => neighbour(-1) },
      "]": { text: "Next episode", act: () => neighbour(1) },
      f: { text: "Flag the episode", act: () => panels[0].element.querySelector(".flag").click() },
      c: { text: "Compare with another episode", act: compare },
      z: { text: "Show all steps again", act: () => zoomed([0, last]) },
    },
    grown: (status) => {
      trajectories = status.trajectories;
      showPosition();
    },
    close: () => {
      pause();
      clearTimeout(remembering);
      for (const each of panels) each.close();
    },
  };
}

// The same scale for a dimension in both episodes.
function ranges(found) {
  const seen = {};
  for (const { groups } of found)
    for (const { curves } of groups)
      for (const { name, y } of curves)
        for (const value of y)
          if (value !== null) {
            seen[name] ??= [value, value];
            if (value < seen[name][0]) seen[name][0] = value;
            if (value > seen[name][1]) seen[name][1] = value;
          }
  return seen;
}
