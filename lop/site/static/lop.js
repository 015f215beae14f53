"use strict";
/* What all explorers share: their data, elements, numbers in words, and charts. */
globalThis.lop = globalThis.lop || {};
lop.data = lop.data || {};

/** Make an element: attributes by name, functions as listeners, the rest as children; text is text, never markup. */
lop.make = function (name, attributes, ...children) {
  const svg = lop.svgNames.has(name);
  const node = svg ? document.createElementNS("http://www.w3.org/2000/svg", name) : document.createElement(name);
  for (const [key, value] of Object.entries(attributes || {})) {
    if (typeof value === "function") node.addEventListener(key, value);
    else if (value !== null && value !== undefined && value !== false) node.setAttribute(key, value);
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
};
lop.svgNames = new Set(["svg", "g", "path", "line", "rect", "circle", "polyline", "text", "title"]);

/** A number in few characters. */
lop.say = function (x, digits = 4) {
  if (x === null || Number.isNaN(x)) return "–";
  if (x === 0) return "0";
  if (!Number.isFinite(x)) return x > 0 ? "∞" : "−∞";
  const size = Math.abs(x);
  const text = size < 1e-3 || size >= 1e6 ? Number(x.toPrecision(Math.max(digits - 1, 1))).toExponential() : String(Number(x.toPrecision(digits)));
  return text.replace("-", "−").replace("e+", "e");
};

/** A labelled control; `change` gets its value. */
lop.control = function (label, input, change) {
  const shown = input.type === "range" ? lop.make("output", { class: "shown" }) : null;
  const tell = () => {
    const value = input.type === "range" ? Number(input.value) : input.type === "checkbox" ? input.checked : input.value;
    if (shown) shown.textContent = lop.say(value);
    change(value);
  };
  input.addEventListener(input.type === "range" ? "input" : "change", tell);
  if (shown) shown.textContent = lop.say(Number(input.value));
  return lop.make("label", { class: "control" }, lop.make("span", {}, label), input, shown);
};
lop.range = (id, min, max, step, value) => {
  const input = lop.make("input", { type: "range", id, min, max, step });
  input.value = value;
  return input;
};
lop.choice = (id, options, value) => {
  const input = lop.make("select", { id }, ...options.map((o) => lop.make("option", { value: o }, o)));
  if (value !== undefined) input.value = value;
  return input;
};

/** Call `start(host)` for the element with this id, now or when the page is read. */
lop.start = function (id, start) {
  if (typeof document === "undefined") return;
  const go = () => {
    const host = document.getElementById(id);
    if (!host) return;
    host.replaceChildren();
    start(host);
    host.dataset.ready = "yes";
  };
  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", go);
  else go();
};

/** Places of the ticks of an axis between two numbers. */
lop.ticks = function (low, high, log, count = 5) {
  if (log) {
    const from = Math.ceil(Math.log10(low) - 1e-9), to = Math.floor(Math.log10(high) + 1e-9);
    if (to - from < 1) { // within a decade or two: 1, 2 and 5 of each, or even steps
      const few = [from - 1, from, from + 1].flatMap((k) => [1, 2, 5].map((m) => Number((m * 10 ** k).toPrecision(1)))).filter((t) => t >= low && t <= high);
      return few.length > 1 ? few : lop.ticks(low, high, false);
    }
    const step = Math.max(1, Math.ceil((to - from) / count));
    const found = [];
    for (let k = from; k <= to; k += step) found.push(10 ** k);
    return found;
  }
  const rough = (high - low) / count, power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].find((s) => s * power >= rough) * power;
  const found = [];
  for (let k = Math.ceil(low / step - 1e-9); k * step <= high + step * 1e-9; k++) found.push(Number((k * step).toPrecision(12)));
  return found;
};

/**
 * A chart of lines below `host`; returns `draw(lines)`, with lines of `{name, x, y, colour, dash, faint}`.
 * `spec` has `label`, `x` and `y` with `{label, log, low, high}`, and `zoom`; an axis of `whole` numbers has no ticks between
 * them, and one of a single value is `least` wide.
 */
lop.chart = function (host, spec) {
  const picture = lop.make("svg", { class: "chart", role: "img", "aria-label": spec.label });
  const legend = lop.make("ul", { class: "legend-lines" });
  const tools = spec.zoom ? lop.make("div", { class: "tools", role: "group", "aria-label": "Zoom" }) : null;
  host.append(lop.make("div", { class: "chart-box" }, picture), legend);
  if (tools) host.append(tools);
  let lines = [], window_ = null;

  const whole = (axis, key) => {
    const values = lines.flatMap((line) => line[key].filter((v, k) => Number.isFinite(v) && (!axis.log || v > 0) && seen(line, k, key)));
    let low = axis.low ?? Math.min(...values), high = axis.high ?? Math.max(...values);
    if (!values.length && (axis.low === undefined || axis.high === undefined)) [low, high] = axis.log ? [0.1, 1] : [0, 1];
    if (low === high && axis.least) high = low + axis.least;
    else if (low === high) [low, high] = axis.log ? [low / 2, high * 2] : [low - 0.5, high + 0.5];
    if (axis.low === undefined && !axis.log && key === "y") { const pad = (high - low) * 0.04; low -= pad; high += axis.high === undefined ? pad : 0; }
    return [low, high];
  };
  const seen = (line, k, key) => key === "x" || !window_ || (line.x[k] >= window_[0] && line.x[k] <= window_[1]);

  const drawn = (line, k) => Number.isFinite(line.x[k]) && Number.isFinite(line.y[k]) && (!spec.x.log || line.x[k] > 0) && (!spec.y.log || line.y[k] > 0);

  function render() {
    const wide = Math.max(host.clientWidth || 600, 240), high = Math.round(Math.min(340, Math.max(220, wide * 0.55)));
    const left = 58, right = 10, top = 8, bottom = 40;
    const [x0, x1] = window_ || whole(spec.x, "x"), [y0, y1] = whole(spec.y, "y");
    const by = (low, up, log) => log ? (v) => (Math.log(v) - Math.log(low)) / (Math.log(up) - Math.log(low)) : (v) => (v - low) / (up - low);
    const fx = by(x0, x1, spec.x.log), fy = by(y0, y1, spec.y.log);
    const px = (v) => left + fx(v) * (wide - left - right), py = (v) => high - bottom - fy(v) * (high - top - bottom);
    picture.setAttribute("viewBox", `0 0 ${wide} ${high}`);
    picture.setAttribute("width", wide); picture.setAttribute("height", high);
    picture.lopScale = null;
    if (!lines.some((line) => line.x.some((x, k) => drawn(line, k) && x >= x0 && x <= x1))) {
      picture.replaceChildren(lop.make("text", { class: "name", x: wide / 2, y: high / 2, "text-anchor": "middle" }, window_ ? "nothing to show here: zoom out" : "nothing to show here"));
      return;
    }
    const parts = [];
    for (const t of lop.ticks(x0, x1, spec.x.log, wide < 420 ? 4 : 8).filter((t) => !spec.x.whole || Number.isInteger(t))) {
      parts.push(lop.make("line", { class: "grid", x1: px(t), x2: px(t), y1: top, y2: high - bottom }),
        lop.make("text", { class: "tick", x: px(t), y: high - bottom + 15, "text-anchor": "middle" }, lop.say(t)));
    }
    for (const t of lop.ticks(y0, y1, spec.y.log)) {
      parts.push(lop.make("line", { class: "grid", x1: left, x2: wide - right, y1: py(t), y2: py(t) }),
        lop.make("text", { class: "tick", x: left - 6, y: py(t) + 4, "text-anchor": "end" }, lop.say(t)));
    }
    parts.push(lop.make("text", { class: "name", x: (left + wide - right) / 2, y: high - 6, "text-anchor": "middle" }, spec.x.label),
      lop.make("text", { class: "name", transform: `translate(13 ${(high - bottom) / 2}) rotate(-90)`, "text-anchor": "middle" }, spec.y.label));
    for (const line of lines) {
      const runs = [[]];
      line.x.forEach((x, k) => {
        const y = line.y[k];
        const there = Number.isFinite(y) && x >= x0 - 1e-9 && x <= x1 + 1e-9 && (!spec.y.log || y > 0) && (!spec.x.log || x > 0);
        if (there) runs[runs.length - 1].push(`${px(x).toFixed(1)},${Math.min(Math.max(py(y), top), high - bottom).toFixed(1)}`);
        else if (runs[runs.length - 1].length) runs.push([]);
      });
      for (const run of runs.filter((r) => r.length)) {
        const attributes = { class: `line c${line.colour}${line.faint ? " faint" : ""}`, "stroke-dasharray": line.dash || null };
        if (run.length === 1) {
          const [cx, cy] = run[0].split(",");
          parts.push(lop.make("circle", { class: `dot c${line.colour}`, cx, cy, r: 2.5 }));
        } else parts.push(lop.make("polyline", { ...attributes, points: run.join(" ") }, lop.make("title", {}, line.name)));
      }
    }
    picture.replaceChildren(...parts);
    picture.lopScale = { px, left, right: wide - right, from: (p) => x0 + ((p - left) / (wide - left - right)) * (x1 - x0) };
  }

  function name() {
    const named = new Map(lines.filter((l) => !l.faint).map((l) => [l.name, l]));
    legend.replaceChildren(...[...named.values()].map((l) => lop.make("li", {},
      lop.make("svg", { width: 26, height: 10, "aria-hidden": "true" }, lop.make("line", { class: `line c${l.colour}`, x1: 1, x2: 25, y1: 5, y2: 5, "stroke-dasharray": l.dash || null })), l.name)));
  }

  const zoom = (low, high) => {
    if (!lines.length) return;
    const [a, b] = whole(spec.x, "x");
    window_ = low <= a && high >= b ? null : [Math.max(low, a), Math.min(high, b)];
    if (window_ && window_[1] - window_[0] < (b - a) * 1e-3) window_ = null;
    render();
  };
  const current = () => window_ || whole(spec.x, "x");
  if (tools) {
    const button = (text, said, act) => lop.make("button", { type: "button", "aria-label": said, click: act }, text);
    const scaled = (f) => () => { const [a, b] = current(), m = (a + b) / 2, h = ((b - a) / 2) * f; zoom(m - h, m + h); };
    const moved = (f) => () => {
      const [a, b] = current(), [l, h] = whole(spec.x, "x"), by = Math.min(Math.max((b - a) * f, l - a), h - b);
      if (window_) { window_ = [a + by, b + by]; render(); }
    };
    tools.append(button("+", "Zoom in", scaled(0.5)), button("−", "Zoom out", scaled(2)), button("◀", "Move left", moved(-0.5)),
      button("▶", "Move right", moved(0.5)), button("all", "Show all", () => { window_ = null; render(); }));
    let from = null, mark = null;
    const at = (event) => (event.clientX - picture.getBoundingClientRect().left) * (picture.viewBox.baseVal.width / picture.getBoundingClientRect().width);
    picture.addEventListener("pointerdown", (e) => { if (!picture.lopScale) return; from = at(e); mark = lop.make("rect", { class: "mark", y: 0, height: 400 }); picture.append(mark); picture.setPointerCapture(e.pointerId); });
    picture.addEventListener("pointermove", (e) => { if (from !== null) { mark.setAttribute("x", Math.min(from, at(e))); mark.setAttribute("width", Math.abs(at(e) - from)); } });
    picture.addEventListener("pointerup", (e) => {
      if (from === null) return;
      const [a, b] = [Math.min(from, at(e)), Math.max(from, at(e))];
      from = null; mark.remove();
      if (b - a > 8 && !spec.x.log && picture.lopScale) zoom(picture.lopScale.from(a), picture.lopScale.from(b));
    });
    picture.addEventListener("pointercancel", () => { if (from !== null) mark.remove(); from = null; });
    picture.addEventListener("dblclick", () => { window_ = null; render(); });
  }
  if (typeof ResizeObserver !== "undefined") { let last = 0; new ResizeObserver(() => { if (host.clientWidth !== last) { last = host.clientWidth; render(); } }).observe(host); }
  return (given) => {
    lines = given;
    const [a, b] = whole(spec.x, "x");
    if (window_ && (!lines.length || window_[0] >= b || window_[1] <= a)) window_ = null; // what was zoomed to is not there any more
    render(); name();
  };
};
