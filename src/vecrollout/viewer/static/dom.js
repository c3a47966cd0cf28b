// Elements, icons and numbers. Text of a trace only ever becomes text nodes.

export function h(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name in element && typeof value !== "string") element[name] = value;
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

const PATHS = {
  flag: ["M6 21V4.5h11.5l-2.2 4 2.2 4H6"],
  play: ["M7 4.5v15l12.5-7.5z"],
  pause: ["M8 5v14M16 5v14"],
  previous: ["M15 5l-7 7 7 7"],
  next: ["M9 5l7 7-7 7"],
  light: ["M12 8a4 4 0 1 0 0 8 4 4 0 0 0 0-8zM12 2v2M12 20v2M4.9 4.9l1.4 1.4M17.7 17.7l1.4 1.4M2 12h2M20 12h2M4.9 19.1l1.4-1.4M17.7 6.3l1.4-1.4"],
  dark: ["M20 14.5A8.5 8.5 0 0 1 9.5 4 8.5 8.5 0 1 0 20 14.5z"],
};

export function icon(name) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.setAttribute("aria-hidden", "true");
  for (const path of PATHS[name]) {
    const element = document.createElementNS("http://www.w3.org/2000/svg", "path");
    element.setAttribute("d", path);
    svg.append(element);
  }
  return svg;
}

const WHOLE = new Intl.NumberFormat("en-US", { maximumFractionDigits: 0 });
const ROUNDED = new Intl.NumberFormat("en-US", { maximumSignificantDigits: 5 });

export function number(value) {
  if (value === null || value === undefined) return "–";
  if (typeof value !== "number") return String(value);
  if (Number.isInteger(value) && Math.abs(value) < 1e15) return WHOLE.format(value);
  const size = Math.abs(value);
  return size !== 0 && (size < 1e-4 || size >= 1e9) ? value.toExponential(3) : ROUNDED.format(value);
}

// As many digits in all of a column, so that the points stand below one another.
export function fixed(value, digits = 2) {
  if (typeof value !== "number") return value === null || value === undefined ? "–" : String(value);
  const size = Math.abs(value);
  if (size !== 0 && (size < 1e-3 || size >= 1e9)) return value.toExponential(2);
  return value.toLocaleString("en-US", { minimumFractionDigits: digits, maximumFractionDigits: digits });
}

export function bytes(size) {
  const units = ["bytes", "kB", "MB", "GB", "TB"];
  let unit = 0;
  while (size >= 1000 && unit < units.length - 1) { size /= 1000; unit += 1; }
  return `${unit ? size.toFixed(1) : size} ${units[unit]}`;
}

export const ENDINGS = {
  terminated: "terminated",
  truncated: "truncated",
  reset_early: "reset early",
  closed: "recorder closed",
  "not ended": "goes on",
};

export function ending(name) {
  return ENDINGS[name ?? "not ended"] ?? String(name);
}

export function swatch(name) {
  return h("span", { class: `swatch ${String(name ?? "not ended").replaceAll(" ", "-")}`, "aria-hidden": "true" });
}

// An info, or metadata: names and values, nested ones indented.
export function details(value) {
  if (value === null || value === undefined) return "–";
  if (typeof value === "boolean" || typeof value === "string") return String(value);
  if (typeof value === "number") return number(value);
  const entries = Object.entries(value);
  if (!entries.length) return Array.isArray(value) ? "[]" : "{}";
  if (Array.isArray(value) && value.every((each) => each === null || typeof each !== "object"))
    return value.map((each) => details(each)).join(", ");
  return h("dl", {}, entries.flatMap(([name, each]) => [h("dt", {}, name), h("dd", {}, details(each))]));
}

export function link(query, ...children) {
  return h("a", { href: `?${new URLSearchParams(query)}` }, ...children);
}

export function flagButton(flagged, toggled) {
  const button = h("button", { type: "button", class: "flag", title: "Flag (f)" }, icon("flag"));
  const show = (value) => {
    button.setAttribute("aria-pressed", String(value));
    button.setAttribute("aria-label", value ? "Flagged" : "Flag this episode");
  };
  show(flagged);
  button.addEventListener("click", async (event) => {
    event.stopPropagation();
    show(await toggled(button.getAttribute("aria-pressed") !== "true"));
  });
  return button;
}
