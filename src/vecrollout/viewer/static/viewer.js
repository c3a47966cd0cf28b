// The frame around the views: which one is shown, keys, theme, and whether the trace grows.

import { ask } from "./api.js";
import { redraw } from "./charts.js";
import { h, icon } from "./dom.js";
import * as episode from "./episode.js";
import * as episodes from "./episodes.js";
import * as overview from "./overview.js";

const VIEWS = { overview, episodes, episode };
const main = document.getElementById("main");
const POLL_MS = 1000;

let current = null; // what the view returned: keys, grown, close
let shown = 0; // counts navigations, so that a late answer of an earlier view is dropped
let pending = false; // whether a view is on its way, so that the one before leaves the address alone
let version = null;

function query() {
  return Object.fromEntries(new URLSearchParams(location.search));
}

function viewOf(parameters) {
  return "episode" in parameters ? "episode" : parameters.view === "episodes" ? "episodes" : "overview";
}

// The view before stays, with its keys, until the next one is there.
function replace(view) {
  current?.close?.();
  current = view;
  main.replaceChildren(...(view?.elements ?? []));
}

async function show() {
  const turn = ++shown;
  const name = viewOf(query());
  pending = true;
  for (const each of document.querySelectorAll("[data-view]"))
    each.dataset.view === name && each.closest("nav") ? each.setAttribute("aria-current", "page") : each.removeAttribute("aria-current");
  main.setAttribute("aria-busy", "true");
  const view = await VIEWS[name].show(query(), app).catch((error) => {
    if (turn === shown) replace(null);
    throw error;
  }).finally(() => {
    if (turn === shown) {
      main.removeAttribute("aria-busy");
      pending = false;
    }
  });
  if (turn !== shown) return view.close?.();
  replace(view);
  document.title = `${view.title} · vecrollout`;
  await view.placed?.();
  main.dataset.shown = name;
}

const app = {
  // Another address. `replace` leaves no entry in the history, `quiet` shows nothing anew.
  go(parameters, { replace = false, quiet = false } = {}) {
    if (quiet && pending) return;
    const kept = Object.entries(parameters).filter(([, value]) => value !== "" && value !== undefined && value !== null);
    const url = `?${new URLSearchParams(kept)}`;
    history[replace ? "replaceState" : "pushState"](null, "", url);
    if (!quiet) {
      window.scrollTo(0, 0);
      return show();
    }
  },
  trace(name) {
    document.getElementById("trace").replaceChildren(h("bdi", {}, name));
  },
};

document.addEventListener("click", (event) => {
  const anchor = event.target.closest("a[href^='?']");
  if (!anchor || event.metaKey || event.ctrlKey || event.shiftKey || event.button) return;
  event.preventDefault();
  app.go(Object.fromEntries(new URLSearchParams(anchor.getAttribute("href"))));
});
window.addEventListener("popstate", show);

// Keys. A view's own come first.
const KEYS = {
  o: { text: "Overview", act: () => app.go({}) },
  e: { text: "Episode table", act: () => app.go({ view: "episodes" }) },
  t: { text: "Light or dark", act: () => document.getElementById("theme").click() },
  "?": { text: "This list", act: () => help() },
};

document.addEventListener("keydown", (event) => {
  if (event.metaKey || event.ctrlKey || event.altKey || document.querySelector("dialog[open]")) return;
  const typing = event.target.matches("input:not([type=range]):not([type=checkbox]), select, textarea");
  if (typing) {
    if (event.key === "Escape") event.target.blur();
    return;
  }
  // A focused button or link takes these two itself.
  if ([" ", "Enter"].includes(event.key) && event.target.closest("button, a, input")) return;
  const name = event.shiftKey && event.key.startsWith("Arrow") ? `Shift ${event.key}` : event.key;
  const key = current?.keys?.[name] ?? KEYS[name];
  if (!key) return;
  event.preventDefault();
  key.act();
});

const NAMES = { " ": "Space", ArrowLeft: "←", ArrowRight: "→", ArrowUp: "↑", ArrowDown: "↓", "Shift ArrowLeft": "Shift ←", "Shift ArrowRight": "Shift →" };

function help() {
  const dialog = document.getElementById("shortcuts");
  const keys = { ...current?.keys, ...KEYS };
  dialog.replaceChildren(
    h("header", {}, h("h2", {}, "Keyboard shortcuts"), h("button", { type: "button", onclick: () => dialog.close() }, "Close")),
    h("dl", { class: "keys" }, Object.entries(keys).filter(([, key]) => key.text)
      .flatMap(([name, key]) => [h("dt", {}, h("kbd", {}, NAMES[name] ?? name)), h("dd", {}, key.text)])),
  );
  dialog.showModal();
}
document.getElementById("help").addEventListener("click", help);

// Light and dark: the system's choice, until the reader makes one.
const themeButton = document.getElementById("theme");
const dark = window.matchMedia("(prefers-color-scheme: dark)");
const isDark = () => (document.documentElement.dataset.theme ?? (dark.matches ? "dark" : "light")) === "dark";

function showTheme() {
  themeButton.replaceChildren(icon(isDark() ? "light" : "dark"));
  redraw();
}
themeButton.addEventListener("click", () => {
  document.documentElement.dataset.theme = isDark() ? "light" : "dark";
  localStorage.setItem("theme", document.documentElement.dataset.theme);
  showTheme();
});
dark.addEventListener("change", showTheme);
if (localStorage.getItem("theme")) document.documentElement.dataset.theme = localStorage.getItem("theme");
showTheme();

// Live tail: ask what there is, and let the view follow.
async function poll() {
  if (!document.hidden) {
    const status = await ask("status").catch(() => null);
    if (status) {
      app.trace(status.name);
      document.getElementById("live").hidden = !status.is_live;
      if (version !== null && status.version !== version) await current?.grown?.(status).catch(() => null);
      version = status.version;
    }
  }
  setTimeout(poll, POLL_MS);
}

await show().catch(() => null);
poll();
